"""Flow and diffusion policies guided by a critic when they act: what `--guidance` stands for.

The behaviour policy is the pre-trained law, Q the reward, the episodes' observations the problems.
Of what the sampler returns the action of the highest Q is taken.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments.offline_guidance_parts import POLICIES, critic_of, process_of
from rlx import agents
from rlx.guidance import METHODS, Config, GuidedOut, checks, guide, posterior_mean
from rlx.infra import errors
from rlx.infra.errors import ConfigError
from rlx.ops import learning
from rlx.types import EnvSpec, Keys, PyTree

NAMES = tuple(name for name in METHODS if name not in ("none", "ga"))
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
    check(config)
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


def check(config: ConfigDict) -> None:
    """Refuse settings out of range."""
    how, agent = config.guidance, config.learner.name
    if not how.method:
        return
    if how.method not in NAMES:
        raise ConfigError(errors.unknown("guidance", how.method, NAMES, "--help"))
    if agent not in POLICIES:
        raise ConfigError(
            f"guidance is for flow and diffusion policies, {', '.join(POLICIES)}; got {agent}"
        )
    for name in ("particles", "children"):
        if how[name] < 1:
            raise ConfigError(f"guidance.{name} is a whole number >= 1, got {how[name]}")
    if not (how.alpha >= 0 and np.isfinite(how.alpha)):
        raise ConfigError(f"guidance.alpha is a temperature, a number >= 0, got {how.alpha:g}")
    if how.alpha == 0 and how.method not in checks.GREEDY:
        greedy = ", ".join(name for name in NAMES if name in checks.GREEDY)
        raise ConfigError(f"guidance.alpha = 0 is for {greedy}, got {how.method}")
    if how.alpha_mode not in ("q_std", "absolute"):
        raise ConfigError(f"guidance.alpha_mode is q_std or absolute, got {how.alpha_mode!r}")
    if not 0 < how.eta <= 1:
        raise ConfigError(f"guidance.eta is a share of noise in (0, 1], got {how.eta:g}")
