"""SAC against an independent float64 NumPy implementation, number by number.

The gradients of the NumPy losses are central differences, so nothing of autodiff is trusted twice.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numeric import (
    ACT,
    BATCH,
    OBS,
    SPEC,
    adam_first,
    assert_close,
    batch,
    compiled_flops,
    differences,
    f64,
    members,
    mlp,
    noise_of,
    norm,
    perturbed,
)
from toys import keys

from rlx import agents
from rlx.agents import sac
from rlx.ops import running_stats
from rlx.scaling import flops
from rlx.types import EnvSpec, Spec


def config(**changes):
    made = sac.get_config()
    made.critic_hidden = made.actor_hidden = (4, 3)
    made.batch_size = BATCH
    made.update(changes)
    return made


def started(cfg, seed: int = 0, **hp):
    """A learner and its state, with every parameter moved off its special initial value."""
    learner = agents.make(cfg, SPEC)
    settings = {name: jnp.float32(value) for name, value in (learner.hp | hp).items()}
    state = jax.jit(learner.init)(jax.random.key(seed), settings)
    return learner, state.replace(
        params=perturbed(state.params, seed), target_params=perturbed(state.target_params, seed + 1)
    )


# The independent implementation: float64, one loop per layer.


def q_values(params, obs, action):
    """[size, B], one member after the other."""
    return members(params, mlp, obs, action)[..., 0]


def policy(params, obs, noise):
    mean, log_std = np.split(mlp(params, obs), 2, axis=-1)
    log_std = np.clip(log_std, -10.0, 2.0)
    u = mean + np.exp(log_std) * noise
    log_prob = -0.5 * noise**2 - log_std - 0.5 * np.log(2 * np.pi) - np.log1p(-(np.tanh(u) ** 2))
    return np.tanh(u), log_prob.sum(-1)


def targets(params, target_params, rows, noise, reward_scale):
    action, log_prob = policy(params["actor"], rows.next_obs, noise)
    value = q_values(target_params, rows.next_obs, action).min(0)
    soft = value - np.exp(params["log_alpha"]) * log_prob
    return reward_scale * rows.reward + rows.extras["discount"] * soft


def critic_loss(critic, target, rows):
    return ((q_values(critic, rows.obs, rows.action) - target) ** 2).mean(1).sum()


def actor_loss(actor, critic, log_alpha, obs, noise):
    action, log_prob = policy(actor, obs, noise)
    return (np.exp(log_alpha) * log_prob - q_values(critic, obs, action).min(0)).mean()


def numpy_update(state, rows, noise):
    """One whole gradient step in the order critic, target, actor, temperature."""
    params, target_params, hp = f64(state.params), f64(state.target_params), f64(state.hp)
    rows, lr = f64(rows), float(hp["lr"])
    y = targets(params, target_params, rows, noise[:, 0], hp["reward_scale"])
    loss_c = lambda critic: critic_loss(critic, y, rows)  # noqa: E731
    grads_c = differences(loss_c, params["critic"])
    critic = adam_first(params["critic"], grads_c, lr)
    polyak = lambda new, old: hp["tau"] * new + (1 - hp["tau"]) * old  # noqa: E731
    log_alpha = params["log_alpha"]
    loss_a = lambda actor: actor_loss(actor, critic, log_alpha, rows.obs, noise[:, 1])  # noqa: E731
    grads_a = differences(loss_a, params["actor"])
    entropy = -policy(params["actor"], rows.obs, noise[:, 1])[1].mean()
    alpha = np.exp(log_alpha)
    slope = alpha * (entropy - hp["target_entropy"])
    metrics = {
        "critic_loss": loss_c(params["critic"]),
        "q": q_values(params["critic"], rows.obs, rows.action).mean(),
        "actor_loss": loss_a(params["actor"]),
        "entropy": entropy,
        "alpha_loss": slope,
        "alpha": alpha,
        "critic_grad_norm": norm(grads_c),
        "actor_grad_norm": norm(grads_a),
        "log_alpha_grad_norm": abs(slope),
    }
    new = {
        "critic": critic,
        "actor": adam_first(params["actor"], grads_a, lr),
        "log_alpha": log_alpha - lr * np.sign(slope),
    }
    return new, jax.tree.map(polyak, critic, target_params), metrics


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"ensemble": 3, "layer_norm": True},
        {"reward_scale": 0.1, "target_entropy_per_dim": -0.5, "tau": 0.2, "init_alpha": 0.3},
    ],
    ids=["defaults", "three_critics_with_layer_norm", "scaled"],
)
def test_one_whole_update_against_numpy(changes):
    """Losses, gradient norms, order, Adam and Polyak. lr is large so that a wrong order shows."""
    learner, state = started(config(lr=0.05, **changes))
    rows, random = batch(), keys(4, shards=2)
    got, metrics = jax.jit(learner.update)(state, rows, random)
    params, target_params, want = numpy_update(state, rows, noise_of(random, 2, ACT))
    assert metrics.keys() == want.keys()
    for name, value in want.items():
        assert float(metrics[name]) == pytest.approx(float(value), rel=2e-4, abs=1e-5), name
    # A gradient near 0 loses digits in float32, and Adam's first step shows only its sign.
    assert_close(got.params, params, atol=2e-3)
    moved = sum(
        (np.abs(a - b) > 0.04).sum()
        for a, b in zip(jax.tree.leaves(f64(got.params)), jax.tree.leaves(f64(state.params)))
    )
    assert moved > 40
    assert_close(got.target_params, target_params, atol=1e-3 * float(state.hp["tau"]) + 1e-6)
    assert int(got.grad_steps) == 1


def first_moment(state, name):
    """Adam's first moment, in the structure of the parameters."""
    return state.opt_state[name][0].mu


