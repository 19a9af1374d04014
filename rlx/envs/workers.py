"""An object that answers calls, here or in a process of its own."""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import multiprocessing.util  # its atexit hook must be registered before ours, see Remote
import signal
import traceback
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection, wait
from typing import Any

GOODBYE_S = 10.0  # seconds that a process gets to end by itself


class WorkerError(RuntimeError):
    """A worker raised (its traceback is the message) or its process is gone."""


class Local:
    """The object in this process: `send` runs the call, `receive` returns its answer."""

    def __init__(self, make: Callable[..., Any], *args: Any):
        """Make the object `make(*args)`."""
        self._object = make(*args)

    def send(self, method: str, *args: Any) -> None:
        """Call `method`; an exception is raised here."""
        self._answer = getattr(self._object, method)(*args)

    def receive(self) -> Any:
        """Return the answer of the call sent last."""
        return self._answer

    def close(self) -> None:
        """Call the object's own `close`."""
        self._object.close()


class Remote:
    """The object in a fresh process: calls that are sent to several of them run side by side."""

    def __init__(self, make: Callable[..., Any], *args: Any):
        """Start a process that makes `make(*args)`; its first `receive` says whether it could."""
        context = multiprocessing.get_context("spawn")  # a fork would copy jax's threads, broken
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make, args), daemon=True)
        self._process.start()
        theirs.close()  # else the pipe would stay open when the process dies
        # The process ignores SIGTERM, by which multiprocessing ends daemons when Python exits.
        atexit.register(self.close)

    def send(self, method: str, *args: Any) -> None:
        """Ask for a call of `method`; every `send` needs one `receive`."""
        with contextlib.suppress(OSError):  # the process is gone: `receive` says so
            self._pipe.send((method, args))

    def receive(self) -> Any:
        """Wait for the answer.

        Raises:
          WorkerError: the call raised, or the process is gone.
        """
        try:
            failed, answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise self._gone() from error
        if failed:
            raise WorkerError(f"in process {self._process.pid}:\n{answer}")
        return answer

    def close(self) -> None:
        """End the process."""
        atexit.unregister(self.close)
        self._pipe.close()
        self._process.join(GOODBYE_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _gone(self) -> WorkerError:
        self._process.join(GOODBYE_S)
        code = self._process.exitcode
        return WorkerError(f"process {self._process.pid} is gone, exit code {code}")


def ready(workers: Iterable[Remote], timeout_s: float) -> list[Remote]:
    """Wait until one of them has an answer, `timeout_s` at most; return those that have."""
    pipes: dict[Any, Remote] = {worker._pipe: worker for worker in workers}
    return [pipes[pipe] for pipe in wait(list(pipes), timeout_s)]


def _serve(pipe: Connection, make: Callable[..., Any], args: tuple) -> None:
    """Answer calls until the other end of the pipe is closed.

    Signals to the whole group are the parent's to act on: it saves first, then closes the pipe.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        served = _answered(pipe, make, *args)
        while served is not None:
            method, arguments = pipe.recv()
            _answered(pipe, getattr(served, method), *arguments)


def _answered(pipe: Connection, call: Callable[..., Any], *args: Any) -> Any:
    """Send `call(*args)` or its traceback; an object that calls are for is kept, not sent."""
    try:
        answer = call(*args)
    except Exception:
        pipe.send((True, traceback.format_exc()))
        return None
    pipe.send((False, None if isinstance(call, type) else answer))
    return answer
