"""Estimates of the soft value v_t(x_t) = alpha log E_pre[exp(r(x_0) / alpha) | x_t].

posterior_mean   r(x0hat(x_t)): one model call, which its sampler carries on
                 discrete: the mode of each position, or with samples=k a soft mean over k draws
                 of the model's factorised posterior (the mode of a flat prediction has the
                 reward of a design nobody would draw)
nested_mc        soft mean of r over k roll-outs to the end; biased down by O(1 / k)
function         anything else: Monte-Carlo regression, soft Q, exact tables
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from rlx.guidance.core import flat, rewards, soft_mean, split
from rlx.guidance.types import Calls, Fn, Process, Reward
from rlx.types import PyTree


class PosteriorMean(struct.PyTreeNode):
    """r at the clean prediction; made by `posterior_mean`."""

    process: Any
    reward: Fn
    samples: int = struct.field(pytree_node=False)  # 0 = the mean, or the modes
    hold_network: bool = struct.field(pytree_node=False)
    predicts: bool = struct.field(pytree_node=False, default=True)
    rollouts: int = struct.field(pytree_node=False, default=0)

    @property
    def cost(self) -> Calls:
        return Calls(model=1, reward=max(self.samples, 1))

    def score(
        self, keys: jax.Array, x: jax.Array, t: jax.Array, alpha: jax.Array
    ) -> tuple[jax.Array, PyTree]:
        prediction = self.process.predict(x, t)
        if self.samples:
            draws = self.process.posterior(keys, prediction, self.samples)
            r = rewards(self.reward, flat(draws)).reshape(*draws.shape[:3])
            return soft_mean(r, alpha), prediction
        x0hat = self.process.clean(x, prediction, t)
        if self.hold_network:  # slope of x0hat in x: 1 / signal, instead of through the network
            moved = (x - jax.lax.stop_gradient(x)) / self.process.signal(t).astype(x.dtype)
            x0hat = jax.lax.stop_gradient(x0hat) + moved
        return rewards(self.reward, x0hat), prediction


def posterior_mean(
    process: Process, reward: Reward, samples: int | None = None, hold_network: bool = False
) -> PosteriorMean:
    """Make the posterior-mean value (SVDD-PM).

    samples: draws of the factorised posterior, default 4 for discrete processes; 0 takes the mode
      of each position, as published. Continuous processes take none.
    hold_network: gradients do not pass through the network, x0hat moves by 1 / signal with x.
    """
    samples = (4 if process.tokens else 0) if samples is None else samples
    if samples < 0 or (samples and not process.tokens):
        raise ValueError(
            f"samples = {samples}: a whole number >= 0 of a discrete process, 0 of a continuous one"
        )
    if hold_network and process.tokens:
        raise ValueError("hold_network is for continuous processes, whose x0hat has a slope in x")
    return PosteriorMean(process, reward, samples, hold_network)


class NestedMC(struct.PyTreeNode):
    """Soft mean over roll-outs of the pre-trained chain; made by `nested_mc`."""

    process: Any
    reward: Fn
    rollouts: int = struct.field(pytree_node=False)
    predicts: bool = struct.field(pytree_node=False, default=False)

    @property
    def cost(self) -> Calls:
        return Calls(reward=self.rollouts)

    def score(
        self, keys: jax.Array, x: jax.Array, t: jax.Array, alpha: jax.Array
    ) -> tuple[jax.Array, PyTree]:
        B, K, k = *x.shape[:2], self.rollouts

        def step(i: jax.Array, state: tuple[jax.Array, jax.Array]):
            keys, y = state
            now, (keys, fresh) = t - i, split(keys, 2)
            kernel = self.process.kernel(y, self.process.predict(y, now), now)
            return keys, kernel.draw(fresh, 1)[:, :, 0]

        y = flat(jnp.broadcast_to(x[:, :, None], (B, K, k, *x.shape[2:])))
        _, x0 = jax.lax.fori_loop(0, t, step, (keys, y))
        return soft_mean(rewards(self.reward, x0).reshape(B, K, k), alpha), None


def nested_mc(process: Process, reward: Reward, rollouts: int) -> NestedMC:
    """Make the value of `rollouts` roll-outs from x_t to the end, t model calls each."""
    if rollouts < 1:
        raise ValueError(f"rollouts is a whole number >= 1, got {rollouts}")
    return NestedMC(process, reward, rollouts)


class Function(struct.PyTreeNode):
    """A given function; made by `function`."""

    fn: Fn
    relaxed: Fn | None
    predicts: bool = struct.field(pytree_node=False, default=False)
    rollouts: int = struct.field(pytree_node=False, default=0)

    @property
    def cost(self) -> Calls:
        return Calls(value=1)

    def score(
        self, keys: jax.Array, x: jax.Array, t: jax.Array, alpha: jax.Array
    ) -> tuple[jax.Array, PyTree]:
        del keys
        return self.fn(x, t, alpha), None


def function(fn: Fn, relaxed: Fn | None = None) -> Function:
    """Make a value of `fn(x [B, K, *E], t [], alpha [B]) -> [B, K]`: a network or a table.

    relaxed: the same of soft tokens `[B, K, L, C]` in place of x, for `gradient="taylor"`; C = V,
      or V + 1 with the mask last.
    """
    return Function(fn, relaxed)
