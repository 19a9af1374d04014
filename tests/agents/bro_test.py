"""BRO against an independent float64 NumPy implementation; resets, adjusters, exploration."""

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
    dense,
    differences,
    f64,
    layer_norm,
    members,
    noise_of,
    norm,
    perturbed,
)
from toys import keys

from rlx import agents
from rlx.agents import bro
from rlx.ops import running_stats
from rlx.scaling import flops
from rlx.types import EnvSpec, Spec

QUANTILES = 3


def config(**changes):
    made = bro.get_config()
    made.update(
        critic_hidden=(4,), actor_hidden=(4,), quantiles=QUANTILES, batch_size=BATCH, reset_at=()
    )
    made.update(changes)
    return made


def started(cfg, seed: int = 0):
    learner = agents.make(cfg, SPEC)
    state = jax.jit(learner.init)(jax.random.key(seed), learner.hp)
    return learner, state.replace(
        params=perturbed(state.params, seed), target_params=perturbed(state.target_params, seed + 1)
    )


# The independent implementation.


def bronet(params, x):
    layers = params["params"]
    blocks = (sum(name.startswith("Dense") for name in layers) - 2) // 2
    normed = lambda i, x: layer_norm(layers[f"LayerNorm_{i}"], dense(layers[f"Dense_{i}"], x))  # noqa: E731
    x = np.maximum(normed(0, x), 0.0)
    for k in range(blocks):
        x = x + normed(2 * k + 2, np.maximum(normed(2 * k + 1, x), 0.0))
    return dense(layers[f"Dense_{2 * blocks + 1}"], x)


def quantiles(params, obs, action):
    """[2, B, n]."""
    return members(params, bronet, obs, action)


def gaussian(params, obs):
    mean, raw = np.split(bronet(params, obs), 2, axis=-1)
    return mean, -10.0 + 6.0 * (1.0 + np.tanh(raw))


def policy(params, obs, noise):
    mean, log_std = gaussian(params, obs)
    u = mean + np.exp(log_std) * noise
    # log(1 - tanh(u)**2) without cancellation
    log_det = 2.0 * (np.log(2.0) - u - np.logaddexp(0.0, -2.0 * u))
    return np.tanh(u), (-0.5 * noise**2 - log_std - 0.5 * np.log(2 * np.pi) - log_det).sum(-1)


def adjusted(x):
    return np.exp(-10.0 + 8.75 * (1.0 + np.tanh(x)))


def quantile_loss(z, y):
    """Loops over everything: z [B, n], y [B, m]."""
    total = 0.0
    for row in range(len(z)):
        for target in y[row]:
            for i, value in enumerate(z[row]):
                u = target - value
                huber = 0.5 * u**2 if abs(u) <= 1 else abs(u) - 0.5
                total += abs((i + 0.5) / len(z[row]) - (u < 0)) * huber
    return total / len(z) / y.shape[1]


def kl_divergence(mean_o, std_o, mean, std):
    """The published formula, with the ratio m = 0.75 that pi_o's deviation is divided by."""
    wide = std_o / 0.75
    terms = np.log(std / wide) + (wide**2 + (mean_o - mean) ** 2) / (2 * std**2) - 0.5
    return terms.sum(-1)


def optimist_loss(net, params, obs, noise):
    mean, log_std = gaussian(params["actor"], obs)
    mean_o = mean + bronet(net, np.concatenate([obs, mean], -1))
    std_o = 0.75 * np.exp(log_std)
    q1, q2 = quantiles(params["critic"], obs, np.tanh(mean_o + std_o * noise)).mean(-1)
    kl = kl_divergence(mean_o, std_o, mean, np.exp(log_std)).mean()
    upper = (q1 + q2) / 2 + adjusted(params["optimism"]) * np.abs(q1 - q2) / 2
    return -upper.mean() + adjusted(params["regularizer"]) * kl, kl


