"""Fine-tuning by policy gradients with a KL penalty: the walk is an episode, its steps are actions
(Schulman et al. 2017, arXiv 1707.06347; DPOK: Fan et al. 2023, arXiv 2305.16381). The reward may be
a black box.

Per gradient step, one Adam step on
  ppo   -mean_B sum_t min(rho_t A_t, clip(rho_t, 1 - eps, 1 + eps) A_t)
        + alpha mean_B sum_t KL(p_theta(.|x_t) || p_pre(.|x_t))
        rho_t = p_theta(x_{t-1}|x_t) / p_old(x_{t-1}|x_t)
        G_t = sum of the rewards of steps t, t - 1, ... 1 - alpha sum of the KLs of t - 1, ... 1
        A_t = G_t - mean_B G_t
At p_old = p_theta this is the gradient of -E[r] + alpha KL(walks), the KL of step t taken exactly
and those after it as part of what step t earns.
Per-step rewards are r(x_0) at the last step, or v_{t-1} - v_t of a value: the reverse KL to the
soft-optimal walk with less noise in G.
Batches: what `act` drew: obs [B, O], action = path [B, T + 1, ...] from x_T to x_0, reward [B, T],
extras log_prob [B, T].
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from rlx.nn import chains
from rlx.nn.chains import Chain
from rlx.ops import learning
from rlx.ops.learning import State
from rlx.ops.shards import pmean_if, rows
from rlx.types import EnvSpec, Keys, Learner, Metrics, PyTree, Transition

HP = ("lr", "alpha", "clip", "max_grad_norm")


def get_config() -> ConfigDict:
    """Return our constants; clip is PPO's."""
    return ConfigDict(
        dict(
            name="ppo",
            batch_size=256,  # walks per gradient step, over all devices
            lr=3e-4,  # Adam
            alpha=1.0,  # temperature, in reward units
            clip=0.2,  # eps
            max_grad_norm=1.0,
        )
    )


def make(
    config: ConfigDict,
    spec: EnvSpec,
    axis_name: str | None = None,
    *,
    chain: Chain,
    params: PyTree,
) -> Learner:
    """Build it for the model `chain`, pre-trained to `params`.

    `act` samples x_0; its extras `path` and `log_prob` go into the batch.
    """
    del spec  # the chain knows the shapes
    if not 0 < config.clip < 1:
        raise ValueError(f"learner.clip is a number in (0, 1), got {config.clip:g}")
    hp = chains.settings(config, HP)

    def init(key: jax.Array, hp: dict[str, jax.Array]) -> State:
        del key  # the model is given; its target is what was pre-trained and never moves
        return learning.begin({"model": params}, ("model",), hp)

    def along(model: Any, state: State, batch: Transition) -> tuple[jax.Array, jax.Array]:
        """Log-likelihoods under the model and KLs to the pre-trained one of all steps, `[B, T]`."""
        x, y = batch.action[:, :-1], batch.action[:, 1:]
        times = jnp.arange(chain.steps, 0, -1)

        def step(x: jax.Array, y: jax.Array, time: jax.Array) -> tuple[jax.Array, jax.Array]:
            t = jnp.full(x.shape[:1], time)
            law = chain.kernel(model, batch.obs, x, t)
            before = chain.kernel(state.target_params["model"], batch.obs, x, t)
            return chain.log_prob(law, y), chain.kl(law, before)

        return jax.vmap(step, (1, 1, 0), 1)(x, y, times)

    def total(model: Any, state: State, batch: Transition) -> tuple[Any, Metrics]:
        log_prob, kl = along(model, state, batch)
        alpha, eps = state.hp["alpha"], state.hp["clip"]
        to_go = lambda x: jnp.flip(jnp.cumsum(jnp.flip(x, 1), 1), 1)  # noqa: E731
        later = jax.lax.stop_gradient(to_go(kl) - kl)
        G = to_go(batch.reward) - alpha * later
        A = G - pmean_if(G.mean(0), axis_name)
        rho = jnp.exp(log_prob - batch.extras["log_prob"])
        gain = jnp.minimum(rho * A, jnp.clip(rho, 1 - eps, 1 + eps) * A).sum(1).mean()
        far = kl.sum(1).mean()
        loss = -gain + alpha * far
        clipped = (jnp.abs(rho - 1) > eps).mean()
        metrics = {
            "ppo_loss": loss,
            "reward": batch.reward.sum(1).mean(),
            "kl": far,
            "clipped": clipped,
        }
        return pmean_if((loss, metrics), axis_name)

    def update(state: State, batch: Transition, keys: Keys) -> tuple[State, Metrics]:
        del keys  # nothing is drawn
        return learning.adam_step(
            state, lambda params: total(params["model"], state, batch), state.hp["max_grad_norm"]
        )

    def td_loss(state: State, batch: Transition, keys: Keys) -> jax.Array:
        del keys
        return total(state.params["model"], state, batch)[0]

    def act(state: State, obs: jax.Array, keys: Keys, explore: bool) -> tuple[jax.Array, dict]:
        del explore
        per_shard = obs.shape[0] // keys.keys.shape[0]
        noise = rows(lambda key: chains.path_noise(chain, key, per_shard), keys)
        return chains.sample(chain, state.params["model"], obs, noise)

    return Learner(init, update, act, td_loss, hp)
