"""The compiled programs of one run of `experiments.vla`."""

from __future__ import annotations

from ml_collections import ConfigDict

from experiments import vla_weights
from experiments.vla_data import Problem, feed
from experiments.vla_look import look
from rlx.agents import vla
from rlx.serve import vla as policy
from rlx.train.sequence_pack import Session


def session(config: ConfigDict, problem: Problem) -> Session:
    """The compiled programs of a run; the learner's vocabulary is the layout's."""
    layout, chunk = problem.rows.layout, problem.spec.action.shape
    own = ConfigDict(config.learner.to_dict())
    own.vocab_size = layout.vocab_size
    made = vla.make(own, problem.spec, slots=layout.slots, codec=layout.action.codec(*chunk))
    stats, text = problem.rows.action_stats, config.data.text
    assets = policy.assets(own, layout, stats, problem.spec, problem.prefix, text)
    parts = made, feed(config, problem), look(config, problem), assets
    return Session(config, *parts, vla_weights.loader(config))
