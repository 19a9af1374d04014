"""Reading a checkpoint so that all processes come to the same verdict: whole, damaged, or other
shapes.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from rlx.infra import distributed
from rlx.infra.errors import ConfigError
from rlx.infra.trees import shapes_of
from rlx.types import PyTree


def read(path: Path, handler: Any, **options: Any) -> Any:
    """Return the item of a step at `path`, None with a warning unless all processes could read it.

    Not by orbax's manager: its barriers would keep the others waiting for the one that failed.
    """
    found, text = None, ""
    try:
        found = handler.restore(path, **options)
    except Exception as error:  # what orbax raises for a damaged file
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
    damage = [text for text in distributed.exchange(text, f"read {path}") if text]
    if not damage:
        return found
    print(f"warning: checkpoint {path.parent} is damaged ({damage[0]})", file=sys.stderr)
    return None


def check_shapes(folder: Path, saved: dict[str, str], template: PyTree) -> None:
    """Raise ConfigError where the shapes `saved` in `folder` are not those of `template`."""
    here = shapes_of(template)
    lines = [
        f"checkpoint has {key} {saved.get(key, '(absent)')}, "
        f"this config makes {here.get(key, '(absent)')}"
        for key in sorted({*saved, *here})
        if saved.get(key) != here.get(key)
    ]
    if lines:
        raise ConfigError(
            f"the checkpoint in {folder} does not fit this config: " + "; ".join(lines[:8])
        )
