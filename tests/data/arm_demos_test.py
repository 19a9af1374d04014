"""Demonstrations of the arm against NumPy: kinematics, least jerk, the same motion at every rate,
the distributions that the task promises, and the two elbows.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.polynomial import Polynomial as P
from scipy import stats

from rlx.data.synth import push, reach
from rlx.envs import arm

N = 4000
L = 0.12


@pytest.fixture(scope="module")
def demos():
    return reach.generate(0, N, 10)


@pytest.fixture(scope="module")
def pushes():
    return push.generate(0, N, 10)


def tip(q):
    """The position of the second link's end, by adding up vectors."""
    a, b = q[..., 0], q[..., 0] + q[..., 1]
    return np.stack([L * np.cos(a) + L * np.cos(b), L * np.sin(a) + L * np.sin(b)], -1)


def along_path(made):
    return made["q0"][:, None] + made["actions"][..., :2]


def test_shapes_and_types(demos):
    want = {
        "state": ((N, 6), "f4"),
        "actions": ((N, 10, 3), "f4"),
        "q0": ((N, 2), "f4"),
        "goal": ((N, 2), "f4"),
        "discs": ((N, 3, 2), "f4"),
        "elbow": ((N,), "f4"),
        "prompt_id": ((N,), "i4"),
    }
    for key, (shape, dtype) in want.items():
        assert (demos[key].shape, demos[key].dtype) == (shape, np.dtype(dtype)), key
    assert set(demos) == {*want, "prompt"}
    np.testing.assert_array_equal(demos["state"][:, :2], demos["q0"])
    np.testing.assert_array_equal(demos["state"][:, 2:4], 0.0)  # at rest
    np.testing.assert_array_equal(demos["state"][:, 4:], demos["goal"])


def test_every_demonstration_ends_on_the_disc_with_the_elbow_that_was_drawn(demos):
    end = along_path(demos)[:, -1]
    np.testing.assert_allclose(tip(end), demos["goal"], atol=2e-6)
    np.testing.assert_array_equal(np.sign(end[:, 1]), demos["elbow"])
    assert np.abs(end).max() <= np.pi + 1e-5
    assert np.abs(demos["q0"]).max() <= np.pi
    assert reach.success(demos["q0"], demos["actions"], demos["goal"]).all()
    assert reach.success(demos["state"], demos["actions"], demos["goal"]).all()


def test_the_elbows_are_two_modes_whose_mean_reaches_nothing(demos):
    assert abs((demos["elbow"] > 0).mean() - 0.5) < 4 * 0.5 / np.sqrt(N)
    ends = [np.asarray(arm.inverse(demos["goal"], np.full(N, s, np.float32))) for s in (1, -1)]
    for end in ends:
        np.testing.assert_allclose(tip(end), demos["goal"], atol=2e-6)
    mean = (ends[0] + ends[1]) / 2 - demos["q0"]
    actions = np.concatenate([mean, mean[:, :1]], axis=1)[:, None]
    assert reach.success(demos["q0"], actions, demos["goal"]).mean() < 0.02


def test_the_path_is_that_of_least_jerk_through_a_random_via_point(demos):
    """At s = k / 10 the path is q0 + move m(s) + d b(s); d is read off at s = 1/2."""
    move = demos["actions"][:, -1, :2]
    via = demos["actions"][:, 4, :2] - move / 2
    s = np.arange(1, 11) / 10
    m = 10 * s**3 - 15 * s**4 + 6 * s**5
    u = 2 * np.minimum(s, 1 - s)
    b = (20 * u**3 - 25 * u**4 + 8 * u**5) / 3
    want = move[:, None] * m[:, None] + via[:, None] * b[:, None]
    np.testing.assert_allclose(demos["actions"][..., :2], want, atol=2e-5)
    assert np.abs(via.mean(0)).max() < 4 * 0.1 / np.sqrt(N)
    np.testing.assert_allclose(via.std(0), 0.1, atol=4 * 0.1 / np.sqrt(2 * N))
    assert abs(np.corrcoef(via.T)[0, 1]) < 4 / np.sqrt(N)
    assert stats.kstest(via.ravel() / 0.1, "norm").pvalue > 1e-3


