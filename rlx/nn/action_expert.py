"""The flow-matching action expert of pi0 and pi0.5 (arXiv 2410.24164, 2504.16054): a second,
smaller decoder whose tokens read the keys and values that the first one made of images and text.

    tau ~ 0.001 + 0.999 Beta(1.5, 1);   x = tau noise + (1 - tau) a
    loss = mean (v(x, tau) - (noise - a))**2

so tau = 1 is noise, opposite to the papers (as in the released code and weights). The first
decoder never sees the expert, therefore the two run one after the other and not layer by layer.
Blocks: {images, text} | {state} | {actions}. pi0 has one token of the state and mixes tau into each
action; pi0.5 has the state in its text, and tau sets the adaptive norms.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rlx.nn.attention import KeyValue
from rlx.nn.lora import Lora
from rlx.nn.transformer import Decoder, Variant
from rlx.ops.flow import integrate
from rlx.types import PyTree

KINDS = ("pi0", "pi05")
PERIODS = 4e-3, 4.0  # shortest and longest of the sines of tau
BETA, TAU_MIN = 1.5, 0.001


def time_features(tau: jax.Array, width: int) -> jax.Array:
    """tau `[B]` -> `[B, width]`: sines, then cosines, with periods in geometric progression."""
    share = jnp.linspace(0.0, 1.0, width // 2)
    period = PERIODS[0] * (PERIODS[1] / PERIODS[0]) ** share
    angle = 2.0 * jnp.pi * tau[:, None] / period
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


class ActionExpert(nn.Module):
    """v(x, tau) given a prefix; parameters float32, decoder computed in `dtype`."""

    variant: Variant
    kind: str
    action_dim: int
    lora: Lora | None = None
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        tau: jax.Array,
        state: jax.Array | None,
        memory: KeyValue,
        seen: jax.Array,
    ) -> jax.Array:
        """Return the velocity `[B, T, A]` float32.

        Args: x `[B, T, A]` noisy actions; tau `[B]`; state `[B, S]` (pi0); memory: keys and values
        `[depth, B, P, K, H]` of the first decoder; seen `[B, P]` bool, which of them are images
        and text.
        """
        B, T, _ = x.shape
        width = self.variant.width
        dense = lambda name, n=width: nn.Dense(n, name=name)  # noqa: E731
        tokens, time, cond = dense("action_in")(x), time_features(tau, width), None
        if self.kind == "pi05":
            cond = nn.silu(dense("time_out")(nn.silu(dense("time_in")(time))))
        else:
            if state is None:
                raise ValueError("pi0 reads the state: batches and observations need it")
            time = jnp.broadcast_to(time[:, None], tokens.shape)
            tokens = jnp.concatenate([tokens, time], axis=-1)
            tokens = dense("time_out")(nn.silu(dense("time_in")(tokens)))
            tokens = jnp.concatenate([dense("state_in")(state)[:, None], tokens], axis=1)
        S = tokens.shape[1]
        index = jnp.arange(S)
        own = (index[None, :] < S - T) | (index[:, None] >= S - T)  # the state sees itself only
        mask = jnp.concatenate(
            [
                jnp.broadcast_to(seen[:, None], (B, S, seen.shape[1])),
                jnp.broadcast_to(own, (B, S, S)),
            ],
            axis=-1,
        )
        positions = seen.sum(-1, dtype=jnp.int32)[:, None] + index
        decoder = Decoder(
            self.variant, lora=self.lora, dtype=self.dtype, remat=self.remat, name="decoder"
        )
        y, _ = decoder(tokens, positions, mask, memory, cond)
        return dense("action_out", self.action_dim)(y[:, S - T :].astype(jnp.float32))


def draw_tau(key: jax.Array) -> jax.Array:
    """One time of flow matching: 0.001 + 0.999 Beta(1.5, 1), by the inverse of its distribution."""
    return TAU_MIN + (1.0 - TAU_MIN) * jax.random.uniform(key) ** (1.0 / BETA)


def flow_errors(
    expert: ActionExpert,
    params: PyTree,
    actions: jax.Array,
    noise: jax.Array,
    tau: jax.Array,
    given: tuple,
) -> jax.Array:
    """Return (v - (noise - a))**2, mean over the numbers of each action, `[B, T]`.

    Args: actions, noise `[B, T, A]`; tau `[B]`; given: state, memory and seen of the expert.
    """
    t = tau[:, None, None]
    v = expert.apply(params, t * noise + (1.0 - t) * actions, tau, *given)
    return jnp.mean((v - (noise - actions)) ** 2, axis=-1)


def sample_actions(
    expert: ActionExpert, params: PyTree, noise: jax.Array, steps: int, given: tuple
) -> jax.Array:
    """Follow the field from `noise [B, T, A]` at tau = 1 to actions at 0, in equal Euler steps."""

    def slope(x: jax.Array, t: jax.Array) -> jax.Array:  # t = 1 - tau
        return -expert.apply(params, x, 1.0 - t[:, 0, 0], *given)

    return integrate(slope, noise, steps)