def test_adam_keeps_its_moments_over_three_updates():
    """Against a NumPy Adam fed with the gradients that one update shows by its first moment."""
    learner, state = started(config(lr=0.01))
    update = jax.jit(learner.update)
    m = v = 0.0
    for t in range(1, 4):
        before = state
        state, _ = update(state, batch(t), keys(t))
        kernel = lambda s: np.asarray(  # noqa: E731
            s.params["critic"]["params"]["member"]["Dense_1"]["kernel"], np.float64
        )
        first = first_moment(state, "critic")["params"]["member"]["Dense_1"]["kernel"]
        mu = np.asarray(first, np.float64)
        grad = (mu - 0.9 * m) / 0.1
        m, v = mu, 0.999 * v + 0.001 * grad**2
        step = 0.01 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        np.testing.assert_allclose(kernel(state), kernel(before) - step, atol=2e-5)
        assert int(state.opt_state["critic"][0].count) == t


def test_the_actors_gradient_by_finite_differences_in_random_directions():
    """The gradient is what Adam's first moment shows; its norm is the metric."""
    learner, state = started(config(lr=0.0))
    rows, random = batch(), keys(1)
    after, metrics = jax.jit(learner.update)(state, rows, random)
    moment = first_moment(after, "actor")
    grads = jax.tree.map(lambda mu: np.asarray(mu, np.float64) / 0.1, moment)
    noise, params = noise_of(random, 2, ACT)[:, 1], f64(state.params)
    loss = lambda actor: actor_loss(  # noqa: E731
        actor, params["critic"], params["log_alpha"], f64(rows.obs), noise
    )
    rng = np.random.default_rng(0)
    for _ in range(5):
        way = jax.tree.map(lambda x: rng.normal(size=x.shape), params["actor"])
        moved = lambda s, way=way: jax.tree.map(lambda p, d: p + s * d, params["actor"], way)  # noqa: E731
        slope = (loss(moved(1e-6)) - loss(moved(-1e-6))) / 2e-6
        inner = sum((g * d).sum() for g, d in zip(jax.tree.leaves(grads), jax.tree.leaves(way)))
        assert inner == pytest.approx(slope, rel=1e-3, abs=1e-4)
    assert float(metrics["actor_grad_norm"]) == pytest.approx(norm(grads), rel=1e-4)


