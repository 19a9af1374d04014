"""Several processes as one program: they find each other, agree on host values, and end together.

All run the same code in the same order; process 0 ("main") writes the files and says what the
clock decides. Values travel through the key-value store of JAX's coordination service, not through
devices, hence never wait for a chunk in flight. With one process every function returns at once.

A process that fails says so in the store, and a thread in each of the others ends it with the same
exit code. A peer that vanished ends the others with EXIT_PEER_LOST, which launchers retry.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from rlx.infra import cluster
from rlx.infra.console import quiet
from rlx.infra.errors import EXIT_FAILED, EXIT_PEER_LOST, ConfigError, first_line

T = TypeVar("T")
HEARTBEAT_SECONDS = 60  # after which JAX counts a silent process as dead and ends the others
SLICE_MS = 5_000  # of one wait in the store; Python sees signals in between
HEAD_START = 1.0  # seconds in which the process that failed first, or process 0, speaks first
LINGER = 10.0  # seconds that process 0, which holds the store, waits for the others to leave
FAILED = "rlx/failed"  # the first failure: [process, exit code, line], or NOBODY at the end
NOBODY = "null"
_PEER_GONE = ("gloo", "connection", "unavailable", "heartbeat", "coordination", "peer")


class _Program:
    """The processes of this program; alone until `initialize` found others."""

    client: Any = None  # of JAX's coordination service
    index = 0
    count = 1
    watcher: threading.Thread  # sees that another process failed
    calls = 0  # of `exchange`, the same number in every process
    started = False
    record: Callable[[str], None] = staticmethod(lambda text: None)  # of a peer's failure, on main


_program = _Program()


def initialize() -> None:
    """Join the other processes, where the environment says that there are any; see `cluster`.

    Call it before the first use of a device. Does nothing for one process, or when called again.
    Raises ConfigError for RLX variables that cannot be, or a coordinator that does not answer.
    """
    if _program.started:
        return
    group, seconds = cluster.from_variables(os.environ), cluster.timeout(os.environ)
    kind = None if group else cluster.detected(os.environ)
    if group is None and kind is None:
        _program.started = True
        return
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # Its handler of SIGTERM would sit where ours must; the stop flag is combined by `exchange`.
    jax.config.update("jax_enable_preemption_service", False)
    limits: dict[str, Any] = {
        "initialization_timeout": int(seconds) + 60,  # ours ends first: JAX's aborts the process
        "heartbeat_timeout_seconds": HEARTBEAT_SECONDS,
    }
    if group is None:
        with cluster.limit(
            seconds, f"the processes of this {kind} did not find each other in time"
        ):
            jax.distributed.initialize(**limits)
    else:
        until = time.monotonic() + seconds
        if group.index == 0:
            cluster.check_free(group.address)
        else:
            cluster.wait_for(group.address, seconds)
        late = cluster.not_all(group.address, group.count, seconds)
        with cluster.limit(until - time.monotonic(), late):
            jax.distributed.initialize(group.address, group.count, group.index, **limits)
    _join()


def _join() -> None:
    """Take the state that `jax.distributed` made. JAX has no public name for its store."""
    from jax._src import distributed

    state = distributed.global_state
    _program.client, _program.started = state.client, True
    _program.index, _program.count = state.process_id, state.num_processes
    _program.watcher = threading.Thread(target=_watch, daemon=True, name="rlx-peers")
    _program.watcher.start()
    sys.excepthook = _on_exception
    atexit.register(_leave)  # after JAX's own, hence before it
    if not is_main():
        quiet(f"[process {_program.index}] ")


def process_count() -> int:
    """Return how many processes make up this program."""
    return _program.count


def process_index() -> int:
    """Return the number of this process, from 0."""
    return _program.index


def record_failures(write: Callable[[str], None]) -> None:
    """Have process 0 call `write` with the message when another process ends all by failing."""
    _program.record = write


def is_main() -> bool:
    """Say whether this is process 0, which writes the files."""
    return _program.index == 0


def exchange(value: Any, tag: str) -> list[Any]:
    """Return what every process gave, in the order of the processes: the same list everywhere.

    All processes must call it, in the same order; waits for the last. With one process: [value].

    Args:
      value: JSON-able (tuples come back as lists).
      tag: what it is about; processes that meet at different tags fail with both names.
    """
    if _program.client is None:
        return [value]
    folder, _program.calls = f"rlx/exchange/{_program.calls}/", _program.calls + 1
    mine = json.dumps([tag, value])
    if is_main():
        others = [_get(f"{folder}{k}") for k in range(1, _program.count)]
        text = f"[{','.join([mine, *others])}]"
        _program.client.key_value_set(f"{folder}all", text)
        if _program.calls > 1:  # everyone is here, so everyone has read the exchange before
            _program.client.key_value_delete(f"rlx/exchange/{_program.calls - 2}/")
    else:
        _program.client.key_value_set(f"{folder}{_program.index}", mine)
        text = _get(f"{folder}all")
    given = json.loads(text)
    tags = [tag for tag, _ in given]
    if len(set(tags)) > 1:
        raise RuntimeError(f"the processes are at different places: {', '.join(tags)}")
    return [value for _, value in given]


def broadcast(value: Any, tag: str) -> Any:
    """Return the value that process 0 gave; the others' are not looked at."""
    return exchange(value if is_main() else None, tag)[0]


