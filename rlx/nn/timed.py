"""Networks of a state and a time: values, denoisers of vectors, denoisers of masked tokens."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from rlx.nn.diffusion import sinusoids
from rlx.nn.mlp import gelu_mlp
from rlx.nn.transformer import Decoder, Variant

ZERO = nn.initializers.zeros_init()


def joined(obs: jax.Array, x: jax.Array, t: jax.Array, tokens: int, size: int) -> jax.Array:
    """What a network of vectors sees: the condition, the state and sinusoids of the time, `[n, F]`.

    Args: obs `[n, O]`; x `[n, d]`, or with `tokens` > 0 int32 `[n, L]` or one-hots; t `[n]`.
    """
    if tokens and jnp.issubdtype(x.dtype, jnp.integer):
        x = jax.nn.one_hot(x, tokens + 1)
    flat = x.reshape(x.shape[0], -1)
    return jnp.concatenate([obs, flat, sinusoids(t[:, None].astype(flat.dtype), size)], -1)


class TimedValue(nn.Module):
    """v(s, x, t): obs `[n, O]`, x `[n, d]` or tokens `[n, L]`, t int32 `[n]` -> `[n]`."""

    hidden: Sequence[int]
    tokens: int = 0
    time_features: int = 16

    @nn.compact
    def __call__(self, obs: jax.Array, x: jax.Array, t: jax.Array) -> jax.Array:
        seen = joined(obs, x, t, self.tokens, self.time_features)
        return gelu_mlp(self.hidden, 1)(seen).squeeze(-1)


class TimedDenoiser(nn.Module):
    """Obs `[n, O]`, x `[n, d]`, t `[n]` -> `[n, d]`; 0 at first, so that it can be added to what is
    trained already.
    """

    hidden: Sequence[int]
    dim: int
    time_features: int = 16

    @nn.compact
    def __call__(self, obs: jax.Array, x: jax.Array, t: jax.Array) -> jax.Array:
        seen = joined(obs, x, t, 0, self.time_features)
        return gelu_mlp(self.hidden, self.dim, out_init=ZERO)(seen)


class MaskedMLP(nn.Module):
    """Logits of tokens: obs `[n, O]`, x `[n, L, V + 1]` one-hot, t `[n]` -> `[n, L, V]`.

    They are 0 at first. The number of masks tells the time.
    """

    hidden: Sequence[int]
    tokens: int
    length: int

    @nn.compact
    def __call__(self, obs: jax.Array, x: jax.Array, t: jax.Array) -> jax.Array:
        del t
        seen = jnp.concatenate([obs, x.reshape(x.shape[0], -1)], -1)
        logits = gelu_mlp(self.hidden, self.length * self.tokens, out_init=ZERO)(seen)
        return logits.reshape(-1, self.length, self.tokens)


class MaskedTransformer(nn.Module):
    """The same with a decoder of `rlx/nn/transformer.py` in which each position sees all others."""

    width: int
    depth: int
    heads: int
    tokens: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, obs: jax.Array, x: jax.Array, t: jax.Array) -> jax.Array:
        del t
        n, L, _ = x.shape
        width, heads = self.width, self.heads
        how = Variant(width, self.depth, 4 * width, heads, heads, width // heads)
        embedded = nn.Dense(width, dtype=self.dtype)(x)
        if obs.shape[-1]:
            embedded = embedded + nn.Dense(width, dtype=self.dtype)(obs)[:, None]
        everywhere = jnp.ones((n, L, L), bool)
        places = jnp.broadcast_to(jnp.arange(L), (n, L))
        y, _ = Decoder(how, dtype=self.dtype)(embedded, places, everywhere)
        return nn.Dense(self.tokens, kernel_init=ZERO)(y).astype(jnp.float32)
