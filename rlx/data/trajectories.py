"""Host arrays in the field's dict form -> `Rows`, checked.

The dict form is OGBench's and D4RL's: arrays of one length N, in time order, trajectories end to
end. `observations [N, *O]`, `actions [N, A]`, `rewards [N]`, `masks [N]` (0 where the value of the
next state is not bootstrapped) and, either
  regular: `next_observations [N, *O]` and `terminals [N]`, 1 in a trajectory's last transition;
  compact: `valids [N]`, 0 in the row that holds only a trajectory's final observation.
Only the compact form keeps every image once: it becomes Rows without a copy of the observations.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from rlx.data.rows import Rows

ACTION_LIMIT = 1 - 1e-5  # tanh policies need a finite arctanh of every action of the data
SMALL_EXCESS = 1e-3  # further outside [-1, 1] than rounding can explain
JUMP = 1e-6  # in the norm of an observation: successor and next observation are the same
_BLOCK = 65536  # rows compared at a time
_NAMES = ("observations", "actions", "rewards", "masks")
_ENDS = {True: ("valids",), False: ("next_observations", "terminals")}  # by "compact form"


class Dataset(NamedTuple):
    """Data of one task, and what an evaluation or online phase on it has to know."""

    name: str  # as D4RL or OGBench call it
    env: str  # what evaluates it: OGBench's environment id, or the D4RL name
    train: Rows
    val: Rows | None  # None where there is no validation file
    reward_offset: float = 0.0  # was added to rewards of the environment; add it online too
    sparse: bool = False  # rewards were mapped to -1, or 0 where they are 0; map them online too


def from_arrays(
    data: Mapping[str, np.ndarray],
    *,
    normalize_actions: bool = False,
    final_actions: bool = False,
    split_jumps: bool = False,
    rewarded: bool = True,
) -> Rows:
    """Return the trajectories of `data`, in either form above, as Rows of NumPy arrays.

    Actions are clipped to +-(1 - 1e-5); uint8 observations stay, all others become float32.
      normalize_actions  map `action_range` of the data to [-1, 1] first
      final_actions      compact form: the rows without a transition hold actions really taken
      split_jumps        regular form: a trajectory also ends where the next row's observation is
                         not this row's next observation (else that is an error)
      rewarded           False for data without a task: rewards and masks are taken as 0 and 1
    Raises ValueError for missing keys, unequal lengths, NaN or inf, and actions outside [-1, 1] by
    more than 1e-3. Warns of actions clipped back to [-1, 1], and where no state is completed.
    """
    data = {name: np.asarray(value) for name, value in data.items()}
    if not rewarded and "actions" in data:
        size = len(data["actions"])
        data |= {"rewards": np.zeros(size, np.float32), "masks": np.ones(size, np.float32)}
    compact = "valids" in data
    _check_shapes(data, compact)
    if final_actions and not compact:
        raise ValueError("final_actions=True is for data in compact form, with valids")
    if split_jumps and compact:
        raise ValueError("split_jumps=True is for data in regular form; valids are the ends here")
    _check_finite(data, final_actions=final_actions)
    rows = (
        _from_compact(data, final_actions=final_actions)
        if compact
        else _from_regular(data, split_jumps=split_jumps)
    )
    rows = rows.replace(action=_within_limits(rows, normalize_actions=normalize_actions))
    if rewarded:
        _warn_if_nothing_is_completed(rows)
    return rows


def action_range(actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the least and the greatest action `([A], [A])` of `actions [N, A]`.

    With `normalize_actions=True` an action a in [-1, 1] stands for
    low + (a + 1) / 2 * (high - low); a dimension that never moves is 0.
    """
    return actions.min(axis=0), actions.max(axis=0)


def _check_shapes(data: Mapping[str, np.ndarray], compact: bool) -> None:
    names = (*_NAMES, *_ENDS[compact])
    missing = [name for name in names if name not in data]
    if missing:
        raise ValueError(
            f"the data lacks {', '.join(missing)}; it has {', '.join(sorted(data)) or 'nothing'}. "
            "It needs observations, actions, rewards, masks and either next_observations and "
            "terminals, or valids (compact form: one more row per trajectory)"
        )
    observations, actions = data["observations"], data["actions"]
    if observations.ndim < 2 or actions.ndim != 2:
        raise ValueError(
            "expected observations [N, ...] and actions [N, A], got "
            f"{observations.shape} and {actions.shape}"
        )
    size = len(observations)
    if size < (2 if compact else 1):
        raise ValueError(f"observations {observations.shape} hold no transition")
    shapes = {
        "observations": observations.shape,
        "actions": (size, actions.shape[1]),
        "next_observations": observations.shape,
    }
    for name in names:
        expected = shapes.get(name, (size,))
        if data[name].shape != expected:
            raise ValueError(
                f"{name} has shape {data[name].shape}, expected {expected}: observations are "
                f"{observations.shape}"
            )


