"""The names of all environments, as plain data: listing or checking one imports no simulator."""

from __future__ import annotations

from collections.abc import Iterable

from rlx.names import nearest, squash

CLASSIC = ("pendulum", "cartpole_swingup", "point_mass")

ARM = ("reach", "push", "reach_mjx", "push_mjx")

# mujoco_playground's dm_control tasks; their models come inside the playground wheel.
DM_CONTROL = (
    "AcrobotSwingup",
    "AcrobotSwingupSparse",
    "BallInCup",
    "CartpoleBalance",
    "CartpoleBalanceSparse",
    "CartpoleSwingup",
    "CartpoleSwingupSparse",
    "CheetahRun",
    "FingerSpin",
    "FingerTurnEasy",
    "FingerTurnHard",
    "FishSwim",
    "HopperHop",
    "HopperStand",
    "HumanoidRun",
    "HumanoidStand",
    "HumanoidWalk",
    "PendulumSwingup",
    "PointMass",
    "ReacherEasy",
    "ReacherHard",
    "SwimmerSwimmer6",
    "WalkerRun",
    "WalkerStand",
    "WalkerWalk",
)

# mujoco_playground's locomotion and manipulation tasks; their robots come from mujoco_menagerie.
MENAGERIE = (
    "AeroCubeRotateZAxis",
    "AlohaHandOver",
    "AlohaSinglePegInsertion",
    "ApolloJoystickFlatTerrain",
    "BarkourJoystick",
    "BerkeleyHumanoidJoystickFlatTerrain",
    "BerkeleyHumanoidJoystickRoughTerrain",
    "G1JoystickFlatTerrain",
    "G1JoystickRoughTerrain",
    "Go1Footstand",
    "Go1Getup",
    "Go1Handstand",
    "Go1JoystickFlatTerrain",
    "Go1JoystickRoughTerrain",
    "H1InplaceGaitTracking",
    "H1JoystickGaitTracking",
    "LeapCubeReorient",
    "LeapCubeRotateZAxis",
    "Op3Joystick",
    "PandaOpenCabinet",
    "PandaPickCube",
    "PandaPickCubeCartesian",
    "PandaPickCubeOrientation",
    "PandaRobotiqPushCube",
    "SpotFlatTerrainJoystick",
    "SpotGetup",
    "SpotJoystickGaitTracking",
    "T1JoystickFlatTerrain",
    "T1JoystickRoughTerrain",
)

# brax's swimmer is left out: it calls `jnp.clip(a_min=...)`, which jax removed (brax 0.14.2).
BRAX_PREFIX = "brax/"
BRAX = tuple(
    BRAX_PREFIX + task
    for task in (
        "ant",
        "halfcheetah",
        "hopper",
        "humanoid",
        "humanoidstandup",
        "inverted_double_pendulum",
        "inverted_pendulum",
        "pusher",
        "reacher",
        "walker2d",
    )
)

FAMILIES = {
    "classic: pure JAX, compiles in a second or two": CLASSIC,
    "arm: a planar arm told what to do, exact or in MuJoCo (_mjx)": ARM,
    "dm_control: MuJoCo playground": DM_CONTROL,
    "brax: brax's own physics": BRAX,
    "robots: playground with mujoco_menagerie (python -m rlx.envs.mjx --fetch)": MENAGERIE,
}
ALL = tuple(name for names in FAMILIES.values() for name in names)

# Domains of the dm_control suite that playground has not ported.
NOT_PORTED = ("dog", "lqr", "manipulator", "quadruped", "stacker")


def unknown(name: str) -> ValueError:
    """The error for a name that no family has: nearest names and the command that lists all."""
    domain = next((d for d in NOT_PORTED if squash(name).startswith(d)), None)
    reason = f" (mujoco_playground has no {domain} tasks)" if domain else ""
    return ValueError(
        f"unknown environment {name!r}{reason}; nearest: {', '.join(nearest(name, ALL))}. "
        "List all with `python -m rlx.envs`"
    )


def check_overrides(name: str, given: Iterable[str], allowed: Iterable[str]) -> None:
    """Raise a ValueError with the nearest settings if `given` has one that `name` does not take."""
    allowed = list(allowed)
    for key in given:
        if key not in allowed:
            raise ValueError(
                f"{name} has no setting {key!r}; nearest: {', '.join(nearest(key, allowed))}. "
                f"All: {', '.join(sorted(allowed))}"
            )