def numpy_update(state, rows, noise):
    """One gradient step: critic, target, actor, temperature, optimist, adjusters."""
    old, target_params, hp, rows = (
        f64(x) for x in (state.params, state.target_params, state.hp, rows)
    )
    new, metrics, lr, decay = dict(old), {}, float(hp["lr"]), float(hp["weight_decay"])

    def descend(name, loss, rate=lr, weight_decay=0.0):
        grads = differences(loss, old[name])
        new[name] = adam_first(old[name], grads, rate, weight_decay)
        metrics[f"{name}_grad_norm"] = norm(grads)

    alpha = np.exp(old["log_alpha"])
    action, log_prob = policy(old["actor"], rows.next_obs, noise[:, 0])
    z = quantiles(target_params, rows.next_obs, action).mean(0) - alpha * log_prob[:, None]
    y = hp["reward_scale"] * rows.reward[:, None] + rows.extras["discount"][:, None] * z
    loss_c = lambda net: sum(  # noqa: E731
        quantile_loss(z, y) for z in quantiles(net, rows.obs, rows.action)
    )
    descend("critic", loss_c, weight_decay=decay)
    metrics["critic_loss"] = loss_c(old["critic"])
    metrics["q"] = quantiles(old["critic"], rows.obs, rows.action).mean()
    target = jax.tree.map(
        lambda a, b: hp["tau"] * a + (1 - hp["tau"]) * b, new["critic"], target_params
    )

    def loss_a(net):
        action, log_prob = policy(net, rows.obs, noise[:, 1])
        return (alpha * log_prob - quantiles(new["critic"], rows.obs, action).mean((0, 2))).mean()

    descend("actor", loss_a, weight_decay=decay)
    entropy = -policy(old["actor"], rows.obs, noise[:, 1])[1].mean()
    descend("log_alpha", lambda x: np.exp(x) * (entropy - hp["target_entropy"]))
    metrics |= {
        "actor_loss": loss_a(old["actor"]),
        "entropy": entropy,
        "alpha": alpha,
        "alpha_loss": alpha * (entropy - hp["target_entropy"]),
    }
    if "optimist" not in old:
        return new, target, metrics
    loss_o = lambda net: optimist_loss(net, new, rows.obs, noise[:, 2])  # noqa: E731
    descend("optimist", lambda net: loss_o(net)[0], weight_decay=decay)
    metrics["optimist_loss"], kl = loss_o(old["optimist"])
    gap, rate = kl / ACT - hp["kl_target"], float(hp["adjuster_lr"])
    descend("optimism", lambda x: (adjusted(x) - hp["pessimism"]) * gap, rate)
    descend("regularizer", lambda x: -adjusted(x) * gap, rate)
    metrics |= {"kl": kl} | {k: adjusted(old[k]) for k in ("optimism", "regularizer")}
    return new, target, metrics


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimistic": False, "critic_hidden": (4, 4), "reward_scale": 0.1},
        {"pessimism": 0.2, "kl_target": 0.5, "weight_decay": 0.3, "tau": 0.2},
    ],
    ids=["optimistic", "plain_two_blocks", "other_constants"],
)
def test_one_whole_update_against_numpy(changes):
    learner, state = started(config(lr=0.02, adjuster_lr=0.01, **changes))
    rows, random = batch(), keys(4, shards=2)
    got, metrics = jax.jit(learner.update)(state, rows, random)
    params, target_params, want = numpy_update(state, rows, noise_of(random, 3, ACT))
    assert metrics.keys() == want.keys()
    for name, value in want.items():
        assert float(metrics[name]) == pytest.approx(float(value), rel=2e-3, abs=1e-4), name
    # Where a gradient is near 0, Adam's first step shows only its sign: few entries may differ.
    flat = lambda tree: np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])  # noqa: E731
    assert jax.tree.structure(f64(got.params)) == jax.tree.structure(params)
    wrong = np.abs(flat(f64(got.params)) - flat(params)) > 1e-3
    assert wrong.mean() < 0.02
    assert (np.abs(flat(params) - flat(f64(state.params))) > 5e-3).mean() > 0.8
    assert_close(got.target_params, target_params, atol=0.05 * float(state.hp["tau"]))


def test_the_constants_are_the_published_ones():
    made = bro.get_config()
    assert (made.critic_hidden, made.actor_hidden, made.quantiles) == ((512, 512), (256,), 100)
    assert (made.lr, made.adjuster_lr, made.tau, made.discount) == (3e-4, 3e-5, 0.005, 0.99)
    assert made.reset_at[:3] == (125_010, 475_010, 2_475_010)
    learner = agents.make(config(), SPEC)
    assert learner.hp["target_entropy"] == -0.5 * ACT
    assert learner.hp.keys() == set(bro.HP)


def test_adjusters_start_at_their_values():
    state = started(config(init_optimism=2.0, init_regularizer=0.125))[1]
    learner = agents.make(config(init_optimism=2.0, init_regularizer=0.125), SPEC)
    state = learner.init(jax.random.key(0), learner.hp)
    assert float(bro.adjusted(state.params["optimism"])) == pytest.approx(2.0, rel=1e-4)
    assert float(bro.adjusted(state.params["regularizer"])) == pytest.approx(0.125, rel=1e-4)
    assert adjusted(np.arctanh((np.log(2.0) + 10) / 8.75 - 1)) == pytest.approx(2.0)


@pytest.mark.parametrize(
    "schedule, resets",
    [
        ({"reset_at": (2, 3)}, (2, 3)),
        ({"reset_every": 2}, (2, 4)),
        ({"reset_at": (1,), "reset_every": 3}, (1, 3)),
        ({}, ()),
    ],
    ids=["at", "every", "both", "never"],
)
def test_resets_start_everything_learned_anew_at_their_steps(schedule, resets):
    """After an update with a reset the optimiser has taken one step, and the old weights are gone;
    hyper-parameters, statistics and the step counter go on."""
    learner, state = started(config(normalize_obs=True, lr=1e-3, **schedule))
    state = state.replace(obs_stats=running_stats.update(state.obs_stats, batch().obs))
    update, count = jax.jit(learner.update), 0
    for step in range(5):
        before = state
        state, _ = update(state, batch(step), keys(step))
        count = 1 if step in resets else count + 1
        assert int(state.opt_state["critic"][0].count) == count
        assert int(state.opt_state["optimism"][0].count) == count
        assert int(state.grad_steps) == step + 1
        old, new = (x.params["actor"]["params"]["Dense_0"]["kernel"] for x in (before, state))
        moved = np.abs(old - new).max()
        assert (moved > 0.05) == (step in resets)
    assert_close(state.obs_stats, before.obs_stats, rtol=0)
    assert state.hp.keys() == before.hp.keys()


