"""Diffusion Q-learning (Wang, Hunt, Zhou 2023, arXiv 2208.06193): a diffusion policy that imitates
and maximises Q, the Q gradient through all steps of the denoising.

Per gradient step, one Adam step on the sum of
  critic   a'_j ~ pi'(s'), j = 1 ... backup_samples,  y = r + discount * min_k max_j Q'_k(s', a'_j)
           sum_k mean_B (Q_k(s, a) - y)**2
  denoise  t ~ U{1 ... T}, eps ~ N(0, 1):
           mean (eps_net(s, sqrt(abar_t) a + sqrt(1 - abar_t) eps, t) - eps)**2
  q        -eta * mean_B Q_i(s, pi(s)) / mean_B |Q_j(s, pi(s))|, (i, j) = (1, 2) or (2, 1) by a coin
each network's gradient shortened to max_grad_norm; then Q' <- tau Q + (1 - tau) Q', Q of after the
step. pi' is a moving average of pi: every `ema_every` steps, from step `ema_start` on,
pi' <- ema_rate pi + (1 - ema_rate) pi'. `discount` is gamma**h * (1 - terminated).
Acting: of N actions of pi one is drawn with probabilities softmax(min_k Q'_k(s, .)).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from rlx.nn import encoders
from rlx.nn.critic import Critic
from rlx.nn.diffusion import Denoiser
from rlx.ops import diffusion, learning
from rlx.ops.learning import State, masked_mean, per_action
from rlx.ops.shards import pmean_if, rows
from rlx.ops.specs import check_offline
from rlx.ops.td import td_target
from rlx.types import EnvSpec, Keys, Learner, Metrics, Transition

HP = ("lr", "discount", "tau", "eta", "max_grad_norm", "ema_rate")


def get_config() -> ConfigDict:
    """Return the published constants of Diffusion-QL; antmaze takes 10 backup samples."""
    return ConfigDict(
        dict(
            name="diffusion_ql",
            batch_size=256,  # rows per gradient step, over all devices
            lr=3e-4,  # Adam over all networks
            discount=0.99,  # gamma, per env step
            tau=0.005,  # Polyak step of the target critic, per gradient step
            eta=1.0,  # weight of the Q term: the one number to tune
            max_grad_norm=1.0,  # of each network
            ema_rate=0.005,  # of the policy's moving average
            ema_every=5,  # gradient steps between its moves
            ema_start=1000,  # first gradient step that moves it
            backup_samples=1,  # actions per next observation, of which the best counts
            samples=50,  # N, actions to draw from when acting
            diffusion_steps=5,  # T
            schedule="vp",  # of the noise: vp, linear or cosine
            time_features=16,  # sinusoids of the time
            critic_hidden=(256, 256, 256),  # widths of each of the two critics
            actor_hidden=(256, 256, 256),  # of the denoiser
            layer_norm=True,  # in the critics
            encoder="",  # of images: impala_small, impala, impala_large; "" = vectors
        )
    )


def make(config: ConfigDict, spec: EnvSpec, axis_name: str | None = None) -> Learner:
    """Build Diffusion-QL for `spec`, chunks included; losses are averaged over `axis_name`."""
    check_offline("diffusion_ql", spec, config)
    A, T = spec.action.shape[0], config.diffusion_steps
    hp = learning.settings(config, HP)
    how = diffusion.schedule(config.schedule, T)
    encoder = lambda: encoders.make(config.encoder)  # noqa: E731  one each, nothing shared
    critic_net = Critic(config.critic_hidden, 2, config.layer_norm, encoder())
    denoiser = Denoiser(config.actor_hidden, A, config.time_features, encoder=encoder())

    def init(key: jax.Array, hp: dict[str, jax.Array]) -> State:
        critic_key, denoiser_key = jax.random.split(key)
        obs, action = jnp.zeros((1, *spec.obs.shape), spec.obs.dtype), jnp.zeros((1, A))
        params = {
            "critic": critic_net.init(critic_key, obs, action),
            "denoiser": denoiser.init(denoiser_key, obs, action, action[:, :1]),
        }
        return learning.begin(params, ("critic", "denoiser"), hp)

    def denoised(params: Any, obs: jax.Array, noise: jax.Array) -> jax.Array:
        """Actions `[B, N, A]` of `noise [B, N, T, A]`."""
        given = denoiser.apply(params, obs, method="condition")[:, None]
        predict = lambda x, t: denoiser.apply(params, given, x, t, method="noise")  # noqa: E731
        return diffusion.denoise(predict, noise, how)

    def target_values(state: State, obs: jax.Array, action: jax.Array) -> jax.Array:
        """Q' of N actions per observation, `[2, B, N]`."""
        return critic_net.apply(state.target_params["critic"], obs, action)

    def critic_loss(params: Any, state: State, batch: Transition, noise: jax.Array):
        """Squared TD error, summed over the critics; equation 'critic' above."""
        next_action = denoised(state.target_params["denoiser"], batch.next_obs, noise)
        next_q = target_values(state, batch.next_obs, next_action).max(-1).min(0)
        target = td_target(batch.reward, batch.extras["discount"], next_q)
        q = critic_net.apply(params, batch.obs, batch.action)
        return jnp.mean(batch.extras["valid"] * (q - target) ** 2, axis=1).sum(), q

    def denoising_loss(params: Any, batch: Transition, eps: jax.Array, t: jax.Array) -> jax.Array:
        """Prediction of the noise in the data's actions; equation 'denoise' above."""
        x = diffusion.noised(how, batch.action, eps, t)
        error = (denoiser.apply(params, batch.obs, x, t.astype(x.dtype)) - eps) ** 2
        return masked_mean(error, per_action(batch.extras["action_valid"], batch.action))

    def q_loss(params: Any, critic: Any, batch: Transition, noise: jax.Array, coin: jax.Array):
        """One critic, normalised by the other; equation 'q' above, without eta."""
        action = denoised(params, batch.obs, noise).squeeze(1)
        first, second = critic_net.apply(critic, batch.obs, action)
        q, other = jnp.where(coin, first, second), jnp.where(coin, second, first)
        return -learning.inverse_size(other, axis_name) * q.mean()

    def draw(keys: Keys, batch_size: int) -> dict[str, jax.Array]:
        per_shard = batch_size // keys.keys.shape[0]

        def one(key: jax.Array) -> dict[str, jax.Array]:
            next_key, eps_key, t_key, z_key = jax.random.split(key, 4)
            return {
                "next": jax.random.normal(next_key, (per_shard, config.backup_samples, T, A)),
                "eps": jax.random.normal(eps_key, (per_shard, A)),
                "t": jax.random.randint(t_key, (per_shard, 1), 1, T + 1),
                "z": jax.random.normal(z_key, (per_shard, 1, T, A)),
            }

        return rows(one, keys)

    def update(state: State, batch: Transition, keys: Keys) -> tuple[State, Metrics]:
        noise = draw(keys, batch.reward.shape[0])
        coin = jax.random.bernoulli(keys.shared)  # the same on all devices

        def total(params: dict[str, Any]) -> tuple[jax.Array, Metrics]:
            critic, q = critic_loss(params["critic"], state, batch, noise["next"])
            denoising = denoising_loss(params["denoiser"], batch, noise["eps"], noise["t"])
            q_term = q_loss(params["denoiser"], state.params["critic"], batch, noise["z"], coin)
            metrics = {
                "critic_loss": critic,
                "denoising_loss": denoising,
                "q_loss": q_term,
                "q": q.mean(),
            }
            loss = critic + denoising + state.hp["eta"] * q_term
            return pmean_if((loss, metrics), axis_name)

        new, metrics = learning.adam_step(state, total, state.hp["max_grad_norm"])
        due = (state.grad_steps % config.ema_every == 0) & (state.grad_steps >= config.ema_start)
        rates = {"critic": state.hp["tau"], "denoiser": jnp.where(due, state.hp["ema_rate"], 0.0)}
        target = {
            name: learning.average(new.params[name], state.target_params[name], rate)
            for name, rate in rates.items()
        }
        return new.replace(target_params=target), metrics

    def td_loss(state: State, batch: Transition, keys: Keys) -> jax.Array:
        noise = draw(keys, batch.reward.shape[0])
        loss, _ = critic_loss(state.params["critic"], state, batch, noise["next"])
        return pmean_if(loss, axis_name)

    def act(state: State, obs: jax.Array, keys: Keys, explore: bool) -> tuple[jax.Array, dict]:
        per_shard = obs.shape[0] // keys.keys.shape[0]

        def one(key: jax.Array) -> tuple[jax.Array, jax.Array]:
            noise_key, choice_key = jax.random.split(key)
            shape = (per_shard, config.samples)
            noise = jax.random.normal(noise_key, (*shape, T, A))
            return noise, jax.random.gumbel(choice_key, shape)

        noise, luck = rows(one, keys)
        action = denoised(state.params["denoiser"], obs, noise)
        return learning.pick(action, target_values(state, obs, action).min(0) + luck), {}

    return Learner(init, update, act, td_loss, hp)
