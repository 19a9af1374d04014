"""`python -m rlx.serve WORKDIR --policy=MODULE:FUNCTION` serves the policy of a workdir.

FUNCTION(workdir) returns an `rlx.serve.policy.Served`: the policy, what clients are told of it, and
an observation to warm it up with.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from rlx.infra.errors import ConfigError, one_line
from rlx.serve.policy import Served
from rlx.serve.server import Options, serve

_HELP = {
    "host": "who may connect: 127.0.0.1 this machine, 0.0.0.0 the whole network",
    "port": "0 = any free one",
    "max_batch": "observations per call of the policy, a power of two",
    "max_wait_ms": "how long an observation waits for those of other clients",
    "max_message_mb": "longer messages close their connection; 0 = no limit",
    "max_asked": "most observations in one message",
    "debug": "send tracebacks to clients",
}


def main(argv: list[str] | None = None) -> int:
    """Serve until interrupted; returns the exit code."""
    defaults = Options()
    parser = argparse.ArgumentParser(prog="python -m rlx.serve", description=__doc__)
    parser.add_argument("workdir", type=Path, help="what a training run wrote")
    parser.add_argument(
        "--policy", default="rlx.serve.vla:load", metavar="MODULE:FUNCTION", help="%(default)s"
    )
    for name, value in defaults._asdict().items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            parser.add_argument(flag, action="store_true", help=_HELP[name])
        else:
            text = f"{_HELP[name]} (default %(default)s)"
            parser.add_argument(flag, type=type(value), default=value, help=text)
    given = parser.parse_args(argv)
    served = load(given.policy, given.workdir)
    options = Options(**{name: getattr(given, name) for name in Options._fields})

    def ready(port: int) -> None:
        print(f"serving {given.workdir} at ws://{options.host}:{port}", flush=True)

    try:
        serve(served.policy, options, served.metadata, served.example, ready)
    except OSError as error:
        where = f"{options.host}:{options.port}"
        raise ConfigError(f"cannot listen at {where}: {error.strerror}") from error
    return 0


def load(name: str, workdir: Path) -> Served:
    """Call the function `MODULE:FUNCTION` with the workdir.

    Raises ConfigError for a workdir or a function that does not exist.
    """
    if not workdir.is_dir():
        raise ConfigError(f"there is no workdir {workdir}")
    module, colon, function = name.partition(":")
    if not colon:
        raise ConfigError(f"--policy is MODULE:FUNCTION, got '{name}'")
    try:
        make = getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as error:
        raise ConfigError(f"--policy={name}: there is no module {error.name}") from error
    except AttributeError as error:
        raise ConfigError(f"--policy={name}: {module} has no {function}") from error
    return make(workdir)


if __name__ == "__main__":
    sys.exit(one_line(main))
