"""The replay ring against a Python deque that keeps every transition by step and environment."""

from __future__ import annotations

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from toys import keys

from rlx.data.buffer import buffer_bytes, make_buffer
from rlx.types import Keys, Transition

GAMMA = 0.9


def example(obs: int = 2) -> Transition:
    flag = jnp.zeros((), bool)
    return Transition(jnp.zeros(obs), jnp.zeros(1), jnp.zeros(()), jnp.zeros(obs), flag, flag)


def stream(num_envs: int, steps: int, seed: int = 0) -> list[Transition]:
    """Vector steps whose obs is (t, n) and whose next_obs is (t + 1, n) + 0.5 at an episode end.

    About one in five steps terminates or truncates, never both (as `vectorize` reports them).
    """
    rng = np.random.default_rng(seed)
    made = []
    for t in range(steps):
        end = rng.random(num_envs)
        obs = np.stack([np.full(num_envs, t), np.arange(num_envs)], -1).astype(np.float32)
        next_obs = obs + [1.0, 0.0] + 0.5 * (end < 0.2)[:, None]
        made.append(
            Transition(
                obs=obs,
                action=rng.uniform(-1, 1, (num_envs, 1)).astype(np.float32),
                reward=rng.normal(size=num_envs).astype(np.float32),
                next_obs=next_obs.astype(np.float32),
                terminated=end < 0.1,
                truncated=(end >= 0.1) & (end < 0.2),
            )
        )
    return made


def filled(buffer, steps: list[Transition]) -> Transition:
    """The ring after all of `steps`."""
    data, add = buffer.init(example(), len(steps[0].reward)), jax.jit(buffer.add)
    for t, transition in enumerate(steps):
        data = add(data, jnp.int32(t), transition)
    return data


def want(memory: dict[int, Transition], t: int, n: int, n_step: int):
    """The n-step transition from (t, n): action, reward, next_obs, two flags, discount."""
    total, factor = 0.0, 1.0
    for i in range(n_step):
        step = memory[t + i]  # a KeyError here is a window across the write head
        total += factor * step.reward[n]
        factor *= GAMMA
        if step.terminated[n] or step.truncated[n]:
            break
    flags = bool(step.terminated[n]), bool(step.truncated[n])
    discount = 0.0 if flags[0] else factor
    return memory[t].action[n], total, step.next_obs[n], *flags, discount


