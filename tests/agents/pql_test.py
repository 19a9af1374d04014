"""PQL and PQL-D against an independent float64 NumPy implementation; noise, delay, clipping."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numeric import (
    ACT,
    BATCH,
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
from rlx.agents import pql
from rlx.scaling import flops
from rlx.types import EnvSpec, Spec


def config(**changes):
    made = pql.get_config()
    made.update(critic_hidden=(4, 3), actor_hidden=(4, 3), batch_size=BATCH, normalize_obs=False)
    made.update(changes)
    return made


def started(cfg, seed: int = 0, grad_steps: int = 0):
    learner = agents.make(cfg, SPEC)
    state = jax.jit(learner.init)(jax.random.key(seed), learner.hp)
    return learner, state.replace(
        params=perturbed(state.params, seed),
        target_params=perturbed(state.target_params, seed + 1),
        grad_steps=jnp.int32(grad_steps),
    )


# The independent implementation.


def elu_mlp(params, x):
    return mlp(params, x, lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0.0))))


def policy(params, obs):
    return np.tanh(elu_mlp(params, obs))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def project(probs, reward, discount, atoms):
    """The textbook algorithm: floor, ceiling, and the two shares, atom by atom."""
    out, spacing = np.zeros_like(probs), atoms[1] - atoms[0]
    for j, p in enumerate(probs):
        at = (np.clip(reward + discount * atoms[j], atoms[0], atoms[-1]) - atoms[0]) / spacing
        low = min(int(np.floor(at)), len(atoms) - 2)
        out[low] += p * (low + 1 - at)
        out[low + 1] += p * (at - low)
    return out


def numpy_update(state, rows, noise, atoms):
    """One gradient step: critic, target, and the actor if it is due."""
    old, target_params, hp = f64(state.params), f64(state.target_params), f64(state.hp)
    rows, lr, decay = f64(rows), float(hp["lr"]), float(hp["weight_decay"])
    q = lambda net, obs, action: members(net, elu_mlp, obs, action)  # noqa: E731
    value = lambda out: softmax(out) @ atoms if len(atoms) else out[..., 0]  # noqa: E731
    clip = hp["target_noise_clip"]
    smooth = np.clip(hp["target_noise"] * noise, -clip, clip)
    action = np.clip(policy(old["actor"], rows.next_obs) + smooth, -1, 1)
    out = q(target_params, rows.next_obs, action)
    reward, discount = hp["reward_scale"] * rows.reward, rows.extras["discount"]
    if len(atoms):
        y = np.stack(
            [
                [project(p, reward[i], discount[i], atoms) for i, p in enumerate(each)]
                for each in softmax(out)
            ]
        ).min(0)

        def loss_c(net):
            p = softmax(q(net, rows.obs, rows.action))
            return -(y * np.log(p) + (1 - y) * np.log1p(-p)).mean((1, 2)).sum()
    else:
        y = reward + discount * value(out).min(0)
        loss_c = lambda net: ((value(q(net, rows.obs, rows.action)) - y) ** 2).mean(1).sum()  # noqa: E731

    def descend(net, loss):
        grads = differences(loss, net)
        scale = min(1.0, float(hp["max_grad_norm"]) / norm(grads))
        clipped = jax.tree.map(lambda g: scale * g, grads)
        return adam_first(net, clipped, lr, decay), norm(grads)

    critic, critic_norm = descend(old["critic"], loss_c)
    loss_a = lambda net: -value(q(critic, rows.obs, policy(net, rows.obs))).min(0).mean()  # noqa: E731
    due = (int(state.grad_steps) + 1) % 2 == 0
    actor, actor_norm = descend(old["actor"], loss_a) if due else (old["actor"], 0.0)
    target = jax.tree.map(lambda a, b: hp["tau"] * a + (1 - hp["tau"]) * b, critic, target_params)
    metrics = {
        "critic_loss": loss_c(old["critic"]),
        "critic_grad_norm": critic_norm,
        "q": value(q(old["critic"], rows.obs, rows.action)).mean(),
        "actor_loss": 2 * loss_a(old["actor"]) if due else 0.0,
        "actor_grad_norm": 2 * actor_norm,
    }
    return {"critic": critic, "actor": actor}, target, metrics


@pytest.mark.parametrize("atoms", [0, 7], ids=["pql", "pql_d"])
@pytest.mark.parametrize("grad_steps", [0, 1], ids=["critic_alone", "with_actor"])
def test_one_whole_update_against_numpy(atoms, grad_steps):
    cfg = config(lr=0.02, atoms=atoms, v_max=3.0, weight_decay=0.1, max_grad_norm=0.05)
    learner, state = started(cfg, grad_steps=grad_steps)
    rows, random = batch(), keys(4, shards=2)
    got, metrics = jax.jit(learner.update)(state, rows, random)
    support = np.linspace(-3.0, 3.0, atoms)
    params, target_params, want = numpy_update(state, rows, noise_of(random, ACT), support)
    assert metrics.keys() == want.keys()
    for name, value in want.items():
        assert float(metrics[name]) == pytest.approx(float(value), rel=1e-3, abs=1e-5), name
    flat = lambda tree: np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])  # noqa: E731
    for name in ("critic", "actor"):
        difference = np.abs(flat(f64(got.params[name])) - flat(params[name]))
        assert (difference > 1e-3).mean() < 0.03, name
        moved = np.abs(flat(params[name]) - flat(f64(state.params[name])))
        assert ((moved > 5e-3).mean() > 0.5) == (name == "critic" or grad_steps == 1)
    assert_close(got.target_params, target_params, atol=0.05 * float(state.hp["tau"]))
    assert int(got.grad_steps) == grad_steps + 1


def test_the_constants_are_the_published_ones():
    made = pql.get_config()
    assert (made.batch_size, made.lr, made.weight_decay, made.tau) == (8192, 5e-4, 1e-2, 0.05)
    assert (made.max_grad_norm, made.policy_delay, made.noise_min, made.noise_max) == (
        0.5, 2, 0.05, 0.8,
    )  # fmt: skip
    assert made.critic_hidden == made.actor_hidden == (512, 256, 128)


def test_each_environment_has_its_own_noise_whatever_shards_there_are():
    """Environment i of N explores with 0.05 + 0.75 i / (N - 1); an evaluation without noise."""
    learner, state = started(config())
    act = jax.jit(learner.act, static_argnums=3)
    obs = jnp.zeros((4000, 3))
    greedy = act(state, obs, keys(), False)[0]
    small = jnp.clip(jnp.arctanh(jnp.clip(greedy, -0.999, 0.999)), -1e-3, 1e-3)
    assert small.shape == (4000, ACT)
    for shards in (1, 4):
        many = [act(state, obs, keys(seed, shards=shards), True)[0] for seed in range(200)]
        inside = np.stack(many)
        # Clipping at +-1 leaves the median of |a - greedy| of the tighter environments alone.
        spread = np.median(np.abs(inside - np.asarray(greedy)), axis=(0, 2)) / 0.6745
        want = np.linspace(0.05, 0.8, 4000)
        means = lambda x: x[:800].reshape(8, 100).mean(1)  # noqa: E731
        np.testing.assert_allclose(means(spread), means(want), rtol=0.05)
    half = keys(3, shards=2)
    second = half.replace(keys=half.keys[1:], ids=half.ids[1:])
    whole = act(state, obs, half, True)[0]
    np.testing.assert_array_equal(act(state, obs[2000:], second, True)[0], whole[2000:])


@pytest.mark.parametrize("atoms", [0, 51], ids=["pql", "pql_d"])
def test_dot_flops_are_within_two_percent_of_the_compilers_count(atoms):
    """With a policy update at every step, since the compiler counts both branches of a choice."""
    obs, act, size = 60, 20, 1024
    learner_config = pql.get_config()
    learner_config.update(atoms=atoms, policy_delay=1, batch_size=size)
    spec = EnvSpec(Spec((obs,)), Spec((act,), np.float32, -1.0, 1.0))
    learner = agents.make(learner_config, spec)
    nets = learner_config.critic_hidden, learner_config.actor_hidden, size
    formula = flops.pql(obs, act, *nets, updates_per_policy_update=1, atoms=max(1, atoms))
    counted = compiled_flops(learner, size, spec, keys)
    assert counted == pytest.approx(formula.per_update, rel=0.02 if not atoms else 0.04)
    state = jax.eval_shape(learner.init, jax.random.key(0), learner.hp)
    critics = sum(x.size for x in jax.tree.leaves(state.params["critic"]))
    assert formula.critic_params == critics


@pytest.mark.parametrize(
    "changes, text",
    [({"atoms": 1}, "atoms is 0"), ({"policy_delay": 0}, "policy_delay is a whole number >= 1")],
)
def test_bad_settings_are_refused(changes, text):
    with pytest.raises(ValueError, match=text):
        agents.make(config(**changes), SPEC)
