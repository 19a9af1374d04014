"""The samplers that are compared, each with the number that its cost is set by."""

from __future__ import annotations

from typing import Any, NamedTuple


class Method(NamedTuple):
    """One sampler of `rlx.guidance`."""

    name: str
    method: str
    values: str = ""  # posterior mean or exact; "" = it takes none
    knob: str = ""  # field of the config that the budget sets; "" = its cost is fixed
    settings: dict[str, Any] | None = None
    greedy: bool = False  # alpha = 0
    first: bool = False  # of what it returns the first sample alone counts


PM = "posterior mean"
ONE = {"particles": 1}
REFINE = {"particles": 2, "children": 4, "fraction": 1 / 3, "global_resampling": False}
SAMPLERS = (
    Method("pre-trained", "none", settings=ONE),
    Method("best of N", "bon", knob="particles", greedy=True),
    Method("soft best of N", "soft_bon", knob="particles"),
    Method("SVDD", "svdd", PM, "children", ONE),
    Method("SVDD, greedy", "svdd", PM, "children", ONE, greedy=True),
    Method("SMC", "smc", PM, "particles"),
    Method("SMC, max potential", "fk", PM, "particles", {"potential": "max"}),
    Method("nested SMC", "nested", PM, "particles", {"children": 4}),
    Method("classifier guidance", "cg", PM, settings=ONE),
    Method("twisted SMC", "tds", PM, "particles"),
    Method("beam search", "beam", PM, "children", {"particles": 2}, greedy=True, first=True),
    Method("tree search", "mcts", PM, "simulations", ONE),
    Method("refinement", "rerd", PM, "rounds", REFINE),
    Method("SVDD", "svdd", "exact", "children", ONE),
    Method("SMC", "smc", "exact", "particles"),
    Method("twisted SMC", "tds", "exact", "particles"),
)
