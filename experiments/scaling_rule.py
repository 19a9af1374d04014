"""Batch size, learning rate and length of a scaling run as functions of its UTD."""

from __future__ import annotations

from ml_collections import ConfigDict

from rlx.scaling import rules


def at_utd(config: ConfigDict, utd: float, given: frozenset[str]) -> ConfigDict:
    """Return `config` at one UTD: length from the sweep, batch size and learning rate from the
    rule.

    What the user set by hand (`given`) stays. Every UTD gets the same ring, so that all share a
    compile.
    """
    own = ConfigDict(config.to_dict())
    lengths = dict(
        zip(config.sweep.utd, config.sweep.env_steps, strict=bool(config.sweep.env_steps))
    )
    own.train.utd = utd
    if "train.env_steps" not in given:
        own.train.env_steps = lengths.get(utd, config.train.env_steps)
    if own.data.capacity is None:
        own.data.capacity = min(1_000_000, max(config.train.env_steps, *lengths.values(), 0))
    batch_size, lr = rule(config, utd)
    if config.rule.batch_size and "learner.batch_size" not in given:
        own.learner.batch_size = batch_size
    if config.rule.lr and "learner.lr" not in given:
        own.learner.lr = lr
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
