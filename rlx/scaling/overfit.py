"""Why rules fail: rank correlations of what the runs logged about their critics (3.3, 10).

    overfit gap = TD error on the newest data - TD error on uniform replay samples

Published signs: the gap rises with sigma and with B (hence B* falls with sigma); the critic's
parameter norm rises with sigma and with eta (hence eta* falls with sigma).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rlx.scaling.options import Options
from rlx.scaling.table import Table
from rlx.scaling.wallclock import by_run, chosen_rows

PERMUTATIONS = 2000
HYPER = ("utd", "batch_size", "learning_rate")
CLAIMS = (
    ("overfit_gap", "utd"),
    ("overfit_gap", "batch_size"),
    ("critic_param_norm", "utd"),
    ("critic_param_norm", "learning_rate"),
)


def correlations(table: Table, options: Options) -> list[dict]:
    """Spearman correlation of each claim, within strata of everything else that was varied.

    Every run counts once, with the mean over the second half of its rows.  Where sigma, B and eta
    were varied apart, the others are held fixed by ranking inside their strata; where a rule moved
    them together, only the task is held (`held` says which), so the sign mixes their effects.

    Returns:
      [{'what', 'with', 'rho', 'sign', 'p', 'runs', 'held'}], without the claims whose columns are
      absent; p is two-sided, by permutation of the hyper-parameter inside the strata.
    """
    runs: list[Any] = [
        (config, *_late_means(table, rows))
        for config, rows in by_run(table, chosen_rows(table, options))
    ]
    out = []
    for what, hyper in CLAIMS:
        column = 1 if what == "overfit_gap" else 2
        seen = [r for r in runs if np.isfinite(r[column]) and np.isfinite(r[0][hyper])]
        if len({r[0][hyper] for r in seen}) < 2:
            continue
        x = np.array([r[0][hyper] for r in seen])
        y = np.array([r[column] for r in seen])
        held = ("algo", "task", "model_size", *(h for h in HYPER if h != hyper))
        strata = _strata(seen, held)
        if not _varies(x, strata):
            held = ("algo", "task", "model_size")
            strata = _strata(seen, held)
        if not _varies(x, strata):
            continue
        rho, p = _rank_correlation(x, y, strata, options.seed)
        out.append({
            "what": what, "with": hyper, "rho": rho, "sign": "+" if rho > 0 else "-", "p": p,
            "runs": len(seen), "held": list(held),
        })  # fmt: skip
    return out


def _late_means(table: Table, rows: np.ndarray) -> tuple[float, float]:
    """Mean gap and mean parameter norm over the second half of a run (NaN: not logged)."""
    late = rows[len(rows) // 2 :]
    gap = table["critic_loss_recent"][late] - table["critic_loss_replay"][late]
    return _mean(gap), _mean(table["critic_param_norm"][late])


def _mean(values: np.ndarray) -> float:
    seen = values[np.isfinite(values)]
    return float(seen.mean()) if len(seen) else np.nan


def _strata(runs: list, held: tuple[str, ...]) -> np.ndarray:
    keys = [tuple(str(r[0][name]) for name in held) for r in runs]
    names = sorted(set(keys))
    return np.array([names.index(key) for key in keys])


def _varies(x: np.ndarray, strata: np.ndarray) -> bool:
    return any(len(np.unique(x[strata == s])) > 1 for s in np.unique(strata))


def _rank_correlation(
    x: np.ndarray, y: np.ndarray, strata: np.ndarray, seed: int
) -> tuple[float, float]:
    """Pooled within-stratum rank correlation and its permutation p-value."""
    rng = np.random.default_rng([seed, 0x0F17])
    ranks = [np.empty(len(x)), np.empty(len(x))]
    shuffled = np.empty((PERMUTATIONS, len(x)))
    for s in np.unique(strata):
        own = np.flatnonzero(strata == s)
        for out, values in zip(ranks, (x, y)):
            out[own] = _centred_ranks(values[own])
        shuffled[:, own] = rng.permuted(np.tile(ranks[0][own], (PERMUTATIONS, 1)), axis=1)
    scale = np.sqrt((ranks[0] ** 2).sum() * (ranks[1] ** 2).sum())
    if scale == 0:
        return 0.0, 1.0
    rho = float(ranks[0] @ ranks[1] / scale)
    beyond = np.abs(shuffled @ ranks[1] / scale) >= abs(rho) - 1e-12
    return rho, float((1 + beyond.sum()) / (1 + PERMUTATIONS))


def _centred_ranks(values: np.ndarray) -> np.ndarray:
    """Average ranks of ties, divided by the stratum's size, centred."""
    _, inverse, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    rank = last - (count - 1) / 2
    return (rank[inverse] - (len(values) + 1) / 2) / len(values)