@pytest.mark.parametrize(
    "capacity, num_envs, n_step",
    [(12, 3, 1), (14, 3, 1), (12, 3, 2), (20, 4, 3), (8, 4, 1), (7, 1, 4)],
)
def test_every_sampled_row_against_a_deque(capacity, num_envs, n_step):
    """After any number of adds: before the ring is full, when it just is, and long after."""
    buffer = make_buffer(capacity, num_envs, n_step)
    slots = -(-capacity // num_envs)
    assert buffer.capacity == slots * num_envs
    add, sample = jax.jit(buffer.add), jax.jit(buffer.sample, static_argnums=3)
    data = buffer.init(example(), num_envs)
    memory: collections.deque[tuple[int, Transition]] = collections.deque(maxlen=slots)
    steps = stream(num_envs, 3 * slots + 2)
    for t, transition in enumerate(steps):
        data = add(data, jnp.int32(t), transition)
        memory.append((t, transition))
        if t + 1 < n_step:
            continue
        batch = jax.device_get(sample(data, jnp.int32(t + 1), keys(t), 256, GAMMA))
        held, seen = dict(memory), set()
        for i in range(256):
            first, n = (int(x) for x in batch.obs[i])
            seen.add((first, n))
            action, reward, next_obs, terminated, truncated, discount = want(held, first, n, n_step)
            assert batch.action[i] == action
            assert batch.reward[i] == pytest.approx(reward, abs=1e-5)
            np.testing.assert_array_equal(batch.next_obs[i], next_obs)
            assert (batch.terminated[i], batch.truncated[i]) == (terminated, truncated)
            assert batch.extras["discount"][i] == pytest.approx(discount, abs=1e-6)
        starts = len(held) - n_step + 1
        if 256 > 8 * starts * num_envs:  # a miss of one of few cells is below 1e-2 per test
            assert len(seen) == starts * num_envs


def test_sampling_is_uniform_over_time_and_environments():
    """Chi-square over all 6 x 4 cells of a wrapped ring, and the 4 x 4 starts of 3-step windows."""
    for n_step, cells in ((1, 24), (3, 16)):
        buffer = make_buffer(24, 4, n_step)
        data = filled(buffer, stream(4, 9))
        sample = jax.jit(buffer.sample, static_argnums=3)
        batch = sample(data, jnp.int32(9), keys(5, shards=2), 48_000, GAMMA)
        codes, counts = np.unique(np.asarray(batch.obs) @ [10, 1], return_counts=True)
        assert len(codes) == cells
        assert stats.chisquare(counts).pvalue > 1e-3


def test_each_shard_draws_from_its_own_columns_and_a_device_draws_its_part():
    buffer = make_buffer(64, 8)
    data = filled(buffer, stream(8, 5))
    sample = jax.jit(buffer.sample, static_argnums=3)
    whole = keys(3, shards=4)
    batch = sample(data, jnp.int32(5), whole, 32, GAMMA)
    np.testing.assert_array_equal(np.asarray(batch.obs)[:, 1] // 2, np.repeat(np.arange(4), 8))
    for device in range(2):  # two devices: 4 columns and 2 shards each
        local = jax.tree.map(lambda x, d=device: x[:, 4 * d : 4 * d + 4], data)
        mine = slice(2 * device, 2 * device + 2)
        part = Keys(whole.keys[mine], whole.ids[mine], whole.shared, 4)
        got = sample(local, jnp.int32(5), part, 16, GAMMA)
        rows = slice(16 * device, 16 * device + 16)
        jax.tree.map(lambda a, b, r=rows: np.testing.assert_array_equal(a, b[r]), got, batch)


def test_the_discount_of_a_pack_is_each_runs_own():
    buffer = make_buffer(8, 2)
    data = buffer.init(example(), 2, (2,))
    assert data.obs.shape == (2, 4, 2, 2)
    add = jax.jit(jax.vmap(buffer.add, in_axes=(0, None, 0)))
    for t, transition in enumerate(stream(2, 4)):
        data = add(data, jnp.int32(t), jax.tree.map(lambda x: np.stack([x, x]), transition))
    sample = jax.jit(jax.vmap(lambda d, g: buffer.sample(d, jnp.int32(4), keys(), 64, g)))
    batch = sample(data, jnp.array([0.5, 0.75]))
    ends = np.asarray(batch.terminated)
    assert ends.any() and not ends.all()
    np.testing.assert_allclose(
        batch.extras["discount"], np.where(ends, 0.0, [[0.5], [0.75]]), rtol=1e-6
    )


@pytest.mark.parametrize(
    "capacity, num_envs, n_step, least", [(15, 8, 1, 16), (0, 1, 1, 2), (31, 8, 3, 32)]
)
def test_a_ring_that_is_too_small_is_refused(capacity, num_envs, n_step, least):
    with pytest.raises(ValueError) as caught:
        make_buffer(capacity, num_envs, n_step)
    assert str(caught.value) == (
        f"data.capacity = {capacity} transitions is too small: {num_envs} envs with "
        f"n_step = {n_step} need at least {least}"
    )
    assert make_buffer(least, num_envs, n_step).capacity == least


def test_bytes_of_a_ring_are_its_leaves():
    buffer = make_buffer(100, 4)
    data = jax.eval_shape(lambda: buffer.init(example(obs=7), 4))
    leaves = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(data))
    assert leaves == buffer_bytes(100, 7, 1)


@pytest.mark.parametrize("runs", [1, 4])
def test_a_write_is_no_scatter_and_a_donated_ring_is_not_copied(runs):
    """The compiled add, vmapped over runs that share the step counter, writes in place."""
    buffer = make_buffer(2**15, 8)
    shapes = jax.eval_shape(lambda: buffer.init(example(obs=16), 8, (runs,)))
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct((runs, *x.shape[2:]), x.dtype), shapes)
    add = jax.jit(jax.vmap(buffer.add, in_axes=(0, None, 0)), donate_argnums=0)
    compiled = add.lower(shapes, jax.ShapeDtypeStruct((), jnp.int32), one).compile()
    assert " scatter(" not in compiled.as_text()
    heads = jax.ShapeDtypeStruct((runs,), jnp.int32)  # what must not happen: a head per run
    per_run = jax.jit(jax.vmap(buffer.add)).lower(shapes, heads, one).compile()
    assert (" scatter(" in per_run.as_text()) == (runs > 1)
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(shapes))
    memory = compiled.memory_analysis()
    assert memory.temp_size_in_bytes < 0.1 * size
    assert memory.alias_size_in_bytes >= size
