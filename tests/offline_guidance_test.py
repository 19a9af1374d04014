"""Guidance of policies learned from data: the process is the policy, the critic the learner's, the
command takes it and refuses what it cannot do.
"""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learners import random_like, started

from configs import offline as offline_config
from experiments import guidance_policies, guidance_policies_act, offline, offline_guidance
from experiments import offline_guidance_parts as parts
from rlx.data.rows import Windows
from rlx.guidance.types import Calls
from rlx.infra import checkpoint, errors
from rlx.infra.config import to_json
from rlx.infra.random import key_for
from rlx.infra.sharding import make_mesh
from rlx.nn.flow import VectorField, flow_action
from rlx.ops import diffusion
from rlx.train import offline as train_offline
from rlx.train import offline_pack
from rlx.types import EnvSpec, Keys, Spec

SPEC = EnvSpec(Spec((3,)), Spec((2,), np.float32, -1.0, 1.0))
B = 4
TINY = {
    "critic_hidden": (8, 8),
    "actor_hidden": (8, 8),
    "flow_steps": 4,
    "diffusion_steps": 3,
    "time_features": 4,
}


def config(agent: str, **guidance):
    made = offline_config.get_config(f"agent={agent}")
    made.learner.update({key: value for key, value in TINY.items() if key in made.learner})
    made.guidance.update(guidance)
    return made


def state_of(made):
    fields = {key: made.learner[key] for key in TINY if key in made.learner}
    return started(made.learner.name, SPEC, **fields)


def observations() -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).normal(size=(B, 3)), jnp.float32)


def row_keys(seed: int = 0) -> Keys:
    keys = jax.random.split(jax.random.key(seed), B)
    return Keys(keys, jnp.arange(B, dtype=jnp.int32), keys[0], B)


def test_a_flow_as_a_process_has_the_velocity_that_the_policy_integrates():
    made = config("ifql")
    _, state = state_of(made)
    obs = observations()
    process = parts.process_of(made.learner, SPEC, state.params, obs, 1.0)
    noise = jnp.asarray(np.random.default_rng(1).normal(size=(B, 5, 2)), jnp.float32)
    x = noise
    for t in range(4, 0, -1):
        x = x + process.predict(x, jnp.int32(t)) / 4
    net = VectorField(3, (8, 8), 2)
    want = flow_action(net, 4, "euler", state.params["flow"], obs, noise)
    np.testing.assert_allclose(jnp.clip(x, -1, 1), want, atol=1e-5)


@pytest.mark.parametrize("agent", ["idql", "diffusion_bc"])
def test_a_diffusion_as_a_process_takes_the_steps_that_the_policy_takes(agent):
    made = config(agent)
    _, state = state_of(made)
    obs = observations()
    process = parts.process_of(made.learner, SPEC, state.params, obs, 1.0)
    how = diffusion.schedule(made.learner.schedule, 3)
    noise = jnp.asarray(np.random.default_rng(1).normal(size=(B, 1, 3, 2)), jnp.float32)
    x = noise[:, :, 0]
    for i, t in enumerate((3, 2, 1)):
        kernel = process.kernel(x, process.predict(x, jnp.int32(t)), jnp.int32(t))
        fresh = noise[:, :, i + 1] if t > 1 else jnp.zeros_like(x)
        x = kernel.mean + kernel.scale * fresh

    def predict(x, t):
        given = jnp.repeat(obs[:, None], x.shape[1], axis=1).reshape(-1, 3)
        residual = {"residual": True} if agent == "idql" else {}
        net = parts.Denoiser((8, 8), 2, made.learner.time_features, **residual)
        flat = lambda a: a.reshape(-1, a.shape[-1])  # noqa: E731
        out = net.apply(state.params["denoiser"], given, flat(x), flat(t))
        return out.reshape(x.shape)

    want = diffusion.denoise(predict, noise, how)
    np.testing.assert_allclose(jnp.clip(x, -1, 1), want, atol=1e-5)


def test_the_critic_is_the_runs_own_and_joins_its_members_as_the_learner_does():
    for agent, join in (("ifql", np.min), ("bfn", np.mean)):
        made = config(agent)
        _, state = state_of(made)
        obs, x = observations(), 3 * jnp.asarray(np.random.default_rng(2).normal(size=(B, 5, 2)))
        q = parts.critic_of(made, SPEC)(state.params, obs, x)
        net = parts.Critic((8, 8), made.learner.ensemble, made.learner.layer_norm)
        of = jax.vmap(net.apply, (None, None, 1), 2)  # action by action
        each = of(state.params["critic"], obs, jnp.clip(x, -1, 1))
        np.testing.assert_allclose(q, join(np.asarray(each), axis=0), atol=1e-5)


