"""The FSQ tokenizer: rounding and ids by hand, gradients through the rounding, learning, and the
NumPy tokenizer against the network.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rlx.tokenizers as tk
from rlx.agents import fsq
from rlx.nn.fsq import CODEBOOKS, Fsq, sinusoids
from rlx.tokenizers.fsq import FsqTokenizer
from rlx.tokenizers.stats import NormStats
from rlx.types import EnvSpec, Spec, Transition

T, A = 8, 2
SPEC = EnvSpec(Spec((T, A)), Spec((T, A)))


def config(**changes):
    small = fsq.get_config()
    small.update(dict(width=16, layers=1, heads=2, tokens=3, codebook=256) | changes)
    return small


def compiled(learner):
    """One program per function: operation by operation is slow."""
    return learner._replace(
        init=jax.jit(learner.init),
        td_loss=jax.jit(learner.td_loss),
        act=jax.jit(learner.act, static_argnums=3),
    )


def network(**changes):
    """The network, its methods compiled as call(name, params, x), and parameters."""
    net = fsq.network(config(**changes), T, A)
    call = jax.jit(
        lambda name, params, x: net.apply(params, x, method=getattr(net, name)), static_argnums=0
    )
    return net, call, jax.jit(net.init)(jax.random.key(0), jnp.zeros((1, T, A)))


def batch(chunks) -> Transition:
    a = jnp.asarray(chunks)
    return Transition(a, a, None, a, None, None)


def waves(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    t = np.linspace(0, 1, T)[:, None]
    x = np.sin(3 * t + rng.uniform(0, 6, (count, 1, A))) * rng.uniform(0.3, 1, (count, 1, A))
    return x.astype(np.float32)


@pytest.fixture(scope="module")
def trained():
    """A learner and its state after 300 steps on waves."""
    learner = compiled(fsq.make(config(), SPEC))
    hp = {name: jnp.float32(value) for name, value in learner.hp.items()}
    state, data = learner.init(jax.random.key(0), hp), jnp.asarray(waves(512, 0))

    @jax.jit
    def train(state):
        def one(state, i):
            rows = jax.random.randint(jax.random.fold_in(jax.random.key(1), i), (64,), 0, 512)
            return learner.update(state, batch(data[rows]), None)

        return jax.lax.scan(one, state, jnp.arange(300))

    state, metrics = train(state)
    return learner, state, np.asarray(metrics["loss"])


@pytest.fixture(scope="module")
def tokenizer(trained):
    params = jax.tree.map(np.asarray, trained[1].params["fsq"]["params"])
    return FsqTokenizer(params, CODEBOOKS[256], heads=2)


def test_it_learns(trained):
    learner, state, losses = trained
    assert losses[-20:].mean() < 0.25 * losses[:5].mean()
    held_out = waves(64, 1)
    after = float(learner.td_loss(state, batch(held_out), None))
    assert after < 0.5 * held_out.var()
    assert int(state.grad_steps) == 300


def test_the_loss_is_the_mean_square_of_what_act_shows(trained):
    learner, state, _ = trained
    data = waves(16, 2)
    shown, extras = learner.act(state, jnp.asarray(data), None, False)
    np.testing.assert_allclose(
        learner.td_loss(state, batch(data), None), np.mean((shown - data) ** 2), rtol=1e-4
    )
    assert extras["ids"].shape == (16, 3) and extras["ids"].dtype == jnp.int32


def test_rounding_and_ids_by_hand():
    """Levels (8, 6, 5): digits 0..7, 0..5, 0..4; id = d0 + 8 d1 + 48 d2."""
    _, call, params = network(tokens=1)
    x = jnp.asarray(waves(200, 3))
    z, digits = call("digits", params, x)
    want = np.round((np.asarray(z) + 1) * np.array([7, 5, 4]) / 2)
    np.testing.assert_array_equal(digits, want)
    ids = np.asarray(call("encode", params, x))
    np.testing.assert_array_equal(ids, want @ [1, 8, 48])
    assert ids.min() >= 0 and ids.max() < 240
    np.testing.assert_allclose(call("decode", params, ids), call("__call__", params, x), atol=1e-5)


def test_every_id_has_its_own_code():
    for levels in CODEBOOKS.values():
        place = np.cumprod((1, *levels[:-1]))
        ids = np.arange(np.prod(levels))
        digits = ids[:, None] // place % np.array(levels)
        assert (digits @ place == ids).all() and (digits.max(0) == np.array(levels) - 1).all()


def test_gradients_pass_the_rounding():
    """As if the digits were (z + 1)(b - 1) / 2: the chain rule around the rounded point."""
    net, _, params = network()
    x = jnp.asarray(waves(4, 4))

    def head_only(digits):
        return jnp.sum(net.apply(params, digits, method=net.render) ** 2)

    def soft(p):
        z, _ = net.apply(p, x, method=net.digits)
        return (z + 1) * (jnp.asarray(net.levels) - 1) / 2

    @jax.jit
    def both(params):
        _, digits = net.apply(params, x, method=net.digits)
        _, pull = jax.vjp(soft, params)
        (want,) = pull(jax.grad(head_only)(digits))
        return want, jax.grad(lambda p: jnp.sum(net.apply(p, x) ** 2))(params)

    want, got = both(params)
    for name in ("embed", "to_code", "encoder"):
        for a, b in zip(
            jax.tree.leaves(got["params"][name]), jax.tree.leaves(want["params"][name])
        ):
            np.testing.assert_allclose(a, b, atol=1e-4)
    assert np.abs(got["params"]["embed"]["kernel"]).max() > 0


def test_numpy_equals_the_network(trained, tokenizer):
    learner, state, _ = trained
    data = waves(300, 5)
    shown, extras = learner.act(state, jnp.asarray(data), None, False)
    ids = tokenizer.encode(data)
    assert (np.array(ids) == np.asarray(extras["ids"])).all(1).mean() > 0.99
    x, valid, _ = tokenizer.decode(np.asarray(extras["ids"]))
    assert valid.all() and (tokenizer.horizon, tokenizer.action_dim) == (T, A)
    np.testing.assert_allclose(x, shown, atol=1e-5)


def test_files_and_statistics(tokenizer, tmp_path):
    stats = NormStats.fit(waves(100, 6) * 5)
    t = FsqTokenizer(tokenizer.params, tokenizer.levels, tokenizer.heads, stats)
    t.save(tmp_path)
    back = tk.load(tmp_path)
    data = waves(20, 7) * 5
    assert isinstance(back, FsqTokenizer) and back.encode(data) == t.encode(data)
    x, _, _ = back.decode(t.encode(data))
    y, _, _ = back.decode(t.encode(data), normalized=True)
    np.testing.assert_allclose(x, stats.unnormalize(y), atol=1e-5)
    assert back.encode(stats.normalize(data), normalized=True) == t.encode(data)


def test_malformed_ids(tokenizer):
    rows = [[1, 2, 3], [1, 2], [1, 2, 3, 4], [1, 240, 3], [], [-5, 1, 2]]
    x, valid, info = tokenizer.decode(rows)
    assert valid.tolist() == [True] + [False] * 5 and np.isfinite(x).all()
    assert info["padded"].tolist() == [0, 1, 0, 0, 3, 0]
    assert info["overflow"].tolist() == [0, 0, 1, 0, 0, 0]
    assert info["malformed"].tolist() == [0, 0, 0, 1, 0, 1]
    np.testing.assert_array_equal(x[2], x[0])
    assert not tokenizer.decode(np.array([[1, -1, 2, 3]]))[1].any()
    assert tokenizer.decode([])[0].shape == (0, T, A)


def test_the_codec_counts_to_the_number_of_tokens(tokenizer):
    from rlx.ops.action_tokens import allowed, decode

    codec = tokenizer.codec()
    mask, may_end = allowed(codec, np.array([0, 2, 3]))
    assert mask.sum(1).tolist() == [240, 240, 0] and may_end.tolist() == [False, False, True]
    with pytest.raises(ValueError, match="decodes with a network"):
        decode(codec, np.zeros((1, 3), np.int32))


def test_positions_start_as_sinusoids():
    p = np.asarray(sinusoids(None, (5, 6)))
    for n in range(5):
        angles = n / 10_000 ** (np.arange(3) / 3)
        np.testing.assert_allclose(p[n], [*np.sin(angles), *np.cos(angles)], atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "shape", "says"),
    [
        ({"codebook": 1000}, (T, A), "codebook is one of 256, 1024, .* got 1000"),
        ({"width": 15}, (T, A), "width 15 is no multiple of learner.heads 2"),
        ({"tokens": 0}, (T, A), "integers >= 1, got 0 and 1"),
        ({"lr": -1.0}, (T, A), "learner.lr is a number >= 0"),
        ({}, (6,), r"chunks \[T, A\], got actions of shape \[6\]"),
    ],
)
def test_bad_input(changes, shape, says):
    with pytest.raises(ValueError, match=says):
        fsq.make(config(**changes), EnvSpec(Spec(shape), Spec(shape)))


def test_the_network_is_as_large_as_published():
    """Encoder and decoder of equal size: layers of self- and cross-attention and a gated MLP."""
    net = Fsq(T, A, CODEBOOKS[1024], tokens=16, width=32, layers=2, heads=4)
    shapes = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, T, A)))["params"]
    count = lambda tree: sum(x.size for x in jax.tree.leaves(tree))  # noqa: E731
    attention, mlp = 4 * (32 * 32 + 32), 2 * (32 * 64 + 64) + 64 * 32 + 32
    block = 2 * attention + mlp + 3 * 64
    assert count(shapes["encoder"]["block_0"]) == count(shapes["decoder"]["block_1"]) == block
    assert count(shapes["encoder"]) == 2 * block + (T + 16) * 32 + 64
