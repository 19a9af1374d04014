"""Classifier guidance: kernels tilted along the slope of the value (Uehara et al. 2025, section 5).

Continuous (DPS, reconstruction guidance):
  y ~ N(mu_t(x_t) + Sigma_t g, Sigma_t),  g = guidance * grad v_t(x_t) / alpha,
  the slope at x_t through x0hat, or that of v_{t-1} at mu_t (`at="mu"`).
  by_residual divides by sqrt(-2 v): for r = -|residual|**2 / 2 the published DPS step.
  ascent_steps first move x0hat itself up the reward (universal guidance).
Discrete, q(i, k) ~ p(i, k) exp(guidance * delta(i, k) / alpha) for token k at position i:
  exact   delta = v(x with i <- k) - v(x): L V evaluations. With one token per step and the true
          value this IS the soft-optimal kernel.
  taylor  delta = d v / d onehot[i, k] - d v / d onehot[i, x_i]: one backward pass.
The shift is added to log-probabilities, never to probabilities. Slopes are of the SUM over rows, so
that a row's guidance does not depend on how many there are.
"""

from __future__ import annotations

from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import struct

from rlx.guidance.core import cost, finite, given, over, plan, rewards, score, split
from rlx.guidance.types import (
    Calls,
    Config,
    Continuous,
    Discrete,
    Fn,
    GuidedOut,
    Process,
    Reward,
    Value,
    levels,
)
from rlx.types import PyTree


def guided(
    keys: jax.Array, process: Process, value: Value, reward: Reward, config: Config
) -> GuidedOut:
    """Run N independent guided particles for each key `[B]`."""
    steps = levels(process)
    (start_key,), step_keys = plan(keys, 1, len(steps), 2)
    sloped = carried(process, value, config)

    def step(x: jax.Array, now: tuple[Any, jax.Array]) -> tuple[jax.Array, jax.Array]:
        t, (draw_key, value_key) = now
        if sloped is not None:
            _, (prediction, shift) = sloped.score(value_key, x, t, config.alpha)
        else:
            prediction = process.predict(x, t)
            shift = looked_up(value_key, process, value, reward, config, x, prediction, t)
        kernel = process.kernel(x, ascended(process, reward, config, x, prediction, t), t)
        return kernel.tilted(draw_key, shift, 1)[0][:, :, 0], largest(shift)

    x = process.start(start_key, config.particles)
    x, slope = jax.lax.scan(step, x, (steps, step_keys))
    r, bad = finite(rewards(reward, x))
    return GuidedOut(
        x0=x,
        logw=jnp.zeros_like(r),
        reward=r,
        ess=jnp.full(slope.shape, float(config.particles)),
        n_bad_reward=bad,
        collapsed=bad == config.particles,
        slope=slope,
        nfe=calls(process, value, config, steps) + Calls(reward=1),
    )


class Sloped(struct.PyTreeNode):
    """A value that also says where it rises: its prediction is (prediction, shift) at (x, t)."""

    value: Any
    process: Any
    config: Any
    predicts: bool = struct.field(pytree_node=False, default=True)
    rollouts: int = struct.field(pytree_node=False, default=0)

    @property
    def cost(self) -> Calls:
        return self.value.cost + Calls(gradient=1, model=0 if self.value.predicts else 1)

    def score(
        self, keys: jax.Array, x: jax.Array, t: jax.Array, alpha: jax.Array
    ) -> tuple[jax.Array, PyTree]:
        if self.process.tokens:
            v, prediction = self.value.score(keys, x, t, alpha)
            delta = taylor(self.value.relaxed, self.process, x, t, alpha)
        else:
            total = lambda x: summed(self.value.score(keys, x, t, alpha))  # noqa: E731
            (_, (v, prediction)), delta = jax.value_and_grad(total, has_aux=True)(x)
        prediction = given(self.process, self.value, prediction, x, t)
        return v, (prediction, sized(delta, v, self.config))


def summed(scored: tuple[jax.Array, PyTree]) -> tuple[jax.Array, tuple[jax.Array, PyTree]]:
    """The sum over all rows, to be differentiated, beside what was scored."""
    return jnp.sum(scored[0]), scored


def carried(process: Process, value: Value, config: Config) -> Sloped | None:
    """The value with its slope where both come from one pass at (x, t); else None."""
    one_pass = kind(process, value, config) == "taylor" if process.tokens else config.at == "x_t"
    return Sloped(value, process, config) if one_pass else None


def kind(process: Process, value: Value, config: Config) -> str:
    """Of discrete guidance: by default the backward pass where the value takes soft tokens."""
    has_slope = getattr(value, "relaxed", None) is not None
    return ("taylor" if has_slope else "exact") if config.gradient == "auto" else config.gradient


def looked_up(
    keys: jax.Array,
    process: Process,
    value: Value,
    reward: Reward,
    config: Config,
    x: jax.Array,
    prediction: PyTree,
    t: jax.Array,
) -> jax.Array:
    """The shift of the kernel at (x, t) from values elsewhere: at its mean, or at edits of x."""
    if process.tokens:
        return sized(exact(keys, process, value, reward, config, x, t), None, config)
    mean = cast(Continuous, process).kernel(x, prediction, t).mean
    total = lambda y: summed(score(value, reward, keys, y, t - 1, config.alpha))  # noqa: E731
    (_, (v, _)), delta = jax.value_and_grad(total, has_aux=True)(mean)
    return sized(delta, v, config)