def test_a_reset_is_the_same_on_every_device():
    """The new weights come from the key that all shards share, not from a shard's own."""
    learner, state = started(config(reset_at=(0,), lr=0.0, weight_decay=0.0))
    one, two = keys(7, shards=1), keys(7, shards=2)
    second = two.replace(keys=two.keys[1:], ids=two.ids[1:])
    update = jax.jit(learner.update)
    a, b = (update(state, batch(), k)[0].params["critic"] for k in (one, second))
    assert_close(a, b, rtol=0)
    assert np.abs(jax.tree.leaves(a)[0] - jax.tree.leaves(state.params["critic"])[0]).max() > 0.01


def test_training_acts_with_the_optimist_and_evaluation_with_the_mean():
    learner, state = started(config())
    obs, random = batch().obs, keys(2, shards=4)
    act = jax.jit(learner.act, static_argnums=3)
    params, o = f64(state.params), np.asarray(obs, np.float64)
    mean, log_std = gaussian(params["actor"], o)
    np.testing.assert_allclose(act(state, obs, random, False)[0], np.tanh(mean), atol=1e-5)
    shift = bronet(params["optimist"], np.concatenate([o, mean], -1))
    noise = noise_of(random, ACT)
    want = np.tanh(mean + shift + 0.75 * np.exp(log_std) * noise)
    np.testing.assert_allclose(act(state, obs, random, True)[0], want, atol=1e-4)
    plain, state = started(config(optimistic=False))
    want = policy(f64(state.params)["actor"], o, noise)[0]
    got = jax.jit(plain.act, static_argnums=3)(state, obs, random, True)[0]
    np.testing.assert_allclose(got, want, atol=1e-4)
    assert not {"optimist", "optimism"} & state.params.keys()


def test_the_probe_is_the_critics_loss_and_learns_nothing():
    learner, state = started(config())
    rows, random = batch(), keys(3)
    loss = jax.jit(learner.td_loss)(state, rows, random)
    assert float(loss) == pytest.approx(
        float(jax.jit(learner.update)(state, rows, random)[1]["critic_loss"]), rel=1e-5
    )


def test_blocks_of_different_widths_and_discrete_actions_are_refused():
    with pytest.raises(ValueError, match="critic_hidden takes one width per block"):
        agents.make(config(critic_hidden=(8, 4)), SPEC)
    spec = EnvSpec(Spec((OBS,)), Spec((ACT,), np.int32))
    with pytest.raises(ValueError, match="bro needs one vector of observations"):
        agents.make(config(), spec)


@pytest.mark.parametrize("optimistic", [True, False])
def test_dot_flops_are_within_two_percent_of_the_compilers_count(optimistic):
    obs, act, size = 17, 6, 128
    cfg = config(optimistic=optimistic, critic_hidden=(512, 512), actor_hidden=(256,))
    cfg.update(quantiles=100, batch_size=size, reset_every=0)
    spec = EnvSpec(Spec((obs,)), Spec((act,), np.float32, -1.0, 1.0))
    learner = agents.make(cfg, spec)
    formula = flops.bro(obs, act, size, optimistic=optimistic)
    elementwise = formula.elementwise["quantile_loss"] + formula.elementwise["layer_norm"]
    total = formula.per_update + formula.elementwise["adam"] + elementwise
    counted = compiled_flops(learner, size, spec, keys)
    assert counted == pytest.approx(total, rel=0.02)
    state = jax.eval_shape(learner.init, jax.random.key(0), learner.hp)
    critics = sum(x.size for x in jax.tree.leaves(state.params["critic"]))
    assert formula.critic_params == critics == 2 * 1_119_332


def test_two_learning_rates_under_vmap_give_the_two_solo_updates():
    learner, state = started(config(reset_at=(5,)))
    rates = jnp.float32([1e-3, 1e-2])
    stacked = jax.tree.map(lambda x: jnp.stack([x, x]), state).replace(grad_steps=state.grad_steps)
    stacked = stacked.replace(hp=stacked.hp | {"lr": rates})
    axes = jax.tree.map(lambda _: 0, stacked).replace(grad_steps=None)
    both, _ = jax.jit(jax.vmap(learner.update, in_axes=(axes, None, None), out_axes=(axes, 0)))(
        stacked, batch(), keys()
    )
    for i in range(2):
        solo = state.replace(hp=state.hp | {"lr": rates[i]})
        alone, _ = jax.jit(learner.update)(solo, batch(), keys())
        assert_close(jax.tree.map(lambda x, i=i: x[i], both.params), alone.params, atol=1e-6)