def any_process(flag: bool, tag: str) -> bool:
    """Say whether `flag` is true in any process."""
    return any(exchange(bool(flag), tag))


def barrier(name: str) -> None:
    """Wait until every process is here."""
    exchange(None, name)


def on_main(function: Callable[[], T], tag: str) -> T:
    """Call `function` on process 0 and return its (JSON-able) result in every process.

    A ConfigError that it raises is raised in all of them.
    """
    if _program.client is None:
        return function()
    outcome: dict[str, Any] = {}
    if is_main():
        try:
            outcome = {"value": function()}
        except ConfigError as error:
            broadcast({"refused": str(error)}, tag)
            raise
    outcome = broadcast(outcome, tag)
    if "refused" in outcome:
        raise ConfigError(outcome["refused"])
    return outcome["value"]


def by_peer(error: BaseException) -> bool:
    """Say whether `error` only tells that another process ended: no failure of this run's own."""
    if _program.client is None or not isinstance(error, _jax_error()):
        return False
    return any(word in str(error).lower() for word in _PEER_GONE)


def fail(code: int, text: str, shown: str | None = None) -> NoReturn:
    """End this process with exit code `code`, and the others with it; needs several processes.

    Args:
      text: one line for the others.   shown: what is printed here, default `text`.

    If another process failed before, its line and its exit code are used instead.
    """
    first = None if is_main() else _failure(HEAD_START)
    if first is None:
        with contextlib.suppress(_jax_error()):  # somebody else's is there already
            _program.client.key_value_set(FAILED, json.dumps([_program.index, code, text]))
    cause = first or _failure(HEAD_START) or [_program.index, code, text]
    if cause[0] == _program.index:
        print(shown or text, file=sys.stderr, flush=True)
    _end(*cause)


def _failure(seconds: float) -> list[Any] | None:
    """Return [process, exit code, line] of the first failure; waits for one up to `seconds`."""
    try:
        return json.loads(_program.client.blocking_key_value_get(FAILED, int(seconds * 1000)))
    except _jax_error():
        return None


def _watch() -> None:
    """End this process when another one fails."""
    while True:
        try:
            text = _program.client.blocking_key_value_get(FAILED, SLICE_MS)
        except _jax_error() as error:
            if "DEADLINE_EXCEEDED" in str(error):
                continue
            return  # the store is closing; JAX's client sees to a process 0 that vanished
        if text == NOBODY:
            return
        time.sleep(2 * HEAD_START)  # the main thread may be ending for the same reason
        _end(*json.loads(text))


_ending = threading.Lock()


def _end(process: int, code: int, text: str) -> NoReturn:
    """Leave at once: JAX's shutdown would wait for processes that do not come."""
    _ending.acquire()
    if process != _program.index:
        said = f"process {process}: {text.splitlines()[0] if text else 'no message'}"
        print(f"ended with {said}", file=sys.stderr)
        if code == EXIT_FAILED and is_main():
            _program.record(said)
    sys.stdout.flush()
    sys.stderr.flush()
    with contextlib.suppress(_jax_error()):
        _program.client.key_value_set(f"rlx/left/{_program.index}", "")
        for peer in range(1, _program.count) if is_main() else ():
            _program.client.blocking_key_value_get(f"rlx/left/{peer}", int(1000 * LINGER))
        # Between its word and its end a peer still needs the store: JAX aborts where it is gone.
        time.sleep(HEAD_START if is_main() else 0.0)
    os._exit(code)


def _on_exception(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """End all processes when this one dies of an exception that nobody caught."""
    lines = traceback.format_exception(kind, error, trace)
    if by_peer(error):
        fail(EXIT_PEER_LOST, f"a process of this run was lost ({first_line(error)})")
    fail(EXIT_FAILED, f"{kind.__name__}: {first_line(error)}", "".join(lines).rstrip())


def _leave() -> None:
    """Wait for the others before JAX's own shutdown, whose time-out would end the early ones.

    The watcher ends first: a thread that comes back from C++ into an interpreter that is going down
    aborts the process. So does, or hangs, a program with collectives that is still in flight.
    """
    from jax._src import xla_bridge
    from jax.experimental import multihost_utils

    barrier("leave")
    if xla_bridge.backends_are_initialized():
        multihost_utils.sync_global_devices("leave")
    if is_main():
        _program.client.key_value_set(FAILED, NOBODY)
    _program.watcher.join()
    _program.client = None  # the last reference: its destructor hangs in a dying interpreter


def _get(key: str) -> str:
    """Return an entry of the store as soon as it is there."""
    while True:
        try:
            return _program.client.blocking_key_value_get(key, SLICE_MS)
        except _jax_error() as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise


def _jax_error() -> type[Exception]:
    from jax.errors import JaxRuntimeError

    return JaxRuntimeError
