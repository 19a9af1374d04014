"""Flow Q-learning (Park, Li, Levine 2025, arXiv 2502.02538): a flow policy that only imitates, and
a one-step policy that maximises Q while it stays near the flow's output for the same noise.

Per gradient step, one Adam step on the sum of (means over batch and action numbers)
  critic    a' = clip(mu(s', z'), -1, 1),  y = r + discount * agg_k Q'_k(s', a')
            mean_{k,B} (Q_k(s, a) - y)**2
  flow      x0 ~ N(0, 1), t ~ U[0, 1):  mean (v(s, (1 - t) x0 + t a, t) - (a - x0))**2
  distill   z ~ N(0, 1):  alpha * mean (mu(s, z) - flow(s, z))**2,  flow(s, z) = clip(Euler, -1, 1)
  q         -mean_{k,B} Q_k(s, clip(mu(s, z), -1, 1)), the critic held still
then Q' <- tau Q + (1 - tau) Q', Q of before the step. `discount` is gamma**h * (1 - terminated).

With chunks (QC-FQL, Li et al. 2025, arXiv 2507.07969) an action is h actions and the same
equations hold. Differs from the paper: its norms are sums over action numbers, its code and its
alphas belong to means.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from rlx.nn import encoders
from rlx.nn.critic import Critic
from rlx.nn.flow import NoiseToAction, VectorField, flow_action
from rlx.ops import learning
from rlx.ops.flow import draw_time, path
from rlx.ops.learning import State, masked_mean, per_action
from rlx.ops.shards import pmean_if, rows
from rlx.ops.specs import check_offline
from rlx.ops.td import aggregate, td_target
from rlx.types import EnvSpec, Keys, Learner, Metrics, Transition

HP = ("lr", "discount", "tau", "alpha")


def get_config() -> ConfigDict:
    """Return the published constants of FQL."""
    return ConfigDict(
        dict(
            name="fql",
            batch_size=256,  # rows per gradient step, over all devices
            lr=3e-4,  # Adam over all networks
            discount=0.99,  # gamma, per env step
            tau=0.005,  # Polyak step of the target critic, per gradient step
            target_update="pre",  # Polyak of the critic before (pre, published) or after the step
            alpha=10.0,  # weight of the distillation: the one number to tune
            q_agg="mean",  # of the target critics: mean or min
            normalize_q=False,  # divide the Q term by mean |Q|
            flow_steps=10,  # M, of the Euler integration
            solver="euler",  # or midpoint
            time_dist="uniform",  # of flow matching: uniform, beta or logit_normal
            fourier=0,  # Fourier features of the time; 0 = the time itself
            critic_hidden=(512, 512, 512, 512),  # widths of each critic
            actor_hidden=(512, 512, 512, 512),  # of the flow and the one-step policy
            ensemble=2,  # critics
            layer_norm=True,  # in the critics
            actor_layer_norm=False,
            encoder="",  # of images: impala_small, impala, impala_large; "" = vectors
            eval_noise="sample",  # evaluation draws noise as published, or takes 0 (zero)
        )
    )


def make(config: ConfigDict, spec: EnvSpec, axis_name: str | None = None) -> Learner:
    """Build FQL for `spec`, whose action may be a chunk; losses are averaged over `axis_name`.

    Raises ValueError for actions that are no bounded float vector, images without an encoder, and
    settings out of range.
    """
    check_offline("fql", spec, config)
    A = spec.action.shape[0]
    hp = learning.settings(config, HP)
    features = encoders.width(config.encoder, spec.obs)
    encoder = lambda: encoders.make(config.encoder)  # noqa: E731  one each, nothing shared
    critic_net = Critic(config.critic_hidden, config.ensemble, config.layer_norm, encoder())
    flow_net = VectorField(
        features, config.actor_hidden, A, config.actor_layer_norm, config.fourier, encoder()
    )
    draw_action = partial(flow_action, flow_net, config.flow_steps, config.solver)
    policy_net = NoiseToAction(config.actor_hidden, A, config.actor_layer_norm, encoder())

    def init(key: jax.Array, hp: dict[str, jax.Array]) -> State:
        keys = jax.random.split(key, 3)
        obs, action = jnp.zeros((1, *spec.obs.shape), spec.obs.dtype), jnp.zeros((1, A))
        params = {
            "critic": critic_net.init(keys[0], obs, action),
            "flow": flow_net.init(keys[1], obs, action, action[:, :1]),
            "policy": policy_net.init(keys[2], obs, action),
        }
        return learning.begin(params, ("critic",), hp)

    def critic_loss(params: Any, state: State, batch: Transition, noise: jax.Array):
        """Squared TD error; equation 'critic' above."""
        next_action = jnp.clip(
            policy_net.apply(state.params["policy"], batch.next_obs, noise), -1, 1
        )
        next_q = critic_net.apply(state.target_params["critic"], batch.next_obs, next_action)
        target = td_target(batch.reward, batch.extras["discount"], aggregate(next_q, config.q_agg))
        q = critic_net.apply(params, batch.obs, batch.action)
        error = (q - jax.lax.stop_gradient(target)) ** 2
        return jnp.mean(batch.extras["valid"] * error), q

    def flow_loss(params: Any, batch: Transition, noise: jax.Array, t: jax.Array) -> jax.Array:
        """Flow matching on the data's actions; equation 'flow' above."""
        x, velocity = path(noise, batch.action, t)
        error = (flow_net.apply(params, batch.obs, x, t) - velocity) ** 2
        return masked_mean(error, per_action(batch.extras["action_valid"], batch.action))

    def policy_loss(params: Any, critic: Any, teacher: jax.Array, batch: Transition, z: jax.Array):
        """Distillation and Q terms of the one-step policy; equations 'distill' and 'q' above."""
        action = policy_net.apply(params, batch.obs, z)
        distill = jnp.mean((action - teacher) ** 2)
        q = critic_net.apply(critic, batch.obs, jnp.clip(action, -1, 1)).mean(0)
        scale = learning.inverse_size(q, axis_name) if config.normalize_q else 1.0
        return distill, -scale * q.mean()

    def draw(keys: Keys, batch_size: int) -> dict[str, jax.Array]:
        per_shard = batch_size // keys.keys.shape[0]

        def one(key: jax.Array) -> dict[str, jax.Array]:
            next_key, x0_key, t_key, z_key = jax.random.split(key, 4)
            return {
                "next": jax.random.normal(next_key, (per_shard, A)),
                "x0": jax.random.normal(x0_key, (per_shard, A)),
                "t": draw_time(t_key, (per_shard, 1), config.time_dist),
                "z": jax.random.normal(z_key, (per_shard, A)),
            }

        return rows(one, keys)

    def update(state: State, batch: Transition, keys: Keys) -> tuple[State, Metrics]:
        noise = draw(keys, batch.reward.shape[0])
        teacher = draw_action(state.params["flow"], batch.obs, noise["z"])

        def total(params: dict[str, Any]) -> tuple[jax.Array, Metrics]:
            critic, q = critic_loss(params["critic"], state, batch, noise["next"])
            flow = flow_loss(params["flow"], batch, noise["x0"], noise["t"])
            distill, q_term = policy_loss(
                params["policy"], state.params["critic"], teacher, batch, noise["z"]
            )
            loss = critic + flow + state.hp["alpha"] * distill + q_term
            metrics = {
                "critic_loss": critic,
                "flow_loss": flow,
                "distill_loss": distill,
                "q_loss": q_term,
                "q": q.mean(),
            }
            return pmean_if((loss, metrics), axis_name)

        new, metrics = learning.adam_step(state, total)
        return learning.follow(state, new, config.target_update), metrics

    def td_loss(state: State, batch: Transition, keys: Keys) -> jax.Array:
        noise = draw(keys, batch.reward.shape[0])
        loss, _ = critic_loss(state.params["critic"], state, batch, noise["next"])
        return pmean_if(loss, axis_name)

    def act(state: State, obs: jax.Array, keys: Keys, explore: bool) -> tuple[jax.Array, dict]:
        per_shard = obs.shape[0] // keys.keys.shape[0]
        noise = rows(lambda key: jax.random.normal(key, (per_shard, A)), keys)
        if not explore and config.eval_noise == "zero":
            noise = jnp.zeros_like(noise)
        return jnp.clip(policy_net.apply(state.params["policy"], obs, noise), -1, 1), {}

    return Learner(init, update, act, td_loss, hp)
