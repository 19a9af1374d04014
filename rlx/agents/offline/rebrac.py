"""ReBRAC (Tarasov et al. 2023, arXiv 2305.09836): TD3 with squared distances to the data's actions
in both the actor and the critic; constants of Park, Li, Levine 2025, arXiv 2502.02538.

Per gradient step, with tanh policies mu and its target mu',
  critic  a' = clip(mu'(s') + clip(policy_noise n, -noise_clip, noise_clip), -1, 1), n ~ N(0, 1)
          y = r + discount * (min_k Q'_k(s', a') - alpha_critic * sum_j (a'_j - next_action_j)**2)
          mean_{k,B} (Q_k(s, a) - y)**2
  actor   -mean_B q / mean_B |q| + alpha_actor * mean_B sum_j (mu_j(s) - a_j)**2,
          q = min_k Q_k(s, mu(s))
each with its own Adam. Of the steps i = 1, 2, ... only those with i % actor_freq == 0 move the
actor, and only those move both targets: Q' <- tau Q + (1 - tau) Q', networks of before the step.
Where the data does not know the next action its penalty has weight 0.
Differs from FQL's code: its one Adam moves the actor on, by momentum, in the steps between.
`discount` is gamma**h * (1 - terminated).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from rlx.nn import encoders
from rlx.nn.critic import Critic
from rlx.nn.gaussian import Mean
from rlx.ops import learning
from rlx.ops.learning import State, per_action
from rlx.ops.shards import pmean_if, rows
from rlx.ops.specs import check_offline
from rlx.ops.td import td_target
from rlx.types import EnvSpec, Keys, Learner, Metrics, Transition

HP = ("lr", "discount", "tau", "alpha_actor", "alpha_critic", "policy_noise", "noise_clip")


def get_config() -> ConfigDict:
    """Return the published constants of ReBRAC."""
    return ConfigDict(
        dict(
            name="rebrac",
            batch_size=256,  # rows per gradient step, over all devices
            lr=3e-4,  # Adam of each network
            discount=0.99,  # gamma, per env step
            tau=0.005,  # Polyak step of both targets, per step that moves the actor
            target_update="pre",  # Polyak of the networks before (pre, published) or after the step
            alpha_actor=0.1,  # weight of the squared distance in the actor: tune
            alpha_critic=0.01,  # the same in the critic's target: tune
            policy_noise=0.2,  # standard deviation of the noise on next actions and exploration
            noise_clip=0.5,  # and its bound
            actor_freq=2,  # critic steps per actor step
            critic_hidden=(512, 512, 512, 512),  # widths of each critic
            actor_hidden=(512, 512, 512, 512),  # of the policy
            ensemble=2,  # critics
            layer_norm=True,  # in the critics
            actor_layer_norm=False,
            encoder="",  # of images: impala_small, impala, impala_large; "" = vectors
        )
    )


def make(config: ConfigDict, spec: EnvSpec, axis_name: str | None = None) -> Learner:
    """Build ReBRAC for `spec`, action chunks included; losses are averaged over `axis_name`."""
    check_offline("rebrac", spec, config)
    A = spec.action.shape[0]
    hp = learning.settings(config, HP)
    encoder = lambda: encoders.make(config.encoder)  # noqa: E731  one each, nothing shared
    critic_net = Critic(config.critic_hidden, config.ensemble, config.layer_norm, encoder())
    policy_net = Mean(config.actor_hidden, A, config.actor_layer_norm, encoder())

    def init(key: jax.Array, hp: dict[str, jax.Array]) -> State:
        critic_key, policy_key = jax.random.split(key)
        obs, action = jnp.zeros((1, *spec.obs.shape), spec.obs.dtype), jnp.zeros((1, A))
        params = {
            "critic": critic_net.init(critic_key, obs, action),
            "policy": policy_net.init(policy_key, obs),
        }
        state = learning.begin(params, ("critic", "policy"), hp)
        opt_state = {name: optax.adam(0.0).init(part) for name, part in params.items()}
        return state.replace(opt_state=opt_state)

    def policy(params: Any, obs: jax.Array) -> jax.Array:
        return jnp.tanh(policy_net.apply(params, obs))

    def noisy(action: jax.Array, noise: jax.Array, hp: dict[str, jax.Array]) -> jax.Array:
        bound = hp["noise_clip"]
        return jnp.clip(action + jnp.clip(hp["policy_noise"] * noise, -bound, bound), -1, 1)

    def critic_loss(params: Any, state: State, batch: Transition, noise: jax.Array):
        """Squared TD error with the penalty in the target; equation 'critic' above."""
        target = state.target_params
        next_action = noisy(policy(target["policy"], batch.next_obs), noise, state.hp)
        next_q = critic_net.apply(target["critic"], batch.next_obs, next_action).min(0)
        away = jnp.sum((next_action - batch.extras["next_action"]) ** 2, axis=-1)
        penalty = state.hp["alpha_critic"] * batch.extras["next_action_valid"] * away
        y = td_target(batch.reward, batch.extras["discount"], next_q - penalty)
        q = critic_net.apply(params, batch.obs, batch.action)
        return jnp.mean(batch.extras["valid"] * (q - y) ** 2), q

    def policy_loss(params: Any, state: State, batch: Transition):
        """Normalised Q and distance to the data; equation 'actor' above."""
        action = policy(params, batch.obs)
        q = critic_net.apply(state.params["critic"], batch.obs, action).min(0)
        weight = per_action(batch.extras["action_valid"], batch.action)
        away = jnp.sum(weight * (action - batch.action) ** 2, axis=-1).mean()
        return -learning.inverse_size(q, axis_name) * q.mean() + state.hp["alpha_actor"] * away

    def draw(keys: Keys, batch_size: int) -> jax.Array:
        per_shard = batch_size // keys.keys.shape[0]
        return rows(lambda key: jax.random.normal(key, (per_shard, A)), keys)

    def update(state: State, batch: Transition, keys: Keys) -> tuple[State, Metrics]:
        noise, lr = draw(keys, batch.reward.shape[0]), state.hp["lr"]

        def for_critic(params: Any) -> tuple[jax.Array, Metrics]:
            loss, q = critic_loss(params, state, batch, noise)
            return pmean_if((loss, {"critic_loss": loss, "q": q.mean()}), axis_name)

        def for_policy(params: Any) -> tuple[jax.Array, Metrics]:
            loss = policy_loss(params, state, batch)
            return pmean_if((loss, {"policy_loss": loss}), axis_name)

        critic, critic_opt, metrics = learning.adam(
            state.params["critic"], state.opt_state["critic"], lr, for_critic
        )
        new = state.replace(
            params=state.params | {"critic": critic},
            opt_state=state.opt_state | {"critic": critic_opt},
            grad_steps=state.grad_steps + 1,
        )

        def move() -> tuple[State, Metrics]:
            policy, policy_opt, metrics = learning.adam(
                state.params["policy"], state.opt_state["policy"], lr, for_policy
            )
            moved = new.replace(
                params=new.params | {"policy": policy},
                opt_state=new.opt_state | {"policy": policy_opt},
            )
            # Metrics are averaged over all steps, of which these are one in `actor_freq`.
            metrics = {
                "policy_loss": config.actor_freq * metrics["policy_loss"],
                "policy_grad_norm": config.actor_freq * metrics["grad_norm"],
            }
            return learning.follow(state, moved, config.target_update), metrics

        def stay() -> tuple[State, Metrics]:
            none = 0.0 * metrics["q"]  # varies over the mesh as what `move` returns does
            return new, {"policy_loss": none, "policy_grad_norm": none}

        new, more = jax.lax.cond(new.grad_steps % config.actor_freq == 0, move, stay)
        return new, metrics | more

    def td_loss(state: State, batch: Transition, keys: Keys) -> jax.Array:
        noise = draw(keys, batch.reward.shape[0])
        return pmean_if(critic_loss(state.params["critic"], state, batch, noise)[0], axis_name)

    def act(state: State, obs: jax.Array, keys: Keys, explore: bool) -> tuple[jax.Array, dict]:
        action = policy(state.params["policy"], obs)
        return (noisy(action, draw(keys, obs.shape[0]), state.hp) if explore else action), {}

    return Learner(init, update, act, td_loss, hp)
