"""Reward-weighted regression: a model of p(x) exp(r / alpha) / Z from samples of p with rewards
(Peters, Schaal 2007; Uehara et al. 2025, arXiv 2501.09685, section 8). With alpha = inf it is the
pre-training itself.

Per gradient step, one Adam step on
  rwr   mean_B w_i elbo_loss(x_i),  w = B softmax(r / alpha) over the batch
The loss of one sample is the chain's: denoising at one random time, or masked cross entropy.
Weights that sum to one over a batch are biased by O(1 / B) towards p.
Batches: obs [B, O], action = x_0 [B, ...], reward [B] = r(x_0).
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

HP = ("lr", "alpha")


def get_config() -> ConfigDict:
    """Return our constants."""
    return ConfigDict(
        dict(
            name="rwr",
            batch_size=256,  # rows per gradient step, over all devices
            lr=3e-4,  # Adam
            alpha=1.0,  # temperature, in reward units; inf = every sample counts alike
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
    """Build it for the model `chain`, which starts at `params`.   `act` samples the model."""
    del spec  # the chain knows the shapes
    hp = chains.settings(config, HP)

    def init(key: jax.Array, hp: dict[str, jax.Array]) -> State:
        del key  # the model is given
        return learning.begin({"model": params}, (), hp)

    def weights(reward: jax.Array, alpha: jax.Array) -> jax.Array:
        """Of mean 1 over the batch on all devices."""
        logits = reward / alpha
        top = logits.max()
        if axis_name is not None:
            top = jax.lax.pmax(top, axis_name)
        w = jnp.exp(logits - top)
        return w / pmean_if(w.mean(), axis_name)

    def draw(keys: Keys, batch_size: int) -> tuple[jax.Array, PyTree]:
        per_shard = batch_size // keys.keys.shape[0]

        def one(key: jax.Array) -> tuple[jax.Array, PyTree]:
            t_key, noise_key = jax.random.split(key)
            t = jax.random.randint(t_key, (per_shard,), 1, chain.steps + 1)
            return t, chain.noise(noise_key, per_shard)

        return rows(one, keys)

    def total(model: Any, state: State, batch: Transition, keys: Keys) -> tuple[Any, Metrics]:
        t, noise = draw(keys, batch.reward.shape[0])
        w = weights(batch.reward, state.hp["alpha"])
        loss = jnp.mean(w * chain.loss(model, batch.obs, batch.action, t, noise))
        share = 1.0 / pmean_if(jnp.mean(w**2), axis_name)
        return pmean_if((loss, {"rwr_loss": loss, "ess_share": share}), axis_name)

    def update(state: State, batch: Transition, keys: Keys) -> tuple[State, Metrics]:
        return learning.adam_step(state, lambda params: total(params["model"], state, batch, keys))

    def td_loss(state: State, batch: Transition, keys: Keys) -> jax.Array:
        return total(state.params["model"], state, batch, keys)[0]

    def act(state: State, obs: jax.Array, keys: Keys, explore: bool) -> tuple[jax.Array, dict]:
        del explore
        per_shard = obs.shape[0] // keys.keys.shape[0]
        noise = rows(lambda key: chains.path_noise(chain, key, per_shard), keys)
        return chains.sample(chain, state.params["model"], obs, noise)[0], {}

    return Learner(init, update, act, td_loss, hp)
