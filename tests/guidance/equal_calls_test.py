"""Methods that are compared get equal calls and equal starts."""

from __future__ import annotations

from itertools import islice

import jax
import numpy as np

from experiments import guidance_actions, guidance_designs, guidance_dna, guidance_prior
from rlx.guidance import one_token, posterior_mean
from rlx.infra import config as configs


def test_every_method_of_actions_costs_what_best_of_n_costs():
    """Calls, not samples: a particle of SMC costs another number of them than one of best-of-N."""
    config = configs.load("configs/guidance.py:quick").actions.copy_and_resolve_references()
    config.update(particles=16, groups=8)
    count = 2 + len(guidance_actions.METHODS)  # after them the student would be trained
    calls = {r["method"]: r.get("calls") for r in islice(guidance_actions.rows(config, 0), count)}
    budget = 16 * (config.steps + 1)  # forwards of the flow and a reward each
    assert calls["best of N"] == budget
    assert calls.keys() == {"truth", "pre-trained", *guidance_actions.METHODS}
    for name in guidance_actions.METHODS:
        assert 0.9 * budget <= calls[name] <= budget, name


def test_populations_of_designs_begin_with_the_same_samples():
    """With nothing changed and nothing selected, what comes out is the start of both."""
    process = one_token(guidance_prior.exact, 8, 4)
    oracle = guidance_dna.reward(guidance_dna.guiding())
    value = posterior_mean(process, oracle, samples=0)
    keys, starts = jax.random.split(jax.random.key(0), 3), []
    for method in guidance_designs.EVOLVED:
        how = guidance_designs.settings(method, 64, 8, 0.1)
        held = how.replace(rounds=1, children=1, alpha_global=1e20, global_resampling=False)
        out = guidance_designs.designed(keys, process, value, oracle, held)
        starts.append(np.asarray(out.x0))
    apart = (starts[0] != starts[1]).sum(-1)
    assert apart.max() <= 2  # one position each, of a round's mutation or mask
    assert starts[0].shape == starts[1].shape == (3, 2, 8)
