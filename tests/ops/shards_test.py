"""Draws per logical shard: a device that holds some of the shards draws exactly its part."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlx.infra.random import STREAMS, key_for, shard_keys
from rlx.ops.shards import pmean_if, rows
from rlx.types import Keys


def draw(key):
    return {"noise": jax.random.normal(key, (3, 2)), "index": jax.random.randint(key, (3,), 0, 99)}


def test_rows_of_the_parts_are_the_rows_of_the_whole():
    whole = shard_keys(jax.random.key(7), 8)
    all_rows = rows(draw, whole)
    assert all_rows["noise"].shape == (24, 2) and all_rows["index"].shape == (24,)
    for devices in (2, 4, 8):
        local = 8 // devices
        parts = [
            rows(draw, Keys(whole.keys[i : i + local], whole.ids[i : i + local], whole.shared, 8))
            for i in range(0, 8, local)
        ]
        for name in all_rows:
            np.testing.assert_array_equal(
                np.concatenate([part[name] for part in parts]), all_rows[name]
            )


def test_one_shard_is_one_plain_draw_and_shards_differ():
    only = rows(draw, shard_keys(jax.random.key(7), 1))
    key = jax.random.fold_in(jax.random.key(7), 0)
    np.testing.assert_array_equal(only["noise"], draw(key)["noise"])
    several = rows(draw, shard_keys(jax.random.key(7), 4))["noise"].reshape(4, -1)
    assert len({tuple(row) for row in several.tolist()}) == 4


def test_shard_keys_follow_the_global_shard_number_on_an_axis():
    """Four devices as a vmapped axis: each gets its two of eight keys, in order."""
    on_axis = jax.vmap(
        lambda _: shard_keys(jax.random.key(3), 8, "data"), axis_name="data", axis_size=4
    )(jnp.arange(4))
    alone = shard_keys(jax.random.key(3), 8)
    np.testing.assert_array_equal(on_axis.ids.reshape(-1), np.arange(8))
    np.testing.assert_array_equal(
        jax.random.key_data(on_axis.keys).reshape(8, -1), jax.random.key_data(alone.keys)
    )


def test_keys_differ_by_seed_step_and_stream_and_by_nothing_else():
    made = {
        (seed, step, stream): tuple(jax.random.key_data(key_for(seed, step, stream)).tolist())
        for seed in (0, 1)
        for step in (0, 1, 2)
        for stream in STREAMS
    }
    assert len(set(made.values())) == len(made)
    again = jax.jit(lambda s, t: jax.random.key_data(key_for(s, t, "act")))(1, 2)
    assert tuple(again.tolist()) == made[1, 2, "act"]
    with pytest.raises(ValueError, match="unknown random stream 'noise'"):
        key_for(0, 0, "noise")


def test_pmean_if_averages_only_on_an_axis():
    x = jnp.array([1.0, 2.0, 6.0])
    assert pmean_if(x, None) is x
    np.testing.assert_allclose(
        jax.vmap(lambda v: pmean_if(v, "data"), axis_name="data")(x), [3.0, 3.0, 3.0]
    )


def test_a_loss_that_ends_in_pmean_has_the_gradient_of_the_whole_batch(run_python):
    """Under shard_map with check_vma the gradient is summed already; a mean would divide it."""
    code = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import PartitionSpec as P
from rlx.infra.sharding import make_mesh
from rlx.ops.shards import pmean_if
mesh = make_mesh(1, 4)
x = jnp.arange(8.0)
loss = lambda w, x, axis: pmean_if(jnp.mean((w * x - 1) ** 2), axis)
grad = lambda w, x: jax.grad(loss)(w, x, "data")
f = jax.shard_map(grad, mesh=mesh, in_specs=(P(), P("data")), out_specs=P())
np.testing.assert_allclose(jax.jit(f)(0.5, x), jax.grad(loss)(0.5, x, None), rtol=1e-6)
"""
    run_python(code, devices=4)