def bump_halves():
    """b(s) on [0, 1/2] and on [1/2, 1] as polynomials in s."""
    b = P([0, 0, 0, 20 / 3, -25 / 3, 8 / 3])
    return b(P([0, 2])), b(P([2, -2]))


def test_the_functions_are_the_polynomials_of_the_docstring():
    s = np.linspace(0, 1, 101, dtype=np.float32)
    first, second = bump_halves()
    np.testing.assert_allclose(reach.bump(s), np.where(s < 0.5, first(s), second(s)), atol=1e-5)
    np.testing.assert_allclose(reach.minimum_jerk(s), P([0, 0, 0, 10, -15, 6])(s), atol=1e-6)
    for k in range(1, 5):  # four derivatives continuous at the via point
        np.testing.assert_allclose(first.deriv(k)(0.5), second.deriv(k)(0.5), atol=1e-9)
    for k in (0, 1, 2):  # at rest at both ends
        np.testing.assert_allclose([first.deriv(k)(0) if k else first(0)], 0, atol=1e-9)
        np.testing.assert_allclose([second.deriv(k)(1) if k else second(1)], 0, atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_no_other_path_has_less_jerk(seed):
    """The jerk is orthogonal to that of every change that keeps the ends and the via point, so the
    squared jerk of the changed path is the sum of both.
    """
    change = P(np.random.default_rng(seed).normal(size=4))
    ends = P([0, 1]) ** 3 * P([1, -1]) ** 3 * change
    through_via = ends * P([-0.5, 1])
    product = (P([0, 0, 0, 10, -15, 6]).deriv(3) * ends.deriv(3)).integ()
    np.testing.assert_allclose(product(1) - product(0), 0, atol=1e-8)
    for half, low in zip(bump_halves(), (0, 0.5)):
        part = (half.deriv(3) * through_via.deriv(3)).integ()
        total = part(low + 0.5) - part(low) + (0 if low == 0 else total)  # noqa: F821
    np.testing.assert_allclose(total, 0, atol=1e-7)


@pytest.mark.parametrize(
    ("make", "made", "hz"), [(reach, "demos", 5), (reach, "demos", 50), (push, "pushes", 50)]
)
def test_a_control_frequency_samples_the_same_motion_whatever_the_number(make, made, hz, request):
    few, many = make.generate(0, 50, hz), request.getfixturevalue(made)  # at 10 Hz
    for key in ("q0", "goal", "discs", "prompt_id", "prompt", "elbow", "state"):
        np.testing.assert_array_equal(few[key], many[key][:50])
    k = np.arange(1, hz + 1)
    both = k[k * 10 % hz == 0]  # steps that end when one of 10 Hz does
    np.testing.assert_allclose(
        few["actions"][:, both - 1], many["actions"][:50, both * 10 // hz - 1], atol=2e-5
    )


@pytest.mark.parametrize(
    ("hz", "open_steps"), [(5, 3), (10, 7), (20, 15), (50, 39), (100, 79), (15, 11)]
)
def test_the_gripper_closes_at_four_fifths(hz, open_steps):
    """Step k ends at (k + 1) / hz s and is closed from 0.8 s on: exactly, whatever hz."""
    np.testing.assert_array_equal(reach.gripper(hz), np.arange(hz) >= open_steps)


@pytest.mark.parametrize("made", ["demos", "pushes"])
def test_scenes_are_where_they_should_be(made, request):
    discs = request.getfixturevalue(made)["discs"]
    r = np.linalg.norm(discs, axis=-1)
    assert r.min() >= 0.08 - 1e-6 and r.max() <= 0.22 + 1e-6
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert np.linalg.norm(discs[:, i] - discs[:, j], axis=-1).min() >= 0.06 - 1e-6


def test_scenes_are_uniform_and_every_colour_is_asked_for(demos):
    """Of rejected triples the first disc's angle is uniform still; r^2 nearly so."""
    angle = np.arctan2(demos["discs"][:, 0, 1], demos["discs"][:, 0, 0])
    assert stats.kstest(angle, stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > 1e-3
    r2 = (np.linalg.norm(demos["discs"][:, 0], axis=-1) ** 2 - 0.08**2) / (0.22**2 - 0.08**2)
    assert stats.kstest(r2, "uniform").statistic < 0.05
    assert stats.kstest(demos["q0"].ravel(), stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > 1e-3
    assert stats.chisquare(np.bincount(demos["prompt_id"], minlength=12)).pvalue > 1e-3


@pytest.mark.parametrize(("made", "verb"), [("demos", "e"), ("pushes", "puck")])
def test_the_sentence_names_the_colour_of_the_goal(made, verb, request):
    made = request.getfixturevalue(made)
    colours = ("red", "green", "blue")
    for i in range(200):
        (colour,) = (c for c in range(3) if colours[c] in made["prompt"][i])
        np.testing.assert_array_equal(made["discs"][i, colour], made["goal"][i])
        assert verb in made["prompt"][i]
    assert len(set(made["prompt"])) == 12


def test_episodes_are_functions_of_seed_and_split(demos):
    again = reach.generate(0, N, 10)
    for key, value in demos.items():
        np.testing.assert_array_equal(value, again[key])
    for other in (reach.generate(6, N, 10), reach.generate(0, N, 10, split="test")):
        assert np.isin(other["q0"][:, 0], demos["q0"][:, 0]).mean() < 0.01


def test_success_is_a_distance_of_two_centimetres():
    q0, goal = np.zeros((2, 2), np.float32), np.zeros((2, 2), np.float32)
    pose = np.array([0.3, 0.9], np.float32)
    direction = np.array([0.6, 0.8])
    goal[:] = tip(pose) + direction * np.array([[0.0199], [0.0201]])
    actions = np.tile(np.append(pose, 1.0), (2, 7, 1)).astype(np.float32)
    actions[:, :-1] = 5.0  # only the last one counts
    assert reach.success(q0, actions, goal).tolist() == [True, False]


def test_the_error_is_that_to_the_nearer_expert(demos):
    s = np.arange(1, 11) / 10
    m = (10 * s**3 - 15 * s**4 + 6 * s**5)[:, None]
    clean = []
    for sign in (1, -1):
        end = np.asarray(arm.inverse(demos["goal"], np.full(N, sign, np.float32)))
        clean.append((end - demos["q0"])[:, None] * m)
        error = reach.expert_error(demos["q0"], clean[-1].astype(np.float32), demos["goal"])
        assert np.max(error) < 1e-9
    want = np.min([((demos["actions"][..., :2] - c) ** 2).mean((1, 2)) for c in clean], axis=0)
    got = reach.expert_error(demos["state"], demos["actions"], demos["goal"])
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-8)
    u = 2 * np.minimum(s, 1 - s)
    b = (20 * u**3 - 25 * u**4 + 8 * u**5) / 3
    np.testing.assert_allclose(np.mean(got), 0.01 * (b**2).mean(), rtol=0.05)


def test_pictures_show_the_discs_and_the_start(demos):
    made = reach.generate(0, 30, 5, images=True)
    images = made["images"]["base"]
    assert (images.shape, images.dtype) == ((30, 32, 32, 3), np.uint8)
    assert made["state"].shape == (30, 4)  # the goal is in the picture
    colours = np.array([[0.9, 0.1, 0.1], [0.1, 0.7, 0.1], [0.1, 0.2, 0.9]])
    for i in range(30):
        for disc, colour in zip(made["discs"][i], colours):
            column = int((disc[0] + 0.26) / 0.52 * 32)
            row = int((0.26 - disc[1]) / 0.52 * 32)  # row 0 is the top
            seen = images[i, row, column] / 255
            assert np.argmin(np.abs(colours - seen).sum(1)) == np.argmin(
                np.abs(colours - colour).sum(1)
            )
    np.testing.assert_array_equal(made["q0"], demos["q0"][:30])


def simulate(q0, puck, actions):
    """Pushes with exact joints, in ten times finer slices."""
    q = q0
    for action in actions:
        target = q0 + action[:2]
        for i in range(1, 201):
            point = tip(q + (target - q) * i / 200)
            away = puck - point
            distance = np.linalg.norm(away)
            if action[2] > 0.5 and distance < 0.038:
                puck = point + away * 0.038 / distance
        q = target
    return puck


def test_pushes_bring_the_puck_to_its_goal_and_without_the_finger_nothing_moves(pushes):
    start = [pushes[key] for key in ("q0", "puck", "actions", "goal")]
    assert push.success(*start).all()
    lifted = pushes["actions"].copy()
    lifted[..., 2] = 0
    assert not push.success(pushes["q0"], pushes["puck"], lifted, pushes["goal"]).any()
    way = np.linalg.norm(pushes["puck"] - pushes["goal"], axis=-1)
    assert way.min() >= 0.05 - 1e-6 and way.max() <= 0.08 + 1e-6
    for i in range(20):
        puck = simulate(*(x[i].astype(float) for x in (start[0], start[1], start[2])))
        assert np.linalg.norm(puck - pushes["goal"][i]) < 0.02


def test_a_push_that_is_aimed_badly_fails(pushes):
    rng = np.random.default_rng(0)
    actions = pushes["actions"].copy()
    actions[..., :2] += rng.normal(0, 0.15, (N, 1, 2)).astype(np.float32)
    success = push.success(pushes["q0"], pushes["puck"], actions, pushes["goal"])
    assert 0.05 < np.mean(success) < 0.7


def test_the_parts_of_a_push(pushes):
    """The finger is up for 0.4 s; then the arm rests for 0.2 s behind the puck."""
    np.testing.assert_array_equal(pushes["actions"][..., 2], np.tile(np.arange(10) >= 4, (N, 1)))
    path = along_path(pushes)
    np.testing.assert_allclose(path[:, 3], path[:, 5], atol=1e-5)
    direction = (pushes["goal"] - pushes["puck"]) / np.linalg.norm(
        pushes["goal"] - pushes["puck"], axis=-1, keepdims=True
    )
    np.testing.assert_allclose(tip(path[:, 5]), pushes["puck"] - 0.048 * direction, atol=1e-5)
    np.testing.assert_allclose(tip(path[:, 9]), pushes["goal"] - 0.038 * direction, atol=1e-5)
    for k in (6, 7, 8):  # straight on
        offset = tip(path[:, k]) - pushes["goal"]
        cross = offset[:, 0] * direction[:, 1] - offset[:, 1] * direction[:, 0]
        assert np.abs(cross).max() < 1e-5


@pytest.mark.parametrize(
    ("make", "arguments", "says"),
    [
        (reach, {"episodes": 0}, "episodes is a whole number >= 1, got 0"),
        (reach, {"hz": 0}, "hz is a whole number >= 1, got 0"),
        (reach, {"hz": 2.5}, "hz is a whole number >= 1, got 2.5"),
        (reach, {"split": "val"}, "split is one of train, test, got 'val'"),
        (push, {"hz": 12}, "hz is a multiple of 5 for pushes, got 12"),
    ],
)
def test_bad_input(make, arguments, says):
    with pytest.raises(ValueError, match=says):
        make.generate(**{"seed": 0, "episodes": 2, "hz": 10, **arguments})
