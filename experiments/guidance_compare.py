"""Every sampler on a test bed at equal calls of model, value and reward."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments import guidance_measure as measure
from experiments.guidance_beds import Bed
from experiments.guidance_methods import SAMPLERS, Method
from rlx.guidance import Config, GuidedOut, guide


def settings(method: Method, alpha: float, n: int) -> Config:
    """The method with its knob at n."""
    own: dict[str, Any] = (method.settings or {}) | ({method.knob: n} if method.knob else {})
    return Config(method=method.method, alpha=0.0 if method.greedy else alpha, **own)


def sample(bed: Bed, method: Method, config: Config, keys: jax.Array) -> GuidedOut:
    """Run it for each key."""
    value = bed.values[method.values] if method.values else None
    return guide(keys, bed.process, value, bed.reward, config)


def calls_at(bed: Bed, method: Method, n: int) -> float:
    """Calls of one group, nothing is run."""
    key = jax.random.split(jax.random.key(0), 1)
    config = settings(method, bed.alpha, n)
    out = jax.eval_shape(functools.partial(sample, bed, method, config), key)
    return measure.total(out.nfe.times(out.x0.shape[1]))


def rows(bed: Bed, config: ConfigDict, seed: int) -> Iterator[dict[str, Any]]:
    """Every sampler at every budget, the calls of best of N with N of `config.budgets`; not those
    that need more for a single sample.
    """
    best = next(method for method in SAMPLERS if method.method == "bon")
    jobs = []
    for budget in config.budgets:
        calls = calls_at(bed, best, budget)
        for method in SAMPLERS:
            if method.knob:
                n = measure.knob_for(calls, functools.partial(calls_at, bed, method))
                jobs += [(budget, method, n)] if n else []
            elif budget == config.budgets[0]:
                jobs.append((0, method, 1))
    yield exact(bed, config.samples, seed)
    with ThreadPoolExecutor(2) as pool:  # one compiles while another runs
        yield from pool.map(lambda job: row(bed, config.samples, seed, *job), jobs)


def row(bed: Bed, samples: int, seed: int, budget: int, method: Method, n: int) -> dict[str, Any]:
    """One sampler with its knob at n: as many groups as make `samples` of them."""
    config = settings(method, bed.alpha, n)
    one = jax.random.split(jax.random.key(seed), 1)
    like = jax.eval_shape(functools.partial(sample, bed, method, config), one)
    kept = 1 if method.first else like.x0.shape[1]
    groups = max(2, samples // kept)
    out = sample(bed, method, config, jax.random.split(jax.random.key(seed), groups))
    calls = out.nfe.times(out.x0.shape[1])
    x, reward = np.asarray(out.x0)[:, :kept], np.asarray(out.reward)[:, :kept]
    found = {"bed": bed.name, "method": method.name, "values": method.values, "alpha": bed.alpha}
    found |= {"budget": budget, "calls": measure.total(calls), **calls._asdict(), "n": n}
    found |= {"groups": groups, "samples": x.shape[0] * x.shape[1]}
    found |= measure.mean("reward", reward) | bed.distance(x)
    log_z = {} if out.logZ is None else measure.log_mean("logZ", np.asarray(out.logZ))
    return found | log_z | {"collapsed": int(np.asarray(out.collapsed).sum())}


def exact(bed: Bed, samples: int, seed: int) -> dict[str, Any]:
    """Independent samples of the truth: what the distance of so many is at best."""
    x = bed.draw(np.random.default_rng(seed), samples)
    found = {"bed": bed.name, "method": "truth", "values": "", "alpha": bed.alpha, "budget": 0}
    return found | {"groups": samples, "samples": samples} | bed.truth | bed.distance(x)
