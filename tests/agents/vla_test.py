"""The learner that says action tokens: losses against NumPy, invariances, learning, bad input."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import vla_toys as toys
from vla_toys import A, B, T

from rlx import agents
from rlx.agents import vla
from rlx.nn import vision_language as vl
from rlx.nn import vla_settings
from rlx.nn.lora import Lora, merge_lora
from rlx.nn.speaking import vocabulary
from rlx.nn.transformer import Decoder, variant
from rlx.ops import masks, partition
from rlx.types import EnvSpec, Spec

DECODER = Decoder(variant("micro"), toys.VOCAB)


@functools.cache
def started(**changes):
    learner = toys.make(**changes)
    return learner, toys.begin(learner), toys.jit(learner.update)


@functools.cache
def row_logits():
    """Compiled once: float32 logits `[n, V]` of one row without padding, all rows at one length."""

    def run(params, tokens, mask_ar, segment):
        x = DECODER.apply({"params": params}, tokens, method="embed")
        see = masks.prefix_lm(mask_ar, segment)
        y, _ = DECODER.apply({"params": params}, x, masks.positions(segment), see)
        return DECODER.apply({"params": params}, y, method="logits")

    return toys.jit(run)


def numpy_losses(params, batch, choices=None):
    """Each row's mean nll, mean log_z**2 and hits, from its logits in float64."""
    out = []
    logits = row_logits()(params, batch.tokens, batch.mask_ar, batch.segment)
    for b in range(len(batch.tokens)):
        n = int((batch.segment[b] > 0).sum())
        z = np.asarray(logits[b, : n - 1], np.float64)
        target = batch.tokens[b, 1:n]
        keep = batch.mask_loss[b, 1:n]
        if choices is not None:
            keep = keep & np.isin(target, choices)
            z = np.where(np.isin(np.arange(z.shape[1]), choices), z, -np.inf)
        z, target = z[keep], target[keep]
        log_z = np.log(np.exp(z).sum(-1))
        nll = log_z - z[np.arange(len(z)), target]
        out.append((nll.mean(), (log_z**2).mean(), z.argmax(-1) == target))
    return out


def llm(state):
    return partition.merge(state.params, state.frozen)["llm"]


def test_loss_and_accuracies_against_numpy():
    _, state, update = started(z_loss=0.3)
    batch = toys.batch()
    rows = numpy_losses(llm(state), batch)
    _, metrics = update(state, batch, toys.keys())
    nll, z2 = (np.mean([r[i] for r in rows]) for i in (0, 1))
    np.testing.assert_allclose(metrics["loss"], nll + 0.3 * z2, rtol=1e-5)
    hits = [r[2] for r in rows]
    np.testing.assert_allclose(metrics["accuracy"], np.concatenate(hits).mean(), atol=1e-6)
    for i in (1, 4, 8):
        having = [h[i - 1] for h in hits if len(h) >= i]
        want = np.mean(having) if having else 0.0
        np.testing.assert_allclose(metrics[f"accuracy_{i}"], want, atol=1e-6)
    np.testing.assert_allclose(metrics["tokens"], np.mean([len(h) for h in hits]))


def test_loss_over_the_action_vocabulary_alone():
    learner, state, _ = started(action_vocab_only=True)
    batch = toys.batch()
    rows = numpy_losses(llm(state), batch, vocabulary(toys.slots()))
    loss = toys.jit(learner.td_loss)(state, batch, toys.keys())
    np.testing.assert_allclose(loss, np.mean([r[0] for r in rows]), rtol=1e-5)


def gradient(state, new):
    """The first step's gradient: Adam's first moment is a tenth of it."""
    return jax.tree.map(lambda m: 10.0 * m, new.opt_state.mu)


def same(a, b, atol=2e-6):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=atol), a, b)


def test_padding_changes_nothing_and_tokens_in_it_are_not_read():
    _, state, update = started()
    short, long = toys.batch(), toys.batch(length=toys.L + 9)
    rng = np.random.default_rng(3)
    noise = rng.integers(0, toys.VOCAB, size=long.tokens.shape, dtype=np.int32)
    long = long.replace(tokens=np.where(long.segment > 0, long.tokens, noise))
    first, second = (update(state, batch, toys.keys()) for batch in (short, long))
    np.testing.assert_allclose(first[1]["loss"], second[1]["loss"], rtol=1e-6)
    same(gradient(state, first[0]), gradient(state, second[0]))


