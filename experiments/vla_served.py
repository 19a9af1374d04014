"""Play the arm in MuJoCo with the policy of a running server: what a robot's client would do.

  python -m rlx.serve results/vla/reach/50hz_fast_tokens_micro_demo_s0 --port=8000
  python -m experiments.vla_served --port=8000 --task=reach --hz=50 --episodes=64
Every episode asks for one chunk, up to 256 episodes at once, and plays it to its end.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from experiments.vla_look import observation
from rlx import envs
from rlx.envs.reach import closed_loop
from rlx.infra import runtime
from rlx.infra.errors import ConfigError, one_line
from rlx.serve.client import Client, ServerError

AT_ONCE = 256  # observations that a server takes together


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser("python -m experiments.vla_served", allow_abbrev=False)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--task", default="reach", choices=("reach", "push"))
    parser.add_argument("--hz", type=int, help="default: what the policy was trained at")
    parser.add_argument("--episodes", type=int, default=64)
    parser.add_argument("--wait", type=float, default=30.0, help="seconds for the server to come")
    parser.add_argument("--images", action="store_true", help="the policy looks at pictures")
    options = parser.parse_args(argv)
    runtime.start()
    try:
        client = Client(options.host, options.port, wait_s=options.wait)
    except OSError as error:
        where = f"{options.host}:{options.port}"
        raise ConfigError(
            f"nobody serves at {where}: {error}; `python -m rlx.serve WORKDIR` does"
        ) from error
    hz = client.metadata["chunk"][0]  # a chunk is a second
    if options.hz not in (None, hz):
        raise ConfigError(f"--hz={options.hz}, but the policy says chunks of {hz} steps a second")
    try:
        with client:
            found = play(client, options.task, hz, options.episodes, options.images)
    except ServerError as error:
        raise ConfigError(f"the server does not answer --task={options.task}: {error}") from error
    print(
        f"{options.task} at {hz} Hz in MuJoCo: success {found['success']:.3f} of "
        f"{options.episodes} episodes, {found['ms']:.0f} ms for all chunks"
    )
    return 0


def play(client: Client, task: str, hz: int, episodes: int, images: bool) -> dict[str, Any]:
    """Ask for a chunk per episode and play it; `success` in [0, 1], `ms` of the request."""
    env = envs.make(f"{task}_mjx", hz=hz, images=images)
    states = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), episodes))
    batch = observation(task, states.obs, states.inner.scene.prompt)
    asked = [
        {"prompt": prompt, "state": batch["state"][i]}
        | {camera: pictures[i] for camera, pictures in batch["images"].items()}
        for i, prompt in enumerate(batch["prompt"])
    ]
    start = time.perf_counter()
    parts = (asked[i : i + AT_ONCE] for i in range(0, episodes, AT_ONCE))
    replies = [reply for part in parts for reply in client.infer_batch(part)]
    ms = 1e3 * (time.perf_counter() - start)
    chunk = np.stack([reply["actions"] for reply in replies])
    run = jax.jit(lambda states, chunk: closed_loop(env, lambda *_: chunk, states))
    return {"success": float(run(states, chunk).mean()), "ms": ms, "actions": chunk}


if __name__ == "__main__":
    sys.exit(one_line(main))
