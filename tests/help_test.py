"""Every command of `experiments` with a parser of its own says how it is used."""

from __future__ import annotations

import importlib

import pytest
from conftest import ROOT

COMMANDS = sorted(
    path.stem
    for path in (ROOT / "experiments").glob("*.py")
    if "ArgumentParser(" in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_printed(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        importlib.import_module(f"experiments.{name}").main(["--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert f"experiments.{name}" in shown and "--help" in shown
