"""A learner's policy as a process that samplers guide, and the critic that guides it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from rlx.guidance import ddpm, flow
from rlx.guidance.types import Process
from rlx.infra import checkpoint
from rlx.infra.config import from_json
from rlx.infra.errors import ConfigError
from rlx.infra.trees import shapes_of
from rlx.nn import encoders
from rlx.nn.critic import Critic
from rlx.nn.diffusion import Denoiser
from rlx.nn.flow import VectorField
from rlx.ops import diffusion, td
from rlx.types import EnvSpec, PyTree

FLOWS = ("flow_bc", "fql", "ifql", "bfn", "fbrac", "fawac")
DIFFUSIONS = ("diffusion_bc", "diffusion_ql", "idql")
POLICIES = FLOWS + DIFFUSIONS


def process_of(
    learner: ConfigDict, spec: EnvSpec, params: PyTree, obs: jax.Array, eta: float
) -> Process:
    """The behaviour policy at `obs [B, *O]`: a flow as the SDE of its marginals, or a diffusion.

    eta: share of the noise of the SDE, or of the diffusion's own.
    """
    A, encoder = spec.action.shape[0], encoders.make(learner.encoder)
    everywhere = lambda t, x: jnp.broadcast_to(t, (*x.shape[:-1], 1)).astype(x.dtype)  # noqa: E731
    if learner.name in FLOWS:
        features = encoders.width(learner.encoder, spec.obs)
        shape = features, learner.actor_hidden, A, learner.actor_layer_norm, learner.fourier
        net, own = VectorField(*shape, encoder), params["flow"]
        given = net.apply(own, obs, method="condition")[:, None]
        velocity = lambda x, tau: net.apply(  # noqa: E731
            own, given, x, everywhere(tau, x), method="velocity"
        )
        return flow(velocity, learner.flow_steps, (A,), eta)
    residual = learner.name == "idql"
    net = Denoiser(learner.actor_hidden, A, learner.time_features, residual, encoder)
    own = params["denoiser"]
    given = net.apply(own, obs, method="condition")[:, None]
    noise = lambda x, t: net.apply(own, given, x, everywhere(t, x), method="noise")  # noqa: E731
    abar = diffusion.schedule(learner.schedule, learner.diffusion_steps).abar
    return ddpm(noise, np.append(1.0, abar), (A,), eta, clip=1.0)


def critic_of(config: ConfigDict, spec: EnvSpec) -> Callable[..., jax.Array]:
    """Q(params, obs [B, *O], x [B, K, A]) -> [B, K] at actions clipped to [-1, 1]: the run's own
    critic, or the one of the first run in the workdir `guidance.critic`.
    """
    own, other = config.learner, config.guidance.critic
    if not other and "critic_hidden" not in own:
        raise ConfigError(f"{own.name} has no critic: --critic=WORKDIR names a run that has one")
    own, given = read_critic(other) if other else (own, None)
    encoder = encoders.make(own.encoder)
    net = Critic(own.critic_hidden, own.get("ensemble", 2), own.layer_norm, encoder)
    if given is not None:
        obs, action = (
            jnp.zeros((1, *spec.obs.shape), spec.obs.dtype),
            jnp.zeros((1, *spec.action.shape)),
        )
        here = shapes_of(jax.eval_shape(net.init, jax.random.key(0), obs, action))
        if here != shapes_of(given):
            raise ConfigError(
                f"the critic in '{other}' is for other observations or actions than "
                f"{list(spec.obs.shape)} and {list(spec.action.shape)} of {config.env.name}"
            )

    def q(params: PyTree, obs: jax.Array, x: jax.Array) -> jax.Array:
        critic = params["critic"] if given is None else given
        values = net.apply(critic, obs, jnp.clip(x, -1, 1))
        return td.aggregate(values, own.get("q_agg", "min"))

    return q


def read_critic(workdir: str) -> tuple[ConfigDict, PyTree]:
    """The learner's config and the critic's parameters of the first run in a workdir."""
    path = Path(workdir) / "config.json"
    if not path.is_file():
        raise ConfigError(f"guidance.critic = '{workdir}' is no workdir: it has no config.json")
    learner = from_json(json.loads(path.read_text(encoding="utf-8"))["config"]).learner
    saved = checkpoint.read_params(workdir)["params"]
    if "critic" not in saved:
        raise ConfigError(f"the run in '{workdir}', {learner.name}, has no critic")
    return learner, jax.tree.map(lambda leaf: leaf[0], saved["critic"])
