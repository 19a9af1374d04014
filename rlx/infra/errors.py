"""Errors in the user's language: what was given, what was expected, what to type instead.

`one_line` is the entry of every command line: an error of ours, or a ValueError (its subclasses,
FileNotFoundError) that comes out of our rooms, becomes one line on stderr; the rest are bugs and
keep their traceback. `RLX_TRACEBACK=1` keeps the traceback of both.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rlx.names import nearest

EXIT_OK = 0
EXIT_FAILED = 1  # a bug or a NaN: launchers do not retry it
EXIT_USAGE = 2  # the user must type something else
EXIT_PREEMPTED = 42  # saved and stopped: launchers start the same command again
EXIT_INTERRUPTED = 130  # Ctrl-C
EXIT_PEER_LOST = 134  # another process of the run vanished: launchers start all of them again

_HOUSE = Path(__file__).resolve().parents[2]
_ROOMS = tuple(str(_HOUSE / room) + os.sep for room in ("rlx", "configs", "experiments", "tpu"))


class ConfigError(ValueError):
    """A flag, a config field or a combination of them that cannot be run."""


class WorkdirError(ConfigError):
    """A workdir that this run may not use."""


class NaNError(RuntimeError):
    """A loss or a gradient norm that is no number any more."""


def unknown(kind: str, name: str, names: Iterable[str], list_command: str) -> str:
    """Return the text for an unknown name: the nearest ones, and the command that lists all."""
    close = ", ".join(nearest(name, names)) or "(there is none)"
    return f"unknown {kind} '{name}'; nearest: {close}; `{list_command}` lists all"


def one_line(main: Callable[..., Any], *args: Any) -> int:
    """Call `main(*args)` and return the exit code of the process: `sys.exit(one_line(main))`.

    `main` may return an exit code; None is 0. Errors `on_purpose` print `error: ...` and give 2
    (NaNError: 1), Ctrl-C gives 130. Any other exception passes through: a traceback, and exit 1.
    Where several processes make up the program, an error ends all of them with its exit code.
    """
    try:
        return main(*args) or EXIT_OK
    except KeyboardInterrupt:
        return _end("interrupted", EXIT_INTERRUPTED)
    except (ValueError, FileNotFoundError, NaNError) as error:
        if not on_purpose(error) or os.environ.get("RLX_TRACEBACK"):
            raise
        return _end(f"error: {error}", EXIT_FAILED if isinstance(error, NaNError) else EXIT_USAGE)


def _end(text: str, code: int) -> int:
    from rlx.infra import distributed

    if distributed.process_count() > 1:
        distributed.fail(code, text)
    print(text, file=sys.stderr)
    return code


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, "" if it has none."""
    return (str(error).splitlines() or [""])[0]


def on_purpose(error: BaseException) -> bool:
    """Say whether `error` is meant for the user: our class, or a value refused in our rooms."""
    if isinstance(error, (ConfigError, NaNError)):
        return True
    trace = error.__traceback__
    if not isinstance(error, (ValueError, FileNotFoundError)) or trace is None:
        return False
    if getattr(error, "__notes__", None):  # jax cut its own frames off the end, and says so
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    return os.path.abspath(trace.tb_frame.f_code.co_filename).startswith(_ROOMS)