def test_what_is_not_predicted_has_no_gradient():
    _, state, update = started()
    batch = toys.batch()
    new, metrics = update(state, batch.replace(mask_loss=0 * batch.mask_loss == 1), toys.keys())
    assert metrics["loss"] == 0.0 and metrics["grad_norm"] == 0.0
    same(new.params, state.params, atol=0)
    # Rows 1 ... predicted nowhere: their tokens may be anything.
    only = batch.mask_loss & (np.arange(B) == 0)[:, None]
    other = batch.tokens.copy()
    other[1:] = np.where(batch.segment[1:] > 0, 5, 0)
    grads = [
        gradient(state, update(state, batch.replace(mask_loss=only, tokens=t), toys.keys())[0])
        for t in (batch.tokens, other)
    ]
    same(*grads, atol=1e-7)


def test_two_texts_packed_in_one_row_are_the_two_rows():
    learner, state, _ = started()
    batch = toys.batch(rows=2, seed=4)
    lengths = (batch.segment > 0).sum(1)

    def pack(x, bump=0):
        return np.concatenate([x[0, : lengths[0]], x[1, : lengths[1]] + bump])[None]

    packed = toys.TokenBatch(
        pack(batch.tokens), pack(batch.mask_loss) > 0, pack(batch.mask_ar) > 0,
        pack(batch.segment, np.int32(1)),
    )  # fmt: skip
    loss = toys.jit(learner.td_loss)
    one = toys.keys(shards=1)
    rows = numpy_losses(llm(state), batch)
    counts = [len(r[2]) for r in rows]
    want = np.average([r[0] for r in rows], weights=counts)
    np.testing.assert_allclose(loss(state, packed, one), want, rtol=1e-5)


def test_lora_starts_as_its_base_learns_alone_and_merges():
    learner, state, update = started(
        lora_rank=2, lora_alpha=3.0, freeze="llm", learn="lora", ema=0.5
    )
    base, base_state, _ = started()
    batch = toys.batch()
    # The same base weights in both: the loss is the same, bit for bit.
    base_state = vla.load(base_state, {"llm": merge_lora(llm(state), Lora(2, 3.0))})
    args = batch, toys.keys()
    loss, base_loss = toys.jit(learner.td_loss), toys.jit(base.td_loss)
    assert loss(state, *args) == base_loss(base_state, *args)
    assert all("lora" in path for path in partition.paths(state.params))
    assert not any("lora" in path for path in partition.paths(state.frozen))
    for tree in (state.target_params, state.opt_state.mu, state.opt_state.nu):
        assert set(partition.paths(tree)) == set(partition.paths(state.params))
    new = state
    for _ in range(3):
        new, metrics = update(new, *args)
    same(new.frozen, state.frozen, atol=0)
    assert metrics["loss"] < loss(state, *args)
    merged = vla.load(base_state, {"llm": merge_lora(vla.policy(new)["llm"], Lora(2, 3.0))})
    np.testing.assert_allclose(base_loss(merged, *args), loss(new, *args), rtol=1e-5)
    assert base_loss(merged, *args) != base_loss(base_state, *args)


def test_moving_average_and_half_precision():
    options = dict(dtype="bfloat16", freeze="mlp", frozen_dtype="bfloat16", ema=0.9, remat=True)
    _, state, update = started(**options)
    batch = toys.batch()
    new, metrics = update(state, batch, toys.keys())
    kinds = lambda tree: {str(leaf.dtype) for leaf in jax.tree.leaves(tree)}  # noqa: E731
    assert kinds(new.params) == kinds(new.target_params) == {"float32"}
    assert kinds(new.frozen) == {"bfloat16"} and kinds(new.opt_state.mu) == {"float32"}
    want = jax.tree.map(lambda a, b: 0.9 * a + 0.1 * b, state.params, new.params)
    same(new.target_params, want)
    full, full_state, _ = started()
    full_state = vla.load(full_state, vla.policy(state))
    exact = toys.jit(full.td_loss)(full_state, batch, toys.keys())
    np.testing.assert_allclose(metrics["loss"], exact, rtol=0.02)
    acting = partition.paths(vla.policy(new))  # acts with the average and what is frozen
    for path, leaf in partition.paths(new.target_params | {}).items():
        np.testing.assert_array_equal(acting[path], leaf)


