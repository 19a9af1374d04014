"""The compiled online program: exact ratio, chunk lengths, packs, frozen runs, memory, statistics.

Three programs serve the whole file: solo at 16 environments, a pack of two, and 128 environments
with normalised observations.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import counter, tiny

from rlx.envs.core import vectorize
from rlx.infra.fields import parse_ratio
from rlx.train.evaluate import evaluate
from rlx.train.schedule import utd_schedule

CAPACITY = 2**18  # 262144 transitions, 8.9 MB: the ring dwarfs everything else


@pytest.fixture(scope="session")
def solo():
    return tiny(16, capacity=CAPACITY)


@pytest.fixture(scope="session")
def pair():
    return tiny(16, runs=2, capacity=CAPACITY)


@pytest.fixture(scope="session")
def wide():
    return tiny(128, capacity=CAPACITY, normalize_obs=True)


def host(state):
    """The state on the host, keys as numbers, for comparisons."""
    return jax.device_get(state)


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, host(a), host(b))


def difference(a, b) -> float:
    pairs = zip(jax.tree.leaves(host(a)), jax.tree.leaves(host(b)), strict=True)
    return max(float(np.abs(x - y).max()) for x, y in pairs)


def of_run(state, r):
    """Run r of a pack as a state of one run; counters stay."""
    counters = {"step", "grad_steps", "ring_start"}
    cut = lambda tree: jax.tree.map(lambda x: x[r : r + 1], tree)  # noqa: E731
    parts = dict(vars(state))
    learner = parts.pop("learner")
    shared = {name: parts.pop(name) for name in counters}
    bare = cut(learner.replace(grad_steps=None)).replace(grad_steps=learner.grad_steps)
    return type(state)(learner=bare, **shared, **{k: cut(v) for k, v in parts.items()})


@pytest.mark.parametrize("fixture", ["solo", "wide"])
def test_achieved_utd_is_the_one_asked_for_with_one_compile(fixture, request):
    """0.0625 ... 8 at 16 and at 128 environments; the optimiser itself counts the updates."""
    program = request.getfixturevalue(fixture)
    for utd in (0.0625, 0.5, 0.3, 1, 8):
        asked = parse_ratio(utd)
        H, G = utd_schedule(asked, program.num_envs)
        n = -(-32 // G)  # 32 updates at least
        state = program.run(program.start([0]), 4, 1, 0, random=True)
        assert int(state.grad_steps) == 0 and int(state.step) == 4
        state = program.run(state, n, H, G)
        collected = (int(state.step) - 4) * program.num_envs
        updates = int(state.learner.opt_state["critic"][0].count[0])
        assert updates == int(state.grad_steps) == int(state.learner.grad_steps) == n * G
        assert updates / collected == pytest.approx(float(asked), rel=0.01)
        assert bool(state.alive[0])
    assert program.online.traces["chunk"] == 1
    assert program.online.traces["evaluate"] == 1


def test_chunk_lengths_change_nothing(solo):
    """64 iterations = 32 + 32 = 7 + 57, bit for bit, metrics included."""
    ends = []
    for lengths in ((64,), (32, 32), (7, 57)):
        state = solo.run(solo.start([1]), 4, 1, 0, random=True)
        for n in lengths:
            state = solo.run(state, n, 1, 8)
        ends.append(host(state))
    assert int(ends[0].grad_steps) == 512
    assert_equal(ends[0], ends[1])
    assert_equal(ends[0], ends[2])


def test_a_run_of_a_pack_equals_the_solo_run(solo, pair):
    """Seeds 3 and 5, learning rates 1e-3 and 3e-3, 10 updates per 16 transitions."""
    seeds, rates = (3, 5), (1e-3, 3e-3)
    packed = pair.run(pair.start(seeds, lr=rates), 4, 1, 0, random=True)
    alone = [
        solo.run(solo.start([s], lr=[rate]), 4, 1, 0, random=True) for s, rate in zip(seeds, rates)
    ]
    for n, tolerance in ((2, 1e-5), (8, 1e-4)):  # after 20 and after 100 updates
        packed = pair.run(packed, n, 1, 10)
        for r in range(2):
            alone[r] = solo.run(alone[r], n, 1, 10)
            one = of_run(packed, r)
            assert difference(one.learner.params, alone[r].learner.params) < tolerance
            assert difference(one.learner.target_params, alone[r].learner.target_params) < tolerance
            np.testing.assert_allclose(one.buffer.obs, alone[r].buffer.obs, atol=10 * tolerance)
    assert int(packed.grad_steps) == 100
    assert difference(of_run(packed, 0).learner.params, of_run(packed, 1).learner.params) > 1e-2


def test_a_run_that_is_no_longer_finite_is_frozen_and_its_neighbour_does_not_notice(pair):
    """Run 1 has an infinite learning rate: its first update ruins it, its second one shows it."""

    def train(rate):
        state = pair.start([0, 1], lr=[1e-3, rate])
        before = host(of_run(state, 1).learner)
        state = pair.run(state, 4, 1, 0, random=True)
        return before, pair.run(state, 6, 1, 4)

    before, broken = train(np.inf)
    _, healthy = train(1e-3)
    np.testing.assert_array_equal(broken.alive, [True, False])
    np.testing.assert_array_equal(healthy.alive, [True, True])
    assert_equal(of_run(broken, 0), of_run(healthy, 0))
    frozen = of_run(broken, 1).learner  # its last good parameters: those before the bad iteration
    assert_equal(frozen.params, before.params)
    assert_equal(frozen.opt_state, before.opt_state)
    assert np.isfinite(np.asarray(broken.buffer.obs)).all()
    again = pair.run(broken, 3, 1, 4)
    assert_equal(of_run(again, 1).learner.params, before.params)
    np.testing.assert_array_equal(again.alive, [True, False])


@pytest.mark.parametrize(
    "fixture",
    [
        pytest.param(
            "solo",
            marks=pytest.mark.xfail(
                strict=True, reason="a solo run with one action copies its action ring (12 %)"
            ),
        ),
        "pair",
    ],
)
def test_a_chunk_needs_little_memory_beside_the_ring(fixture, request):
    """The ring is written in place: a copy of it would be 100 % of its size."""
    program = request.getfixturevalue(fixture)
    ring = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(program.compiled.template.buffer))
    assert ring == CAPACITY * 34 * (1 if fixture == "solo" else 2)
    assert 0 < program.compiled.temp_bytes < 0.1 * ring


def test_observation_statistics_are_those_of_all_visited_observations(wide):
    """Random and learned steps alike; the ring holds them all as they were acted upon."""
    state = wide.run(wide.start([2]), 5, 1, 0, random=True)
    state = wide.run(state, 6, 2, 3)
    steps = int(state.step)
    assert steps == 17
    seen = np.asarray(state.buffer.obs, np.float64)[0, :steps].reshape(-1, 3)
    stats = host(state.learner.obs_stats)
    assert stats.count[0] == steps * 128
    np.testing.assert_allclose(stats.mean[0], seen.mean(0), atol=1e-5)
    np.testing.assert_allclose(stats.m2[0] / stats.count[0], seen.var(0), rtol=1e-4)


def test_the_ring_holds_the_experience_in_order(solo):
    """Slot t holds step t; without an episode end, next_obs of step t is obs of step t + 1."""
    state = solo.run(solo.start([4]), 10, 1, 0, random=True)
    state = host(solo.run(state, 10, 2, 1))
    obs, next_obs = state.buffer.obs[0, :30], state.buffer.next_obs[0, :30]
    np.testing.assert_array_equal(next_obs[:-1], obs[1:])
    np.testing.assert_array_equal(next_obs[-1], state.env.env.obs[0])
    assert not state.buffer.obs[0, 30:].any()
    assert not state.buffer.terminated.any() and not state.buffer.truncated.any()
    random = state.buffer.action[0, :10]
    assert -1 <= random.min() < -0.9 and 0.9 < random.max() <= 1  # 160 uniform draws


def test_episodes_are_counted_when_the_clock_ends_them(solo):
    """200 steps of the pendulum: one truncated episode per environment, the return of the ring."""
    state = host(solo.run(solo.start([6]), 200, 1, 0, random=True))
    assert state.buffer.truncated[0, 199].all() and state.buffer.truncated[0].sum() == 16
    assert state.metrics.episodes.shape == (1, 8)
    np.testing.assert_array_equal(state.metrics.episodes, np.full((1, 8), 2.0))
    np.testing.assert_array_equal(state.metrics.length, np.full((1, 8), 400.0))
    returns = state.buffer.reward[0, :200].sum(0).reshape(8, 2).sum(1)
    np.testing.assert_allclose(state.metrics.return_[0], returns, rtol=1e-5)
    assert (state.buffer.next_obs[0, 199] != state.env.env.obs[0]).any()  # reset came after


def test_metrics_are_sums_over_gradient_steps(solo):
    """Two chunks of one update each against the two summed; alpha starts at 1."""
    state = solo.run(solo.start([7]), 4, 1, 0, random=True)
    first = solo.run(state, 1, 1, 1)
    kept = host(first.metrics.learner)
    both = host(solo.run(first, 1, 1, 1).metrics.learner)
    assert both.keys() == kept.keys() and kept["critic_loss"][0] > 0
    assert kept["alpha"][0] == 1.0
    assert 1.9 < both["alpha"][0] < 2.1 and both["alpha"][0] != 2.0


@pytest.mark.slow
def test_jitted_equals_unjitted(solo):
    """One vector step and two updates with `jax.disable_jit`: the same learning, op by op."""
    state = solo.run(solo.start([8]), 2, 1, 0, random=True)
    plain = jax.tree.map(jnp.array, state)
    jitted = solo.run(state, 1, 1, 2)
    with jax.disable_jit():
        loops = solo.online.chunk(plain, jnp.int32(1), jnp.int32(1), jnp.int32(2), jnp.bool_(False))
    assert difference(jitted.learner.params, loops[0].learner.params) < 1e-5
    assert difference(jitted.metrics.learner, loops[0].metrics.learner) < 1e-2


def test_evaluation_is_deterministic_and_does_not_touch_the_state(solo):
    state = solo.start([9])
    before = host(state)
    returns, lengths = solo.compiled.evaluate(state)
    again, _ = solo.compiled.evaluate(state)
    assert returns.shape == (1, 8)
    np.testing.assert_array_equal(returns, again)
    np.testing.assert_array_equal(lengths, np.full((1, 8), 200))
    assert len(set(returns[0].tolist())) == 8  # eight different starts
    assert_equal(state, before)


def test_evaluation_counts_the_first_episode_once():
    """An MDP of 4 frames and a clock of 6: returns 1 + 2 + 3 + 4; with a clock of 3: 1 + 2 + 3."""
    for clock, want in ((6, 10.0), (3, 6.0)):
        vec = vectorize(counter(ends_at=4), 1, clock)
        _, starts = vec.initial(jax.random.key(0), 3)
        returns, lengths = evaluate(lambda obs: jnp.zeros((len(obs), 1)), vec, starts)
        np.testing.assert_array_equal(returns, np.full(3, want))
        np.testing.assert_array_equal(lengths, np.full(3, min(clock, 4)))
