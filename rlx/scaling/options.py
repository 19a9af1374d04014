"""The options of a report, their defaults and checks.  Command-line options have the same names."""

from __future__ import annotations

from dataclasses import dataclass, fields

from rlx.scaling import budget, separable
from rlx.scaling.errors import ScalingError, unknown


@dataclass(frozen=True)
class Options:
    """Options of `rlx.scaling.report.report`.

    return_source: 'eval' or 'train' returns.  algo, tasks: which rows (None: all; several algos are
    an error).
    model_size: N, critic parameters: selects among the table's sizes, or supplies the number if the
    column is blank.
    batch_size: for tables whose column is blank: a number, or 'dmc' / 'gym' for a published rule.
    max_return: number, {task: number} or 'auto' (see `cells.make_scale`); thresholds: levels J,
    None = 10 automatic ones, for which max_return defaults to 'auto'.
    reset_grad_steps: gradient steps between network resets (BRO), None = no reset filter.
    interpolate: linear crossings.  bootstrap: replicates.  seed: of the bootstrap.
    resample_tasks: the outer bootstrap level.  require_complete: pool only tasks present at every
    UTD.
    hparam_mean: 'arithmetic' or 'geometric' average of best hyper-parameters.
    loss: of the data fit.  weighted: weight the UTDs by 1 / variance of D.
    three_utds: 'fix' Dmin at 0 or 'refuse'.
    delta: price of one transition, FLOPs; None = what its updates cost at the sweep's middle UTD.
    method: 'continuous' or 'grid100' optimum.  holdout: top levels kept out of the budget law.
    net: (obs_dim, action_dim, critic_hidden, actor_hidden) of a SAC, for exact FLOPs and, failing
    model_size, N.
    """

    return_source: str = "eval"
    algo: str | None = None
    tasks: tuple[str, ...] | None = None
    model_size: float | None = None
    batch_size: float | str | None = None
    max_return: float | dict[str, float] | str | None = None
    thresholds: tuple[float, ...] | None = None
    reset_grad_steps: float | None = None
    interpolate: bool = False
    bootstrap: int = 1000
    seed: int = 0
    resample_tasks: bool = False
    require_complete: bool = True
    hparam_mean: str = "arithmetic"
    loss: str = "mse"
    weighted: bool = False
    three_utds: str = "fix"
    delta: float | None = None
    method: str = "continuous"
    holdout: int = 2
    net: tuple[int, int, tuple[int, ...], tuple[int, ...]] | None = None

    def __post_init__(self):
        for name, accepted in (
            ("hparam_mean", ("arithmetic", "geometric")),
            ("loss", separable.LOSSES),
            ("three_utds", ("fix", "refuse")),
            ("method", budget.METHODS),
        ):
            if getattr(self, name) not in accepted:
                raise ScalingError(
                    f"{name}='{getattr(self, name)}'; accepted: {', '.join(accepted)}"
                )
        if self.bootstrap < 0 or self.holdout < 0:
            raise ScalingError(
                f"bootstrap={self.bootstrap}, holdout={self.holdout}; both must be >= 0"
            )
        if self.delta is not None and self.delta < 0:
            raise ScalingError(
                f"delta={self.delta:g}; the price of a transition must be >= 0 FLOPs"
            )
        if self.thresholds is not None and not len(self.thresholds):
            raise ScalingError("thresholds is empty; leave it out for automatic levels")


def make(options: dict) -> Options:
    """Options from keyword arguments; an unknown name is an error with the nearest three."""
    names = [f.name for f in fields(Options)]
    for name in options:
        if name not in names:
            raise unknown("option", name, names)
    return Options(**options)
