"""Made-up robot motion of one second: the same trajectories at any control frequency."""

from __future__ import annotations

import numpy as np

PER_ARM = 7  # numbers of an arm, the last one its gripper
WAVES = 12  # per number, up to FASTEST
FASTEST, CORNER = 3.0, 0.7  # Hz: highest frequency, and where amplitudes begin to fall


def trajectories(count: int, dims: int, hz: int, seed: int, grippers: bool = True) -> np.ndarray:
    """Return chunks `[count, hz, dims]` float32: joints are sums of slow waves of random phase;
    every seventh number is a gripper that opens or closes at once, in half of the chunks.
    """
    rng = np.random.default_rng(seed)
    f = np.linspace(0, FASTEST, WAVES)
    amplitude = rng.normal(size=(count, 1, dims, WAVES)) / (1 + (f / CORNER) ** 2)
    phase = rng.uniform(0, 2 * np.pi, amplitude.shape)
    when = rng.uniform(0, 2, (count, 1, dims))  # after 1 s: not at all
    start = rng.choice([-1.0, 1.0], (count, 1, dims))
    is_gripper = (np.arange(dims) % PER_ARM == PER_ARM - 1) & grippers
    out = np.empty((count, hz, dims), np.float32)
    for step in range(hz):
        t = step / hz
        joints = (amplitude * np.cos(2 * np.pi * f * t + phase)).sum(-1)
        gripper = np.where(t < when, start, -start)
        out[:, step] = np.where(is_gripper, gripper, joints)[:, 0]
    return out
