"""The learner with a flow expert, alone and beside the tokens: who learns from and sees what."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import vla_toys as toys
from vla_toys import A, B, T

from rlx.nn import vision_language as vl
from rlx.nn.vla_settings import build


@functools.cache
def started(cameras=(), **changes):
    learner = toys.make(cameras, **changes)
    return learner, toys.begin(learner), toys.jit(learner.update)


def gradient(new):
    """The first step's gradient: Adam's first moment is a tenth of it."""
    return jax.tree.map(lambda m: 10.0 * m, new.opt_state.mu)


def same(a, b, atol=2e-6):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=atol), a, b)


def norm(tree):
    return float(sum(np.abs(leaf).sum() for leaf in jax.tree.leaves(tree)))


def with_hp(state, **values):
    return state.replace(hp=state.hp | {name: jnp.float32(x) for name, x in values.items()})


def test_accumulation_is_the_whole_batch_with_its_noise():
    batch, found = toys.batch(), []
    for slices in (1, 4):
        _, state, update = started(head="both", expert="pi0", accumulate=slices)
        found.append(update(state, batch, toys.keys()))
    for name, value in found[0][1].items():
        np.testing.assert_allclose(found[1][1][name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    same(*(gradient(new) for new, _ in found), atol=1e-5)
    with pytest.raises(ValueError, match="accumulate = 4 does not divide the batch of 6 rows"):
        update(state, toys.batch(rows=6), toys.keys())


def check_that_tokens_and_actions_do_not_see_each_other(state, update):
    """Other actions leave the token loss, other tokens of the same chunk leave the flow loss."""
    batch, keys = toys.batch(), toys.keys()
    _, metrics = update(state, batch, keys)
    changed = {
        "actions": batch.replace(extras=batch.extras | {"actions": batch.extras["actions"] + 1}),
        "tokens": batch.replace(tokens=np.where(batch.mask_ar, toys.TEXT + 1, batch.tokens)),
        "prompt": batch.replace(tokens=np.where(batch.mask_ar, batch.tokens, 3)),
    }
    moved = {name: update(state, other, keys)[1] for name, other in changed.items()}
    difference = lambda name, loss: abs(float(moved[name][loss] - metrics[loss]))  # noqa: E731
    assert difference("actions", "token_loss") == 0 < difference("actions", "flow_loss")
    assert difference("tokens", "flow_loss") < 1e-6 < difference("tokens", "token_loss")
    assert difference("prompt", "token_loss") > 1e-4 < difference("prompt", "flow_loss")


def test_insulation_keeps_the_flow_out_of_the_decoder():
    _, state, update = started(head="both", expert="pi0", accumulate=1)
    check_that_tokens_and_actions_do_not_see_each_other(state, update)
    batch, keys = toys.batch(), toys.keys()
    new, metrics = update(state, batch, keys)
    without, _ = update(with_hp(state, flow_weight=0.0), batch, keys)
    same(gradient(new)["llm"], gradient(without)["llm"], atol=1e-7)
    assert norm(gradient(new)["expert"]) > 0 == norm(gradient(without)["expert"])
    np.testing.assert_allclose(metrics["loss"], metrics["token_loss"] + metrics["flow_loss"])


def test_without_insulation_the_flow_teaches_the_decoder_too():
    _, state, update = started(head="both", expert="pi0", insulate=False)
    batch, keys = toys.batch(), toys.keys()
    run = lambda w: update(with_hp(state, flow_weight=w), batch, keys)  # noqa: E731
    (zero, _), (one, metrics), (two, _) = run(0.0), run(1.0), run(2.0)
    flow = jax.tree.map(jnp.subtract, gradient(one), gradient(zero))
    assert norm(flow["llm"]) > 1e-2
    same(gradient(two), jax.tree.map(jnp.add, gradient(one), flow), atol=2e-5)
    alone = toys.make(head="flow", expert="pi0")  # the flow's loss by itself, without FAST tokens
    loss = toys.jit(alone.td_loss)
    np.testing.assert_allclose(loss(state, batch, keys), metrics["flow_loss"], rtol=1e-5)
    without = batch.replace(
        tokens=np.where(batch.mask_ar, 0, batch.tokens),
        segment=np.where(batch.mask_ar, 0, batch.segment),
        mask_ar=np.zeros_like(batch.mask_ar),
    )
    np.testing.assert_allclose(loss(state, without, keys), metrics["flow_loss"], rtol=1e-5)


def test_a_missing_camera_is_not_read_and_every_camera_has_its_own_draws():
    cameras = ("front", "wrist")
    learner, state, _ = started(cameras)
    batch, keys = toys.batch(cameras), toys.keys()
    loss = toys.jit(learner.td_loss)
    base = loss(state, batch, keys)
    there = batch.image_mask["front"]
    for mask, read in ((~there, False), (there, True)):
        images = {**batch.images, "front": batch.images["front"].copy()}
        images["front"][mask] = 255 - images["front"][mask]
        assert (loss(state, batch.replace(images=images), keys) != base) == read
    nets = build(toys.config(), toys.spec(cameras))
    grey = {name: np.full((B, 40, 20, 3), 60, np.uint8) for name in cameras}
    row_keys = jax.random.split(jax.random.key(0), B)
    made = toys.jit(lambda images: vl.prepare(nets, images, row_keys))(grey)
    levels = np.stack([made[name][:, 16, 16, 0] for name in cameras])  # brightness in the middle
    assert len(np.unique(levels.round(6))) == 2 * B
    plain = toys.jit(lambda images: vl.prepare(nets, images))(grey)["front"]
    assert plain.shape == (B, 32, 32, 3)
    np.testing.assert_allclose(plain[:, 16, 16], 2 * 60 / 255 - 1, atol=1e-6)
    np.testing.assert_allclose(plain[:, :, :7], -1.0)  # the pads of a tall image are black


def test_what_a_batch_lacks_is_named():
    learner = toys.make(("front", "wrist"), head="both", expert="pi0")
    batch, keys = toys.batch(("front", "wrist")), toys.keys()
    hp = {name: jnp.float32(value) for name, value in learner.hp.items()}
    state = jax.eval_shape(learner.init, jax.random.key(0), hp)

    def loss(**changes):
        return jax.eval_shape(learner.td_loss, state, batch.replace(**changes), keys)

    with pytest.raises(ValueError, match="reads 'wrist' of images, which have front"):
        loss(images={"front": batch.images["front"]})
    with pytest.raises(ValueError, match="reads 'actions' of extras, which have state"):
        loss(extras={"state": batch.extras["state"]})
    with pytest.raises(ValueError, match="pi0 reads the state"):
        loss(extras={"actions": batch.extras["actions"]})


@pytest.mark.learning
def test_the_flow_learns_its_chunks():
    learner, state, update = started(head="both", expert="pi05")
    batch, keys = toys.batch(seed=7), toys.keys()
    act = toys.jit(learner.act, static_argnums=3)
    obs, codec = toys.observation(batch), toys.tokenizer().codec(T, A)
    want = batch.extras["actions"] * codec.scale + codec.offset  # the flow's space is normalised
    before = np.mean((act(state, obs, keys, False)[0] - want) ** 2)
    state = with_hp(state, lr=3e-3)
    for seed in range(300):
        state, _ = update(state, batch, toys.keys(seed))
    actions, extras = act(state, obs, keys, False)
    assert np.mean((actions - want) ** 2) < 0.1 * before and actions.shape == (B, T, A)
    assert extras["steps"] == 10 and extras["valid"].all() and not extras["num_tokens"].any()
    check_that_tokens_and_actions_do_not_see_each_other(state, update)  # its gates are open now


@pytest.mark.parametrize("head", ["flow", "both"])
def test_rows_that_were_cut_teach_nothing_and_are_counted(head):
    """As if the batch had only the others, whose mean is over all rows."""
    _, state, update = started(head=head, expert="pi0", accumulate=1)
    batch, keys = toys.batch(), toys.keys()
    fits = np.arange(B) % 4 != 1
    cut = batch.replace(
        mask_loss=batch.mask_loss & fits[:, None], extras=batch.extras | {"fits": fits}
    )
    wild = np.where(fits[:, None, None], batch.extras["actions"], 7.0)
    new, metrics = update(state, cut, keys)
    other, again = update(state, cut.replace(extras=cut.extras | {"actions": wild}), keys)
    same(gradient(new), gradient(other))
    assert metrics["truncated"] == 0.25 and metrics["read"] == (batch.segment > 0).sum()
    np.testing.assert_allclose(again["flow_loss"], metrics["flow_loss"], rtol=1e-6)
    _, whole = update(state, batch, keys)
    assert whole["truncated"] == 0 and whole["flow_loss"] > metrics["flow_loss"]