SVDD = {"method": "svdd", "particles": 2, "children": 3, "alpha": 0.0}


@pytest.mark.parametrize(
    "how", [{"method": "smc", "particles": 4}, pytest.param(SVDD, marks=pytest.mark.slow)]
)
def test_rows_act_by_their_own_keys_and_better_than_unguided_ones(how):
    made = config("ifql", **how)
    _, state = state_of(made)
    act = jax.jit(offline_guidance.make_act(made, SPEC))
    obs, keys = observations(), row_keys()
    action = act(state, obs, keys)
    assert action.shape == (B, 2) and np.abs(np.asarray(action)).max() <= 1
    np.testing.assert_array_equal(action, act(state, obs, keys))
    other = act(
        state, obs.at[1:].add(1.0), keys.replace(keys=row_keys(1).keys.at[0].set(keys.keys[0]))
    )
    np.testing.assert_allclose(action[0], other[0], atol=1e-5)
    q = parts.critic_of(made, SPEC)
    unguided = jnp.stack([learner_sample(made, state, obs, seed) for seed in range(16)], 1)
    mean = np.asarray(q(state.params, obs, unguided)).mean()
    assert np.asarray(q(state.params, obs, action[:, None])).mean() > mean


def learner_sample(made, state, obs, seed):
    noise = jax.random.normal(jax.random.key(seed), (B, 2))
    net = VectorField(3, (8, 8), 2)
    return flow_action(net, 4, "euler", state.params["flow"], obs, noise)


def test_function_evaluations_of_an_action_are_counted():
    """Best of 8: 8 walks of 4 steps and 8 rewards; SMC: one more value at every step."""
    made = config("ifql", method="bon", particles=8)
    found = guidance_policies_act.calls(made, SPEC)
    assert (found["model"], found["reward"], found["calls"]) == (32, 8, 40)
    smc = config("ifql", method="smc", particles=4, alpha_mode="absolute")
    found = guidance_policies_act.calls(smc, SPEC)
    assert found["model"] == 16 and found["reward"] == 4 * (4 + 1)
    scaled = config("ifql", method="smc", particles=4)  # as many walks tell the scale of Q
    assert guidance_policies_act.calls(scaled, SPEC)["model"] == 32
    own = guidance_policies_act.calls(config("ifql"), SPEC)
    assert own["model"] == 32 * 4 and own["reward"] == 32
    assert guidance_policies_act.calls(config("flow_bc"), SPEC)["calls"] == 4
    assert guidance_policies_act.calls(config("fql"), SPEC)["calls"] == 1  # its one-step policy
    assert Calls(1, 0, 2, 0).times(3) == Calls(3, 0, 6, 0)


def test_methods_of_the_comparison_are_read_and_refused():
    saved = config("ifql")
    made = guidance_policies_act.with_method(saved, "smc,particles=3,learner.flow_steps=7")
    assert made.guidance.method == "smc" and made.guidance.particles == 3
    assert made.learner.flow_steps == 7 and made.learner.actor_hidden == (8, 8)
    assert guidance_policies_act.with_method(saved, "own").guidance.method == ""
    for text, says in (
        ("smc,particles", "particles needs a value"),
        ("smc,particle=3", "guidance.particle"),
        ("own,particles=8", "the learner's own way to act has no particles"),
        ("smcc", "unknown guidance 'smcc'; nearest: smc"),
        ("smc,alpha=0", "guidance.alpha = 0 is for"),
    ):
        with pytest.raises(errors.ConfigError, match=says):
            guidance_policies_act.with_method(saved, text)


# The commands.

TASK = "pointmaze-medium-navigate-singletask-task2-v0"
SHORT = (
    "--smoke", f"--task={TASK}", "--steps=20", "--config.train.log_every=20",
    "--config.train.eval_every=20", "--config.eval.episodes=1",
)  # fmt: skip


def call(*flags: str) -> int:
    return errors.one_line(offline.main, list(flags))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("guided")
    flags = ("--agent=ifql", *SHORT, f"--data={folder}", f"--workdir={folder / 'run'}")
    assert call(*flags, "--guidance=svdd", "--particles=2", "--temperature=0.5") == 0
    return folder


def test_a_run_is_evaluated_with_guidance(finished):
    result = json.loads((finished / "run" / "result.json").read_text())
    assert result["status"] == "done" and "success" in result["runs"]["s0"]
    own = json.loads((finished / "run" / "config.json").read_text())["config"]["guidance"]
    assert own["method"] == "svdd" and own["particles"] == 2 and own["alpha"] == 0.5


