"""Scaling laws of value-based RL from result tables: numpy and scipy only, nothing of the rest of
rlx.

Read a table, find how much data each level of return takes, fit the laws, say what to run with a
budget: `report` does all of it; `python -m rlx.scaling fit TABLE.csv --out DIR` writes it to disk.
"""

from rlx.scaling.budget import budget_law, optimal_utd
from rlx.scaling.curves import crossings, isotonic, load_runs
from rlx.scaling.data_law import PowerLaw, fit_data, fit_data_size, pool
from rlx.scaling.errors import ScalingError
from rlx.scaling.prices import Prices, frontier
from rlx.scaling.recommend import recommend
from rlx.scaling.report import load, report_published, write
from rlx.scaling.rules import best_hparams, fit_rule, published_rule, tabulate
from rlx.scaling.size_budget import joint_optimum
from rlx.scaling.size_law import SizeLaw
from rlx.scaling.size_rule import SizePrices, constant_rule, fit_size_rule
from rlx.scaling.stats import iqm, iqm_interval
from rlx.scaling.suggest import suggest
from rlx.scaling.table import Table, read_table

__all__ = [
    "PowerLaw",
    "Prices",
    "ScalingError",
    "SizeLaw",
    "SizePrices",
    "Table",
    "best_hparams",
    "budget_law",
    "constant_rule",
    "crossings",
    "fit_data",
    "fit_data_size",
    "fit_rule",
    "fit_size_rule",
    "frontier",
    "iqm",
    "iqm_interval",
    "isotonic",
    "joint_optimum",
    "load",
    "load_runs",
    "optimal_utd",
    "pool",
    "published_rule",
    "read_table",
    "recommend",
    "report_published",
    "suggest",
    "tabulate",
    "write",
]
