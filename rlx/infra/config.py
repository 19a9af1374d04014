"""Configs as a whole: loading a file, flattening, comparing, hashing.

A config is a locked `ml_collections.ConfigDict` made by `get_config(arg)` of a file in `configs/`.
Single fields are the business of `infra/fields.py`.
"""

from __future__ import annotations

import fnmatch
import hashlib
import importlib.util
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from rlx.infra.errors import ConfigError, on_purpose, unknown
from rlx.infra.files import plain

# Fields that decide where and how fast a run happens, or what is made of it afterwards, never what
# comes out of it. (A sweep's own fields are resolved into each of its runs.)
SPEED_ONLY = (
    "workdir",
    "tag",
    "num_seeds",
    "width",
    "sweep.*",
    "search.*",
    "rule.*",
    "fit.*",
    "log.*",
    "checkpoint.*",
    "train.chunk_seconds",
    "eval.lanes",
    "eval.workers",
    "mesh.run",
    "mesh.data",
    "mesh.fsdp",
)


def load_module(path: str) -> ModuleType:
    """Import the config file at `path`."""
    file = Path(path)
    if not file.is_file():
        others = [str(file.parent / other.name) for other in file.parent.glob("*.py")]
        raise ConfigError(unknown("config file", path, others, f"ls {file.parent}/*.py"))
    spec = importlib.util.spec_from_file_location(f"config_file_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"config file '{path}' is no Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load(spec: str) -> ConfigDict:
    """Return the locked config of `configs/x.py` or `configs/x.py:smoke,env=CheetahRun`."""
    path, _, arg = spec.partition(":")
    module = load_module(path)
    if not hasattr(module, "get_config"):
        raise ConfigError(f"{path} has no get_config(arg)")
    try:
        config = module.get_config(arg)
    except ValueError as error:
        if on_purpose(error):
            raise ConfigError(f"{path}: {error}") from error
        raise
    return config.lock()


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return {dotted field: value}, every section in alphabetical order."""
    flat: dict[str, Any] = {}
    for key, value in sorted(config.items()):
        inner = isinstance(value, (ConfigDict, Mapping))
        flat |= flatten(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return flat


def to_json(config: ConfigDict) -> dict[str, Any]:
    """Return the config as nested dicts of what JSON knows."""
    return plain(config.to_dict())


def from_json(tree: Mapping[str, Any]) -> ConfigDict:
    """Return the locked config of `to_json`'s dict; lists become tuples again."""

    def restore(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: restore(item) for key, item in value.items()}
        return tuple(restore(item) for item in value) if isinstance(value, list) else value

    return ConfigDict(restore(tree)).lock()


def _counted(config: Mapping[str, Any], ignore: Iterable[str]) -> dict[str, Any]:
    flat = plain(flatten(config))
    patterns = tuple(ignore)
    return {
        key: value
        for key, value in flat.items()
        if not any(fnmatch.fnmatchcase(key, p) for p in patterns)
    }


def sha(config: Mapping[str, Any], ignore: Iterable[str] = SPEED_ONLY) -> str:
    """Return 12 hex digits that differ when any field outside the `ignore` patterns differs."""
    text = json.dumps(_counted(config, ignore), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def diff(old: Mapping[str, Any], new: Mapping[str, Any], ignore: Iterable[str] = ()) -> list[str]:
    """List what differs, as `train.utd: 1.0 -> 8.0`; one side only is `(absent)` in the other."""
    ignore = tuple(ignore)
    left, right = _counted(old, ignore), _counted(new, ignore)

    def shown(side: Mapping[str, Any], key: str) -> str:
        return json.dumps(side[key]) if key in side else "(absent)"

    keys = sorted({*left, *right})
    lines = ((key, shown(left, key), shown(right, key)) for key in keys)
    return [f"{key}: {before} -> {after}" for key, before, after in lines if before != after]
