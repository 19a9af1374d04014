"""Discrete generators as reverse chains: masked (in parallel, or one token per step) and uniform.

The network returns logits `[B, K, L, V]` of clean tokens, or `[B, K, L, V + 1]` whose last column,
the mask's, is cut off BEFORE the softmax so that rows sum to one.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from rlx.guidance.core import split
from rlx.guidance.kernels import PerToken, SingleSite
from rlx.guidance.types import Fn


class Masked(struct.PyTreeNode):
    """Absorbing diffusion (MDLM, Sahoo et al. 2024): at t a token is masked with chance m_t.

    One step t -> s: each masked position stays so with chance m_s / m_t, else it takes token k with
    p(k | x_t); revealed ones stay. The last step reveals all. Made by `masked`.
    """

    network: Fn
    move: Any  # [T + 1] m_t; m_0 = 0
    length: int = struct.field(pytree_node=False)
    tokens: int = struct.field(pytree_node=False)
    steps: int = struct.field(pytree_node=False)
    stochastic: bool = struct.field(pytree_node=False, default=True)
    masked: bool = struct.field(pytree_node=False, default=True)
    single_site: bool = struct.field(pytree_node=False, default=False)

    def start(self, keys: jax.Array, n: int) -> jax.Array:
        return jnp.full((keys.shape[0], n, self.length), self.tokens, jnp.int32)

    def predict(self, x: jax.Array, t: jax.Array) -> jax.Array:
        return copy_through(log_tokens(self.network(x, t), self.tokens), x, self.tokens)

    def kernel(self, x: jax.Array, prediction: jax.Array, t: jax.Array) -> PerToken:
        move = jnp.asarray(self.move).astype(prediction.dtype)
        stay = move[t - 1] / move[t]
        reveal = prediction + jnp.log1p(-stay)
        hidden = jnp.full((*x.shape, 1), jnp.log(stay), prediction.dtype)
        logits = jnp.concatenate([reveal, hidden], axis=-1)
        return PerToken(copy_through(logits, x, self.tokens))

    def clean(self, x: jax.Array, prediction: jax.Array, t: jax.Array) -> jax.Array:
        del x, t
        return mode(prediction)

    def posterior(self, keys: jax.Array, prediction: jax.Array, k: int) -> jax.Array:
        return PerToken(prediction).draw(keys, k)

    def noise(self, keys: jax.Array, x0: jax.Array, t: jax.Array) -> jax.Array:
        hide = uniform(keys, x0.shape[1:]) < jnp.asarray(self.move)[t]
        return jnp.where(hide, self.tokens, x0)


def log_tokens(logits: jax.Array, tokens: int) -> jax.Array:
    """Log-probabilities of the clean tokens, float32 or wider."""
    if logits.shape[-1] not in (tokens, tokens + 1):
        raise ValueError(
            f"logits of the model have {logits.shape[-1]} classes, expected {tokens}, or "
            f"{tokens + 1} with the mask"
        )
    logits = logits[..., :tokens].astype(jnp.promote_types(logits.dtype, jnp.float32))
    return jax.nn.log_softmax(logits)


def copy_through(log_p: jax.Array, x: jax.Array, mask: int) -> jax.Array:
    """log_p `[B, K, L, C]` where x `[B, K, L]` is the mask, else certainty of the token there."""
    certain = jnp.where(jnp.arange(log_p.shape[-1]) == x[..., None], 0.0, -jnp.inf)
    return jnp.where((x == mask)[..., None], log_p, certain.astype(log_p.dtype))


def mode(log_p: jax.Array) -> jax.Array:
    """Most likely token of each position, int32."""
    return jnp.argmax(log_p, axis=-1).astype(jnp.int32)


def uniform(keys: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Uniform [0, 1) `[B, *shape]`."""
    return jax.vmap(lambda key: jax.random.uniform(key, shape))(keys)


def masked(network: Fn, move: np.ndarray, length: int, tokens: int) -> Masked:
    """Make a masked diffusion of sequences of `length` over `tokens` tokens; the mask is `tokens`.

    network(x [B, K, L] int32, t int32 []) -> logits; move: `[T + 1]` chances to be masked, rising
    from move[0] = 0, move[T] = 1 (e.g. np.linspace(0, 1, T + 1)).
    """
    move = np.asarray(move, np.float64)
    rising = move.ndim == 1 and len(move) > 1 and (np.diff(move) > 0).all()
    if not rising or move[0] != 0 or move[-1] != 1:
        raise ValueError(f"move is [T + 1] chances that rise from 0 to 1, got {move}")
    return Masked(network, move, length, tokens, len(move) - 1)


