"""What a trained policy does, as one picture: frames of its evaluation episodes, one row each.

  MUJOCO_GL=egl python -m experiments.offline_film results/offline/TASK/fql --episodes=3 --frames=8

The episodes are those of the run's evaluations. Writes `film.png` there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from rlx import agents
from rlx.envs import host, host_names
from rlx.infra import checkpoint, errors
from rlx.infra.random import key_for
from rlx.train.offline_spec import learner_spec, windows
from rlx.types import Keys

Act = Callable[[np.ndarray, int, int], np.ndarray]  # obs, episode, step -> chunk [h, A]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    from matplotlib import image

    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("workdir", type=Path)
    parser.add_argument("--episodes", type=int, default=3)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--run", type=int, default=0, help="of a pack")
    options = parser.parse_args(argv)
    saved = json.loads((options.workdir / "config.json").read_text(encoding="utf-8"))
    config = ConfigDict(saved["config"])
    host_names.check_renderer(config.env.name)
    lane = host.Lane(config.env.name, 1, {"render_mode": "rgb_array"})
    seed = saved["sweep"]["seed"][options.run]
    act = policy(config, options.workdir, options.run, seed, host.spec(lane.env))
    rows = [film(lane, act, config.eval.seed, e, options.frames) for e in range(options.episodes)]
    lane.env.close()
    picture = np.concatenate([np.concatenate(row, axis=1) for row in rows])
    image.imsave(options.workdir / "film.png", picture)
    print(f"written: {options.workdir / 'film.png'}")
    return 0


def policy(config: ConfigDict, workdir: Path, run: int, seed: int, spec: Any) -> Act:
    """The policy of one run's newest checkpoint, with the noise of its evaluations."""
    how = windows(config)
    learner = agents.make(config.learner, learner_spec(spec, how))
    hp = {name: jnp.float32(value) for name, value in learner.hp.items()}
    state = learner.init(jax.random.key(0), hp)
    saved = checkpoint.read_params(workdir)
    mine = {k: jax.tree.map(lambda x: jnp.asarray(x[run]), v) for k, v in saved.items() if v}
    state = state.replace(**mine)

    @jax.jit
    def act(obs: jax.Array, episode: jax.Array, t: jax.Array) -> jax.Array:
        key = key_for(seed, 0, "eval")
        own = jax.random.fold_in(jax.random.fold_in(key, episode), t)[None]
        return learner.act(state, obs[None], Keys(own, episode[None], key, 1), False)[0]

    shape = (how.chunk, *spec.action.shape)
    return lambda obs, episode, t: np.asarray(
        act(np.float32(obs), jnp.int32(episode), jnp.int32(t))
    ).reshape(shape)


def film(lane: host.Lane, act: Act, seed: int, episode: int, frames: int) -> list[np.ndarray]:
    """Play one episode; return `frames` images of it, the first and the last among them."""
    length, _ = play(lane, act, seed, episode, set())  # drawing costs more than playing twice
    picks = np.linspace(0, length, frames).round().astype(int).tolist()
    images = play(lane, act, seed, episode, set(picks))[1]
    return [images[t] for t in picks]


def play(lane: host.Lane, act: Act, seed: int, episode: int, draw: set[int]) -> tuple[int, dict]:
    """Play one episode; return its length and the images at the steps to `draw`."""
    obs, t, images, queue, done = lane.reset(seed + episode), 0, {}, [], False
    while True:
        if t in draw:
            images[t] = lane.env.render()
        if done:
            return t, images
        queue = queue or list(act(obs, episode, t))
        obs, _, terminated, truncated, _ = lane.step(queue.pop(0))
        t, done = t + 1, terminated or truncated


if __name__ == "__main__":
    sys.exit(errors.one_line(main))
