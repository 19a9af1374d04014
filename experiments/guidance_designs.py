"""Designs of DNA at equal calls of the reward: refinement, SVDD, a genetic algorithm, best of N."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments import guidance_dna as dna
from experiments import guidance_measure as measure
from experiments import guidance_prior as prior
from rlx.guidance import Config, GuidedOut, guide, one_token, posterior_mean
from rlx.guidance.diagnostics import diversity
from rlx.guidance.discrete import OneToken
from rlx.guidance.types import Fn

METHODS = ("best of N", "genetic algorithm", "SVDD", "refinement")


def settings(method: str, budget: int, length: int, fraction: float) -> Config:
    """A method that calls the reward about `budget` times, never more.

    SVDD takes up to 20 children, then several designs. Refinement spends half on its first designs,
    the genetic algorithm a tenth on samples; the rest are rounds.
    """
    if method == "best of N":
        return Config(method="bon", particles=budget)
    children = max(1, min(20, budget // length))
    if method == "SVDD":
        many = max(1, budget // (length * children))
        return Config(method="svdd", particles=many, children=children)
    sites = max(round(fraction * length), 1)
    if method == "genetic algorithm":
        how = "ga"
        many = max(2, min(16, budget // 10))
        children = max(1, min(8, budget // (10 * many)))
        each = many * children
        rounds = (budget - many) // each
    else:
        how = "rerd"
        children = max(1, min(10, budget // (2 * length)))
        many = max(1, budget // (2 * length * children))
        each = many * children * sites
        rounds = (budget - many * children * length) // each
    sizes = {"particles": many, "children": children, "rounds": max(1, rounds)}
    return Config(method=how, fraction=fraction, **sizes)


def rows(config: ConfigDict, denoiser: ConfigDict, seed: int) -> Iterator[dict[str, Any]]:
    """Every method at every budget."""
    length = config.length
    exact = config.network == "exact"
    network = prior.exact if exact else prior.trained(denoiser, length, seed)
    process = one_token(network, length, 4)
    oracle, other = dna.reward(dna.guiding()), dna.reward(dna.held_out())
    value = posterior_mean(process, oracle, samples=0)
    ratio = reward_cost(process, oracle, config.groups)
    keys = jax.random.split(jax.random.key(seed), config.groups)
    for budget in config.budgets:
        for method in METHODS:
            how = settings(method, budget, length, config.fraction)
            start = time.perf_counter()
            out = jax.block_until_ready(guide(keys, process, value, oracle, how))
            facts = {"method": method, "budget": budget, "seconds": time.perf_counter() - start}
            yield facts | described(out, oracle, other, ratio)


def described(out: GuidedOut, oracle: Fn, other: Fn, ratio: float) -> dict[str, Any]:
    """The best design of each group, what it cost, and what an oracle says that did not guide."""
    best = out.archive  # of all rounds, where there are several
    if best is None:
        best = out.x0[jnp.arange(len(out.x0)), out.reward.argmax(1)]
    r, x, calls = np.asarray(oracle(best)), np.asarray(best), out.nfe.times(out.x0.shape[1])
    row = {"reward_calls": calls.reward, "model_calls": calls.model, "reward_cost": ratio}
    row |= {"calls": measure.total(calls, ratio), "groups": len(x)}
    row |= measure.mean("reward", r) | measure.mean("held_out", np.asarray(other(best)))
    row |= measure.mean("log_likelihood", prior.log_likelihood(x))
    row["diversity"] = float(diversity(best))
    return row | {"best": "".join(dna.BASES[base] for base in x[r.argmax()])}


def reward_cost(process: OneToken, oracle: Fn, groups: int) -> float:
    """Seconds of one reward over those of one forward of the model, on as many rows."""
    x = jnp.zeros((groups, 16, process.length), jnp.int32)
    times = []
    for program in (jax.jit(oracle), jax.jit(lambda x: process.predict(x, jnp.int32(1)))):
        program(x).block_until_ready()
        spent = []
        for _ in range(5):
            start = time.perf_counter()
            program(x).block_until_ready()
            spent.append(time.perf_counter() - start)
        times.append(min(spent))
    return times[0] / times[1]
