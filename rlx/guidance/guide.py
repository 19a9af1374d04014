"""One call for all methods: `guide(key, process, value, reward, config)`."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from rlx.guidance import checks
from rlx.guidance.beam import beam
from rlx.guidance.best_of_n import bon, soft_bon, unguided
from rlx.guidance.core import as_arguments
from rlx.guidance.gradient import guided
from rlx.guidance.mcts import mcts
from rlx.guidance.nested import nested
from rlx.guidance.refine import ga, rerd
from rlx.guidance.smc import smc
from rlx.guidance.svdd import svdd
from rlx.guidance.twisted import twisted
from rlx.guidance.types import Config, GuidedOut, Process, Reward, Value

METHODS: dict[str, Callable[..., GuidedOut]] = {
    "none": unguided,  # the pre-trained law
    "bon": bon,
    "soft_bon": soft_bon,
    "smc": smc,
    "fk": smc,  # with potential max, add or rt
    "svdd": svdd,
    "nested": nested,
    "cg": guided,
    "tds": twisted,
    "beam": beam,
    "mcts": mcts,
    "rerd": rerd,
    "ga": ga,
}


def guide(
    key: jax.Array,
    process: Process,
    value: Value | None,
    reward: Reward,
    config: Config,
    on_collapse: str = "flag",
    designs: jax.Array | None = None,
) -> GuidedOut:
    """Sample from p_pre(x_0) exp(r(x_0) / alpha) / Z, as well as `config.method` can.

    key: one for each problem, `[B]`, or a single one (B = 1). A problem's samples depend on its own
      key and rows alone, whatever else is in the batch; keys sharded over devices shard the run.
    reward(x_0 [B, K, *E]) -> [B, K], to be maximised; called on x0hat as well by posterior means.
    config: numbers are arrays, one compile serves all their values; the rest is static.
    designs: `[B, N, *E]` clean samples to start from (rerd, ga).
    on_collapse: "flag", or "raise" RuntimeError for problems without one finite reward.

    Works inside jit too, where what shows in numbers only (alpha < 0, collapse) is not checked.
    Raises ValueError for settings, shapes and processes that cannot be sampled.
    """
    checks.known("method", config.method, tuple(METHODS))
    checks.known("on_collapse", on_collapse, ("flag", "raise"))
    keys = key[None] if key.ndim == 0 else key
    config = config.replace(alpha=default_alpha(config))
    checks.check(keys, process, value, config, designs)
    config = chunked(keys, process, spread_over(config, len(keys)))
    process, value, reward = as_arguments((process, value, reward))
    checks.check_traces(compiled, keys, process, value, reward, config, designs)
    out = compiled(keys, process, value, reward, config, designs)
    checks.check_finished(process, out, config, on_collapse)
    return out


@jax.jit
def compiled(
    keys: jax.Array,
    process: Process,
    value: Value,
    reward: Reward,
    config: Config,
    designs: jax.Array | None,
) -> GuidedOut:
    """The program of a method; a new one for each method, shape and static setting."""
    more = {} if designs is None else {"designs": designs}
    return METHODS[config.method](keys, process, value, reward, config, **more)


def default_alpha(config: Config) -> jax.Array | float:
    """Greedy methods are greedy, the others take 0.5."""
    if config.alpha is not None:
        return config.alpha
    return 0.0 if config.method in checks.GREEDY else 0.5


def spread_over(config: Config, problems: int) -> Config:
    """Numbers of the problems as `[B]`, all numbers as arrays."""
    wide = lambda x: jnp.broadcast_to(jnp.asarray(x, float), (problems,))  # noqa: E731
    return config.replace(
        alpha=wide(config.alpha),
        guidance=wide(config.guidance),
        alpha_global=wide(config.alpha_global),
        ess_fraction=jnp.asarray(config.ess_fraction, float),
        ascent_rate=jnp.asarray(config.ascent_rate, float),
        exploration=jnp.asarray(config.exploration, float),
        clip_norm=None if config.clip_norm is None else jnp.asarray(config.clip_norm, float),
    )


def chunked(keys: jax.Array, process: Process, config: Config) -> Config:
    """Choose `child_chunk` so that predictions of the children fit `child_bytes`."""
    if config.child_chunk or config.method not in checks.CHUNKED:
        return config
    one = jax.eval_shape(partial(child_of, process), keys)
    each = (
        len(keys)
        * config.particles
        * sum(math.prod(leaf.shape[2:]) * leaf.dtype.itemsize for leaf in jax.tree.leaves(one))
    )
    fit = [n for n in range(1, config.children + 1) if config.children % n == 0]
    chunk = max([n for n in fit if n * each <= config.child_bytes], default=1)
    if chunk < config.children:
        warnings.warn(
            f"predictions of {config.children} children take {config.children * each:,} bytes, "
            f"child_bytes is {config.child_bytes:,.0f}: they are scored {chunk} at a time "
            "(child_chunk)",
            stacklevel=3,
        )
    return config.replace(child_chunk=chunk % config.children)


def child_of(process: Process, keys: jax.Array):
    """One row of each problem and its prediction, for their shapes."""
    x = process.start(keys, 1)
    return x, process.predict(x, jnp.int32(process.steps))


def over_devices(
    keys: jax.Array,
    devices: Sequence[jax.Device],  # pyright: ignore[reportInvalidTypeForm]  # a class, assigned
) -> jax.Array:
    """Keys `[B]` with the problems split over devices; `guide` then runs where its keys are.

    Problems never meet, so nothing is sent between devices. Particles of a problem stay together.
    """
    problems, count = keys.shape[0], len(devices)
    if problems % count:
        below, above = problems // count * count, -(-problems // count) * count
        near = f"{below} or {above}" if below else f"{above}"
        raise ValueError(f"{problems} problems do not divide over {count} devices: take {near}")
    mesh = jax.sharding.Mesh(np.asarray(devices), ("problem",))
    return jax.device_put(keys, NamedSharding(mesh, PartitionSpec("problem")))
