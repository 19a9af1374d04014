"""Networks that predict the noise in a noised action: an MLP, and the LN-ResNet of IDQL."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from rlx.nn.mlp import GLOROT_UNIFORM, MLP


def sinusoids(t: jax.Array, size: int) -> jax.Array:
    """Sines and cosines of t `[..., 1]` at `size // 2` frequencies from 1 to 1e-4 -> `[..., size]`.

    Vaswani et al. 2017, section 3.5.
    """
    half = size // 2
    angles = t * 1e4 ** (-jnp.arange(half) / max(half - 1, 1))
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


class Denoiser(nn.Module):
    """eps(s, x, t): obs `[B, *O]`, x `[B, A]`, t `[B, 1]` in 1 ... T -> `[B, A]`.

    The time goes through sinusoids and two layers; then Mish layers on [x, time, s] (Wang, Hunt,
    Zhou 2023, arXiv 2208.06193), or with `residual` blocks of LayerNorm, Dense of 4 widths, Mish,
    Dense (Hansen-Estruch et al. 2023, arXiv 2304.10573), one per entry of `hidden`.
    Samplers compute `condition` once for all their steps and candidates.
    """

    hidden: Sequence[int]
    action_dim: int
    time_features: int = 16
    residual: bool = False
    encoder: nn.Module | None = None

    def setup(self) -> None:
        size = self.time_features
        self.time = MLP((2 * size,), size, activation=jax.nn.mish, kernel_init=GLOROT_UNIFORM)
        net = Residual if self.residual else mish_mlp
        self.net = net(self.hidden, self.action_dim)

    def condition(self, obs: jax.Array) -> jax.Array:
        """What of the input depends on the observation alone, `[B, F]`."""
        return obs if self.encoder is None else self.encoder(obs)

    def noise(self, condition: jax.Array, x: jax.Array, t: jax.Array) -> jax.Array:
        """eps at `x [..., A]` and `t [..., 1]`, given `condition(obs)` with as many axes."""
        features = jnp.broadcast_to(condition, (*x.shape[:-1], condition.shape[-1]))
        time = self.time(sinusoids(t, self.time_features))
        return self.net(jnp.concatenate([x, time, features], axis=-1))

    def __call__(self, obs: jax.Array, x: jax.Array, t: jax.Array) -> jax.Array:
        return self.noise(self.condition(obs), x, t)


def mish_mlp(hidden: Sequence[int], out: int) -> MLP:
    """Dense layers with Mish between them."""
    return MLP(hidden, out, activation=jax.nn.mish, kernel_init=GLOROT_UNIFORM)


class Residual(nn.Module):
    """`[..., I] -> [..., out]` through blocks x + Dense(Mish(Dense(LayerNorm(x))))."""

    hidden: Sequence[int]
    out: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.Dense(self.hidden[0], kernel_init=GLOROT_UNIFORM)(x)
        for width in self.hidden:
            inner = nn.Dense(4 * width, kernel_init=GLOROT_UNIFORM)(nn.LayerNorm()(x))
            x = x + nn.Dense(width, kernel_init=GLOROT_UNIFORM)(jax.nn.mish(inner))
        return nn.Dense(self.out, kernel_init=GLOROT_UNIFORM)(jax.nn.mish(x))
