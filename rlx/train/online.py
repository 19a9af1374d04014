"""The online loop (Anakin, Hessel et al. 2021): environments, replay and updates in one compiled
program.

One iteration = H x (act, step all N environments, write the ring), then G x (sample, update). H, G,
the number of iterations and whether actions are random are arguments: one compile serves the
prefill and every UTD.

Everything carries a leading run axis R (seeds x numeric settings), vmapped and sharded over the
mesh axis `run`; environments, ring columns and batch rows are sharded over `data` by logical
shards. A solo run on one device is the same code with R = 1 and a mesh of 1. The counters are
shared by all runs, so that every `cond` and ring write stays un-batched under `vmap`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from rlx.envs.core import where
from rlx.infra.random import key_for, shard_keys
from rlx.infra.sharding import shardings
from rlx.ops import running_stats
from rlx.ops.shards import rows
from rlx.train.evaluate import evaluate
from rlx.train.probe import probe
from rlx.train.state import (
    Report,
    TrainMetrics,
    TrainState,
    count_episodes,
    example_transition,
    finite,
    metric_names,
    over_runs,
    strip,
)
from rlx.types import Buffer, EnvState, Keys, Learner, PyTree, Transition, VecEnv, VecState


class Online(NamedTuple):
    """Three jitted programs over one mesh; `specs` holds the PartitionSpec of every part of a
    TrainState.
    """

    init: Callable[..., TrainState]  # seeds i32[R], hp {name: f32[R]}
    chunk: Callable[..., tuple[TrainState, Report]]  # state (donated), n, H, G, random
    evaluate: Callable[..., tuple[jax.Array, jax.Array]]  # state -> return [R, E], length [R, E]
    specs: TrainState
    mesh: Mesh
    traces: dict[str, int]  # how often each program was traced: the tests count compiles by it


def build(
    make_learner: Callable[[str | None], Learner],
    vec: VecEnv,
    buffer: Buffer,
    *,
    batch_size: int,
    shards: int,
    eval_episodes: int,
    mesh: Mesh,
) -> Online:
    """Join a learner, environments and a replay ring into the programs of an online run.

    Args:
      make_learner: axis name -> Learner; called with "data", the mesh axis its losses are averaged
        over.
      batch_size, eval_episodes: over all devices.   shards: logical, a multiple of the `data` axis.
    """
    data = mesh.shape["data"]
    local_shards, local_envs = shards // data, vec.num_envs // data
    local_eval = eval_episodes // data
    learner = make_learner("data")
    action_spec = vec.env.spec.action
    traces = {"init": 0, "chunk": 0, "evaluate": 0}

    def keys_for(seed: jax.Array, step: jax.Array | int, stream: str) -> Keys:
        return shard_keys(key_for(seed, step, stream), shards, "data")

    # Initial state: nothing is ever made on one device and moved.

    def init_run(seed: jax.Array, hp: dict[str, jax.Array]) -> tuple[PyTree, VecState, EnvState]:
        pool, eval_start = vec.initial(key_for(seed, 0, "reset"), eval_episodes)
        mine = jax.lax.axis_index("data") * local_eval
        eval_start = jax.tree.map(
            lambda x: jax.lax.dynamic_slice_in_dim(x, mine, local_eval), eval_start
        )
        return (
            learner.init(key_for(seed, 0, "init"), hp),
            vec.reset(pool, keys_for(seed, 0, "env")),
            eval_start,
        )

    def init_local(seed: jax.Array, hp: dict[str, jax.Array]) -> TrainState:
        traces["init"] += 1
        num_runs = seed.shape[0]
        state, env, eval_start = jax.vmap(init_run)(seed, hp)
        example = example_transition(jax.tree.map(lambda x: x[0, 0], env.env.obs), action_spec)
        zeros = jnp.zeros((num_runs, local_shards))
        names = metric_names(make_learner(None), example, hp)
        zero = jnp.int32(0)
        return TrainState(
            learner=state.replace(grad_steps=zero),
            env=env,
            buffer=buffer.init(example, local_envs, (num_runs,)),
            eval_start=eval_start,
            metrics=TrainMetrics(
                {name: jnp.zeros(num_runs) for name in names}, zeros, zeros, zeros, zeros
            ),
            alive=jnp.ones(num_runs, bool),
            seed=seed,
            step=zero,
            ring_start=zero,
            grad_steps=zero,
        )

    # One iteration: H vector steps, then G updates.

    def collect(state: TrainState, random: jax.Array) -> TrainState:
        """Step every environment once and write what happened."""
        keys = keys_for(state.seed, state.step, "act")
        shape = (vec.num_envs // shards, *action_spec.shape)

        def uniform() -> jax.Array:
            return rows(lambda key: jax.random.uniform(key, shape, minval=-1.0, maxval=1.0), keys)

        action = jax.lax.cond(
            random, uniform, lambda: learner.act(state.learner, state.env.env.obs, keys, True)[0]
        )
        env, ts = vec.step(state.env, action, keys_for(state.seed, state.step + 1, "env"))
        transition = Transition(ts.obs, action, ts.reward, ts.next_obs, ts.terminated, ts.truncated)
        stats = state.learner.obs_stats
        if stats is not None:
            stats = running_stats.update(stats, ts.obs, "data")
        return state.replace(
            learner=state.learner.replace(obs_stats=stats),
            env=env,
            buffer=buffer.add(state.buffer, state.step - state.ring_start, transition),
            metrics=count_episodes(state.metrics, ts, local_shards),
            step=state.step + 1,
        )

    def improve(state: TrainState, ring: PyTree) -> TrainState:
        """One gradient step on one fresh batch."""
        keys = keys_for(state.seed, state.grad_steps, "sample")
        discount = state.learner.hp["discount"]
        filled = state.step - state.ring_start
        batch = buffer.sample(ring, filled, keys, batch_size // data, discount)
        new, metrics = learner.update(
            state.learner, batch, keys_for(state.seed, state.grad_steps, "update")
        )
        sums = jax.tree.map(jnp.add, state.metrics.learner, metrics)
        metrics = state.metrics.replace(learner=sums)
        return state.replace(learner=new, metrics=metrics, grad_steps=state.grad_steps + 1)

    def collect_local(state: TrainState, H: jax.Array, random: jax.Array) -> TrainState:
        steps = lambda s: jax.lax.fori_loop(0, H, lambda _, s: collect(s, random), s)  # noqa: E731
        return over_runs(steps, state)

    def improve_local(state: TrainState, G: jax.Array) -> TrainState:
        def run(state: TrainState) -> TrainState:
            # The ring is read, never carried: a loop that returned it would cost copies of it.
            ring, rest = state.buffer, state.replace(buffer=None)
            return jax.lax.fori_loop(0, G, lambda _, s: improve(s, ring), rest)

        return over_runs(run, state.replace(env=None, eval_start=None))

    def probe_local(state: TrainState) -> PyTree:  # {name: [R]}
        def run(state: TrainState) -> TrainState:
            keys = keys_for(state.seed, state.step, "probe")
            found = probe(learner, buffer, state, keys, batch_size // data, vec.num_envs // data)
            return state.replace(metrics=found)

        return over_runs(run, state.replace(env=None, eval_start=None)).metrics

    def evaluate_local(state: TrainState) -> PyTree:  # return, length, each [R, E]
        traces["evaluate"] += 1

        def run(state: TrainState) -> TrainState:
            keys = keys_for(state.seed, 0, "eval")
            act = lambda obs: learner.act(state.learner, obs, keys, False)[0]  # noqa: E731
            return state.replace(eval_start=evaluate(act, vec, state.eval_start))

        # Without the ring and the environments: evaluation reads the learner, its starts and the
        # seed.
        return over_runs(run, state.replace(buffer=None, env=None)).eval_start

    # The parts joined over the mesh. Only updates differentiate, and only there does shard_map's
    # typing of replicated values (check_vma) decide what a gradient is; simulators' loops are not
    # written for it.

    def sharded(function: Callable, in_specs, out_specs, check: bool = False) -> Callable:
        return jax.shard_map(
            function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=check
        )

    run, rows_, none = cast(Any, (P("run"), P("run", "data"), P()))  # stand where arrays will
    learner_shapes = jax.eval_shape(learner.init, jax.random.key(0), learner.hp)
    specs = TrainState(
        learner=jax.tree.map(lambda _: run, learner_shapes).replace(grad_steps=P()),
        env=VecState(env=rows_, pool=run, start=rows_, length=rows_, return_=rows_),
        buffer=P("run", None, "data"),
        eval_start=rows_,
        metrics=TrainMetrics(learner=run, return_=rows_, length=rows_, episodes=rows_, nan=rows_),
        alive=run,
        seed=run,
        step=none,
        ring_start=none,
        grad_steps=none,
    )
    collect_all = sharded(collect_local, (specs, P(), P()), specs)
    updated = specs.replace(env=None, buffer=None, eval_start=None)
    improve_all = sharded(improve_local, (specs, P()), updated, check=True)

    def iteration(state: TrainState, H: jax.Array, G: jax.Array, random: jax.Array) -> TrainState:
        before = collect_all(state, H, random)
        state = improve_all(before, G)
        alive = state.alive & finite(state)
        # A run whose loss is no longer finite keeps its last good learner; its neighbours go on.
        kept = where(alive, strip(state.learner), strip(before.learner))
        kept = kept.replace(grad_steps=state.grad_steps)
        counted = {"metrics": state.metrics, "grad_steps": state.grad_steps}
        return before.replace(learner=kept, alive=alive, **counted)

    probe_all = sharded(probe_local, (specs.replace(env=None, eval_start=None),), run)

    def chunk(state: TrainState, n, H, G, random) -> tuple[TrainState, Report]:
        traces["chunk"] += 1
        state = jax.lax.fori_loop(0, n, lambda _, s: iteration(s, H, G, random), state)
        probed = probe_all(state.replace(env=None, eval_start=None))
        return state, Report(state.metrics, state.alive, probed)

    # Shardings are said outright: XLA would call zero-sized leaves replicated. What the host reads
    # is on every device, so that process 0 needs no gather.
    places, everywhere = shardings(mesh, specs), shardings(mesh, P())
    init = sharded(init_local, (run, run), specs)
    evaluate_all = sharded(evaluate_local, (specs,), (rows_, rows_))
    return Online(
        init=jax.jit(init, out_shardings=places),
        chunk=jax.jit(chunk, donate_argnums=0, out_shardings=(places, everywhere)),
        evaluate=jax.jit(evaluate_all, out_shardings=everywhere),
        specs=specs,
        mesh=mesh,
        traces=traces,
    )
