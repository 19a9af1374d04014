"""The learner and the compiled programs of one run of `experiments.vla`."""

from __future__ import annotations

from ml_collections import ConfigDict

from experiments import vla_weights
from experiments.vla_data import Problem, feed
from experiments.vla_look import look
from rlx.agents import vla
from rlx.infra.errors import ConfigError
from rlx.serve import vla as policy
from rlx.train.sequence_pack import Session
from rlx.types import Learner


def learner(config: ConfigDict, problem: Problem) -> Learner:
    """The learner of a run; its vocabulary is the layout's.

    Raises ConfigError where a random network would be frozen.
    """
    begun = config.weights.path or config.init_from or config.resume_from
    if config.learner.freeze and not begun and "smoke" not in config.tag:
        raise ConfigError(
            f"learner.freeze = '{config.learner.freeze}' keeps parameters as they begin, and they "
            "begin at random: give weights.path or init_from"
        )
    layout, chunk = problem.rows.layout, problem.spec.action.shape
    codec = layout.action.codec(*chunk)
    return vla.make(sized(config, problem), problem.spec, slots=layout.slots, codec=codec)


def sized(config: ConfigDict, problem: Problem) -> ConfigDict:
    """The learner's config with the vocabulary of the layout."""
    own = ConfigDict(config.learner.to_dict())
    own.vocab_size = problem.rows.layout.vocab_size
    return own


def session(config: ConfigDict, problem: Problem) -> Session:
    """The compiled programs of a run."""
    made = learner(config, problem)
    layout, stats, text = problem.rows.layout, problem.rows.action_stats, config.data.text
    own, delta = sized(config, problem), config.data.delta
    assets = policy.assets(own, layout, stats, problem.spec, problem.prefix, text, delta)
    parts = made, feed(config, problem), look(config, problem), assets
    return Session(config, *parts, vla_weights.loader(config))
