"""Values of half-made samples: v_t(x_t) = alpha log E[exp(r(x_0) / alpha) | x_t] or a stand-in
(Uehara et al. 2025, arXiv 2501.09685, section 4; QGPO: Lu et al. 2023, arXiv 2304.12824).

Per gradient step, one Adam step on one of
  mc        mean_B (v(x_t, t) - r(x_0))**2, whose minimum is E[r | x_t] <= v_t
  exp       mean_B exp(u) - w u,  u = (v(x_t, t) - c) / alpha,  w = exp((r(x_0) - c) / alpha):
            a regression of exp(r / alpha) with a log link, whose minimum is v_t; c (`center`) is
            one number for all batches: their own maximum would depend on r and bias v
  soft_q    mean_B (v(x_t, t) - y)**2,  y = alpha log mean_m exp(v'(x_{t-1}^m, t - 1) / alpha), M
            children of the pre-trained model, r in place of v' where t - 1 = 0; biased down by
            O(1 / M); then v' <- tau v + (1 - tau) v'
  cep       -mean_B sum_k softmax(r(x_0) / alpha)_k log softmax(v(x_t, t) / alpha)_k over K noised
            samples of one condition: v_t up to a function of the condition and the time
Batches: obs = {obs [B, O], x [B, ...], t int32 [B]}, reward [B] = r(x_0).
  soft_q    next_obs = the same of the children, x [B, M, ...]; reward [B, M] where terminated [B],
            that is t = 1
  cep       x [B, K, ...], reward [B, K]
"""

from __future__ import annotations

from typing import Any, cast

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from rlx.names import nearest
from rlx.nn import chains
from rlx.nn.timed import TimedValue
from rlx.ops import learning
from rlx.ops.learning import State
from rlx.ops.shards import pmean_if
from rlx.types import EnvSpec, Keys, Learner, Metrics, Transition

HP = ("lr", "alpha", "tau")
TARGETS = ("mc", "exp", "soft_q", "cep")


def get_config() -> ConfigDict:
    """Return our constants: networks and rates are those of small problems."""
    return ConfigDict(
        dict(
            name="value",
            batch_size=256,  # rows per gradient step, over all devices
            target="mc",  # mc, exp, soft_q or cep
            lr=1e-3,  # Adam
            alpha=1.0,  # temperature, in reward units
            center=placeholder(float),  # c of exp, about the largest reward: keeps exp in range
            tau=0.01,  # Polyak step of the target of soft_q
            hidden=(128, 128, 128),  # widths
            time_features=16,  # sinusoids of t
        )
    )


def make(config: ConfigDict, spec: EnvSpec, axis_name: str | None = None) -> Learner:
    """Build a learner of values; `spec.action` tells the samples' shape, integers are tokens and
    `high` is the id of their mask.   `act` returns values `[N]` of obs = {obs, x, t}.
    """
    if config.target not in TARGETS:
        near = nearest(str(config.target), TARGETS)[0]
        raise ValueError(
            f"learner.target is one of {', '.join(TARGETS)}, got {config.target!r}; nearest: {near}"
        )
    if config.target == "exp" and config.center is None:
        raise ValueError(
            "learner.target = 'exp' takes learner.center, about the largest reward: without it "
            "exp(r / alpha) leaves the range of numbers"
        )
    hp = chains.settings(config, HP)
    x_spec, condition = spec.action, spec.obs
    tokens = int(cast(float, x_spec.high)) if jnp.issubdtype(x_spec.dtype, jnp.integer) else 0
    net = TimedValue(config.hidden, tokens, config.time_features)
    backs_up = config.target == "soft_q"

    def init(key: jax.Array, hp: dict[str, jax.Array]) -> State:
        obs, x = jnp.zeros((1, *condition.shape)), jnp.zeros((1, *x_spec.shape), x_spec.dtype)
        params = {"value": net.init(key, obs, x, jnp.zeros(1, jnp.int32))}
        return learning.begin(params, ("value",) if backs_up else (), hp)

    def values(params: Any, seen: dict[str, jax.Array]) -> jax.Array:
        return net.apply(params, seen["obs"], seen["x"], seen["t"])

    def many(params: Any, seen: dict[str, jax.Array]) -> jax.Array:
        """Values `[B, K]` of x `[B, K, ...]`."""
        over = lambda x: jax.vmap(lambda x: values(params, seen | {"x": x}), 1, 1)(x)  # noqa: E731
        return over(seen["x"])

    def mc(params: Any, state: State, batch: Transition) -> tuple[jax.Array, jax.Array]:
        v = values(params, batch.obs)
        return jnp.mean((v - batch.reward) ** 2), v

    def exp(params: Any, state: State, batch: Transition) -> tuple[jax.Array, jax.Array]:
        v, alpha = values(params, batch.obs), state.hp["alpha"]
        u, r = (v - config.center) / alpha, (batch.reward - config.center) / alpha
        return jnp.mean(jnp.exp(u) - jnp.exp(r) * u), v

    def soft_q(params: Any, state: State, batch: Transition) -> tuple[jax.Array, jax.Array]:
        v, alpha = values(params, batch.obs), state.hp["alpha"]
        child = many(state.target_params["value"], batch.next_obs)
        child = jnp.where(batch.terminated[:, None], batch.reward, child)
        M = child.shape[1]
        target = alpha * (jax.nn.logsumexp(child / alpha, axis=1) - jnp.log(M))
        return jnp.mean((v - target) ** 2), v

    def cep(params: Any, state: State, batch: Transition) -> tuple[jax.Array, jax.Array]:
        v, alpha = many(params, batch.obs), state.hp["alpha"]
        label = jax.nn.softmax(batch.reward / alpha)
        return -jnp.mean((label * jax.nn.log_softmax(v / alpha)).sum(1)), v

    loss = {"mc": mc, "exp": exp, "soft_q": soft_q, "cep": cep}[config.target]

    def total(params: dict[str, Any], state: State, batch: Transition) -> tuple[Any, Metrics]:
        found, v = loss(params["value"], state, batch)
        return pmean_if((found, {"value_loss": found, "value": v.mean()}), axis_name)

    def update(state: State, batch: Transition, keys: Keys) -> tuple[State, Metrics]:
        del keys  # nothing is drawn
        new, metrics = learning.adam_step(state, lambda params: total(params, state, batch))
        return (learning.follow(state, new, "post") if backs_up else new), metrics

    def td_loss(state: State, batch: Transition, keys: Keys) -> jax.Array:
        del keys
        return total(state.params, state, batch)[0]

    def act(state: State, obs: dict, keys: Keys, explore: bool) -> tuple[jax.Array, dict]:
        del keys, explore
        return values(state.params["value"], obs), {}

    return Learner(init, update, act, td_loss, hp)
