"""Behaviour cloning with a denoising diffusion policy: the policy inside Diffusion-QL and IDQL,
alone (Ho, Jain, Abbeel 2020, arXiv 2006.11239; Wang, Hunt, Zhou 2023, arXiv 2208.06193).

Per gradient step, one Adam step on
  denoise   t ~ U{1 ... T}, eps ~ N(0, 1):
            mean (eps_net(s, sqrt(abar_t) a + sqrt(1 - abar_t) eps, t) - eps)**2
over batch and action numbers; actions of a chunk that the data does not know have weight 0.
The policy is the walk from t = T to 0 of `rlx/ops/diffusion.py`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from rlx.nn import encoders
from rlx.nn.diffusion import Denoiser
from rlx.ops import diffusion, learning
from rlx.ops.learning import State, masked_mean, per_action
from rlx.ops.shards import pmean_if, rows
from rlx.ops.specs import check_offline
from rlx.types import EnvSpec, Keys, Learner, Metrics, Transition

HP = ("lr", "discount")


def get_config() -> ConfigDict:
    """Return the published constants of Diffusion-QL's policy."""
    return ConfigDict(
        dict(
            name="diffusion_bc",
            batch_size=256,  # rows per gradient step, over all devices
            lr=3e-4,  # Adam
            discount=0.99,  # of the batches; the loss has no use for it
            diffusion_steps=5,  # T
            schedule="vp",  # of the noise: vp, linear or cosine
            time_features=16,  # sinusoids of the time
            actor_hidden=(256, 256, 256),  # widths of the denoiser
            encoder="",  # of images: impala_small, impala, impala_large; "" = vectors
        )
    )


def make(config: ConfigDict, spec: EnvSpec, axis_name: str | None = None) -> Learner:
    """Build diffusion behaviour cloning for `spec`; the loss is averaged over `axis_name`.

    It has no critic: `td_loss` is the denoising loss.
    """
    check_offline("diffusion_bc", spec, config)
    A, T = spec.action.shape[0], config.diffusion_steps
    hp = learning.settings(config, HP)
    how = diffusion.schedule(config.schedule, T)
    encoder = encoders.make(config.encoder)
    denoiser = Denoiser(config.actor_hidden, A, config.time_features, encoder=encoder)

    def init(key: jax.Array, hp: dict[str, jax.Array]) -> State:
        obs, action = jnp.zeros((1, *spec.obs.shape), spec.obs.dtype), jnp.zeros((1, A))
        return learning.begin({"denoiser": denoiser.init(key, obs, action, action[:, :1])}, (), hp)

    def denoising_loss(params: Any, batch: Transition, eps: jax.Array, t: jax.Array) -> jax.Array:
        """Prediction of the noise in the data's actions; equation 'denoise' above."""
        x = diffusion.noised(how, batch.action, eps, t)
        error = (denoiser.apply(params, batch.obs, x, t.astype(x.dtype)) - eps) ** 2
        return masked_mean(error, per_action(batch.extras["action_valid"], batch.action))

    def draw(keys: Keys, batch_size: int) -> dict[str, jax.Array]:
        per_shard = batch_size // keys.keys.shape[0]

        def one(key: jax.Array) -> dict[str, jax.Array]:
            eps_key, t_key = jax.random.split(key)
            return {
                "eps": jax.random.normal(eps_key, (per_shard, A)),
                "t": jax.random.randint(t_key, (per_shard, 1), 1, T + 1),
            }

        return rows(one, keys)

    def update(state: State, batch: Transition, keys: Keys) -> tuple[State, Metrics]:
        noise = draw(keys, batch.reward.shape[0])

        def total(params: dict[str, Any]) -> tuple[jax.Array, Metrics]:
            loss = denoising_loss(params["denoiser"], batch, noise["eps"], noise["t"])
            return pmean_if((loss, {"denoising_loss": loss}), axis_name)

        return learning.adam_step(state, total)

    def td_loss(state: State, batch: Transition, keys: Keys) -> jax.Array:
        noise = draw(keys, batch.reward.shape[0])
        loss = denoising_loss(state.params["denoiser"], batch, noise["eps"], noise["t"])
        return pmean_if(loss, axis_name)

    def act(state: State, obs: jax.Array, keys: Keys, explore: bool) -> tuple[jax.Array, dict]:
        per_shard = obs.shape[0] // keys.keys.shape[0]
        noise = rows(lambda key: jax.random.normal(key, (per_shard, T, A)), keys)
        params = state.params["denoiser"]
        given = denoiser.apply(params, obs, method="condition")
        predict = lambda x, t: denoiser.apply(params, given, x, t, method="noise")  # noqa: E731
        return diffusion.denoise(predict, noise, how), {}

    return Learner(init, update, act, td_loss, hp)
