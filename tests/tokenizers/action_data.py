"""Made-up chunks of actions for the tests of tokenizers."""

from __future__ import annotations

import numpy as np


def smooth(count: int, horizon: int, dims: int, seed: int) -> np.ndarray:
    """Sums of five slow cosines of random phase, `[count, horizon, dims]` float32."""
    rng = np.random.default_rng(seed)
    t = np.linspace(0, 1, horizon)[:, None]
    shape = (count, 1, dims)
    waves = (
        rng.normal(size=shape) / (k + 1) * np.cos(np.pi * k * t + rng.uniform(0, 2 * np.pi, shape))
        for k in range(5)
    )
    return sum(waves).astype(np.float32)


def cumulative(count: int, horizon: int, dims: int, seed: int) -> np.ndarray:
    """Random walks, `[count, horizon, dims]` float64: rough at all frequencies."""
    rng = np.random.default_rng(seed)
    return np.cumsum(rng.normal(size=(count, horizon, dims)), axis=1)
