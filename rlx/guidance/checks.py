"""What is refused before anything compiles, and what is said of a run once it is over."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from rlx.guidance.population import POTENTIALS
from rlx.guidance.resampling import KINDS, ess
from rlx.guidance.types import Config, GuidedOut, Process, Value
from rlx.names import nearest

GREEDY = ("svdd", "beam", "bon", "mcts", "rerd", "ga", "none")  # take alpha = 0
SLOPED = ("cg", "tds")
VALUED = ("smc", "fk", "svdd", "nested", "beam", "cg", "tds", "mcts", "rerd")
BRANCHING = ("svdd", "nested", "beam", "mcts", "rerd")  # have children
CHUNKED = ("svdd", "nested", "rerd")  # score them child_chunk at a time
REFINED = ("rerd", "ga")  # take designs
SMALLEST = 1e-30  # of alpha > 0: below, float32 has no ratios left
SIZES = {  # the least of each; clip_norm may be None
    "guidance": 0.0,
    "ascent_rate": 0.0,
    "exploration": 0.0,
    "clip_norm": SMALLEST,
    "child_bytes": 1.0,
}
CHOICES = {
    "resampling": KINDS,
    "potential": POTENTIALS,
    "local": ("sample", "argmax_scaled"),
    "gradient": ("auto", "exact", "taylor"),
    "at": ("x_t", "mu"),
    "search": ("all", "linear", "exponential"),
    "backup": ("mean", "max", "soft"),
}
COUNTS = ("particles", "children", "every", "depth", "simulations", "rounds")


def known(what: str, given: Any, names: tuple[str, ...]) -> None:
    """Raise ValueError unless `given` is one of the names."""
    if given not in names:
        near = nearest(str(given), names)[0]
        raise ValueError(f"{what} is one of {', '.join(names)}, got {given!r}; nearest: {near}")


def check(
    keys: jax.Array,
    process: Process,
    value: Value | None,
    config: Config,
    designs: jax.Array | None,
) -> None:
    """Raise ValueError for what cannot be sampled; alpha already has its default."""
    check_numbers(len(keys), config)
    method, N, M = config.method, config.particles, config.children
    if value is None and method in VALUED:
        raise ValueError(f"{method} needs a value, got None: e.g. values.posterior_mean")
    branches = M if method in BRANCHING else 1
    if not process.stochastic and max(N, branches) > 1:
        raise ValueError(
            "children are identical: eta = 0 makes the process deterministic, and "
            f"{method} has particles = {N}, children = {M}; take eta > 0"
        )
    if method in ("beam", "mcts") and process.steps % config.depth:
        raise ValueError(f"depth = {config.depth} must divide the {process.steps} steps")
    if method == "nested" and config.potential != "diff":
        raise ValueError(f"nested takes potential diff only, got {config.potential!r}")
    if method == "ga" and not process.tokens:
        raise ValueError("ga mutates tokens: it needs a discrete process")
    if method in REFINED and config.global_resampling:
        check_alpha("alpha_global", config.alpha_global, len(keys), greedy=False)
    if method in SLOPED:
        check_slope(process, value, config)
    if designs is not None and method not in REFINED:
        raise ValueError(f"designs are refined by {' and '.join(REFINED)}, not by {method}")
    if designs is not None and designs.shape[:2] != (len(keys), N):
        raise ValueError(
            f"designs have shape {designs.shape}, expected ({len(keys)}, {N}, ...): "
            "problems, particles"
        )


def check_numbers(problems: int, config: Config) -> None:
    """Raise ValueError for settings that are wrong whatever the process."""
    for name, names in CHOICES.items():
        known(name, getattr(config, name), names)
    for name in COUNTS:
        count = getattr(config, name)
        if count != int(count) or count < 1:
            raise ValueError(f"{name} is a whole number >= 1, got {count}")
    for name, least in SIZES.items():
        given = getattr(config, name)
        size = None if given is None else concrete(given)
        if size is not None and not np.all((size >= least) & np.isfinite(size)):
            raise ValueError(f"{name} is a finite number >= {least:g}, got {size}")
    check_alpha("alpha", config.alpha, problems, config.method in GREEDY, config.method)
    share = concrete(config.ess_fraction)
    if share is not None and not np.all((share >= 0) & (share <= 1)):
        raise ValueError(f"ess_fraction is a share of the particles in [0, 1], got {share}")
    if not 0 < config.fraction <= 1:
        raise ValueError(f"fraction is a share of a sample in (0, 1], got {config.fraction}")
    if not 0 <= config.first < config.last <= 1:
        raise ValueError(
            f"0 <= first < last <= 1, got first = {config.first}, last = {config.last}"
        )
    M, chunk = config.children, config.child_chunk
    if chunk < 0 or (chunk and M % chunk):
        raise ValueError(f"child_chunk = {chunk} must divide children = {M}, or be 0")


def concrete(x: Any) -> np.ndarray | None:
    """The numbers, or None while they are traced."""
    return None if isinstance(x, Tracer) else np.asarray(x)


def check_alpha(
    name: str, given: Any, problems: int, greedy: bool, method: str = "between rounds"
) -> None:
    """One temperature, or one for each problem; 0 only where the method has a greedy limit."""
    if jnp.shape(given) not in ((), (problems,)):
        raise ValueError(
            f"{name} has shape {jnp.shape(given)}, expected () or ({problems},), one a problem"
        )
    alpha = concrete(given)
    if alpha is None:
        return
    if not np.all(alpha >= 0):
        raise ValueError(f"{name} must be >= 0; it is a temperature in reward units, got {alpha}")
    if not np.all(np.isfinite(alpha)):
        raise ValueError(f"{name} is finite, got {alpha}; for the pre-trained law take method none")
    if not greedy and np.any(alpha == 0):
        raise ValueError(
            f"{name} = 0 has no limit in {method}: greedy methods are svdd, beam, bon (best of n)"
        )
    if np.any((alpha > 0) & (alpha < SMALLEST)):
        raise ValueError(f"{name} is 0 or >= {SMALLEST:g}, got {alpha}")


def check_slope(process: Process, value: Value | None, config: Config) -> None:
    """Gradient methods on what has no gradient."""
    relaxed = getattr(value, "relaxed", None)
    if config.gradient == "taylor" and relaxed is None:
        raise ValueError(
            "gradient = 'taylor' needs a value of soft tokens, values.function(fn, relaxed=...); "
            "gradient = 'exact' needs none"
        )
    if not process.tokens and config.gradient != "auto":
        raise ValueError(
            f"gradient = {config.gradient!r} is for discrete processes, this one is continuous"
        )
    if process.tokens and (config.ascent_steps or config.by_residual or config.at != "x_t"):
        raise ValueError("ascent_steps, by_residual and at = 'mu' are for continuous processes")
    if config.method == "tds" and config.ascent_steps:
        raise ValueError(
            "ascent_steps change the kernel itself: tds has no weights for them, use cg"
        )


def check_traces(program: Callable[..., Any], *arguments: Any) -> None:
    """Trace the program, which its compile then reuses; say what a missing derivative means."""
    try:
        jax.eval_shape(program, *arguments)
    except ValueError as error:
        if "do not support JVP" not in str(error):
            raise
        raise ValueError(
            "the reward or value has no gradient, it is computed outside jax: use smc or svdd"
        ) from error


def check_finished(process: Process, out: GuidedOut, config: Config, on_collapse: str) -> None:
    """Raise or warn about what only the results show; nothing while they are traced."""
    if isinstance(out.logw, Tracer):
        return
    if process.masked and bool(jnp.any(out.x0 == process.tokens)):
        raise RuntimeError(f"the mask, token {process.tokens}, is left in x0")
    alive = not np.all(out.collapsed)
    if out.slope is not None and alive and np.any(config.guidance) and not np.any(out.slope):
        raise ValueError(
            "the reward or value has no slope anywhere: is it piecewise constant? use smc or svdd"
        )
    collapsed = np.flatnonzero(np.asarray(out.collapsed))
    if on_collapse == "raise" and len(collapsed):
        raise RuntimeError(
            f"problems {collapsed.tolist()}: at some step no particle had a finite reward; "
            f"{np.asarray(out.n_bad_reward)[collapsed].tolist()} were not finite"
        )
    if out.moves is not None and config.particles > 2:
        warn_degenerate(out, out.moves, config)


def warn_degenerate(out: GuidedOut, moves: jax.Array, config: Config) -> None:
    """Warn where the effective size stayed below 1.5 for more than a quarter of the steps."""
    low = np.mean(np.asarray(out.ess) < 1.5, axis=0) > 0.25
    if low.any():
        better = np.asarray(suggest_alpha(moves))[low]
        warnings.warn(
            f"effective sample size < 1.5 of {config.particles} for over a quarter of the steps in "
            f"{low.sum()} of {len(low)} problems: alpha is too small for so few particles; "
            f"{np.median(better):.3g} would keep half of them at a step (suggest_alpha)",
            stacklevel=3,
        )


def suggest_alpha(moves: jax.Array, share: float = 0.5) -> jax.Array:
    """The alpha `[B]` at which a step leaves the median effective size at `share` of N.

    moves: `[T, B, N]` of a result, reward units: the effective size of a step with temperature a is
    that of weights exp(move / a). Bisection over 60 decades of log alpha.
    """
    moves = jnp.where(jnp.isfinite(moves), moves, -jnp.inf)
    n = moves.shape[2]

    def size(log_alpha: jax.Array) -> jax.Array:
        top = jnp.max(moves, axis=2, keepdims=True)
        logw = (moves - top) / jnp.exp(log_alpha)[None, :, None]
        return jnp.median(ess(jnp.where(jnp.isneginf(top), 0.0, logw)), axis=0)

    def halve(_: jax.Array, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = ends
        middle = 0.5 * (low + high)
        enough = size(middle) >= share * n
        return jnp.where(enough, low, middle), jnp.where(enough, middle, high)

    ends = (
        jnp.full(moves.shape[1], math.log(SMALLEST)),
        jnp.full(moves.shape[1], -math.log(SMALLEST)),
    )
    return jnp.exp(jax.lax.fori_loop(0, 60, halve, ends)[1])
