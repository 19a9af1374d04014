"""The dict form to Rows: both forms agree, images are not copied, bad data is refused in words."""

import tracemalloc
import warnings

import jax.numpy as jnp
import numpy as np
import pytest

from rlx.data.rows import Windows, window
from rlx.data.trajectories import ACTION_LIMIT, action_range, from_arrays

LENGTHS = (3, 1, 4)


def compact(lengths=LENGTHS, obs_dim=2):
    """Rows whose observation is (trajectory, step), reward the row, mask 0 in row 1."""
    sizes = [length + 1 for length in lengths]
    step = np.concatenate([np.arange(size) for size in sizes])
    which = np.repeat(np.arange(len(sizes)), sizes)
    rows = np.arange(len(step), dtype=np.float32)
    return {
        "observations": np.stack([which, step] + [rows] * (obs_dim - 2), 1).astype(np.float32),
        "actions": np.stack([np.sin(rows), np.cos(rows), 0 * rows], 1).astype(np.float32),
        "rewards": rows,
        "masks": 1.0 - (rows == 1),
        "valids": np.concatenate([np.arange(size) < size - 1 for size in sizes]).astype(float),
    }


def regular(data):
    """The same transitions, one row each."""
    valid = data["valids"] > 0
    out = {key: data[key][valid] for key in ("observations", "actions", "rewards", "masks")}
    out["next_observations"] = data["observations"][np.flatnonzero(valid) + 1]
    out["terminals"] = 1.0 - data["valids"][np.flatnonzero(valid) + 1]
    return out


def test_compact_form():
    data = compact()
    rows = from_arrays(data)
    assert rows.obs is data["observations"]
    np.testing.assert_array_equal(rows.index, [0, 1, 2, 4, 6, 7, 8, 9])
    np.testing.assert_array_equal(rows.age, [0, 1, 2, 3, 0, 1, 0, 1, 2, 3, 4])
    np.testing.assert_array_equal(np.flatnonzero(rows.terminated), [1])
    np.testing.assert_array_equal(rows.reward, [0, 1, 2, 0, 4, 0, 6, 7, 8, 9, 0])
    np.testing.assert_array_equal(rows.action_known, rows.transition)
    known = from_arrays(data, final_actions=True)
    assert known.action_known.all()
    np.testing.assert_array_equal(known.action[3, 0], data["actions"][3, 0])
    assert rows.action[3].tolist() == [0, 0, 0]
    assert (rows.index.dtype, rows.age.dtype, rows.action.dtype) == (np.int32, np.int32, "f4")


def test_the_last_row_always_ends():
    data = compact()
    data["valids"][-1] = 1.0
    np.testing.assert_array_equal(from_arrays(data).index, from_arrays(compact()).index)
    data = regular(compact())
    data["terminals"][-1] = 0.0
    np.testing.assert_array_equal(from_arrays(data).index, from_arrays(compact()).index)


def test_both_forms_give_the_same_rows():
    expected, got = from_arrays(compact()), from_arrays(regular(compact()))
    for name in ("obs", "action", "reward", "terminated", "transition", "age", "index"):
        np.testing.assert_array_equal(getattr(got, name), getattr(expected, name), err_msg=name)
    assert got.action_known.sum() == 8


def test_jumps_split_only_where_asked_for():
    data = regular(compact())
    data["terminals"][:] = 0.0
    with pytest.raises(ValueError, match=r"2 next_observations .* first at row 2, where terminals"):
        from_arrays(data)
    got = from_arrays(data, split_jumps=True)
    np.testing.assert_array_equal(got.age, from_arrays(compact()).age)


def test_regular_form_of_images():
    data = compact()
    frames = np.random.default_rng(0).integers(0, 256, (11, 4, 4, 3), dtype=np.uint8)
    data["observations"] = frames
    got = from_arrays(regular(data))
    assert got.obs.dtype == np.uint8
    np.testing.assert_array_equal(got.obs, frames)


def test_windows_read_what_was_written():
    rows = from_arrays(compact())
    device = type(rows)(*map(jnp.asarray, (getattr(rows, f) for f in rows.__dataclass_fields__)))
    batch = window(device, device.index, jnp.float32(0.5), Windows(n_step=2))
    np.testing.assert_allclose(batch.reward, [0.5, 2.0, 2.0, 4.0, 9.5, 11.0, 12.5, 9.0])
    np.testing.assert_allclose(
        batch.extras["discount"], [0.0, 0.0, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25]
    )


