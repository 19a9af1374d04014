"""Flow and diffusion policies guided by a critic when they act: what `--guidance` stands for.

The behaviour policy is the pre-trained law, Q the reward, the episodes' observations the problems.
Of what the sampler returns the action of the highest Q is taken.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from experiments import offline_guidance_check as check
from experiments.offline_guidance_parts import critic_of, process_of
from rlx import agents
from rlx.guidance import Config, GuidedOut, guide, posterior_mean
from rlx.infra.errors import ConfigError
from rlx.ops import learning
from rlx.types import EnvSpec, Keys, PyTree

SMALLEST = 1e-6  # of alpha: a critic that tells no action from another leaves nothing to scale
Act = Callable[[PyTree, jax.Array, Keys], jax.Array]
Sampler = Callable[[PyTree, jax.Array, jax.Array], list[GuidedOut]]


def make_act(config: ConfigDict, spec: EnvSpec) -> Act | None:
    """What evaluation acts with in place of the learner's own `act`; None without guidance.

    Returns act(learner state, obs [E, *O], one key per row) -> actions [E, A].  ConfigError for a
    learner without a flow or a denoiser, without a critic, and for settings out of range.
    """
    if not config.guidance.method:
        return None
    sample = make_sampler(config, spec)
    rehearse(sample, config, spec)

    def act(state: PyTree, obs: jax.Array, keys: Keys) -> jax.Array:
        found = sample(state.params, obs, keys.keys)
        x, q = (jnp.concatenate([getattr(o, n) for o in found], 1) for n in ("x0", "reward"))
        return jnp.clip(learning.pick(x, q), -1, 1)

    return act


def make_sampler(config: ConfigDict, spec: EnvSpec) -> Sampler:
    """Return sample(params, obs [E, *O], keys [E]) -> what the samplers found for each row."""
    check.refuse(config)
    how = config.guidance
    critic = critic_of(config, spec)
    static = Config(method=how.method, particles=how.particles, children=how.children)
    unguided = static.replace(method="none", particles=max(how.particles, how.children))
    scaled = how.alpha_mode == "q_std" and how.method != "bon" and how.alpha > 0

    def sample(params: PyTree, obs: jax.Array, keys: jax.Array) -> list[GuidedOut]:
        policy = process_of(config.learner, spec, params, obs, how.eta)
        reward = lambda x: critic(params, obs, x)  # noqa: E731
        scouts, keys = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
        alpha, found = jnp.full(len(obs), how.alpha), []
        if scaled:  # what tells the scale of Q competes in the end as well: it is not wasted
            found = [guide(scouts, policy, None, reward, unguided)]
            alpha = jnp.maximum(alpha * found[0].reward.std(1), SMALLEST)
        value = posterior_mean(policy, reward)
        return [*found, guide(keys, policy, value, reward, static.replace(alpha=alpha))]

    return sample


def rehearse(sample: Sampler, config: ConfigDict, spec: EnvSpec) -> list[GuidedOut]:
    """Trace the sampler for one observation: what it refuses is refused before any compile, and
    the result tells its function evaluations.
    """
    learner = agents.make(config.learner, spec)
    state = jax.eval_shape(learner.init, jax.random.key(0), learner.hp)
    obs = jax.ShapeDtypeStruct((1, *spec.obs.shape), spec.obs.dtype)
    try:
        return jax.eval_shape(sample, state.params, obs, jax.random.split(jax.random.key(0), 1))
    except ValueError as error:
        raise ConfigError(f"guidance: {error}") from error
