"""What `experiments.guidance` refuses before anything is compiled."""

from __future__ import annotations

from pathlib import Path

from ml_collections import ConfigDict

from experiments import guidance_beds
from rlx.infra import errors

SHORTEST = 6  # design: the proxies look for words of so many bases
PARTS = ("beds", "designs", "actions")
COUNTS = (
    "beds.samples", "beds.steps", "designs.length", "designs.groups", "denoiser.steps",
    "actions.groups", "actions.steps", "actions.particles", "actions.student_steps",
)  # fmt: skip
NETWORKS = ("exact", "transformer")


def check(config: ConfigDict) -> None:
    """Refuse what cannot run, before anything is compiled."""
    if not config.parts:
        raise errors.ConfigError(f"parts is one of {', '.join(PARTS)}, or several")
    for part in config.parts:
        if part not in PARTS:
            raise errors.ConfigError(errors.unknown("part", part, PARTS, "--help"))
    for field in COUNTS:
        section, name = field.split(".")
        if config[section][name] < 1:
            raise errors.ConfigError(f"{field} is a whole number >= 1, got {config[section][name]}")
    beds, designs = config.beds, config.designs
    if designs.length < SHORTEST:
        raise errors.ConfigError(f"designs.length is >= {SHORTEST} bases, got {designs.length}")
    if not 0 < designs.fraction <= 1:
        raise errors.ConfigError(f"designs.fraction is a share in (0, 1], got {designs.fraction}")
    for name in beds.names:
        if name not in guidance_beds.NAMES:
            raise errors.ConfigError(errors.unknown("bed", name, guidance_beds.NAMES, "--help"))
    if config.designs.network not in NETWORKS:
        text = errors.unknown("network", config.designs.network, NETWORKS, "--help")
        raise errors.ConfigError(text)
    if len(beds.names) != len(beds.alphas):
        raise errors.ConfigError(
            f"beds.alphas has one temperature per bed, got {beds.alphas} for {beds.names}"
        )
    for field, values in (("beds.alphas", beds.alphas), ("actions.alpha", (config.actions.alpha,))):
        if not all(value > 0 for value in values):
            raise errors.ConfigError(f"{field} is a temperature, > 0, got {values}")
    for field, values in (("beds", beds.budgets), ("designs", config.designs.budgets)):
        if not values or min(values) < 1:
            raise errors.ConfigError(f"{field}.budgets are whole numbers >= 1, got {values}")


def claim(workdir: Path, overwrite: bool) -> None:
    """Refuse to write over earlier results unless told to; then none of them stays behind."""
    old = [path for path in (workdir / f"{part}.csv" for part in PARTS) if path.exists()]
    if old and not overwrite:
        raise errors.ConfigError(f"{old[0]} is there: --overwrite, or another --workdir")
    for path in old:
        path.unlink()