def test_frames_are_not_copied():
    """16 MB of frames: what from_arrays allocates is 1 % of it."""
    data = compact((99,) * 20)
    frames = np.zeros((2000, 64, 64, 2), np.uint8)
    data["observations"] = frames
    tracemalloc.start()
    rows = from_arrays(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.shares_memory(rows.obs, frames)
    assert peak < 0.02 * frames.nbytes


def test_the_callers_arrays_stay_as_they_are():
    data = compact()
    data["actions"][4, 0] = 1.0
    before = {key: value.copy() for key, value in data.items()}
    from_arrays(data, normalize_actions=True)
    for key, value in before.items():
        np.testing.assert_array_equal(data[key], value)


def test_actions_are_clipped_below_one():
    data = compact()
    data["actions"][1] = [1.0, -1.0, 0.5]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        action = from_arrays(data).action
    np.testing.assert_array_equal(
        action[1], np.array([ACTION_LIMIT, -ACTION_LIMIT, 0.5], np.float32)
    )
    data["actions"][1:3, 0] = 1.0004
    with pytest.warns(UserWarning, match="2 action values up to 4.0e-04 outside"):
        assert from_arrays(data).action.max() == np.float32(ACTION_LIMIT)


def test_actions_far_outside_are_refused_or_scaled():
    data = compact()
    data["actions"][:, 1] = np.linspace(-3, 5, 11)
    with pytest.raises(ValueError, match=r"dimension 1 of 3 ranges over \[-3, 4\.2\].*normalize_a"):
        from_arrays(data)
    action = from_arrays(data, normalize_actions=True).action
    taken = data["valids"] > 0
    low, high = action_range(data["actions"][taken])
    np.testing.assert_allclose((low[1], high[1]), (-3.0, 4.2), rtol=1e-6)
    back = low + (action[taken] + 1) / 2 * (high - low)
    np.testing.assert_allclose(back[:, :2], data["actions"][taken, :2], atol=5e-5)
    assert not action[:, 2].any()  # it never moves


@pytest.mark.parametrize(
    ("field", "index", "value", "says"),
    [
        (
            "observations",
            (4, 1),
            np.nan,
            r"observations has 1 values .* nan at index \[4, 1\]",
        ),
        ("actions", (6, 0), np.inf, r"actions has 1 values .* first of them inf at index \[6, 0\]"),
        ("rewards", (2,), -np.inf, r"rewards has 1 values .* first of them -inf at index \[2\]"),
    ],
)
def test_nan_and_inf(field, index, value, says):
    data = compact()
    data[field][index] = value
    with pytest.raises(ValueError, match=says):
        from_arrays(data)


def test_nan_in_an_action_that_nobody_takes():
    data = compact()
    data["actions"][3] = np.nan
    assert np.isfinite(from_arrays(data).action).all()
    with pytest.raises(ValueError, match="actions has 3 values"):
        from_arrays(data, final_actions=True)


def without(*names):
    return {key: value for key, value in compact().items() if key not in names}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (without("valids"), "lacks next_observations, terminals; it has actions, masks, obs"),
        (without("masks", "rewards"), "lacks rewards, masks; it has actions, observations, valids"),
        ({}, "lacks observations, .* it has nothing"),
        (compact() | {"rewards": np.zeros(3)}, r"rewards has shape \(3,\), expected \(11,\)"),
        (compact() | {"actions": np.zeros(11)}, r"actions \[N, A\], got \(11, 2\) and \(11,\)"),
        (compact() | {"valids": np.zeros(11)}, "there is no transition"),
    ],
)
def test_missing_keys_and_wrong_shapes(data, says):
    with pytest.raises(ValueError, match=says):
        from_arrays(data)


def test_options_of_the_other_form_are_refused():
    with pytest.raises(ValueError, match="split_jumps=True is for data in regular form"):
        from_arrays(compact(), split_jumps=True)
    with pytest.raises(ValueError, match="final_actions=True is for data in compact form"):
        from_arrays(regular(compact()), final_actions=True)


def test_no_completed_state_is_a_warning():
    data = compact() | {"masks": np.ones(11)}
    with pytest.warns(UserWarning, match=r"rewards are in \[0, 9\] and 0 masks are 0"):
        from_arrays(data)
    with pytest.warns(UserWarning, match=r"rewards are in \[-1, -1\] and 1 masks are 0"):
        from_arrays(compact() | {"rewards": -np.ones(11)})


def test_data_without_a_task():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = from_arrays(without("rewards", "masks"), rewarded=False)
    assert not rows.reward.any() and not rows.terminated.any()
