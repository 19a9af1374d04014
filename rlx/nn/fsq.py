"""Finite scalar quantisation of action chunks (Mentzer et al. 2023, arXiv 2309.15505), the learned
baseline of FAST: attention in, a small code per token, attention out.

  y = steps E + p                     queries q [n, W] attend to y, layer by layer:
  h = h + self(LN h);  h = h + cross(LN h, y);  h = h + GeGLU(LN h)
  z = tanh(LN(h) W_k),   d_i = round((z_i + 1)(b_i - 1) / 2),   id = sum_i d_i prod_{j<i} b_j
and the mirror image back. Gradients pass the rounding as if it were not there.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

CODEBOOKS = {  # ids asked for: levels b_i of each number of a code
    256: (8, 6, 5),
    1024: (8, 5, 5, 5),
    4096: (7, 5, 5, 5, 5),
    16384: (8, 8, 8, 6, 5),
    65536: (8, 8, 8, 5, 5, 5),
}


def sinusoids(key: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """Initialise positions `[n, W]`: sines, then cosines, of wavelengths 2 pi to 2e4 pi."""
    del key
    n, width = shape
    angle = np.arange(n)[:, None] / 10_000 ** (np.arange((width + 1) // 2) / (width / 2))
    return jnp.asarray(np.concatenate([np.sin(angle), np.cos(angle)], 1)[:, :width], jnp.float32)


class Attention(nn.Module):
    """Queries `[B, n, W]` over `[B, m, W]`, without mask."""

    heads: int

    @nn.compact
    def __call__(self, x: jax.Array, y: jax.Array) -> jax.Array:
        W = x.shape[-1]
        split = lambda z: z.reshape(*z.shape[:2], self.heads, W // self.heads)  # noqa: E731
        q, k, v = (split(nn.Dense(W, name=name)(z)) for name, z in (("q", x), ("k", y), ("v", y)))
        weight = jax.nn.softmax(jnp.einsum("bnhd,bmhd->bhnm", q, k) * q.shape[-1] ** -0.5)
        return nn.Dense(W, name="out")(jnp.einsum("bhnm,bmhd->bnhd", weight, v).reshape(x.shape))


class Block(nn.Module):
    """One layer of the equation above."""

    heads: int

    @nn.compact
    def __call__(self, x: jax.Array, y: jax.Array) -> jax.Array:
        W = x.shape[-1]
        h = nn.LayerNorm(name="self_norm")(x)
        x = x + Attention(self.heads, name="self")(h, h)
        x = x + Attention(self.heads, name="cross")(nn.LayerNorm(name="cross_norm")(x), y)
        h = nn.LayerNorm(name="mlp_norm")(x)
        h = nn.gelu(nn.Dense(2 * W, name="gate")(h)) * nn.Dense(2 * W, name="up")(h)
        return x + nn.Dense(W, name="down")(h)


class Resampler(nn.Module):
    """`count` learned queries that read `[B, m, W]`; returns `[B, count, W]`."""

    count: int
    layers: int
    heads: int

    @nn.compact
    def __call__(self, y: jax.Array) -> jax.Array:
        y = y + self.param("position", sinusoids, y.shape[1:])
        x = self.param("queries", sinusoids, (self.count, y.shape[-1]))
        x = jnp.broadcast_to(x, (y.shape[0], *x.shape))
        for i in range(self.layers):
            x = Block(self.heads, name=f"block_{i}")(x, y)
        return nn.LayerNorm(name="norm")(x)


class Fsq(nn.Module):
    """Chunks `[B, T, A]` of normalised actions to ids `[B, tokens]` and back."""

    horizon: int
    action_dim: int
    levels: tuple[int, ...]
    tokens: int
    width: int
    layers: int
    heads: int

    def setup(self) -> None:
        self.embed = nn.Dense(self.width)
        self.encoder = Resampler(self.tokens, self.layers, self.heads)
        self.to_code = nn.Dense(len(self.levels))
        self.from_code = nn.Dense(self.width)
        self.decoder = Resampler(self.horizon, self.layers, self.heads)
        self.head = nn.Dense(self.action_dim)
        self.gain = self.param("gain", nn.initializers.ones, ())

    def digits(self, actions: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return z `[B, tokens, k]` in (-1, 1) and its digits, as floats."""
        z = jnp.tanh(self.to_code(self.encoder(self.embed(actions))))
        return z, jnp.round((z + 1) * (jnp.asarray(self.levels) - 1) / 2)

    def encode(self, actions: jax.Array) -> jax.Array:
        """Return ids `[B, tokens]` int32."""
        place = np.cumprod((1, *self.levels[:-1]))
        return jnp.sum(self.digits(actions)[1].astype(jnp.int32) * place, axis=-1)

    def decode(self, ids: jax.Array) -> jax.Array:
        """Return chunks `[B, T, A]` of ids `[B, tokens]`."""
        place, levels = np.cumprod((1, *self.levels[:-1])), np.array(self.levels)
        return self.render((ids[..., None] // place) % levels)

    def render(self, digits: jax.Array) -> jax.Array:
        """Return chunks `[B, T, A]` of digits `[B, tokens, k]`."""
        code = digits * 2 / (jnp.asarray(self.levels) - 1) - 1
        return self.gain * self.head(self.decoder(self.from_code(code)))

    def __call__(self, actions: jax.Array) -> jax.Array:
        """Return what is left of `actions` after quantisation, differentiable."""
        z, digits = self.digits(actions)
        straight = (z + 1) * (jnp.asarray(self.levels) - 1) / 2
        return self.render(straight + jax.lax.stop_gradient(digits - straight))