def exact(
    keys: jax.Array,
    process: Process,
    value: Value,
    reward: Reward,
    config: Config,
    x: jax.Array,
    t: jax.Array,
) -> jax.Array:
    """v of every single edit of x `[B, N, L]`, less v of x: `[B, N, L, C]`, -inf where not finite.

    With one token per step an edit is the next state, scored at t - 1 (at the end by the reward);
    otherwise edits are scored at t like x itself, and staying masked changes nothing.
    """
    (B, N, L), V = x.shape, process.tokens
    value_key, own_key = split(keys, 2)

    def edits(at: jax.Array) -> jax.Array:
        """Values `[B, N, V]` of x with position `at` set to each token."""
        here = (jnp.arange(L) == at)[None, :]
        y = jnp.where(here, jnp.arange(V)[:, None], x[:, :, None]).reshape(B, N * V, L)
        if process.single_site:
            v, _ = score(value, reward, value_key, y, t - 1, config.alpha)
        else:
            v, _ = value.score(value_key, y, t, config.alpha)
        return finite(v)[0].reshape(B, N, V)

    size = config.child_chunk and max(1, config.child_chunk // V)
    v = jax.lax.map(edits, jnp.arange(L), batch_size=size or L)
    delta = jnp.moveaxis(v, 0, 2)
    if process.single_site:
        delta = jnp.where((x == V)[..., None], delta, -jnp.inf)
        top = jnp.max(delta, axis=(2, 3), keepdims=True)
        return jnp.where(jnp.isneginf(top), 0.0, delta - top)
    own, _ = finite(value.score(own_key, x, t, config.alpha)[0])
    delta = delta - jnp.where(jnp.isneginf(own), 0.0, own)[:, :, None, None]
    free = ((x == V) | (not process.masked)) & jnp.any(jnp.isfinite(delta), axis=-1)
    return with_mask(process, jnp.where(free[..., None], delta, 0.0))


def taylor(
    relaxed: Fn, process: Process, x: jax.Array, t: jax.Array, alpha: jax.Array
) -> jax.Array:
    """First-order change of the relaxed value for every single edit, `[B, N, L, C]`."""
    classes = process.tokens + process.masked
    onehot = jax.nn.one_hot(x, classes, dtype=alpha.dtype)
    slope = jax.grad(lambda soft: jnp.sum(relaxed(soft, t, alpha)))(onehot)
    slope = slope - jnp.sum(slope * onehot, axis=-1, keepdims=True)
    return with_mask(process, slope[..., : process.tokens])


def with_mask(process: Process, delta: jax.Array) -> jax.Array:
    """delta `[B, N, L, V]` with 0 for staying masked, if a kernel has that class."""
    if process.masked and not process.single_site:
        return jnp.concatenate([delta, jnp.zeros_like(delta[..., :1])], axis=-1)
    return delta


def sized(delta: jax.Array, v: jax.Array | None, config: Config) -> jax.Array:
    """guidance * delta / alpha, rows held below clip_norm; -inf stays, else not finite is 0."""
    forbidden = jnp.isneginf(delta)
    delta = jnp.where(jnp.isfinite(delta), delta, 0.0)
    if config.by_residual and v is not None:
        residual = jnp.sqrt(jnp.where(v < 0, -2 * v, 1.0))  # where it is 0 so is the slope
        delta = delta / residual.reshape(*v.shape, *(1,) * (delta.ndim - 2))
    if config.clip_norm is not None:
        norm = row_norm(delta)
        small = jnp.minimum(1.0, config.clip_norm / jnp.maximum(norm, jnp.finfo(norm.dtype).tiny))
        delta = delta * small
    delta = delta * over(config.guidance / config.alpha, delta)
    return jnp.where(forbidden, -jnp.inf, delta)


def row_norm(delta: jax.Array) -> jax.Array:
    """Norm of each row `[B, N, ...]`, axes kept; entries of -inf, forbidden edits, do not count."""
    counted = jnp.where(jnp.isfinite(delta), delta, 0.0)
    return jnp.sqrt(jnp.sum(counted**2, axis=tuple(range(2, delta.ndim)), keepdims=True))


def largest(shift: jax.Array) -> jax.Array:
    """Largest norm of a row, `[B]`."""
    return jnp.max(row_norm(shift).reshape(shift.shape[0], -1), axis=1)


def ascended(
    process: Process, reward: Reward, config: Config, x: jax.Array, prediction: PyTree, t: jax.Array
) -> PyTree:
    """The prediction after `ascent_steps` steps of x0hat up the reward."""
    if not config.ascent_steps:
        return prediction
    rate = config.ascent_rate / config.alpha
    slope = jax.grad(lambda x0: jnp.sum(rewards(reward, x0)))

    def step(_: jax.Array, x0: jax.Array) -> jax.Array:
        g = slope(x0)
        return x0 + over(rate, g) * jnp.where(jnp.isfinite(g), g, 0.0)

    x0hat = jax.lax.fori_loop(0, config.ascent_steps, step, process.clean(x, prediction, t))
    return cast(Continuous, process).with_clean(x, x0hat, t)


def calls(process: Process, value: Value, config: Config, steps: Any) -> Calls:
    """Calls of one particle for its predictions and shifts."""
    T, edits = len(steps), 0
    if process.tokens and kind(process, value, config) == "exact":
        edits = process.tokens * cast(Discrete, process).length
    if edits and process.single_site:
        return cost(value, steps - 1, edits) + Calls(model=T)
    if edits:
        return cost(value, steps, edits + 1) + Calls(model=T)
    if config.at == "mu" and not process.tokens:
        return cost(value, steps - 1) + Calls(model=T, gradient=T)
    ascent = Calls(gradient=T * config.ascent_steps, reward=T * config.ascent_steps)
    return cost(Sloped(value, process, config), steps) + ascent
