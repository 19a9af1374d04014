"""Trained runs as policies: how a method acts with their parameters, and what that costs."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from configs.offline import get_config
from experiments import offline_guidance, offline_guidance_check
from rlx import agents
from rlx.infra import errors, fields
from rlx.infra.config import from_json
from rlx.infra.random import key_for
from rlx.train.host_evaluate import Act
from rlx.train.offline_spec import learner_spec, windows
from rlx.types import EnvSpec, Keys, PyTree


def saved_config(workdir: Path) -> ConfigDict:
    """The config of a run; ConfigError where there is none."""
    path = workdir / "config.json"
    if not path.is_file():
        raise errors.ConfigError(f"'{workdir}' is no workdir of a run: it has no config.json")
    return from_json(json.loads(path.read_text(encoding="utf-8"))["config"])


def with_method(saved: ConfigDict, text: str) -> ConfigDict:
    """The run's config with a method and settings such as `smc,particles=4`."""
    method, *settings = text.split(",")
    config = get_config(f"agent={saved.learner.name},task={saved.env.name}")
    config.update(learner=saved.learner.to_dict(), data=saved.data.to_dict())
    config.guidance.method = "" if method == "own" else method
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise errors.ConfigError(f"{text}: {name} needs a value, {name}=...")
        field = name if "." in name else f"guidance.{name}"
        if method == "own" and field.startswith("guidance."):
            raise errors.ConfigError(f"{text}: the learner's own way to act has no {name}")
        fields.override(config, {field: fields.parse(config, field, value)})
    offline_guidance_check.refuse(config)
    return config


def policy(
    config: ConfigDict, one: EnvSpec, params: dict[str, PyTree]
) -> tuple[Act, int, dict[str, float]]:
    """Return what acts, how many runs it is, and its calls of the networks per action.

    one: shapes of the environment.   params: the policy export, runs along the leading axis.
    """
    spec = learner_spec(one, windows(config)._replace(frame_stack=1))
    learner = agents.make(config.learner, spec)
    shapes = jax.eval_shape(learner.init, jax.random.key(0), learner.hp)
    blank = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    guided = offline_guidance.make_act(config, spec)
    own = lambda state, obs, keys: learner.act(state, obs, keys, False)[0]  # noqa: E731

    def one_run(params: PyTree, run: jax.Array, obs: jax.Array, t: jax.Array) -> jax.Array:
        rows, key = jnp.arange(obs.shape[0]), key_for(run, 0, "eval")
        fold = jax.vmap(lambda e, t: jax.random.fold_in(jax.random.fold_in(key, e), t))
        keys = Keys(fold(rows, t), rows, key, len(rows))
        state = blank.replace(params=params["params"], target_params=params["target_params"])
        return (guided or own)(state, obs, keys)

    runs = len(jax.tree.leaves(params["params"])[0])
    act = jax.jit(jax.vmap(one_run))
    kept = {name: params[name] for name in ("params", "target_params")}
    numbers = jnp.arange(runs)
    return lambda obs, t: np.asarray(act(kept, numbers, obs, t)), runs, calls(config, spec)


def calls(config: ConfigDict, spec: EnvSpec) -> dict[str, float]:
    """Rows that go through the policy's network, the critic, and backward, per action."""
    names = ("model", "reward", "gradient")
    if config.guidance.method:
        sample = offline_guidance.make_sampler(config, spec)
        found = offline_guidance.rehearse(sample, config, spec)
        each = [out.nfe.times(out.x0.shape[1]) for out in found]
        counts = [sum(getattr(one, name) for one in each) for name in names]
    else:
        own = config.learner
        steps = own.get("flow_steps") or own.get("diffusion_steps") or 1
        steps = 1 if own.name == "fql" else steps  # which acts by its one-step policy
        counts = [own.get("samples", 1) * steps, own.get("samples", 0), 0]
    return dict(zip(names, map(float, counts))) | {"calls": float(sum(counts))}
