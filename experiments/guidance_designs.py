"""Designs of DNA at equal calls of the reward: refinement, SVDD, a genetic algorithm, best of N."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from experiments import guidance_dna as dna
from experiments import guidance_prior as prior
from experiments import guidance_sequences as sequences
from rlx.guidance import Calls, Config, GuidedOut, guide, one_token, posterior_mean
from rlx.guidance.discrete import OneToken
from rlx.guidance.types import Fn, Value

EVOLVED = {"genetic algorithm": "ga", "refinement": "rerd"}
METHODS = ("best of N", "genetic algorithm", "SVDD", "refinement")


def settings(method: str, budget: int, length: int, fraction: float) -> Config:
    """A method that calls the reward about `budget` times, never more if a round fits.

    SVDD takes up to 20 children, then several designs. The two that evolve a population have the
    same one, of as many children each, from samples of the prior; the rest are rounds, which cost
    refinement a call per child and step.
    """
    if method == "best of N":
        return Config(method="bon", particles=budget)
    if method == "SVDD":
        children = max(1, min(20, budget // length))
        many = max(1, budget // (length * children))
        return Config(method="svdd", particles=many, children=children)
    many = max(2, min(16, budget // 32))
    children = max(1, min(8, budget // (10 * many)))
    steps = max(round(fraction * length), 1)  # of a round of refinement
    while many + many * children * steps > budget and children * many > 2:
        many, children = (many, children - 1) if children > 1 else (many - 1, children)
    each = many * children * (steps if method == "refinement" else 1)
    rounds, own = max(1, (budget - many) // each), EVOLVED[method]
    return Config(method=own, fraction=fraction, particles=many, children=children, rounds=rounds)


def designed(
    keys: jax.Array, process: OneToken, value: Value, oracle: Fn, config: Config
) -> GuidedOut:
    """Run a method; populations begin with the same samples of the prior, whose calls count."""
    if config.method not in EVOLVED.values():
        return guide(keys, process, value, oracle, config)
    start = jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys)
    samples = Config(method="none", particles=config.particles)
    designs = guide(start, process, value, oracle, samples).x0
    out = guide(
        keys, process, value, oracle, config, designs=designs
    )  # rewards them again: counted once
    return out.replace(nfe=out.nfe + Calls(model=process.steps))


def rows(config: ConfigDict, denoiser: ConfigDict, seed: int) -> Iterator[dict[str, Any]]:
    """The prior itself, then every method at every budget."""
    length = config.length
    exact = config.network == "exact"
    network = prior.exact if exact else prior.trained(denoiser, length, seed)
    process = one_token(network, length, 4)
    oracle, other = dna.reward(dna.guiding()), dna.reward(dna.held_out())
    value = posterior_mean(process, oracle, samples=0)
    ratio = reward_cost(process, oracle, config.groups)
    reference = sequences.reference(length, oracle, other)
    keys = jax.random.split(jax.random.key(seed), config.groups)
    jobs = [("pre-trained", 1, Config(method="none", particles=1))]
    for budget in config.budgets:
        jobs += [(m, budget, settings(m, budget, length, config.fraction)) for m in METHODS]
    for method, budget, how in jobs:
        start = time.perf_counter()
        out = jax.block_until_ready(designed(keys, process, value, oracle, how))
        spent = time.perf_counter() - start
        facts = {"method": method, "budget": budget, "seconds_with_compile": spent}
        yield facts | sequences.described(out, reference, ratio)


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
