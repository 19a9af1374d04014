"""Learning from data: many gradient steps in one compiled program, the data on device; then, if
asked, one environment step and its update per call.

Everything of a run carries a leading run axis R (seeds x numeric settings), vmapped and sharded
over the mesh axis `run`; batch rows are sharded over `data` by logical shards. The data set is one
copy per device, shared by all runs, and so are the counters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from rlx.data.growing import Growing
from rlx.data.rows import Rows, Windows, window
from rlx.envs.core import where
from rlx.infra.random import key_for, shard_keys
from rlx.infra.sharding import shardings
from rlx.ops.images import crop_batch
from rlx.ops.shards import rows
from rlx.train.offline_online import make_explore, recorded
from rlx.train.offline_state import HostSteps, OfflineState, Online, Report, fresh, metric_names
from rlx.train.state import MUST_BE_FINITE, over_runs, strip
from rlx.types import EnvSpec, Keys, Learner, PyTree, Transition


class Offline(NamedTuple):
    """Jitted programs over one mesh; `specs` holds the PartitionSpec of every part of a state."""

    init: Callable[..., OfflineState]  # seeds int32[R], hp {name: f32[R]}
    learn: Callable[..., tuple[OfflineState, Report]]  # state (donated), data, n
    policy: Callable[..., jax.Array]  # learner, seed [R], obs [R, E, *O], t [R, E] -> [R, E, A]
    explore: Callable[..., tuple[OfflineState, jax.Array]]  # state (donated), obs [R, *O]
    validate: Callable[..., jax.Array]  # state, validation rows -> the learner's loss [R]
    record: Callable[..., tuple[OfflineState, Report]]  # state (donated), data, steps, learn: bool
    specs: OfflineState
    mesh: Mesh
    traces: dict[str, int]


def build(
    make_learner: Callable[[str | None], Learner],
    spec: EnvSpec,
    how: Windows,
    *,
    batch_size: int,
    shards: int,
    mesh: Mesh,
    crop: float = 0.0,
    online: Online | None = None,
    act: Callable[[PyTree, jax.Array, Keys], jax.Array] | None = None,
) -> Offline:
    """Join a learner and rows of data into the programs of an offline run.

    Args:
      make_learner: axis name -> Learner whose action is a whole chunk.
      spec: of the environment: one frame, one action.   crop: probability of random crops.
      act: learner state, obs [E, *O], a key per row -> actions [E, A] of evaluation, in place of
        the learner's own.
    """
    data_devices = mesh.shape["data"]
    axis_name = "data" if data_devices > 1 else None  # a mean over one device copies all gradients
    learner, alone = make_learner(axis_name), make_learner(None)
    act = act or (lambda state, obs, keys: alone.act(state, obs, keys, False)[0])
    local = batch_size // data_devices
    traces = {"init": 0, "learn": 0, "policy": 0, "record": 0}

    def keys_for(seed: jax.Array, step: jax.Array | int, stream: str) -> Keys:
        return shard_keys(key_for(seed, step, stream), shards, axis_name)

    # Initial state.

    def init_local(seed: jax.Array, hp: dict[str, jax.Array]) -> OfflineState:
        traces["init"] += 1
        state = jax.vmap(lambda s, hp: learner.init(key_for(s, 0, "init"), hp))(seed, hp)
        return fresh(state, seed, metric_names(alone, spec, how), spec, how, online)

    # One gradient step.

    def draw(data: Rows, ring: Growing | None, keys: Keys, discount: jax.Array) -> Transition:
        """A batch of examples, uniform over the data and, once there are any, the ring's."""
        size, offline = (local // keys.keys.shape[0],), data.index.shape[0]

        def some(stream: int, count: jax.Array | int) -> jax.Array:
            def one(key: jax.Array) -> jax.Array:
                return jax.random.randint(jax.random.fold_in(key, stream), size, 0, count)

            return rows(one, keys)

        def old() -> Transition:
            return window(data, data.index[some(0, offline)], discount, how)

        if ring is None:
            return old()
        slot = (ring.head + some(1, jnp.maximum(ring.count, 1))) % ring.rows.index.shape[0]
        new = window(ring.rows, ring.rows.index[slot], discount, how)
        if not offline:
            return new
        if cast(Online, online).balanced:
            number = keys.ids[:, None] * size[0] + jnp.arange(size[0])  # over all devices
            taken = number.reshape(-1) % 2 == 0
        else:
            taken = some(2, offline + ring.count) >= offline
        return where(taken & (ring.count > 0), new, old())

    def improve(state: OfflineState, data: Rows, ring: Growing | None) -> OfflineState:
        """One gradient step on one fresh batch; once a run is not finite, its rate is zero.

        A select over all of the state instead costs 3 % of an update on a CPU; `learning.adam`
        keeps what is not finite out.
        """
        keys = keys_for(state.seed, state.grad_steps, "sample")
        hp = state.learner.hp
        batch = draw(data, ring, keys, hp["discount"])
        if crop:
            batch = crop_batch(batch, keys, crop)
        update_keys = keys_for(state.seed, state.grad_steps, "update")
        rate = jnp.where(state.alive, hp["lr"], 0.0)
        own = state.learner.replace(hp=hp | {"lr": rate})
        new, metrics = learner.update(own, batch, update_keys)
        watched = [value for name, value in metrics.items() if name.endswith(MUST_BE_FINITE)]
        sums = jax.tree.map(jnp.add, state.metrics.learner, metrics)
        return state.replace(
            learner=new.replace(hp=hp, grad_steps=state.grad_steps + 1),
            metrics=state.metrics.replace(learner=sums),
            alive=state.alive & jnp.isfinite(jnp.stack(watched)).all(),
            grad_steps=state.grad_steps + 1,
        )

    def improve_local(state: OfflineState, data: Rows, n: jax.Array) -> OfflineState:
        def run(state: OfflineState) -> OfflineState:
            # The ring is read, never carried: a loop that returned it would cost copies of it.
            ring, rest = state.buffer, state.replace(buffer=None)
            return jax.lax.fori_loop(0, n, lambda _, s: improve(s, data, ring), rest)

        return over_runs(run, state.replace(playing=None))

    run, everywhere = cast(Any, (P("run"), P()))  # stand where arrays will
    shapes = jax.eval_shape(alone.init, jax.random.key(0), alone.hp)
    specs = OfflineState(
        learner=jax.tree.map(lambda _: run, shapes).replace(grad_steps=everywhere),
        buffer=run if online else None,
        playing=run if online else None,
        metrics=run,
        alive=run,
        seed=run,
        step=everywhere,
        grad_steps=everywhere,
    )
    learned = specs.replace(buffer=None, playing=None)
    improve_all = jax.shard_map(
        improve_local,
        mesh=mesh,
        in_specs=(specs.replace(playing=None), everywhere, everywhere),
        out_specs=learned,
        check_vma=True,
    )

    def improved(state: OfflineState, data: Rows, n: jax.Array) -> OfflineState:
        new = improve_all(state.replace(playing=None), data, n)
        return new.replace(buffer=state.buffer, playing=state.playing)

    def report(state: OfflineState) -> Report:
        norms = {
            f"{name}_param_norm": jax.vmap(optax.tree.norm)(params)
            for name, params in state.learner.params.items()
        }
        return Report(state.metrics, state.alive, norms)

    def learn(state: OfflineState, data: Rows, n: jax.Array) -> tuple[OfflineState, Report]:
        traces["learn"] += 1
        state = improved(state, data, n)
        state = state.replace(step=state.step + n)
        return state, report(state)

    # Acting. Evaluation gives every (run, episode, step) its own noise, whatever the lanes.

    def policy(learner_state: PyTree, seed: jax.Array, obs: jax.Array, t: jax.Array) -> jax.Array:
        traces["policy"] += 1
        episodes = jnp.arange(obs.shape[1], dtype=jnp.int32)

        def one(state: PyTree, seed: jax.Array, obs: jax.Array, t: jax.Array) -> jax.Array:
            key = key_for(seed, 0, "eval")
            fold = jax.vmap(lambda e, t: jax.random.fold_in(jax.random.fold_in(key, e), t))
            keys = Keys(fold(episodes, t), episodes, key, len(episodes))
            return act(state, obs, keys)

        rest = strip(learner_state)
        put = lambda rest: rest.replace(grad_steps=learner_state.grad_steps)  # noqa: E731
        return jax.vmap(lambda rest, *args: one(put(rest), *args))(rest, seed, obs, t)

    def validate(state: OfflineState, val: Rows) -> jax.Array:
        """Loss of every run on one batch of rows that it never trains on, the same every time."""

        def one(rest: PyTree, seed: jax.Array) -> jax.Array:
            own = rest.replace(grad_steps=state.grad_steps)
            keys = shard_keys(key_for(seed, 0, "probe"), 1)
            pick = jax.random.randint(keys.keys[0], (batch_size,), 0, val.index.shape[0])
            return alone.td_loss(own, window(val, val.index[pick], own.hp["discount"], how), keys)

        return jax.vmap(one)(strip(state.learner), state.seed)

    def record(
        state: OfflineState, data: Rows, steps: HostSteps, n: jax.Array
    ) -> tuple[OfflineState, Report]:
        """Store one environment step of every run, then take `n` gradient steps."""
        traces["record"] += 1
        state = recorded(state, steps, how.frame_stack)
        state = improved(state, data, n).replace(step=state.step + 1)
        return state, report(state)

    places, replicated = shardings(mesh, specs), shardings(mesh, everywhere)
    init = jax.shard_map(
        init_local, mesh=mesh, in_specs=(run, run), out_specs=specs, check_vma=False
    )
    return Offline(
        init=jax.jit(init, out_shardings=places),
        learn=jax.jit(learn, donate_argnums=0, out_shardings=(places, replicated)),
        policy=jax.jit(policy, out_shardings=replicated),
        explore=jax.jit(
            make_explore(alone, how.chunk), donate_argnums=0, out_shardings=(places, replicated)
        ),
        validate=jax.jit(validate, out_shardings=replicated),
        record=jax.jit(record, donate_argnums=0, out_shardings=(places, replicated)),
        specs=specs,
        mesh=mesh,
        traces=traces,
    )
