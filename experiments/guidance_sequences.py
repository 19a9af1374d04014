"""What is said of designed sequences: the reward that chose them, another, and the prior's view."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import guidance_dna as dna
from experiments import guidance_measure as measure
from experiments import guidance_prior as prior
from rlx.guidance import GuidedOut
from rlx.guidance.diagnostics import diversity, unique_fraction
from rlx.guidance.types import Fn

SAMPLES = 4_000  # of the prior
K = 3  # bases of a k-mer


class Reference(NamedTuple):
    """Two oracles, and what they say of samples of the prior: (mean, standard deviation)."""

    oracle: Fn
    other: Fn
    scale: tuple[float, float]
    other_scale: tuple[float, float]
    kmers: np.ndarray  # frequencies of k-mers there


def reference(length: int, oracle: Fn, other: Fn) -> Reference:
    """Measure the prior."""
    x = prior.draw(jax.random.key(0), SAMPLES, length)
    scale, other_scale = ((float(r(x).mean()), float(r(x).std())) for r in (oracle, other))
    return Reference(oracle, other, scale, other_scale, kmers(np.asarray(x)))


def kmers(x: np.ndarray) -> np.ndarray:
    """Frequencies `[4**K]` of the words of K bases in sequences x `[N, L]`."""
    count = x.shape[1] - K + 1
    word: Any = sum(4**i * x[:, i : i + count] for i in range(K))
    return np.bincount(word.ravel(), minlength=4**K) / word.size


def described(out: GuidedOut, ref: Reference, ratio: float) -> dict[str, Any]:
    """The best design of each group, what it cost, and what an oracle says that did not guide.

    hacking: what the guiding oracle gained beyond the other, each in its standard deviations over
    the prior: their scales differ.
    """
    best = out.archive  # of all rounds, where there are several
    if best is None:
        best = out.x0[jnp.arange(len(out.x0)), out.reward.argmax(1)]
    r, held_out, x = (np.asarray(a) for a in (ref.oracle(best), ref.other(best), best))
    calls = out.nfe.times(out.x0.shape[1])
    row = {"reward_calls": calls.reward, "model_calls": calls.model, "reward_cost": ratio}
    row |= {"calls": measure.total(calls, ratio), "groups": len(x)} | measure.mean("reward", r)
    row |= {"median": float(np.median(r)), "q90": float(np.quantile(r, 0.9))}
    gains = [(a - m) / s for a, (m, s) in ((r, ref.scale), (held_out, ref.other_scale))]
    row |= measure.mean("held_out", held_out) | measure.mean("hacking", gains[0] - gains[1])
    row |= measure.mean("log_likelihood", prior.log_likelihood(x))
    row |= {"diversity": float(diversity(best)), "unique": float(unique_fraction(best))}
    row["kmer_correlation"] = float(np.corrcoef(kmers(x), ref.kmers)[0, 1])
    return row | {"best": "".join(dna.BASES[base] for base in x[r.argmax()])}
