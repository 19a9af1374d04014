"""Synthetic sweeps with a known answer (specification section 9).

tau = tau0 * (1 + (beta / s)**alpha) * (1 + kB * ln(B / B*(s))**2 + kE * ln(eta / eta*(s))**2)
With model sizes the bracket gains (size_b / N)**size_beta and B*(s) the factor
1 / (1 + batch_b * N**-batch_beta).
tau_seed = tau * exp(0.08 * n),   return(t) = 1000 * (1 - exp(-t / tau_seed)) + 20 * n
D_J = tau * ln(1000 / (1000 - J)) exactly, so Dmin = tau0 * ln(...) and k = Dmin * beta**alpha
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Truth:
    """Parameters of the generator.  B*(s) = batch_1 * s**batch_slope, eta*(s) = rate_1 *
    s**rate_slope."""

    tau0: float = 20_000.0
    beta: float = 2.0
    alpha: float = 0.8
    batch_1: float = 400.0
    batch_slope: float = -0.45
    rate_1: float = 6e-4
    rate_slope: float = -0.3
    k_batch: float = 0.3
    k_rate: float = 0.5
    seed_sd: float = 0.08
    noise: float = 20.0
    size_b: float = 0.0
    size_beta: float = 0.7
    batch_b: float = 0.0
    batch_beta: float = 0.6

    def best(self, utd: float, size: float = np.inf) -> tuple[float, float]:
        """(B*, eta*) at a UTD and a model size."""
        batch = self.batch_1 * utd**self.batch_slope / (1.0 + self.batch_b * size**-self.batch_beta)
        return batch, self.rate_1 * utd**self.rate_slope

    def tau(
        self, utd: float, batch_size: float, learning_rate: float, size: float = np.inf
    ) -> float:
        """Time constant of the mean learning curve, env steps."""
        best_batch, best_rate = self.best(utd, size)
        penalty = self.k_batch * np.log(batch_size / best_batch) ** 2
        penalty += self.k_rate * np.log(learning_rate / best_rate) ** 2
        need = 1.0 + (self.beta / utd) ** self.alpha + (self.size_b / size) ** self.size_beta
        return self.tau0 * need * (1.0 + penalty)

    def D(self, utd: float, J: float, size: float = np.inf) -> float:
        """True env steps to reach J at the best hyper-parameters."""
        tau = self.tau(utd, *self.best(utd, size), size)
        return tau * np.log(1000.0 / (1000.0 - J))


def sweep(
    truth: Truth,
    utds: Sequence[float],
    seeds: int,
    rng: np.random.Generator,
    task: str = "synthetic",
    points: int = 400,
    batch_sizes: Sequence[float] | None = None,
    learning_rates: Sequence[float] | None = None,
    horizon: float = 2.5,
    model_size: float | Sequence[float] = 1e5,
    first_seed: int = 0,
    end: float | None = None,
) -> dict[str, np.ndarray]:
    """A results table as columns; at the best (B, eta) of each UTD, or over a grid of both.

    Args:
      points: logged points per run, at equal steps up to `horizon` time constants of the slowest
        configuration, or up to `end` env steps.
    """
    configs = []
    for size in np.atleast_1d(model_size):
        for utd in utds:
            best = truth.best(utd, size)
            for batch in batch_sizes or (best[0],):
                configs += [(utd, batch, rate, size) for rate in learning_rates or (best[1],)]
    end = end or horizon * max(truth.tau(*config) for config in configs)
    steps = np.round(np.linspace(end / points, end, points))
    columns: dict[str, list] = {
        name: [] for name in ("utd", "batch_size", "learning_rate", "model_size", "seed", "return")
    }
    for utd, batch, rate, size in configs:
        for seed in range(first_seed, first_seed + seeds):
            tau = truth.tau(utd, batch, rate, size) * np.exp(truth.seed_sd * rng.standard_normal())
            returns = 1000.0 * (1.0 - np.exp(-steps / tau)) + truth.noise * rng.standard_normal(
                points
            )
            for name, value in zip(columns, (utd, batch, rate, size, seed, returns)):
                columns[name].append(np.broadcast_to(value, points))
    out = {name: np.concatenate(parts) for name, parts in columns.items()}
    out["env_step"] = np.tile(steps, len(configs) * seeds)
    out["task"] = np.full(len(out["return"]), task)
    out["algo"] = np.full(len(out["return"]), "sac")
    return out


def joined(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Several sweeps as one table."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