class OneToken(struct.PyTreeNode):
    """Any-order unmasking (OA-DM): a uniformly chosen masked position gets its token, L steps.

    At t exactly t positions are masked. With exact conditionals p_pre is the data's law: no
    factorisation error, unlike steps in parallel. Made by `one_token`.
    """

    network: Fn
    length: int = struct.field(pytree_node=False)
    tokens: int = struct.field(pytree_node=False)
    stochastic: bool = struct.field(pytree_node=False, default=True)
    masked: bool = struct.field(pytree_node=False, default=True)
    single_site: bool = struct.field(pytree_node=False, default=True)

    @property
    def steps(self) -> int:
        return self.length

    def start(self, keys: jax.Array, n: int) -> jax.Array:
        return jnp.full((keys.shape[0], n, self.length), self.tokens, jnp.int32)

    def predict(self, x: jax.Array, t: jax.Array) -> jax.Array:
        return copy_through(log_tokens(self.network(x, t), self.tokens), x, self.tokens)

    def kernel(self, x: jax.Array, prediction: jax.Array, t: jax.Array) -> SingleSite:
        place = -jnp.log(t.astype(prediction.dtype))
        return SingleSite(jnp.where((x == self.tokens)[..., None], prediction + place, -jnp.inf), x)

    def clean(self, x: jax.Array, prediction: jax.Array, t: jax.Array) -> jax.Array:
        del x, t
        return mode(prediction)

    def posterior(self, keys: jax.Array, prediction: jax.Array, k: int) -> jax.Array:
        return PerToken(prediction).draw(keys, k)

    def noise(self, keys: jax.Array, x0: jax.Array, t: jax.Array) -> jax.Array:
        """Mask exactly t positions of each sequence."""
        order = jnp.argsort(jnp.argsort(uniform(keys, x0.shape[1:]), axis=-1), axis=-1)
        return jnp.where(order < t, self.tokens, x0)


def one_token(network: Fn, length: int, tokens: int) -> OneToken:
    """Make any-order unmasking of `length` positions over `tokens` tokens; the mask is `tokens`.

    network(x [B, K, L] int32, t int32 []) -> logits `[B, K, L, V]` or `[B, K, L, V + 1]`.
    """
    return OneToken(network, length, tokens)


class Uniform(struct.PyTreeNode):
    """Uniform diffusion (D3PM): at t a token is its own with chance abar_t, else uniform.

    With a = abar_t / abar_s, q(x_t | x_s) = a [x_t = x_s] + (1 - a) / V and the network's p(x_0):
      p(x_s | x_t) = q(x_t | x_s) sum_{x_0} p(x_0) q(x_s | x_0) / q(x_t | x_0),
    position by position. The prediction is log p(x_0). Made by `uniform_diffusion`.
    """

    network: Fn
    abar: Any  # [T + 1], from 1
    length: int = struct.field(pytree_node=False)
    tokens: int = struct.field(pytree_node=False)
    steps: int = struct.field(pytree_node=False)
    stochastic: bool = struct.field(pytree_node=False, default=True)
    masked: bool = struct.field(pytree_node=False, default=False)
    single_site: bool = struct.field(pytree_node=False, default=False)

    def start(self, keys: jax.Array, n: int) -> jax.Array:
        return randint(keys, (n, self.length), self.tokens)

    def predict(self, x: jax.Array, t: jax.Array) -> jax.Array:
        return log_tokens(self.network(x, t), self.tokens)

    def kernel(self, x: jax.Array, prediction: jax.Array, t: jax.Array) -> PerToken:
        abar = jnp.asarray(self.abar).astype(prediction.dtype)
        own = jax.nn.one_hot(x, self.tokens, dtype=prediction.dtype)
        between = lambda keep: keep * own + (1 - keep) / self.tokens  # noqa: E731
        weight = jnp.exp(prediction) / between(abar[t])
        from_clean = abar[t - 1] * weight + (1 - abar[t - 1]) / self.tokens * jnp.sum(
            weight, axis=-1, keepdims=True
        )
        return PerToken(jax.nn.log_softmax(jnp.log(between(abar[t] / abar[t - 1]) * from_clean)))

    def clean(self, x: jax.Array, prediction: jax.Array, t: jax.Array) -> jax.Array:
        del x, t
        return mode(prediction)

    def posterior(self, keys: jax.Array, prediction: jax.Array, k: int) -> jax.Array:
        return PerToken(prediction).draw(keys, k)

    def noise(self, keys: jax.Array, x0: jax.Array, t: jax.Array) -> jax.Array:
        keep_key, token_key = split(keys, 2)
        keep = uniform(keep_key, x0.shape[1:]) < jnp.asarray(self.abar)[t]
        return jnp.where(keep, x0, randint(token_key, x0.shape[1:], self.tokens))


def uniform_diffusion(network: Fn, abar: np.ndarray, length: int, tokens: int) -> Uniform:
    """Make a uniform diffusion of sequences of `length` over `tokens` tokens.

    network(x [B, K, L] int32, t int32 []) -> logits `[B, K, L, V]` of x_0; abar: `[T + 1]` chances
    to keep the token, falling from abar[0] = 1.
    """
    abar = np.asarray(abar, np.float64)
    falling = abar.ndim == 1 and len(abar) > 1 and (np.diff(abar) < 0).all()
    if not falling or abar[0] != 1 or abar[-1] < 0:
        raise ValueError(f"abar is [T + 1] chances that fall from 1 to >= 0, got {abar}")
    return Uniform(network, abar, length, tokens, len(abar) - 1)


def randint(keys: jax.Array, shape: tuple[int, ...], high: int) -> jax.Array:
    """Uniform whole numbers below `high`, `[B, *shape]` int32."""
    return jax.vmap(lambda key: jax.random.randint(key, shape, 0, high))(keys)
