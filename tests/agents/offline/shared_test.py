"""What holds for every learner from data."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learners import ACT, OBS, ROWS, SPEC, batch, config, random_like, started
from toys import keys

from rlx import agents
from rlx.types import EnvSpec, Spec

VARIED = [  # the weight to tune, in which runs of one program may differ
    ("fql", "alpha"),
    ("iql", "alpha"),
    ("rebrac", "alpha_actor"),
    ("rlpd", "bc_alpha"),
    pytest.param("fbrac", "alpha", marks=pytest.mark.slow),
    pytest.param("fawac", "alpha", marks=pytest.mark.slow),
    pytest.param("diffusion_ql", "eta", marks=pytest.mark.slow),
]
every = pytest.mark.parametrize("name", agents.OFFLINE)


@every
def test_actions_stay_in_the_box_and_rows_do_not_mix(name):
    """Six rows with a key each, together and one of them alone."""
    learner, state = started(name)
    obs, random = 3.0 * batch().obs, keys(5, shards=ROWS)
    for explore in (False, True):
        action, _ = learner.act(state, obs, random, explore)
        assert action.shape == (ROWS, ACT) and (np.abs(action) <= 1.0).all()
    alone = random.replace(keys=random.keys[4:5], ids=random.ids[4:5])
    action_alone, _ = learner.act(state, obs[4:5], alone, True)
    np.testing.assert_allclose(action_alone[0], action[4], atol=1e-5)


@every
def test_a_row_of_weight_zero_teaches_nothing(name):
    """Whatever it holds: actions, reward and next action."""
    learner, state = started(name)
    rows = batch(chunk=3)
    weights = {"valid", "action_valid", "next_action_valid"}
    extras = {k: x.at[2].set(0.0) if k in weights else x for k, x in rows.extras.items()}
    other = extras | {"next_action": extras["next_action"].at[2].set(-0.9)}
    changed = rows.replace(
        action=rows.action.at[2].set(0.9), reward=rows.reward.at[2].set(7.0), extras=other
    )
    state = state.replace(grad_steps=jnp.int32(1))  # a step that moves every network
    after = [learner.update(state, r, keys())[0] for r in (rows.replace(extras=extras), changed)]
    jax.tree.map(np.testing.assert_array_equal, after[0].params, after[1].params)
    jax.tree.map(np.testing.assert_array_equal, after[0].target_params, after[1].target_params)


@pytest.mark.parametrize("name", ["bc", "iql", "rebrac", "rlpd"])
def test_unknown_actions_of_a_chunk_teach_nothing(name):
    """Networks of flows and diffusion see a whole noised chunk: theirs have weight 0 as targets."""
    learner, state = started(name, **({"bc_alpha": 0.5} if name == "rlpd" else {}))
    rows = batch(chunk=3)
    unknown = rows.extras["action_valid"] == 0
    assert unknown.any()
    state = state.replace(grad_steps=jnp.int32(1))
    changed = rows.replace(action=jnp.where(unknown, -0.8, rows.action))
    after = [learner.update(state, r, keys())[0].params for r in (rows, changed)]
    jax.tree.map(np.testing.assert_array_equal, *after)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after))


@pytest.mark.parametrize(("name", "setting"), VARIED)
def test_runs_that_differ_in_a_setting_share_one_program(name, setting):
    """Two states under vmap equal the two runs alone."""
    values = (0.2, 0.6)
    pairs = [started(name, hp={setting: value}) for value in values]
    learner = pairs[0][0]
    assert setting in learner.hp
    states = [state.replace(grad_steps=jnp.int32(1)) for _, state in pairs]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    rows = batch()
    both = jax.vmap(learner.update, in_axes=(0, None, None))
    quick = {"xla_backend_optimization_level": 0}  # what runs once need not be fast
    together, _ = jax.jit(both, compiler_options=quick)(stacked, rows, keys())
    alone = [learner.update(state, rows, keys())[0] for state in states]
    for i, one in enumerate(alone):
        # Adam's first step shows the sign of a gradient, which near 0 is rounding: compare moments.
        for part in ("opt_state", "target_params"):
            jax.tree.map(
                lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-4, atol=1e-5),
                getattr(together, part),
                getattr(one, part),
            )
    moments = [np.concatenate([x.ravel() for x in jax.tree.leaves(s.opt_state)]) for s in alone]
    assert np.abs(moments[0] - moments[1]).max() > 1e-3


@every
def test_images_need_an_encoder_and_every_network_has_its_own(name):
    images = EnvSpec(Spec((8, 8, 3), np.uint8), SPEC.action)
    with pytest.raises(ValueError, match=r"set learner\.encoder"):
        agents.make(config(name), images)
    with pytest.raises(ValueError, match="leave it empty"):
        agents.make(config(name, encoder="impala_debug"), SPEC)
    learner = agents.make(config(name, encoder="impala_debug"), images)
    hp = {key: jnp.float32(value) for key, value in learner.hp.items()}
    state = jax.eval_shape(learner.init, jax.random.key(0), hp)
    for network, params in state.params.items():
        assert network == "log_alpha" or "encoder" in params["params"]
    obs = jnp.zeros((ROWS, 8, 8, 3), jnp.uint8)
    rows = batch().replace(obs=obs, next_obs=obs)
    after, _ = jax.eval_shape(learner.update, state, rows, keys())
    same = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)  # noqa: E731
    assert same(after) == same(state)
    action, _ = jax.eval_shape(lambda s: learner.act(s, obs, keys(), True), state)
    assert action.shape == (ROWS, ACT)


@every
def test_the_td_loss_learns_nothing_and_is_finite(name):
    learner, state = started(name)
    loss = learner.td_loss(state, batch(chunk=3), keys())
    assert loss.shape == () and np.isfinite(loss)


BAD = {
    "alpha": (-1.0, ">= 0"),
    "alpha_actor": (-0.1, ">= 0"),
    "alpha_critic": (-0.1, ">= 0"),
    "bc_alpha": (-0.1, ">= 0"),
    "eta": (-1.0, ">= 0"),
    "lr": (-1e-3, ">= 0"),
    "policy_noise": (-0.2, ">= 0"),
    "noise_clip": (-0.2, ">= 0"),
    "init_alpha": (0.0, "> 0"),
    "max_weight": (0.0, "> 0"),
    "max_grad_norm": (0.0, "> 0"),
    "ema_rate": (0.0, "in (0, 1]"),
    "tau": (1.5, "in (0, 1]"),
    "discount": (1.01, "in [0, 1]"),
    "expectile": (1.0, "in (0, 1)"),
    "flow_steps": (0, ">= 1"),
    "diffusion_steps": (0, ">= 1"),
    "samples": (0, ">= 1"),
    "backup_samples": (0, ">= 1"),
    "ensemble": (0, ">= 1"),
    "actor_freq": (0, ">= 1"),
    "ema_every": (0, ">= 1"),
    "time_features": (3, "even number"),
    "fourier": (-2, "even number >= 0"),
    "q_agg": ("max", "mean, min"),
    "target_update": ("before", "pre, post"),
    "solver": ("heun", "euler, midpoint"),
    "time_dist": ("normal", "uniform, beta, logit_normal"),
    "schedule": ("sqrt", "vp, linear, cosine"),
    "eval_noise": ("mean", "sample, zero"),
    "actor_loss": ("td3", "awr, ddpgbc"),
}


@every
def test_settings_out_of_range_name_field_value_and_range(name):
    found = [setting for setting in BAD if setting in config(name)]
    assert found
    for setting in found:
        value, allowed = BAD[setting]
        with pytest.raises(ValueError, match=re.escape(allowed)) as error:
            agents.make(config(name, **{setting: value}), SPEC)
        text = str(error.value)
        shown = repr(value) if isinstance(value, str) else f"{value:g}"
        assert f"learner.{setting}" in text and shown in text


@every
def test_actions_must_be_one_vector_of_floats(name):
    for action in (Spec((), np.int32), Spec((2, 3), np.float32)):
        with pytest.raises(ValueError, match=f"{name} needs one vector of float actions"):
            agents.make(config(name), EnvSpec(Spec((OBS,)), action))


def test_residual_blocks_have_one_width():
    with pytest.raises(ValueError, match="all the same"):
        agents.make(config("idql", actor_hidden=(8, 16)), SPEC)


def test_random_states_move_every_parameter():
    """`random_like` leaves nothing at a special value."""
    _, state = started("fql")
    assert all(np.abs(leaf).min() > 0 for leaf in jax.tree.leaves(state.params))
    assert jax.tree.structure(random_like(state.params, 0)) == jax.tree.structure(state.params)
