"""DNA of a Markov chain, its exact conditionals, and rewards that are proxies.

The proxies: the nearest-neighbour energy of the duplex (SantaLucia 1998, kcal/mol at 37 C), matches
of two motifs (TATA box, E-box) by log-odds, the share of G and C, self-complementary stems. None of
them is an activity that was measured; the held-out oracle is another version of the same proxies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

BASES = "ACGT"
START = (0.3, 0.2, 0.2, 0.3)
ROWS = (  # what follows a base, as in the human genome: CG is rare
    (0.33, 0.17, 0.24, 0.26),
    (0.35, 0.25, 0.05, 0.35),
    (0.29, 0.21, 0.25, 0.25),
    (0.22, 0.20, 0.25, 0.33),
)
STACKS = {
    "AA": -1.00, "AT": -0.88, "TA": -0.58, "CA": -1.45, "GT": -1.44,
    "CT": -1.28, "GA": -1.30, "CG": -2.17, "GC": -2.24, "GG": -1.84,
}  # fmt: skip
ENDS = {"A": 1.03, "C": 0.98, "G": 0.98, "T": 1.03}
MOTIFS = ("TATAAA", "CACGTG")
TARGET, STEM = -1.25, 4  # kcal/mol per pair of neighbours; bases of a stem


def ids(text: str) -> np.ndarray:
    return np.array([BASES.index(base) for base in text])


def stacks() -> np.ndarray:
    """Energies of neighbours `[4, 4]`; a pair and its reverse complement are the same stack."""
    table = np.zeros((4, 4))
    for pair, energy in STACKS.items():
        a, b = ids(pair)
        table[a, b] = table[3 - b, 3 - a] = energy
    return table


class Oracle(NamedTuple):
    """Tables of a reward."""

    stacks: np.ndarray  # [4, 4]
    sure: float  # chance of a motif's own base in its weight matrix


def guiding() -> Oracle:
    return Oracle(stacks(), 0.85)


def held_out() -> Oracle:
    """The same proxies with a softer weight matrix and energies off by 10 %."""
    noise = np.random.default_rng(1).normal(size=(4, 4))
    noise = (noise + noise[::-1, ::-1].T) / 2**0.5  # strands stay the same
    return Oracle(stacks() * (1 + 0.1 * noise), 0.7)


def reward(oracle: Oracle) -> Callable[[jax.Array], jax.Array]:
    """r(x int32 [..., L]) -> [...]: 2 per perfect motif, less what is wrong with the rest."""
    table, ends = jnp.float32(oracle.stacks), jnp.float32([ENDS[b] for b in BASES])

    def of(x: jax.Array) -> jax.Array:
        far = jnp.abs(energy(table, ends, x) / (x.shape[-1] - 1) - TARGET)
        gc = ((x == 1) | (x == 2)).mean(-1)
        outside = jnp.maximum(jnp.abs(gc - 0.5) - 0.1, 0.0)
        found = sum(match(x, ids(motif), oracle.sure) for motif in MOTIFS)
        return 2.0 * found - 2.0 * far - 10.0 * outside - 0.5 * stems(x)

    return of


def energy(table: jax.Array, ends: jax.Array, x: jax.Array) -> jax.Array:
    """Free energy of the duplex, kcal/mol."""
    return table[x[..., :-1], x[..., 1:]].sum(-1) + ends[x[..., 0]] + ends[x[..., -1]]


def match(x: jax.Array, motif: np.ndarray, sure: float) -> jax.Array:
    """Log-odds of the best window against uniform bases, as a share of a perfect match's."""
    high, low = np.log(sure / 0.25), np.log((1 - sure) / 3 / 0.25)
    count = x.shape[-1] - len(motif) + 1
    hits = sum((x[..., i : i + count] == base).astype(jnp.float32) for i, base in enumerate(motif))
    return ((hits * (high - low)).max(-1) + len(motif) * low) / (len(motif) * high)


def stems(x: jax.Array) -> jax.Array:
    """Pairs of windows of STEM bases that complement each other around a loop of 3 or more."""
    count = x.shape[-1] - STEM + 1
    pairs = jnp.ones((*x.shape[:-1], count, count), bool)
    for i in range(STEM):
        left, right = x[..., i : i + count], x[..., STEM - 1 - i : STEM - 1 - i + count]
        pairs &= left[..., :, None] == 3 - right[..., None, :]
    apart = np.arange(count)[None, :] - np.arange(count)[:, None] >= STEM + 3
    return (pairs & apart).sum((-2, -1)).astype(jnp.float32)