def test_the_state_is_a_token_that_says_and_learns():
    learner = toys.make(state_input="token")
    state, batch = toys.begin(learner), toys.batch()
    own = state.params["state"]
    nets = vla_settings.build(toys.config(state_input="token"), toys.spec())
    text = batch.tokens, batch.segment, batch.mask_ar
    seq = vl.sequence(nets, state.params, text, {}, {}, batch.extras["state"])
    assert seq.offset == 1 and seq.x.shape[1] == toys.L + 1
    x = batch.extras["state"] @ np.asarray(own["in"]["kernel"]) + np.asarray(own["in"]["bias"])
    x = x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    x = x @ np.asarray(own["out"]["kernel"]) + np.asarray(own["out"]["bias"])
    np.testing.assert_allclose(seq.x[:, 0], x, rtol=1e-4, atol=1e-4)
    loss = lambda b: float(toys.jit(learner.td_loss)(state, b, toys.keys()))  # noqa: E731
    other = batch.replace(extras=batch.extras | {"state": -batch.extras["state"]})
    assert loss(other) != loss(batch)
    new, _ = toys.jit(learner.update)(state, batch, toys.keys())
    for old, moved in zip(*map(jax.tree.leaves, (own, new.params["state"]))):
        assert np.any(old != moved)


def test_updates_compile_once():
    learner, state, _ = started()
    count = []
    update = toys.jit(lambda *args: (count.append(1), learner.update(*args))[1])
    for seed in range(3):
        state, _ = update(state, toys.batch(seed=seed), toys.keys(seed))
    assert len(count) == 1 and state.grad_steps == 3


@pytest.mark.learning
def test_it_learns_to_say_its_chunks_and_stops_at_the_marker():
    learner, state, _ = started(lr=3e-3)
    batch = toys.batch(rows=B, seed=7)
    keys = toys.keys()

    @toys.jit
    def train(state):
        step = lambda _, state: learner.update(state, batch, keys)[0]  # noqa: E731
        return jax.lax.fori_loop(0, 150, step, state)

    state = train(state)
    act = toys.jit(learner.act, static_argnums=3)
    actions, extras = act(state, toys.observation(batch), keys, False)
    said = [row[row >= 0].tolist() for row in np.asarray(extras["tokens"])]
    assert said == toys.tokenizer().encode(batch.extras["actions"])
    np.testing.assert_allclose(actions, toys.tokenizer().decode(said)[0], atol=1e-4)
    assert extras["steps"] == max(map(len, said)) + 1  # the longest row and its end marker


DIM3 = EnvSpec({"state": Spec((3,))}, Spec((T, A, 1)))
BAD = [
    (dict(head="token"), {}, r"learner.head is one of tokens, flow, both, got 'token'; nearest"),
    (dict(decoder="gemma"), {}, "unknown decoder 'gemma'; nearest: gemma_"),
    (dict(schedule="linear"), {}, "learner.schedule is one of constant, cosine"),
    (dict(dtype="float16"), {}, "learner.dtype is one of float32, bfloat16"),
    (dict(lr=-1.0), {}, "learner.lr is a number >= 0, got -1"),
    (dict(temperature=0.0), {}, "learner.temperature is a number > 0, got 0"),
    (dict(ema=1.0), {}, r"learner.ema is a share, at most 1 \(ema: below\), got 1"),
    (dict(accumulate=0), {}, "learner.accumulate is a whole number >= 1, got 0"),
    (dict(vocab_size=50), {}, "learner.vocab_size = 50 has no room for the action tokens"),
    (dict(head="both", expert_decoder="tiny_expert"), {}, "has depth 4, it must be that of 'mi"),
    (dict(head="both", expert="pi2"), {}, "learner.expert is one of pi0, pi05, got 'pi2'"),
    (dict(freeze="("), {}, r"learner.freeze is a regular expression, got '\('"),
    ({}, dict(slots=None), "learner.head = 'tokens' needs slots and codec"),
    ({}, dict(spec=DIM3), r"vla needs chunks of float actions \(T, A\)"),
    ({}, dict(spec=EnvSpec(Spec((3,)), Spec((T, A)))), "vla needs a dict of observations"),
    ({}, dict(spec=EnvSpec({"cam": Spec((8, 8))}, Spec((T, A)))), "camera 'cam' is an image"),
    ({}, dict(spec=EnvSpec({}, Spec((T + 1, A)))), r"the codec is of chunks \(5, 2\), spec.action"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "given", "says"), BAD, ids=[b[2][:40] for b in BAD])
def test_bad_settings_are_named_before_anything_is_compiled(changes, given, says):
    given = {"spec": toys.spec(), "slots": toys.slots()} | given
    codec = toys.tokenizer().codec(T, A)
    with pytest.raises(ValueError, match=says):
        agents.make(toys.config(**changes), given.pop("spec"), codec=codec, **given)


def test_load_names_what_is_missing_or_of_another_shape():
    _, state, _ = started()
    tree = partition.paths(state.params)
    tree["llm/embedding"] = jnp.zeros((3, 3))
    del tree["llm/final_norm/scale"]
    with pytest.raises(
        ValueError, match=r"embedding \(3, 3\) for \(200, 64\); llm/final_norm/scale nothing"
    ):
        vla.load(state, partition.tree_of(tree))