def _check_finite(data: Mapping[str, np.ndarray], *, final_actions: bool) -> None:
    """Refuse NaN and inf, but in rows without a transition only where they are read."""
    unread = {"rewards", "masks"} | (set() if final_actions else {"actions"})
    for name, values in data.items():
        if name not in (*_NAMES, "next_observations") or values.dtype.kind not in "fc":
            continue
        wrong = ~np.isfinite(values)
        if "valids" in data and name in unread:
            wrong[data["valids"] == 0] = False
        if wrong.any():
            first = tuple(int(i) for i in np.unravel_index(int(wrong.argmax()), wrong.shape))
            raise ValueError(
                f"{name} has {int(wrong.sum())} values that are NaN or infinite, the first of them "
                f"{values[first]} at index {list(first)}"
            )


def _observations(values: np.ndarray) -> np.ndarray:
    return values if values.dtype == np.uint8 else np.asarray(values, np.float32)


def _from_compact(data: Mapping[str, np.ndarray], *, final_actions: bool) -> Rows:
    transition = data["valids"] != 0
    transition[-1] = False
    action = np.array(data["actions"], np.float32)
    known = np.ones_like(transition) if final_actions else transition
    action[~known] = 0.0
    return _assemble(_observations(data["observations"]), action, data, transition, known)


def _from_regular(data: Mapping[str, np.ndarray], *, split_jumps: bool) -> Rows:
    ends = data["terminals"] != 0
    ends[-1] = True
    jumps = _jumps(data["observations"], data["next_observations"]) & ~ends
    if jumps.any() and not split_jumps:
        raise ValueError(
            f"{int(jumps.sum())} next_observations are not the next row's observations, the first "
            f"at row {int(jumps.argmax())}, where terminals is 0; mark the ends of trajectories "
            "in terminals, or pass split_jumps=True to end a trajectory there"
        )
    ends |= jumps
    row = np.arange(len(ends)) + np.cumsum(ends) - ends  # each end before moves it one further
    size = len(ends) + int(ends.sum())
    source = _observations(data["observations"])
    obs = np.empty((size, *source.shape[1:]), source.dtype)
    obs[row] = source
    obs[row[ends] + 1] = data["next_observations"][ends]
    transition = np.zeros(size, bool)
    transition[row] = True

    def spread(values: np.ndarray) -> np.ndarray:
        out = np.zeros((size, *values.shape[1:]), np.float32)
        out[row] = values
        return out

    wide = {name: spread(data[name]) for name in ("rewards", "masks")}
    return _assemble(obs, spread(data["actions"]), wide, transition, transition)


def _jumps(observations: np.ndarray, next_observations: np.ndarray) -> np.ndarray:
    """bool[N], True where row i's next observation is not row i + 1's; False in the last row."""
    out = np.zeros(len(observations), bool)
    for begin in range(0, len(out) - 1, _BLOCK):
        end = min(begin + _BLOCK, len(out) - 1)
        gap = observations[begin + 1 : end + 1].astype(np.float32) - next_observations[begin:end]
        out[begin:end] = np.linalg.norm(gap.reshape(end - begin, -1), axis=1) > JUMP
    return out


def _assemble(
    obs: np.ndarray,
    action: np.ndarray,
    data: Mapping[str, np.ndarray],
    transition: np.ndarray,
    known: np.ndarray,
) -> Rows:
    if not transition.any():
        raise ValueError("valids is 0 in every row but perhaps the last: there is no transition")
    finals = np.flatnonzero(~transition)
    begins = np.concatenate([[0], finals[:-1] + 1])
    return Rows(
        obs=obs,
        action=action,
        reward=np.where(transition, data["rewards"], 0.0).astype(np.float32),
        terminated=(data["masks"] == 0) & transition,
        transition=transition,
        action_known=known,
        age=(np.arange(len(transition)) - np.repeat(begins, np.diff(finals, prepend=-1))).astype(
            np.int32
        ),
        index=np.flatnonzero(transition).astype(np.int32),
    )


def _within_limits(rows: Rows, *, normalize_actions: bool) -> np.ndarray:
    """The actions of `rows` in place: scaled if asked for, checked, clipped to +-ACTION_LIMIT."""
    action, known = rows.action, rows.action_known
    low, high = action_range(action[known])
    if normalize_actions:
        action -= low
        action *= 2.0 / np.where(high > low, high - low, 1.0)
        action -= high > low
        action[~known] = 0.0
    elif max(-low.min(), high.max()) > 1 + SMALL_EXCESS:
        worst = int(np.maximum(-low, high).argmax())
        raise ValueError(
            f"actions must lie in [-1, 1]; dimension {worst} of {action.shape[1]} ranges over "
            f"[{low[worst]:g}, {high[worst]:g}]. Scale them, or pass normalize_actions=True"
        )
    elif count := int((np.abs(action) > 1).sum()):
        excess = max(-low.min(), high.max()) - 1
        warnings.warn(
            f"{count} action values up to {excess:.1e} outside [-1, 1] were clipped", stacklevel=3
        )
    return np.clip(action, -ACTION_LIMIT, ACTION_LIMIT, out=action)


def _warn_if_nothing_is_completed(rows: Rows) -> None:
    rewards = rows.reward[rows.index]
    if rewards.min() == rewards.max() or not rows.terminated.any():
        warnings.warn(
            f"no completed state in this data: rewards are in [{rewards.min():g}, "
            f"{rewards.max():g}] and {int(rows.terminated.sum())} masks are 0 "
            "(normal for hard tasks)",
            stacklevel=3,
        )
