"""IDQL (Hansen-Estruch et al. 2023, arXiv 2304.10573): IQL's values, a diffusion policy that only
imitates, and the best of N of its samples.

Per gradient step, one Adam step on the sum of
  value    u = min_k Q'_k(s, a) - V(s):  mean_B |expectile - 1[u < 0]| u**2
  critic   y = r + discount * V(s'):  sum_k mean_B (Q_k(s, a) - y)**2
  denoise  t ~ U{1 ... T}, eps ~ N(0, 1):
           mean (eps_net(s, sqrt(abar_t) a + sqrt(1 - abar_t) eps, t) - eps)**2
then Q' <- tau Q + (1 - tau) Q', Q of before the step. `discount` is gamma**h * (1 - terminated).
Acting: of N denoised actions the one with the highest min_k Q_k(s, .).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from rlx.nn import encoders
from rlx.nn.critic import Critic, Value
from rlx.nn.diffusion import Denoiser
from rlx.ops import diffusion, learning
from rlx.ops.learning import State, masked_mean, per_action
from rlx.ops.shards import pmean_if, rows
from rlx.ops.specs import check_offline
from rlx.ops.td import expectile_loss, td_target
from rlx.types import EnvSpec, Keys, Learner, Metrics, Transition

HP = ("lr", "discount", "tau", "expectile")


def get_config() -> ConfigDict:
    """Return the published constants of IDQL on OGBench's manipulation tasks.

    Locomotion has expectile 0.7 and critics of (512, 512).
    """
    return ConfigDict(
        dict(
            name="idql",
            batch_size=256,  # rows per gradient step, over all devices
            lr=3e-4,  # Adam over all networks
            discount=0.99,  # gamma, per env step
            tau=0.005,  # Polyak step of the target critic, per gradient step
            target_update="pre",  # Polyak of the critic before (pre, published) or after the step
            expectile=0.9,  # kappa
            samples=32,  # N, actions to choose from: 32, 64 or 128
            diffusion_steps=5,  # T
            schedule="vp",  # of the noise: vp, linear or cosine
            time_features=64,  # sinusoids of the time
            critic_hidden=(256, 256),  # widths of each critic and of the value
            actor_hidden=(256, 256, 256),  # of the denoiser's residual blocks, 4 times that inside
            ensemble=2,  # critics
            layer_norm=True,  # in the critics and the value
            encoder="",  # of images: impala_small, impala, impala_large; "" = vectors
        )
    )


def make(config: ConfigDict, spec: EnvSpec, axis_name: str | None = None) -> Learner:
    """Build IDQL for `spec`, whose action may be a chunk; losses are averaged over `axis_name`."""
    check_offline("idql", spec, config)
    if len(set(config.actor_hidden)) != 1:
        raise ValueError(
            "learner.actor_hidden has one width per residual block, all the same, "
            f"got {tuple(config.actor_hidden)}"
        )
    A, T = spec.action.shape[0], config.diffusion_steps
    hp = learning.settings(config, HP)
    how = diffusion.schedule(config.schedule, T)
    encoder = lambda: encoders.make(config.encoder)  # noqa: E731  one each, nothing shared
    critic_net = Critic(config.critic_hidden, config.ensemble, config.layer_norm, encoder())
    value_net = Value(config.critic_hidden, config.layer_norm, encoder())
    denoiser = Denoiser(config.actor_hidden, A, config.time_features, True, encoder())

    def init(key: jax.Array, hp: dict[str, jax.Array]) -> State:
        keys = jax.random.split(key, 3)
        obs, action = jnp.zeros((1, *spec.obs.shape), spec.obs.dtype), jnp.zeros((1, A))
        params = {
            "critic": critic_net.init(keys[0], obs, action),
            "value": value_net.init(keys[1], obs),
            "denoiser": denoiser.init(keys[2], obs, action, action[:, :1]),
        }
        return learning.begin(params, ("critic",), hp)

    def value_loss(params: Any, state: State, batch: Transition):
        """Expectile regression; equation 'value' above."""
        q = critic_net.apply(state.target_params["critic"], batch.obs, batch.action).min(0)
        v = value_net.apply(params, batch.obs)
        error = expectile_loss(q - v, state.hp["expectile"])
        return jnp.mean(batch.extras["valid"] * error), v

    def critic_loss(params: Any, state: State, batch: Transition):
        """Squared TD error, summed over the critics; equation 'critic' above."""
        next_v = value_net.apply(state.params["value"], batch.next_obs)
        target = td_target(batch.reward, batch.extras["discount"], next_v)
        q = critic_net.apply(params, batch.obs, batch.action)
        return jnp.mean(batch.extras["valid"] * (q - target) ** 2, axis=1).sum(), q

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
            value, v = value_loss(params["value"], state, batch)
            critic, q = critic_loss(params["critic"], state, batch)
            denoising = denoising_loss(params["denoiser"], batch, noise["eps"], noise["t"])
            metrics = {
                "value_loss": value,
                "critic_loss": critic,
                "denoising_loss": denoising,
                "v": v.mean(),
                "q": q.mean(),
            }
            return pmean_if((value + critic + denoising, metrics), axis_name)

        new, metrics = learning.adam_step(state, total)
        return learning.follow(state, new, config.target_update), metrics

    def td_loss(state: State, batch: Transition, keys: Keys) -> jax.Array:
        return pmean_if(critic_loss(state.params["critic"], state, batch)[0], axis_name)

    def act(state: State, obs: jax.Array, keys: Keys, explore: bool) -> tuple[jax.Array, dict]:
        per_shard = obs.shape[0] // keys.keys.shape[0]
        noise = rows(lambda key: jax.random.normal(key, (per_shard, config.samples, T, A)), keys)
        params, critic = state.params["denoiser"], state.params["critic"]
        given = denoiser.apply(params, obs, method="condition")[:, None]
        predict = lambda x, t: denoiser.apply(params, given, x, t, method="noise")  # noqa: E731
        action = diffusion.denoise(predict, noise, how)
        q = critic_net.apply(critic, obs, action)
        return learning.pick(action, q.min(0)), {}

    return Learner(init, update, act, td_loss, hp)
