"""What data and updates cost: the compute axis of the data-compute frontier (specification 3.1.3).

C(s) = 10 * N * B*(s) * s * D(s)   FLOPs,  B*(s) = batch_at_1 * s ** batch_slope
C(s) = w1 * s ** m * D(s)          seconds, as measured (specification 13.10)
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from rlx.scaling.data_law import PowerLaw
from rlx.scaling.errors import ScalingError

# 2 target + 6 critic + 2 critic forward in the actor loss (specification 6.2)
FLOPS_PER_PARAMETER_SAMPLE = 10.0


@dataclass(frozen=True)
class Prices:
    """What a transition and its updates cost: kappa * s**m FLOPs of updates and `delta` for the
    transition itself.

    kappa = 10 * N * B(1) and m = 1 + slope, for the pooled batch rule B(s) = batch_at_1 * s **
    batch_slope. `batch_samples`, `slope_samples` [K] or None (rule taken as exact).
    `seconds`: (log w1, m) of measured seconds per transition; then everything is in seconds and the
    batch rule is not used.
    """

    model_size: float
    batch_at_1: float
    batch_slope: float
    delta: float
    seconds: tuple[float, float] | None = None
    batch_samples: np.ndarray | None = field(default=None, repr=False)
    slope_samples: np.ndarray | None = field(default=None, repr=False)

    def __post_init__(self):
        if not self.delta >= 0:
            raise ScalingError(
                f"delta={self.delta:g}; the price of a transition must be >= 0 (0: data is free)"
            )
        if self.seconds is None and not self.model_size > 0:
            raise ScalingError(
                f"model_size={self.model_size:g}; must be a positive number of critic parameters"
            )

    def batch_size(self, sigma: np.ndarray | float) -> np.ndarray:
        """Pooled B*(sigma), samples."""
        return self.batch_at_1 * np.asarray(sigma, float) ** self.batch_slope

    @property
    def exponent(self) -> float:
        """m of the price kappa * s**m."""
        return 1.0 + self.batch_slope if self.seconds is None else self.seconds[1]

    def per_transition(self, sigma: np.ndarray | float) -> np.ndarray:
        """Cost of the updates that belong to one transition at UTD sigma."""
        sigma = np.asarray(sigma, float)
        if self.seconds is not None:
            return np.exp(self.seconds[0]) * sigma ** self.seconds[1]
        return FLOPS_PER_PARAMETER_SAMPLE * self.model_size * self.batch_size(sigma) * sigma

    def samples(self, replicates: int) -> tuple[np.ndarray, np.ndarray]:
        """(kappa [K], m [K]) over bootstraps."""
        if self.seconds is not None:
            return np.full(replicates, np.exp(self.seconds[0])), np.full(replicates, self.exponent)
        batch = (
            np.full(replicates, self.batch_at_1)
            if self.batch_samples is None
            else self.batch_samples
        )
        slope = (
            np.full(replicates, self.batch_slope)
            if self.slope_samples is None
            else self.slope_samples
        )
        return FLOPS_PER_PARAMETER_SAMPLE * self.model_size * batch, 1.0 + slope


def frontier(law: PowerLaw, prices: Prices, sigma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The iso-performance curve of one level: (D env steps [n], C FLOPs [n]) at UTDs sigma [n]."""
    data = law.predict(sigma)
    return data, prices.per_transition(sigma) * data


def from_summary(
    budget_law: dict, delta: float | None = None, samples: dict | None = None
) -> Prices:
    """The prices of a `fit.json`'s `budget_law`, at another `delta` if given.

    Args:
      samples: of the result, for the batch rule's replicates.
    """
    names = ("model_size", "batch_at_utd_1", "batch_slope")
    values = [np.nan if budget_law[name] is None else budget_law[name] for name in names]
    line, samples = budget_law.get("seconds_line"), samples or {}
    return Prices(
        *values,
        delta=budget_law["delta"] if delta is None else delta,
        seconds=None if line is None else tuple(line),
        batch_samples=samples.get("batch_at_1"),
        slope_samples=samples.get("batch_slope"),
    )
