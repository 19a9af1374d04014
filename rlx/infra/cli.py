"""The command line of every experiment: `config, workdir, options = cli.start(DEFAULT, SHORT)`.

`--config=configs/x.py:smoke` picks the config, `--config.a.b=v` sets any field, the short flags
that an experiment declares (`--utd=8`) set the fields of its science. `--x=v` and `--x v` are one.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from rlx.infra import fields
from rlx.infra.config import flatten, load, load_module
from rlx.infra.errors import ConfigError, unknown

_SWITCHES = {
    "overwrite": "delete what an earlier run wrote in the workdir and start again",
    "retry_failed": "go on with a run that failed",
    "print_config": "print every field of the config and exit",
    "dry_run": "print memory, parameters and the step plan, compile nothing",
    "help": "print this text and exit",
}


class Flag(NamedTuple):
    """One name on the command line."""

    field: str  # the config field it sets, "" for an option of the program
    kind: type
    default: Any
    listed: bool = False  # takes 0.5,1,2 or 0..4


class Given(NamedTuple):
    """One flag as typed: for the text of errors, and its value."""

    shown: str
    value: Any


def start(
    default_config: str,
    short: Mapping[str, str],
    argv: Sequence[str] | None = None,
    *,
    lists: Iterable[str] = (),
    extra: Mapping[str, Any] | None = None,
    hints: Mapping[str, str] | None = None,
) -> tuple[ConfigDict, Path, SimpleNamespace]:
    """Read the command line.

    Args:
      default_config: the config file used without `--config`.
      short: {flag: config field}, typed from the field.
      argv: the arguments, default those of the process.
      lists: those short flags that accept several values, `--utd=0.5,1,2` or `--seed=0..4`, ends
        included.
      extra: {flag: default} of the experiment's own; a type instead of a default means None if not
        given.
      hints: {config field: what it is}, for the error of a wrong type.

    Returns:
      The locked config with every override; of a list it holds the first value.
      The workdir: `--workdir`, else `config.workdir`, else `results/<config file>`.
      The options: `overwrite, retry_failed, dry_run`, one attribute per extra, one tuple per name
      in `lists`, and `explicit`, the frozenset of config fields that the user set by hand.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    spec = _config_spec(argv, default_config)
    config = load(spec)
    flags = _flags(config, spec, short, frozenset(lists), extra or {})
    if {"--help", "-h"} & set(argv):
        print(_help(spec, flags))
        raise SystemExit(0)
    chosen = _read(argv, config, flags, hints or {})
    options = _options(flags, chosen, config)
    for field in options.explicit:
        value = chosen[field].value
        fields.override(config, {field: value[0] if isinstance(value, _Listed) else value}, hints)
    workdir = _workdir(config, chosen, spec)
    if options.print_config:
        print("\n".join(f"{field} = {value!r}" for field, value in flatten(config).items()))
        raise SystemExit(0)
    return config, workdir, options


def into_config(argv: Sequence[str], default: str, *names: str) -> list[str]:
    """Move `--name=value` into the options of `--config`: `--config=file.py:smoke,name=value`.

    For flags that other defaults depend on, such as the environment: the config file then picks
    them, and every further flag overrides what it picked.
    """
    argv = list(argv)
    for name in names:
        joined = _joined(argv, ("--config", f"--{name}"))
        values = [flag.partition("=")[2] for flag in joined if flag.startswith(f"--{name}=")]
        if values:
            spec = _config_spec(joined, default)
            rest = [flag for flag in joined if not flag.startswith((f"--{name}=", "--config="))]
            argv = [f"--config={spec}{',' if ':' in spec else ':'}{name}={values[-1]}", *rest]
    return argv


def _joined(argv: Sequence[str], flags: Collection[str]) -> list[str]:
    """Write `--flag value` of these flags as `--flag=value`."""
    words, joined = list(argv), []
    while words:
        word = words.pop(0)
        if word in flags and words and not words[0].startswith("--"):
            word = f"{word}={words.pop(0)}"
        joined.append(word)
    return joined


class _Listed(tuple):
    """The values of a flag that takes several."""


def _config_spec(argv: Sequence[str], default: str) -> str:
    specs = [arg.partition("=")[2] for arg in argv if arg.startswith("--config=")]
    specs += [value for flag, value in zip(argv, [*argv[1:], ""]) if flag == "--config"]
    if len(set(specs)) > 1:
        raise ConfigError(f"--config is given twice: {' and '.join(specs)}")
    return specs[0] if specs else default


def _flags(
    config: ConfigDict,
    spec: str,
    short: Mapping[str, str],
    lists: frozenset[str],
    extra: Mapping[str, Any],
) -> dict[str, Flag]:
    flat = flatten(config)
    flags = {
        "config": Flag("", str, spec),
        "workdir": Flag("workdir" if "workdir" in flat else "", str, None),
    }
    for name, field in short.items():
        kind = fields.kind_of(config, field) if field in flat else str
        flags[name] = Flag(field, kind, flat.get(field), name in lists)
    for name, default in extra.items():
        bare = isinstance(default, type)
        flags[name] = Flag("", default if bare else type(default), None if bare else default)
    flags |= {name: Flag("", bool, False) for name in _SWITCHES}
    for field, value in flat.items():
        flags[f"config.{field}"] = Flag(field, fields.kind_of(config, field), value)
    return flags


