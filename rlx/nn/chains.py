"""A network as a reverse process, t = steps ... 1: what is drawn, how likely, how far from another.

`gaussian` walks vectors from noise to data with a network for x0; `masked` reveals tokens.  A state
is `x [n, *S]`, time `t` int32 `[n]`, a condition `obs [n, *O]`.  The noise of a step is drawn apart
from its use, so that rows keep theirs on any number of devices and draws have gradients:
  gaussian   y = mean + std * z
  masked     y = onehot(argmax(log p + Gumbel)) in the forward pass, softmax of it / heat in the
             backward pass (straight through), at the positions that are revealed
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from rlx.ops import learning
from rlx.types import PyTree

Kernel = dict[str, jax.Array]  # the law of x_{t-1} given x_t, rows first


class Chain(NamedTuple):
    """A reverse process whose kernels depend on parameters; pure functions."""

    steps: int
    noise: Callable[[jax.Array, int], PyTree]  # key, n -> what one step uses, [n, ...]
    start: Callable[[PyTree], jax.Array]  # noise -> x_T
    kernel: Callable[..., Kernel]  # params, obs, x, t -> law of x_{t-1}
    draw: Callable[[Kernel, PyTree], jax.Array]  # kernel, noise -> x_{t-1}, differentiable
    log_prob: Callable[[Kernel, jax.Array], jax.Array]  # kernel, x_{t-1} -> [n]
    kl: Callable[[Kernel, Kernel], jax.Array]  # between two kernels of the same x_t -> [n]
    decode: Callable[[jax.Array], jax.Array]  # a drawn state as data has it
    loss: Callable[..., jax.Array]  # params, obs, x_0, t, noise -> its part of -ELBO, [n]


def gaussian(
    predict: Callable[..., jax.Array], abar: np.ndarray, dim: int, std: np.ndarray | None = None
) -> Chain:
    """Walk vectors `[n, dim]` with `predict(params, obs, x, t) -> x0`, Ho et al. 2020.

    Args:
      abar: `[T + 1]`, 1 = abar_0 > ... > abar_T > 0.
      std: `[T]` or `[T, dim]` of the steps t = 1 ... T; default the posterior's, where step 1 takes
        the one of step 2: a law without density has no likelihoods.
    The loss is `mean_d (eps_hat - eps)**2`, the unweighted one.
    """
    steps = len(abar) - 1
    if steps < 2 or abar[0] != 1.0 or not (np.diff(abar) < 0).all() or abar[-1] <= 0:
        raise ValueError(f"abar falls from 1 to > 0 in two steps at least, got {abar}")
    now, before = abar[1:], abar[:-1]
    ratio = now / before
    if std is None:
        std = np.sqrt((1 - ratio) * (1 - before) / (1 - now))
        std[0] = std[1]
    shape = lambda x: jnp.asarray(np.reshape(x, (steps, -1)), jnp.float32)  # noqa: E731
    table = {
        "x0": shape(np.sqrt(before) * (1 - ratio) / (1 - now)),
        "x": shape(np.sqrt(ratio) * (1 - before) / (1 - now)),
        "std": jnp.broadcast_to(shape(std), (steps, dim)),
        "keep": shape(np.sqrt(now)),
        "lost": shape(np.sqrt(1 - now)),
    }

    def kernel(params: PyTree, obs: jax.Array, x: jax.Array, t: jax.Array) -> Kernel:
        at = {name: values[t - 1] for name, values in table.items()}
        mean = at["x0"] * predict(params, obs, x, t) + at["x"] * x
        return {"mean": mean, "std": at["std"]}

    def log_prob(law: Kernel, y: jax.Array) -> jax.Array:
        z = (y - law["mean"]) / law["std"]
        return (-0.5 * z**2 - jnp.log(law["std"]) - 0.5 * jnp.log(2 * jnp.pi)).sum(-1)

    def loss(params: PyTree, obs: jax.Array, x0: jax.Array, t: jax.Array, noise: jax.Array):
        keep, lost = table["keep"][t - 1], table["lost"][t - 1]
        error = predict(params, obs, keep * x0 + lost * noise, t) - x0
        return ((keep / lost * error) ** 2).mean(-1)

    return Chain(
        steps=steps,
        noise=lambda key, n: jax.random.normal(key, (n, dim)),
        start=lambda noise: noise,
        kernel=kernel,
        draw=lambda law, z: law["mean"] + law["std"] * z,
        log_prob=log_prob,
        kl=lambda p, q: (0.5 * ((p["mean"] - q["mean"]) / q["std"]) ** 2).sum(-1),
        decode=lambda x: x,
        loss=loss,
    )


def masked(
    predict: Callable[..., jax.Array],
    tokens: int,
    length: int,
    steps: int | None = None,
    heat: float = 1.0,
) -> Chain:
    """Reveal `length` tokens of an alphabet of `tokens`; the mask is the id `tokens`.

    Args:
      predict: params, obs, one-hot x `[n, L, V + 1]`, t -> logits of the tokens `[n, L, V]`.
      steps: None = one position per step, drawn uniformly (Hoogeboom et al. 2022, exact for exact
        conditionals); T = in parallel, each masked position is revealed at step t with probability
        1 / t (masked diffusion with the mask's share t / T, Sahoo et al. 2024).
      heat: of the softmax in the backward pass of `draw`.
    States are tokens `[n, L]` or their one-hots; `draw` returns one-hots.  `log_prob` and `kl` are
    those of the tokens: which positions are revealed depends on no parameter.
    """
    one = steps is None
    T = length if one else steps
    if min(tokens, length, T) < 1 or heat <= 0:
        raise ValueError(
            f"tokens, length and steps are whole numbers >= 1 and heat > 0, got {tokens}, "
            f"{length}, {T} and {heat:g}"
        )

    def vector(x: jax.Array) -> jax.Array:
        return jax.nn.one_hot(x, tokens + 1) if jnp.issubdtype(x.dtype, jnp.integer) else x

    def noise(key: jax.Array, n: int) -> dict[str, jax.Array]:
        order, gumbel = jax.random.split(key)
        return {
            "order": jax.random.uniform(order, (n, length)),
            "gumbel": jax.random.gumbel(gumbel, (n, length, tokens)),
        }

    def start(noise: dict[str, jax.Array]) -> jax.Array:
        return vector(jnp.full_like(noise["order"], tokens, jnp.int32))

    def kernel(params: PyTree, obs: jax.Array, x: jax.Array, t: jax.Array) -> Kernel:
        x = vector(x)
        hidden = jax.lax.stop_gradient(x[..., tokens])
        share = 1.0 / jnp.maximum(hidden.sum(-1), 1.0) if one else 1.0 / t
        return {
            "x": x,
            "hidden": hidden,  # 1 where the mask is
            "share": share,  # probability that a masked position is revealed
            "log_p": jax.nn.log_softmax(predict(params, obs, x, t)),
        }

    def draw(law: Kernel, noise: dict[str, jax.Array]) -> jax.Array:
        hidden, order = law["hidden"], noise["order"]
        if one:
            place = jax.nn.one_hot(jnp.argmax(order * hidden, -1), length)
        else:
            place = order < law["share"][:, None]
        place = (place * hidden)[..., None]
        logits = law["log_p"] + noise["gumbel"]
        soft = jax.nn.softmax(logits / heat)
        hard = jax.nn.one_hot(logits.argmax(-1), tokens)
        token = soft + jax.lax.stop_gradient(hard - soft)
        token = jnp.concatenate([token, jnp.zeros_like(token[..., :1])], -1)
        return place * token + (1.0 - place) * law["x"]

    def log_prob(law: Kernel, y: jax.Array) -> jax.Array:
        y = vector(y)
        revealed = law["hidden"] * (1.0 - y[..., tokens])
        return (revealed * (y[..., :tokens] * law["log_p"]).sum(-1)).sum(-1)

    def kl(p: Kernel, q: Kernel) -> jax.Array:
        per_position = (jnp.exp(p["log_p"]) * (p["log_p"] - q["log_p"])).sum(-1)
        return p["share"] * (p["hidden"] * per_position).sum(-1)

    def loss(params: PyTree, obs: jax.Array, x0: jax.Array, t: jax.Array, noise: dict):
        """t / T of the positions masked, their cross entropy over that share."""
        rank = noise["order"].argsort(-1).argsort(-1)
        hidden = rank < t[:, None] if one else noise["order"] < t[:, None] / T
        x = jnp.where(hidden, tokens, x0)
        log_p = jax.nn.log_softmax(predict(params, obs, vector(x), t))
        of_token = jnp.take_along_axis(log_p, x0[..., None], -1).squeeze(-1)
        return -(hidden * of_token).sum(-1) * T / t

    return Chain(
        steps=T,
        noise=noise,
        start=start,
        kernel=kernel,
        draw=draw,
        log_prob=log_prob,
        kl=kl,
        decode=lambda x: x if jnp.issubdtype(x.dtype, jnp.integer) else x.argmax(-1),
        loss=loss,
    )


def path_noise(chain: Chain, key: jax.Array, n: int) -> PyTree:
    """Noise of whole walks, `[n, T + 1, ...]`: of the start and of the steps T ... 1."""
    draws = jax.vmap(lambda k: chain.noise(k, n))(jax.random.split(key, chain.steps + 1))
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), draws)


def walk(
    chain: Chain,
    params: PyTree,
    obs: jax.Array,
    noise: PyTree,
    look: Callable[[jax.Array, jax.Array, Kernel, jax.Array], PyTree],
    enter: Callable[[jax.Array, jax.Array], jax.Array] = lambda x, t: x,
) -> tuple[jax.Array, PyTree]:
    """Walk from x_T to x_0.

    Args: noise of `path_noise`; look(x_t, t, kernel, x_{t-1}) -> what to keep of a step;
    enter(x_t, t) -> the state that the step uses in its place.
    Returns: x_0, and what was kept `[n, T, ...]`, from t = T to 1.
    """
    by_time = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), noise)
    first, later = jax.tree.map(lambda x: x[0], by_time), jax.tree.map(lambda x: x[1:], by_time)

    def step(x: jax.Array, now: tuple[jax.Array, PyTree]) -> tuple[jax.Array, PyTree]:
        time, fresh = now
        t = jnp.full(x.shape[:1], time)
        x = enter(x, t)
        law = chain.kernel(params, obs, x, t)
        y = chain.draw(law, fresh)
        return y, look(x, t, law, y)

    times = jnp.arange(chain.steps, 0, -1)
    x, kept = jax.lax.scan(step, chain.start(first), (times, later))
    return x, jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), kept)


def sample(chain: Chain, params: PyTree, obs: jax.Array, noise: PyTree) -> tuple[jax.Array, dict]:
    """Walk and return x_0 and, for learning from the walk, `path [n, T + 1, ...]` (x_T ... x_0) and
    `log_prob [n, T]` of its steps.
    """

    def look(x: jax.Array, t: jax.Array, law: Kernel, y: jax.Array) -> tuple:
        return chain.decode(x), chain.log_prob(law, y)

    x, (path, log_prob) = walk(chain, params, obs, noise, look)
    x = chain.decode(x)
    return x, {"path": jnp.concatenate([path, x[:, None]], 1), "log_prob": log_prob}


def settings(config: ConfigDict, names: tuple[str, ...]) -> dict[str, float]:
    """The numeric settings of a learner that divides by `alpha`, which must be above zero."""
    if "alpha" in names and not config.alpha > 0:
        raise ValueError(
            f"learner.alpha is a temperature in reward units, a number > 0, got {config.alpha:g}"
        )
    return learning.settings(config, names)