def test_termination_cuts_the_bootstrap_and_truncation_does_not():
    """Row 2 terminated: its next observation must not matter. Row 3 truncated: it must."""
    learner, state = started(config())
    update = jax.jit(learner.update)
    rows = batch()
    reference = update(state, rows, keys())[1]["critic_loss"]
    changed = lambda row: rows.replace(next_obs=rows.next_obs.at[row].add(5.0))  # noqa: E731
    assert update(state, changed(2), keys())[1]["critic_loss"] == reference
    assert update(state, changed(3), keys())[1]["critic_loss"] != reference
    flags = rows.replace(terminated=~rows.terminated, truncated=~rows.truncated)
    assert update(state, flags, keys())[1]["critic_loss"] == reference  # extras["discount"] alone


def test_reward_scale_scales_rewards_and_nothing_else():
    learner, scaled = started(config(reward_scale=0.25))
    plain = scaled.replace(hp=scaled.hp | {"reward_scale": jnp.float32(1.0)})
    rows = batch()
    update = jax.jit(learner.update)
    quarter = update(plain, rows.replace(reward=0.25 * rows.reward), keys())
    assert_close(update(scaled, rows, keys())[0].params, quarter[0].params, rtol=1e-6)


@pytest.mark.parametrize("per_dim, act_dim, want", [(-1.0, 2, -2.0), (-0.5, 6, -3.0)])
def test_target_entropy_is_per_action_dimension(per_dim, act_dim, want):
    spec = EnvSpec(Spec((OBS,)), Spec((act_dim,), np.float32, -1.0, 1.0))
    learner = agents.make(config(target_entropy_per_dim=per_dim), spec)
    assert learner.hp["target_entropy"] == want
    assert learner.hp.keys() == set(sac.HP) - {"weight_decay"}


def test_the_temperature_falls_above_the_target_entropy_and_rises_below():
    learner, state = started(config(lr=0.01))
    update = jax.jit(learner.update)
    entropy = float(update(state, batch(), keys())[1]["entropy"])
    for offset, sign in ((-1.0, -1.0), (1.0, 1.0)):
        hp = state.hp | {"target_entropy": jnp.float32(entropy + offset)}
        new = update(state.replace(hp=hp), batch(), keys())[0].params["log_alpha"]
        assert float(new - state.params["log_alpha"]) == pytest.approx(sign * 0.01, rel=1e-3)


def test_two_learning_rates_under_vmap_give_the_two_solo_updates():
    learner, state = started(config())
    rates = jnp.float32([1e-3, 1e-1])
    stacked = jax.tree.map(lambda x: jnp.stack([x, x]), state)
    stacked = stacked.replace(hp=stacked.hp | {"lr": rates})
    both, _ = jax.jit(jax.vmap(learner.update, in_axes=(0, None, None)))(stacked, batch(), keys())
    for i in range(2):
        solo = state.replace(hp=state.hp | {"lr": rates[i]})
        alone, _ = jax.jit(learner.update)(solo, batch(), keys())
        assert_close(jax.tree.map(lambda x, i=i: x[i], both.params), alone.params, atol=1e-6)
    first, second = (np.asarray(x) for x in both.params["log_alpha"])
    assert abs(first - state.params["log_alpha"]) == pytest.approx(1e-3, rel=1e-2)
    assert abs(second - state.params["log_alpha"]) == pytest.approx(1e-1, rel=1e-2)


def test_critics_start_different_and_targets_start_equal():
    learner = agents.make(config(ensemble=4), SPEC)
    state = jax.jit(learner.init)(jax.random.key(0), learner.hp)
    kernel = np.asarray(state.params["critic"]["params"]["member"]["Dense_0"]["kernel"])
    assert kernel.shape == (4, OBS + ACT, 4)
    assert len(np.unique(kernel)) == kernel.size
    assert_close(state.target_params, state.params["critic"], rtol=0)
    assert float(state.params["log_alpha"]) == 0.0