def _read(
    argv: Sequence[str], config: ConfigDict, flags: Mapping[str, Flag], hints: Mapping[str, str]
) -> dict[str, Given]:
    """Return {field or option: what was given}; two different values for one are an error."""
    chosen: dict[str, Given] = {}
    for name, text in _tokens(argv, flags):
        flag = flags[name]
        given = Given(f"--{name}={text}", _value(name, flag, text, config, hints))
        before = chosen.setdefault(flag.field or name, given)
        if _as_tuple(before.value) != _as_tuple(given.value):
            raise ConfigError(f"{before.shown} and {given.shown} disagree: give one of them")
        if flag.listed:
            chosen[flag.field] = given
    return chosen


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, _Listed) else (value,)


def _tokens(argv: Sequence[str], flags: Mapping[str, Flag]) -> Iterator[tuple[str, str]]:
    """Yield (flag, text); a switch takes the next word only if that is `true` or `false`."""
    words = list(argv)
    while words:
        word = words.pop(0)
        if not word.startswith("--") or word == "--":
            raise ConfigError(f"unexpected argument '{word}': flags look like --name=value")
        name, equals, text = word[2:].partition("=")
        name = _known(name.replace("-", "_"), flags)
        if not equals:
            switch = flags[name].kind is bool
            follows = words and (
                words[0] in ("true", "false") if switch else not words[0].startswith("--")
            )
            if not follows and not switch:
                raise ConfigError(f"--{name} needs a value: --{name}=...")
            text = words.pop(0) if follows else "true"
        yield name, text


def _known(name: str, flags: Mapping[str, Flag]) -> str:
    if name in flags:
        return name
    if name.startswith("config."):
        field = name.removeprefix("config.")
        config_fields = [flag.field for key, flag in flags.items() if key.startswith("config.")]
        inside = [other for other in config_fields if other.startswith(f"{field}.")]
        if inside:
            raise ConfigError(f"{field} is a section, set one of its fields: {', '.join(inside)}")
        raise ConfigError(unknown("config field", field, config_fields, "--print_config"))
    listed = [f"--{key}" for key in flags if not key.startswith("config.")]
    raise ConfigError(unknown("flag", f"--{name}", listed, "--help"))


def _value(name: str, flag: Flag, text: str, config: ConfigDict, hints: Mapping[str, str]) -> Any:
    if not flag.field:
        return fields.from_text(f"--{name}", text, flag.kind)
    if not flag.listed:
        return fields.parse(config, flag.field, text, hints)
    values = _Listed(
        fields.parse(config, flag.field, item, hints) for item in _spread(text, flag.kind)
    )
    if len(set(values)) < len(values) or not values:
        raise ConfigError(f"--{name}={text} must list different values, one at least")
    return values


def _spread(text: str, kind: type) -> list[str]:
    """Split `0.5,1,2`; for integers also spread `0..4`, both ends in."""
    items: list[str] = []
    for item in filter(None, text.split(",")):
        low, dots, high = item.partition("..")
        if kind is int and dots and low.isdigit() and high.isdigit():
            items += map(str, range(int(low), int(high) + 1))
        else:
            items.append(item)
    return items


def _options(
    flags: Mapping[str, Flag], chosen: Mapping[str, Given], config: ConfigDict
) -> SimpleNamespace:
    options = SimpleNamespace()
    for name, flag in flags.items():
        if flag.listed:
            default = Given("", _Listed([flag.default]))
            setattr(options, name, _as_tuple(chosen.get(flag.field, default).value))
        elif not flag.field and name not in ("config", "workdir", "help"):
            setattr(options, name, chosen[name].value if name in chosen else flag.default)
    options.explicit = frozenset(chosen) & frozenset(flatten(config))
    return options


def _workdir(config: ConfigDict, chosen: Mapping[str, Given], spec: str) -> Path:
    in_config = config.get("workdir")
    given = in_config or (chosen["workdir"].value if "workdir" in chosen else None)
    path = given or f"results/{Path(spec.partition(':')[0]).stem}"
    if "workdir" in config:
        config.workdir = path
    return Path(path)


def _help(spec: str, flags: Mapping[str, Flag]) -> str:
    main = getattr(sys.modules["__main__"], "__spec__", None)
    program = f"python -m {main.name}" if main else f"python {Path(sys.argv[0]).name}"
    about = (inspect.getdoc(load_module(spec.partition(":")[0])) or "").split("\n\n")[0]
    rows = []
    for name, flag in flags.items():
        if name.startswith("config."):
            continue
        note = _SWITCHES.get(name, f"sets {flag.field}" if flag.field else "")
        note += "; several: 0,1,2" + (" or 0..2" if flag.kind is int else "") if flag.listed else ""
        rows.append((f"--{name}" if name in _SWITCHES else f"--{name}={_shown(flag)}", note))
    width = max(len(left) for left, _ in rows) + 2
    table = [f"  {left:<{width}}{note}".rstrip() for left, note in rows]
    table.append(
        "  --config.FIELD=VALUE sets any field of the config; --print_config lists them all"
    )
    return "\n".join([f"usage: {program} [--flag=value ...]", "", about, "", *table])


def _shown(flag: Flag) -> str:
    if flag.default is None:
        return f"<{flag.kind.__name__}>"
    return str(flag.default).lower() if flag.kind is bool else str(flag.default)
