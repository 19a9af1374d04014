"""The programs of a sweep: UTDs x batch sizes x widths, and what a rule sets at each UTD."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from rlx.infra.errors import ConfigError
from rlx.infra.fields import parse_ratio
from rlx.scaling import rules


class Point(NamedTuple):
    """One program of a sweep: its name among the others, its config, its grid of learning rates."""

    name: str
    config: ConfigDict
    lrs: tuple[float, ...]  # () = the config's own


def points(config: ConfigDict, options: Any) -> list[Point]:
    """Return UTDs x batch sizes x widths, as given by hand or else by `config.sweep`.

    A batch size or width is part of the name where there are several.
    """
    given, sweep = options.explicit, config.sweep

    def axis(field: str, flag: str, default: tuple) -> tuple:
        return getattr(options, flag) if field in given else tuple(default)

    utds = axis("train.utd", "utd", sweep.utd)
    batches = axis("learner.batch_size", "batch_size", sweep.batch_size) or (None,)
    lrs = axis("learner.lr", "lr", sweep.lr)
    widths = axis("width", "width", sweep.width) or (None,)
    found = []
    for utd, batch, width in itertools.product(utds, batches, widths):
        name = f"utd_{utd:g}"
        name += f"_b{batch}" if len(batches) > 1 else ""
        name += f"_w{width}" if len(widths) > 1 else ""
        own = at_utd(config, utd, given, batch, width)
        found.append(Point(name, own, lrs if len(lrs) > 1 else ()))
    return found


def at_utd(
    config: ConfigDict,
    utd: float,
    given: frozenset[str],
    batch: int | None = None,
    width: int | None = None,
) -> ConfigDict:
    """Return `config` at one UTD: length from the sweep, batch size and learning rate from the
    rule, unless `batch` says otherwise; critics of `width`.

    What the user set by hand (`given`) stays. Every UTD gets the same ring, so that all share a
    compile.
    """
    own = ConfigDict(config.to_dict())
    utds, steps = config.sweep.utd, config.sweep.env_steps
    if steps and len(steps) != len(utds):
        raise ConfigError(
            f"sweep.env_steps has {len(steps)} entries and sweep.utd {len(utds)}: give one length "
            "per UTD, or none"
        )
    lengths = dict(zip(utds, steps, strict=False))
    parse_ratio(utd)  # refuses what no rule is made for
    own.train.utd = utd
    if "train.env_steps" not in given:
        own.train.env_steps = lengths.get(utd, config.train.env_steps)
    if own.data.capacity is None:
        own.data.capacity = min(1_000_000, max(config.train.env_steps, *lengths.values(), 0))
    batch_size, lr = rule(config, utd)
    if batch is not None:
        own.learner.batch_size = batch
    elif config.rule.batch_size and "learner.batch_size" not in given:
        own.learner.batch_size = batch_size
    if config.rule.lr and "learner.lr" not in given:
        own.learner.lr = lr
    width = config.width if width is None else width
    if width is not None:
        own.learner.critic_hidden = (width,) * len(config.learner.critic_hidden)
    return own.lock()


def rule(config: ConfigDict, utd: float) -> tuple[int, float]:
    """Return (batch size, learning rate) at `utd`: published slopes through the config's own point.

    With `rule.anchor_utd` = 0 the published values themselves (mean over the benchmark's tasks).
    """
    published = rules.published_rule(config.rule.benchmark)
    if not config.rule.anchor_utd:
        return published.batch_size(utd), published.learning_rate(utd)
    ratio = utd / config.rule.anchor_utd
    batch_size = rules.tabulated_batch(config.learner.batch_size * ratio**published.batch_slope)
    return batch_size, rules.tabulated_rate(config.learner.lr * ratio**published.rate_slope)
