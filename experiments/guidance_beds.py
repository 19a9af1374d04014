"""The two test beds of `experiments.guidance`, whose tilted laws are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from experiments import guidance_measure as measure
from rlx.guidance import posterior_mean
from rlx.guidance.testbeds import linear_gaussian, markov_chain
from rlx.guidance.types import Process, Reward, Value

NAMES = ("gaussian", "tokens")


class Bed(NamedTuple):
    """A problem whose tilted law is known."""

    name: str
    alpha: float
    process: Process
    reward: Reward
    values: dict[str, Value]
    truth: dict[str, float]  # reward, logZ
    distance: Callable[[np.ndarray], dict[str, float]]  # of samples [G, R, *E]
    draw: Callable[[np.random.Generator, int], np.ndarray]  # of the tilted law, [n, 1, *E]


def make(name: str, alpha: float, steps: int) -> Bed:
    """The Gaussian bed, two numbers of which one is rewarded, or that of six tokens of four."""
    bed = linear_gaussian.reference(steps) if name == "gaussian" else markov_chain.reference()
    process, reward = bed.process(), bed.reward()
    values = {"posterior mean": posterior_mean(process, reward), "exact": bed.value(alpha)}
    if isinstance(bed, linear_gaussian.LinearGaussian):
        own = bed.tilt(alpha)
        mean_reward, distance = bed.mean_reward(*own), lambda x: measure.gaussian_kl(x, *own)
        draw = lambda rng, n: rng.multivariate_normal(*own, (n, 1)).astype(np.float32)  # noqa: E731
    else:
        law = bed.tilt(alpha)
        index = lambda x: np.ravel_multi_index(np.moveaxis(x, -1, 0), law.shape)  # noqa: E731
        mean_reward = bed.mean_reward(law)
        distance = lambda x: measure.total_variation(index(x), law.ravel())  # noqa: E731
        every = bed.sequences()
        draw = lambda rng, n: every[rng.choice(law.size, (n, 1), p=law.ravel())]  # noqa: E731
    truth = {"reward": mean_reward, "logZ": bed.log_Z(alpha)}
    return Bed(name, alpha, process, reward, values, truth, distance, draw)
