"""The compiled programs of one run of `experiments.vla`."""

from __future__ import annotations

from ml_collections import ConfigDict

from experiments import vla_weights
from experiments.vla_data import Problem, feed
from experiments.vla_look import look
from rlx.agents import vla
from rlx.infra.errors import ConfigError
from rlx.serve import vla as policy
from rlx.train.sequence_pack import Session


def session(config: ConfigDict, problem: Problem) -> Session:
    """The compiled programs of a run; the learner's vocabulary is the layout's.

    Raises ConfigError where a random network would be frozen.
    """
    begun = config.weights.path or config.init_from or config.resume_from
    if config.learner.freeze and not begun and "smoke" not in config.tag:
        raise ConfigError(
            f"learner.freeze = '{config.learner.freeze}' keeps parameters as they begin, and they "
            "begin at random: give weights.path or init_from"
        )
    layout, chunk = problem.rows.layout, problem.spec.action.shape
    own = ConfigDict(config.learner.to_dict())
    own.vocab_size = layout.vocab_size
    made = vla.make(own, problem.spec, slots=layout.slots, codec=layout.action.codec(*chunk))
    stats, text = problem.rows.action_stats, config.data.text
    assets = policy.assets(
        own, layout, stats, problem.spec, problem.prefix, text, config.data.delta
    )
    parts = made, feed(config, problem), look(config, problem), assets
    return Session(config, *parts, vla_weights.loader(config))