def test_act_explores_by_the_policy_and_evaluates_by_its_mean():
    learner, state = started(config())
    obs, random = batch().obs, keys(2, shards=4)
    act = jax.jit(learner.act, static_argnums=3)
    mean, _ = np.split(mlp(f64(state.params["actor"]), f64(obs)), 2, axis=-1)
    action, extras = act(state, obs, random, False)
    np.testing.assert_allclose(action, np.tanh(mean), atol=1e-5)
    assert extras == {}
    noise = np.concatenate([jax.random.normal(key, (BATCH // 4, ACT)) for key in random.keys])
    action, extras = act(state, obs, random, True)
    want, log_prob = policy(f64(state.params["actor"]), f64(obs), np.float64(noise))
    np.testing.assert_allclose(action, want, atol=1e-5)
    np.testing.assert_allclose(extras["log_prob"], log_prob, rtol=1e-3, atol=1e-3)


def test_normalized_observations_are_what_a_plain_learner_would_see():
    """With mean 2 and standard deviation 3, update and act are the plain ones on (x - 2) / 3."""
    learner, state = started(config(normalize_obs=True))
    plain, _ = started(config())
    stats = running_stats.RunningStats(jnp.float32(10.0), jnp.full(OBS, 2.0), jnp.full(OBS, 90.0))
    state = state.replace(obs_stats=stats)
    rows, shift = batch(), lambda x: (x - 2.0) / 3.0
    moved = rows.replace(obs=shift(rows.obs), next_obs=shift(rows.next_obs))
    got, _ = jax.jit(learner.update)(state, rows, keys())
    want, _ = jax.jit(plain.update)(state.replace(obs_stats=None), moved, keys())
    assert_close(got.params, want.params, atol=1e-5)
    assert_close(got.obs_stats, stats, rtol=0)
    for explore in (True, False):
        a, _ = jax.jit(learner.act, static_argnums=3)(state, rows.obs, keys(), explore)
        bare = state.replace(obs_stats=None)
        b, _ = jax.jit(plain.act, static_argnums=3)(bare, moved.obs, keys(), explore)
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert started(config())[1].obs_stats is None


@pytest.mark.parametrize(
    "change",
    [
        {"action": Spec((), np.int32)},
        {"action": Spec((ACT,), np.int32)},
        {"obs": Spec((8, 8, 3), np.uint8)},
        {"obs": {"state": Spec((OBS,)), "privileged_state": Spec((2 * OBS,))}},
        {"obs": Spec({"state": (OBS,)})},
    ],
    ids=["discrete", "int_vector", "image", "dict", "dict_of_shapes"],
)
def test_only_one_bounded_action_vector_and_one_observation_vector(change):
    spec = SPEC._replace(**change)
    with pytest.raises(ValueError) as caught:
        agents.make(config(), spec)
    assert str(caught.value) == (
        "sac needs one vector of observations and one vector of float actions in [-1, 1]; "
        f"this environment has observations {spec.obs} and actions {spec.action}"
    )


def test_an_unknown_agent():
    with pytest.raises(ValueError, match="unknown agent 'sacc'; nearest: sac, "):
        agents.make(config(name="sacc"), SPEC)


def test_dot_flops_are_within_two_percent_of_the_compilers_count():
    """The formula of `rlx.scaling.flops` against XLA, for the networks of the papers."""
    obs, act, size, hidden = 17, 6, 256, (256, 256)
    cfg = config(critic_hidden=hidden, actor_hidden=hidden, batch_size=size)
    spec = EnvSpec(Spec((obs,)), Spec((act,), np.float32, -1.0, 1.0))
    learner = agents.make(cfg, spec)
    counted = compiled_flops(learner, size, spec, keys)
    formula = flops.sac(obs, act, hidden, hidden, size).per_update
    assert counted == pytest.approx(formula, rel=0.02)
    state = jax.eval_shape(learner.init, jax.random.key(0), learner.hp)
    critics = sum(x.size for x in jax.tree.leaves(state.params["critic"]))
    assert flops.sac(obs, act, hidden, hidden, size).critic_params == critics
