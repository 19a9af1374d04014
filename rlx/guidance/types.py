"""What the samplers take and return. Axes of arrays, everywhere in this room:

  B  independent problems (conditions, backbones, robot states)     N  particles of a problem
  M  children of a particle     K  rows of a problem, N or N * M     *E  one sample, (d,) or (L,)
Step t runs T ... 1, from noise x_T to the clean x_0; the reward is maximised; alpha, the
temperature, has its units, and the target is p_alpha(x_0) ~ p_pre(x_0) exp(r(x_0) / alpha).

Functions of the caller (model, value network, reward) are plain ones or `jax.tree_util.Partial`s,
whose arguments (parameters, tables) are arrays of the program: one compile serves all their values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from flax import struct

from rlx.types import PyTree

Fn = Callable[..., Any]
Reward = Callable[[jax.Array], jax.Array]  # x_0 [B, K, *E] -> [B, K]


class Calls(NamedTuple):
    """How often functions ran on one row, per RETURNED sample."""

    model: float = 0.0  # forwards of the pre-trained network
    value: float = 0.0  # forwards of a value network or table
    reward: float = 0.0
    gradient: float = 0.0  # backward passes

    def __add__(self, other: Calls) -> Calls:  # type: ignore[override]
        return Calls(*map(sum, zip(self, other, strict=True)))

    def times(self, n: float) -> Calls:
        return Calls(*(n * calls for calls in self))


class Kernel(Protocol):
    """One step of a chain, p(y | x) for rows x `[B, K, *E]`: a pytree of its numbers."""

    def draw(self, keys: jax.Array, m: int) -> jax.Array:
        """Return m independent children of each row, `[B, K, m, *E]`; keys `[B]`."""
        ...

    def log_prob(self, y: jax.Array) -> jax.Array:
        """Return log p(y | x) `[B, K, m]` of children `[B, K, m, *E]`."""
        ...

    def tilted(self, keys: jax.Array, shift: jax.Array, m: int) -> tuple[jax.Array, jax.Array]:
        """Return children from q(y) ~ p(y) exp(shift . y) and log p(y) - log q(y) `[B, K, m]`.

        shift: `[B, K, *E]`, or a number for each class `[B, K, L, C]` of a discrete kernel.
        """
        ...


class ContinuousKernel(Kernel, Protocol):
    """A step of a continuous chain."""

    @property
    def mean(self) -> jax.Array: ...  # [B, K, *E]


class Process(Protocol):
    """A pre-trained generator as a reverse chain; t is an int32 scalar, T ... 1.

    The room's own are pytree nodes: pytrees of parameters and tables.
    """

    @property
    def steps(self) -> int: ...  # T

    stochastic: bool  # two children of one row differ
    tokens: int  # V, 0 = continuous
    masked: bool  # token V is the mask
    single_site: bool  # a step sets one token

    def start(self, keys: jax.Array, n: int) -> jax.Array:
        """Return x_T `[B, n, *E]`; keys `[B]`."""
        ...

    def predict(self, x: jax.Array, t: jax.Array) -> PyTree:
        """Return the prediction `[B, K, ...]`: the ONE forward of the network at (x, t)."""
        ...

    def kernel(self, x: jax.Array, prediction: PyTree, t: jax.Array) -> Kernel:
        """Return p_t(x_{t-1} | x_t)."""
        ...

    def clean(self, x: jax.Array, prediction: PyTree, t: jax.Array) -> jax.Array:
        """Return x0hat `[B, K, *E]`: posterior mean, or the mode of each position."""
        ...

    def noise(self, keys: jax.Array, x0: jax.Array, t: jax.Array) -> jax.Array:
        """Return x_t of clean `[B, K, *E]` by the forward process."""
        ...


class Discrete(Process, Protocol):
    """A process with tokens > 0."""

    length: int  # L

    def posterior(self, keys: jax.Array, prediction: PyTree, k: int) -> jax.Array:
        """Return k draws `[B, K, k, L]` of p(x_0 | x_t), positions independent."""
        ...


class Continuous(Process, Protocol):
    """A process with tokens = 0."""

    def kernel(self, x: jax.Array, prediction: PyTree, t: jax.Array) -> ContinuousKernel:
        """Return p_t(x_{t-1} | x_t)."""
        ...

    def with_clean(self, x: jax.Array, clean: jax.Array, t: jax.Array) -> PyTree:
        """Return the prediction whose x0hat is `clean`."""
        ...

    def signal(self, t: jax.Array) -> jax.Array:
        """Return what x_0 is multiplied by in x_t."""
        ...


class Value(Protocol):
    """An estimate of the soft value v_t(x_t) = alpha log E_pre[exp(r(x_0) / alpha) | x_t]."""

    predicts: bool  # `score` returns the process's prediction at (x, t), which samplers carry
    rollouts: int  # from t to the end, in one score: t model calls each

    @property
    def cost(self) -> Calls: ...  # of one row

    def score(
        self, keys: jax.Array, x: jax.Array, t: jax.Array, alpha: jax.Array
    ) -> tuple[jax.Array, PyTree]:
        """Return v `[B, K]` of x `[B, K, *E]`, t >= 1, alpha `[B]`; and the prediction or None."""
        ...


class GuidedOut(struct.PyTreeNode):
    """R samples of each of B problems and how they came about.

    Rows of `ess`, `resampled`, `ancestors` and `moves` belong to steps t = T ... 1; methods
    without weights leave what they lack None. Nothing here is ever NaN.
    """

    x0: PyTree  # [B, R, *E]
    logw: jax.Array  # [B, R] log weights with mean weight 1; -inf = dropped
    reward: jax.Array  # [B, R] of x0; -inf where it was not finite
    ess: jax.Array  # [T, B] effective number of particles, or of children (SVDD), in [1, N]
    n_bad_reward: jax.Array  # [B] int32, rewards and values that were not finite
    collapsed: jax.Array  # [B] bool, at some step no particle of the problem had a finite one
    logZ: jax.Array | None = None  # [B] estimate of log E_pre exp(r / alpha), exp of it unbiased
    resampled: jax.Array | None = None  # [T, B] bool
    ancestors: jax.Array | None = None  # [T, B, N] int32
    moves: jax.Array | None = None  # [T, B, N] log-weight increments times alpha, reward units
    slope: jax.Array | None = None  # [T, B] largest norm of a gradient or shift
    archive: PyTree = None  # [B, *E] best sample of all rounds (refinement)
    nfe: Calls = struct.field(pytree_node=False, default=Calls())


class Config(struct.PyTreeNode):
    """Settings of `guide`. The first block is arrays: one compile serves all their values.

    alpha, guidance and alpha_global may be one number for each problem, `[B]`.
    """

    alpha: Any = None  # temperature, reward units; None: 0 for svdd, beam, mcts, rerd, ga, else 0.5
    ess_fraction: Any = 0.5  # resample below this share of N; 1 = at every scheduled step
    guidance: Any = 1.0  # multiplies the gradient (cg, tds)
    alpha_global: Any = 0.2  # of the resampling between rounds (rerd, ga)
    clip_norm: Any = None  # largest norm of a sample's gradient (cg, tds)
    ascent_rate: Any = 0.1  # step of x0hat up the reward, over alpha (universal guidance)
    exploration: Any = 1.25  # c of PUCT (mcts)

    method: str = struct.field(pytree_node=False, default="smc")
    particles: int = struct.field(pytree_node=False, default=16)  # N
    children: int = struct.field(pytree_node=False, default=10)  # M
    child_chunk: int = struct.field(pytree_node=False, default=0)  # scored at a time; 0: by memory
    child_bytes: float = struct.field(pytree_node=False, default=2**30)  # of children at a time
    resampling: str = struct.field(pytree_node=False, default="systematic")
    every: int = struct.field(pytree_node=False, default=1)  # steps between two resamplings
    first: float = struct.field(pytree_node=False, default=0.0)  # share of the steps before any
    last: float = struct.field(pytree_node=False, default=1.0)  # share after which there is none
    last_resample: bool = struct.field(pytree_node=False, default=True)  # weights end equal
    potential: str = struct.field(pytree_node=False, default="diff")  # diff, max, add, rt (fk)
    local: str = struct.field(pytree_node=False, default="sample")  # or argmax_scaled (nested)
    gradient: str = struct.field(pytree_node=False, default="auto")  # discrete: exact, taylor
    at: str = struct.field(pytree_node=False, default="x_t")  # or mu, of the gradient (continuous)
    by_residual: bool = struct.field(pytree_node=False, default=False)  # DPS: over sqrt(-2 v)
    ascent_steps: int = struct.field(pytree_node=False, default=0)  # on x0hat (universal guidance)
    depth: int = struct.field(pytree_node=False, default=1)  # of the tree of a beam or mcts commit
    search: str = struct.field(pytree_node=False, default="all")  # linear, exponential (beam)
    simulations: int = struct.field(pytree_node=False, default=32)  # per commit (mcts)
    backup: str = struct.field(pytree_node=False, default="mean")  # max, soft (mcts)
    rounds: int = struct.field(pytree_node=False, default=20)  # rerd, ga
    fraction: float = struct.field(pytree_node=False, default=0.1)  # noised again per round
    global_resampling: bool = struct.field(pytree_node=False, default=True)  # between rounds


def levels(process: Process, level: int | None = None) -> np.ndarray:
    """The steps t = T ... 1, or from `level` on, int32."""
    return np.arange(process.steps if level is None else level, 0, -1, dtype=np.int32)
