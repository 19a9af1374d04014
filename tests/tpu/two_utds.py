"""Two UTDs x two seeds on the pendulum: the sweep that local_test.py stops and launches again."""

from collections.abc import Iterator

from configs.common import Override, product
from configs.scaling_laws import FLAGS, PACKED, get_config

__all__ = ["FLAGS", "PACKED", "get_config", "get_sweep"]


def get_sweep(arg: str = "") -> Iterator[Override]:
    """Yield the entries, whatever the options."""
    del arg
    return product({"train.utd": (0.5, 1.0), "seed": (0, 1)})