@pytest.mark.slow
def test_another_runs_critic_guides_a_clone(finished, tmp_path):
    flags = ("--agent=flow_bc", *SHORT, f"--data={finished}", f"--workdir={tmp_path / 'clone'}")
    assert call(*flags, "--guidance=smc", "--particles=2", f"--critic={finished / 'run'}") == 0


@pytest.mark.slow
def test_trained_runs_are_compared_at_equal_calls(finished, tmp_path, capsys):
    argv = [str(finished / "run"), "own,learner.samples=2", "smc,particles=2", "--episodes=2"]
    assert guidance_policies.main([*argv, "--lanes=2", f"--out={tmp_path}"]) == 0
    assert f"written: {tmp_path / 'policies.csv'}" in capsys.readouterr().out
    lines = (tmp_path / "policies.csv").read_text().splitlines()
    assert len(lines) == 3 and lines[1].startswith('"own,learner.samples=2",20.0,2.0')


REFUSED = [
    (("--agent=ifql", "--guidance=smcc"), "unknown guidance 'smcc'; nearest: smc"),
    (("--agent=iql", "--guidance=smc"), "guidance is for flow and diffusion policies"),
    (("--agent=ifql", "--guidance=smc", "--particles=0"), "guidance.particles is a whole number"),
    (("--agent=ifql", "--guidance=smc", "--temperature=-1"), "guidance.alpha is a temperature"),
    (("--agent=ifql", "--guidance=smc", "--temperature=0"), "guidance.alpha = 0 is for"),
    (("--agent=ifql", "--guidance=smc", "--config.guidance.eta=0"), "guidance.eta is a share"),
    (
        ("--agent=ifql", "--guidance=smc", "--config.guidance.alpha_mode=std"),
        "guidance.alpha_mode is q_std or absolute, got 'std'",
    ),
    (("--agent=flow_bc", "--guidance=smc"), "flow_bc has no critic: --critic=WORKDIR"),
    (("--agent=ifql", "--guidance=smc", "--critic=nowhere"), "guidance.critic = 'nowhere'"),
]


@pytest.mark.parametrize("flags, text", REFUSED)
def test_refusals_come_before_any_compile(flags, text, finished, tmp_path, capsys, monkeypatch):
    def compiling(*args, **kwargs):
        raise AssertionError("a session was built, which compiles")

    monkeypatch.setattr(offline_pack.Session, "__init__", compiling)
    code = call(*flags, *SHORT, f"--data={finished}", f"--workdir={tmp_path / 'run'}")
    err = capsys.readouterr().err
    assert code == 2, err
    assert text in err.splitlines()[-1] and not (tmp_path / "run").exists()


def test_a_critic_of_other_shapes_is_refused(tmp_path):
    made = config("ifql", method="smc", critic=str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"config": to_json(made)}))
    _, state = state_of(made)
    runs = jax.tree.map(lambda x: x[None], random_like(state.params, 0))
    saved = checkpoint.Checkpoints(tmp_path)
    saved.save(1, {"params": runs}, {}, {"params": runs})
    saved.close()
    q = parts.critic_of(made, SPEC)
    obs, x = observations(), jnp.zeros((B, 1, 2))
    want = parts.critic_of(config("ifql"), SPEC)(jax.tree.map(lambda x: x[0], runs), obs, x)
    np.testing.assert_allclose(q(state.params, obs, x), want, atol=1e-6)
    with pytest.raises(errors.ConfigError, match="is for other observations or actions"):
        parts.critic_of(made, EnvSpec(Spec((5,)), SPEC.action))


def test_a_given_act_takes_the_place_of_the_learners_in_evaluation():
    """It gets each run's state and a key per row that depends on seed, episode and step alone."""
    made = config("ifql")
    learner, state = state_of(made)

    def act(state, obs, keys):
        return state.hp["discount"] + jax.vmap(lambda k: jax.random.normal(k, (2,)))(keys.keys)

    programs = train_offline.build(
        lambda axis: learner, SPEC, Windows(1, 1, 1), batch_size=4, shards=1,
        mesh=make_mesh(), act=act,
    )  # fmt: skip
    two = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), state.replace(grad_steps=None))
    two = two.replace(grad_steps=state.grad_steps)
    seed, t = jnp.asarray([3, 4]), jnp.asarray([[0, 5, 6], [7, 8, 9]])
    got = programs.policy(two, seed, jnp.zeros((2, 3, 3)), t)
    for run in range(2):
        key = key_for(int(seed[run]), 0, "eval")
        for e in range(3):
            own = jax.random.fold_in(jax.random.fold_in(key, e), t[run, e])
            want = (run + 1) * 0.99 + jax.random.normal(own, (2,))
            np.testing.assert_allclose(got[run, e], want, atol=1e-5)
