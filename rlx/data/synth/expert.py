"""The file of a policy that walks in a given direction: a multilayer perceptron in NumPy.

Processes that make data read it without jax. `WORKDIR/expert.npz` holds kernel_0 [O + 2, H],
bias_0 [H], kernel_1, ... of GELU layers; tanh of the last one's output [A] is the action. Whoever
trains with normalised observations folds that into the first layer.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rlx.data.synth.maze import Policy

FILE = "expert.npz"


def load(workdir: str) -> Policy:
    """Return the policy (obs [O] without xy, direction [2]) -> action [A] of a workdir.

    Raises:
      FileNotFoundError: there is no expert in the workdir.
    """
    path = Path(workdir) / FILE
    if not path.is_file():
        raise FileNotFoundError(f"{workdir} holds no {FILE}")
    with np.load(path) as file:
        depth = len(file.files) // 2
        layers = [(file[f"kernel_{i}"], file[f"bias_{i}"]) for i in range(depth)]

    def policy(obs: np.ndarray, direction: np.ndarray) -> np.ndarray:
        x = np.concatenate([obs, direction]).astype(np.float32)
        for kernel, bias in layers[:-1]:
            x = gelu(x @ kernel + bias)
        kernel, bias = layers[-1]
        return np.tanh(x @ kernel + bias)

    return policy


def gelu(x: np.ndarray) -> np.ndarray:
    """The tanh approximation of GELU, which the networks of learners from data have."""
    return 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)))


def save(workdir: str, layers: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Write the (kernel [in, out], bias [out]) pairs of a policy's layers for `load`."""
    arrays = {}
    for i, (kernel, bias) in enumerate(layers):
        arrays |= {f"kernel_{i}": np.float32(kernel), f"bias_{i}": np.float32(bias)}
    Path(workdir).mkdir(parents=True, exist_ok=True)
    np.savez(Path(workdir) / FILE, **arrays)
