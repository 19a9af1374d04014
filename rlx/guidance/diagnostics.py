"""What is reported of samples, beside the reward they were chosen by."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from rlx.guidance.core import rewards
from rlx.guidance.types import GuidedOut, Reward


def summary(out: GuidedOut, held_out: Reward) -> dict[str, jax.Array]:
    """Facts of each problem, `[B]`: reward (mean, median, 90 % quantile), the same of a SECOND
    reward that did not guide, and how much the guided one promises beyond it.

    held_out(x_0 [B, R, *E]) -> [B, R], of the same scale: samplers exploit the oracle they see, so
    there is no report without another. Means are weighted, of what is finite.
    """
    w = jax.nn.softmax(jnp.where(jnp.isfinite(out.reward), out.logw, -jnp.inf), axis=1)
    mean = lambda r: jnp.sum(jnp.where(w > 0, w * r, 0.0), axis=1)  # noqa: E731
    known = jnp.where(jnp.isfinite(out.reward), out.reward, jnp.nan)
    other = rewards(held_out, out.x0)
    facts = {
        "reward": mean(out.reward),
        "reward_median": jnp.nanmedian(known, axis=1),
        "reward_q90": jnp.nanquantile(known, 0.9, axis=1),
        "held_out": mean(other),
        "ess_min": jnp.min(out.ess, axis=0),
        "n_bad_reward": out.n_bad_reward,
        "collapsed": out.collapsed,
    }
    facts["hacking"] = facts["reward"] - facts["held_out"]
    return facts | ({} if out.logZ is None else {"logZ": out.logZ})


def diversity(x: jax.Array) -> jax.Array:
    """Mean Hamming distance over L of two DIFFERENT sequences of a set x `[..., R, L]` -> `[...]`.

    The R zeros of the diagonal are no pairs: with them the mean is low by (R - 1) / R.
    """
    R = x.shape[-2]
    apart = jnp.mean(x[..., :, None, :] != x[..., None, :, :], axis=-1)
    return jnp.sum(apart, axis=(-2, -1)) / (R * (R - 1))


def unique_fraction(x: jax.Array) -> jax.Array:
    """Share of different sequences in sets x `[..., R, L]`."""
    same = jnp.all(x[..., :, None, :] == x[..., None, :, :], axis=-1)
    earlier = jnp.tril(same, k=-1)
    return jnp.mean(~jnp.any(earlier, axis=-1), axis=-1)
