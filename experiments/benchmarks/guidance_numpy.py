"""SMC guidance of the linear-Gaussian bed in NumPy, as the peers of the benchmark: once with a loop
over particles, once vectorised. Same kernels, values, resampling rule and number of draws as rlx.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rlx.guidance.testbeds.linear_gaussian import LinearGaussian


class Tables(NamedTuple):
    """Numbers of the bed by step, index t."""

    start_mean: np.ndarray
    start_root: np.ndarray
    center: np.ndarray
    step: np.ndarray
    root: np.ndarray
    constant: np.ndarray  # v_t(x) = constant - |target - slope x|**2 / 2
    target: np.ndarray
    slope: np.ndarray


def tables(bed: LinearGaussian, alpha: float) -> Tables:
    """Float32, like the arrays that rlx runs on."""
    chain, value = bed.process(), bed.table(alpha, "exact")
    rows = (chain.start_mean, chain.start_root, chain.center, chain.step, chain.root, *value)
    return Tables(*(np.asarray(row, np.float32) for row in rows))


def vectorised(t: Tables, alpha: float, N: int, seed: int) -> tuple[np.ndarray, float]:
    """Return N samples `[N, 2]` and log Z."""
    rng = np.random.default_rng(seed)
    T = len(t.constant) - 1
    x = t.start_mean + rng.standard_normal((N, 2), np.float32) @ t.start_root.T
    v = values(t, T, x)
    logw, log_Z = v / alpha, 0.0
    for now in range(T, 0, -1):
        noise = rng.standard_normal((N, 2), np.float32)
        x = t.center[now] + x @ t.step[now].T + noise @ t.root[now].T
        v, old = values(t, now - 1, x), v
        logw = logw + (v - old) / alpha
        mean = log_mean_exp(logw)
        logw, log_Z = logw - mean, log_Z + mean
        w = np.exp(logw - logw.max())
        if w.sum() ** 2 / (w**2).sum() < N / 2 or now == 1:
            index = systematic(rng, w / w.sum())
            x, v, logw = x[index], v[index], np.zeros(N, np.float32)
    return x, log_Z


def values(t: Tables, now: int, x: np.ndarray) -> np.ndarray:
    error = t.target[now] - x @ t.slope[now].T
    return t.constant[now] - 0.5 * (error**2).sum(1)


def log_mean_exp(logw: np.ndarray) -> float:
    top = logw.max()
    return float(top + np.log(np.mean(np.exp(logw - top))))


def systematic(rng: np.random.Generator, w: np.ndarray) -> np.ndarray:
    where = (np.arange(len(w)) + rng.random()) / len(w)
    total = np.cumsum(w)
    return np.minimum(np.searchsorted(total / total[-1], where, side="right"), len(w) - 1)


def looped(t: Tables, alpha: float, N: int, seed: int) -> tuple[np.ndarray, float]:
    """The same, one particle at a time, as public samplers of few particles are written."""
    rng = np.random.default_rng(seed)
    T = len(t.constant) - 1

    def value(now: int, x: np.ndarray) -> float:
        error = t.target[now] - t.slope[now] @ x
        return t.constant[now] - 0.5 * float(error @ error)

    draw = lambda: rng.standard_normal(2, np.float32)  # noqa: E731
    particles = [t.start_mean + t.start_root @ draw() for _ in range(N)]
    v = [value(T, x) for x in particles]
    logw, log_Z = np.array(v) / alpha, 0.0
    for now in range(T, 0, -1):
        for i in range(N):
            particles[i] = t.center[now] + t.step[now] @ particles[i] + t.root[now] @ draw()
            new = value(now - 1, particles[i])
            logw[i] += (new - v[i]) / alpha
            v[i] = new
        mean = log_mean_exp(logw)
        logw, log_Z = logw - mean, log_Z + mean
        w = np.exp(logw - logw.max())
        if w.sum() ** 2 / (w**2).sum() < N / 2 or now == 1:
            index = systematic(rng, w / w.sum())
            particles, v = [particles[i] for i in index], [v[i] for i in index]
            logw = np.zeros(N)
    return np.array(particles), log_Z
