"""What an evaluation of a vision-language-action model measures on held-out episodes."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments.vla_data import Problem
from rlx import envs
from rlx.data.chunks import ArraySource, Batch
from rlx.data.synth import push, reach
from rlx.envs.arm import PUSH_PROMPTS, REACH_PROMPTS
from rlx.envs.reach import closed_loop
from rlx.train.feed import token_batch
from rlx.train.sequence_pack import Eyes, Look

BATCH = 64  # episodes decoded at once
PROMPTS = {"reach": REACH_PROMPTS, "push": PUSH_PROMPTS}


def look(config: ConfigDict, problem: Problem) -> Look:
    """Return the function that measures a run; see `rlx/train/sequence_measures.py` for names."""
    count, shards = len(problem.test["prompt"]), config.mesh.shards
    size = max(n for n in range(shards, max(BATCH, shards) + 1, shards) if count % n == 0)
    cut = lambda i: rows_of(problem.test, np.arange(i, i + size))  # noqa: E731
    starts = range(0, count - size + 1, size)
    held = token_batch(problem.rows(cut(0), np.arange(size)))
    stats = problem.rows.action_stats

    def measure(eyes: Eyes) -> dict[str, float]:
        found, actions = [], []
        for draw, start in enumerate(starts):
            batch = cut(start)
            chunk, extras = eyes.act(problem.rows.observed(batch, problem.prefix), draw)
            error = stats.normalize(chunk) - stats.normalize(batch["actions"])
            actions.append(chunk)
            found.append(
                {
                    "action_mse": np.mean(error**2),
                    "invalid": 1.0 - np.mean(extras["valid"]),
                    "tokens": np.mean(extras["num_tokens"]),
                    "steps": np.mean(extras["steps"]),
                }
            )
        means = {name: float(np.mean([one[name] for one in found])) for name in found[0]}
        means["loss"] = eyes.loss(held)
        if problem.truth:
            means |= judged(config, problem.truth, np.concatenate(actions))
        if config.eval.mujoco:
            means["success_mujoco"] = played(config, problem, eyes, size)
        return means

    return measure


def judged(config: ConfigDict, truth: dict[str, Any], actions: np.ndarray) -> dict[str, float]:
    """Success, and the error to the nearer expert, of chunks for the first test episodes."""
    n = len(actions)
    q0, goal = truth["q0"][:n], truth["goal"][:n]
    if config.env.name == "push":
        return {"success": float(push.success(q0, truth["puck"][:n], actions, goal).mean())}
    return {
        "success": float(reach.success(q0, actions, goal).mean()),
        "expert_mse": float(reach.expert_error(q0, actions, goal).mean()),
    }


def played(config: ConfigDict, problem: Problem, eyes: Eyes, count: int) -> float:
    """Success in MuJoCo of the chunk asked for at the start, played to its end."""
    task, hz = config.env.name, config.data.hz
    env = envs.make(f"{task}_mjx", hz=hz, images=config.data.images)
    states = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), count))
    batch = observation(task, states.obs, states.inner.scene.prompt)
    chunk, _ = eyes.act(problem.rows.observed(batch, problem.prefix))
    play = jax.jit(lambda states, chunk: closed_loop(env, lambda *_: chunk, states))
    return float(play(states, chunk).mean())


def observation(task: str, obs: Any, prompt: Any) -> Batch:
    """What N environments show, as samples."""
    seen = {"state": obs["state"], "images": {"base": obs["base"]}} if isinstance(obs, dict) else {}
    state = np.asarray(seen.get("state", obs))
    made = {**jax.device_get(seen), "state": state, "actions": np.zeros((len(state), 1, 3))}
    made["prompt"] = np.array(PROMPTS[task])[np.asarray(prompt)]
    return ArraySource(made).batch(np.arange(len(state)))


def rows_of(batch: Batch, index: np.ndarray) -> Batch:
    """Return the samples `index` of a batch."""
    pick = lambda x: [x[i] for i in index] if isinstance(x, list) else x[index]  # noqa: E731
    return {
        k: {c: pick(v) for c, v in x.items()} if isinstance(x, dict) else pick(x)
        for k, x in batch.items()
    }
