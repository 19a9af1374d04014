"""Typed config options and sweep generators."""

from __future__ import annotations

import ast
import math
from pathlib import Path

import pytest

from configs import common

OPTIONS = {"smoke": False, "env": "pendulum", "size": 3, "lr": 1e-3, "norm": True}


def test_parse_arg_types_follow_the_defaults():
    options = common.parse_arg("smoke, env=CheetahRun,size=-4,lr=3e-4,norm=false", **OPTIONS)
    assert vars(options) == {
        "smoke": True, "env": "CheetahRun", "size": -4, "lr": 3e-4, "norm": False
    }  # fmt: skip
    assert vars(common.parse_arg("", **OPTIONS)) == OPTIONS
    assert common.parse_arg("lr=1", **OPTIONS).lr == 1.0
    assert isinstance(common.parse_arg("lr=1", **OPTIONS).lr, float)
    assert common.parse_arg("env=a=b", **OPTIONS).env == "a=b"


@pytest.mark.parametrize(
    ("arg", "message"),
    [
        (
            "smok",
            "unknown config option 'smok'; "
            "options: smoke, env=pendulum, size=3, lr=0.001, norm=True",
        ),
        ("env", "config option 'env' needs a value: env=pendulum"),
        ("size=1.5", "config option 'size' is an integer, got '1.5'"),
        ("size=", "config option 'size' is an integer, got ''"),
        ("lr=fast", "config option 'lr' is a number, got 'fast'"),
        ("smoke=yes", "config option 'smoke' is true or false, got 'yes'"),
    ],
)
def test_parse_arg_refusals(arg, message):
    with pytest.raises(ValueError) as caught:
        common.parse_arg(arg, **OPTIONS)
    assert str(caught.value) == message


def test_product_zip_chain():
    sweep = common.product({"learner.lr": [1, 2], "seed": range(2)})
    assert list(sweep) == [
        {"learner.lr": 1, "seed": 0},
        {"learner.lr": 1, "seed": 1},
        {"learner.lr": 2, "seed": 0},
        {"learner.lr": 2, "seed": 1},
    ]
    pairs = common.zip_({"env.name": ["a", "b"], "train.utd": [1, 8]})
    crossed = list(common.product({"seed": [0, 1]}, pairs))
    assert crossed[1] == {"seed": 0, "env.name": "b", "train.utd": 8}
    assert len(crossed) == 4
    chained = common.chain(common.product({"seed": [0]}), common.zip_({"seed": [1, 2]}))
    assert [override["seed"] for override in chained] == [0, 1, 2]
    assert list(common.product({})) == [{}]


def test_a_field_set_twice_and_uneven_axes_are_refused():
    with pytest.raises(ValueError, match="a sweep sets seed twice"):
        list(common.product({"seed": [0]}, [{"seed": 1}]))
    with pytest.raises(ValueError) as caught:
        list(common.zip_({"a": [1], "b": [1, 2]}))
    assert str(caught.value) == "zip_ needs axes of one length, got {'a': 1, 'b': 2}"


@pytest.mark.parametrize("generator", [common.uniform, common.log_uniform, common.sobol])
def test_random_sweeps_are_in_range_reproducible_and_seeded(generator):
    ranges = {"learner.lr": (1e-5, 1e-2), "learner.tau": (0.5, 0.9)}
    points = list(generator(ranges, 20, seed=1))
    assert len(points) == 20
    assert points == list(generator(ranges, 20, seed=1))
    assert points != list(generator(ranges, 20, seed=2))
    assert list(generator(ranges, 0)) == []
    for point in points:
        assert point.keys() == ranges.keys()
        for name, (low, high) in ranges.items():
            assert low <= point[name] <= high
            assert type(point[name]) is float
    with pytest.raises(ValueError, match=r"range of 'a' needs low < high, got \(2, 1\)"):
        list(generator({"a": (2, 1)}, 3))


def test_log_uniform_spreads_over_the_decades():
    points = list(common.log_uniform({"lr": (1e-6, 1e-2)}, 4000))
    share = sum(point["lr"] < 1e-4 for point in points) / 4000
    assert share == pytest.approx(0.5, abs=0.03)
    with pytest.raises(ValueError, match="logarithmic range of 'lr' needs low > 0, got 0"):
        list(common.log_uniform({"lr": (0, 1)}, 1))


def test_sobol_fills_every_cell_once_and_spaces_log_fields_by_logarithm():
    points = list(common.sobol({"lr": (1e-4, 1e-2), "tau": (0.0, 1.0)}, 16, log=("lr",)))
    decades = sorted(int((math.log10(point["lr"]) + 4) / 2 * 16) for point in points)
    assert decades == list(range(16))
    assert sorted(int(point["tau"] * 16) for point in points) == list(range(16))
    with pytest.raises(ValueError, match="log names 'x', which is not among lr"):
        list(common.sobol({"lr": (1e-4, 1e-2)}, 4, log=("x",)))


def test_common_imports_nothing_of_rlx_and_nothing_heavy_at_the_top():
    tree = ast.parse(Path(common.__file__).read_text())
    top = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    top |= {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
    allowed = {"__future__", "collections.abc", "itertools", "math", "random", "types", "typing"}
    assert top <= allowed
