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
    column is blank.  Several sizes: those of the size axis.
    size_batch: batch size that prices compute on the size axis: 'rule' (fitted B~(s, N)) or a
    number (Fu et al. freeze 256).
    batch_size: for tables whose column is blank: a number, or 'dmc' / 'gym' for a published rule.
    max_return: number, {task: number}, 'auto' or 'cos' (see `cells.make_scale`); thresholds: levels
    J, None = 10 automatic ones, for which max_return defaults to 'auto' (20 linear ones with
    'cos').
    max_nan: share of bootstrap means that may miss a level before it counts as not reached.
    unfinished: what a configuration that misses the top level loses: that 'level', or all of its
    levels ('cell', as Fu et al. do).
    reset_grad_steps: gradient steps between network resets (BRO), 0 = these runs never reset; None
    = not known: no filter, and a warning where the algorithm resets.
    interpolate: linear crossings.  bootstrap: replicates.  seed: of the bootstrap.
    resample_tasks: the outer bootstrap level.  require_complete: pool only tasks present at every
    UTD.
    hparam_mean: 'arithmetic' or 'geometric' average of best hyper-parameters.
    loss: of the data fit.  weighted: weight the UTDs by 1 / variance of D.
    three_utds: 'fix' Dmin at 0 or 'refuse'.
    delta: price of one transition, FLOPs; None = what its updates cost at the sweep's middle UTD.
    compute: 'flops', or 'seconds' to price compute by the measured wall_s (delta then in seconds).
    method: 'continuous' or 'grid100' optimum.  holdout: top levels kept out of the budget law.
    net: (obs_dim, action_dim, critic_hidden, actor_hidden) of a SAC, for exact FLOPs and, failing
    model_size, N.
    """

    return_source: str = "eval"
    algo: str | None = None
    tasks: tuple[str, ...] | None = None
    model_size: float | tuple[float, ...] | None = None
    size_batch: float | str = "rule"
    batch_size: float | str | None = None
    max_return: float | dict[str, float] | str | None = None
    thresholds: tuple[float, ...] | None = None
    max_nan: float = 0.2
    unfinished: str = "level"
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
    compute: str = "flops"
    method: str = "continuous"
    holdout: int = 2
    net: tuple[int, int, tuple[int, ...], tuple[int, ...]] | None = None

    def __post_init__(self):
        for name, accepted in (
            ("hparam_mean", ("arithmetic", "geometric")),
            ("loss", separable.LOSSES),
            ("three_utds", ("fix", "refuse")),
            ("method", budget.METHODS),
            ("compute", ("flops", "seconds")),
            ("unfinished", ("level", "cell")),
        ):
            if getattr(self, name) not in accepted:
                raise ScalingError(
                    f"{name}='{getattr(self, name)}'; accepted: {', '.join(accepted)}"
                )
        if self.bootstrap < 0 or self.holdout < 0:
            raise ScalingError(
                f"bootstrap={self.bootstrap}, holdout={self.holdout}; both must be >= 0"
            )
        if self.reset_grad_steps is not None and not self.reset_grad_steps >= 0:
            raise ScalingError(
                f"reset_grad_steps={self.reset_grad_steps:g}; must be >= 0 (0: never resets)"
            )
        if not 0 <= self.max_nan <= 1:
            raise ScalingError(f"max_nan={self.max_nan:g}; must be between 0 and 1")
        if isinstance(self.size_batch, str) and self.size_batch != "rule":
            raise ScalingError(f"size_batch='{self.size_batch}'; accepted: rule, or a number")
        if not isinstance(self.size_batch, str) and not self.size_batch > 0:
            raise ScalingError(f"size_batch={self.size_batch:g}; must be a positive batch size")
        if self.delta is not None and self.delta < 0:
            raise ScalingError(
                f"delta={self.delta:g}; the price of a transition must be >= 0 {self.unit}"
            )
        if self.thresholds is not None and not len(self.thresholds):
            raise ScalingError("thresholds is empty; leave it out for automatic levels")

    @property
    def unit(self) -> str:
        """Of compute, delta and budgets."""
        return "seconds" if self.compute == "seconds" else "FLOPs"


# Model sizes of the shipped BRO curves that Fu et al. (2025) fit: the smallest one is left out.
_BRO_SIZES = (1.05e6, 2.83e6, 4.92e6, 26.31e6)
PRESETS = {
    # As scripts/experiments of prestonfu/model_scaling do it; one frozen batch prices compute.
    "cos": dict(
        model_size=_BRO_SIZES, reset_grad_steps=2.5e6, max_return="cos", max_nan=1.0,
        unfinished="cell", require_complete=False, size_batch=256.0, delta=1e11,
    ),
    # The same question with crossings between logged points, one task set for every (s, N), and
    # the published batch rule in the price of compute.
    "cos_improved": dict(
        model_size=_BRO_SIZES, reset_grad_steps=2.5e6, max_return="cos", interpolate=True,
        batch_size="dmc", delta=1e11,
    ),
}  # fmt: skip


def make(options: dict) -> Options:
    """Options from keyword arguments; an unknown name is an error with the nearest three.

    `preset` names a row of PRESETS; what is given beside it wins.
    """
    options = dict(options)
    preset = options.pop("preset", None)
    if preset is not None and preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    options = (PRESETS[preset] if preset is not None else {}) | options
    names = [*(f.name for f in fields(Options)), "preset"]
    for name in options:
        if name not in names:
            raise unknown("option", name, names)
    return Options(**options)
