"""The sampling loop on scripted logits: ends are sticky, iterations counted, draws exact."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from rlx.ops.generate import PAD, Rule, generate, sampler
from rlx.types import Keys

END, V = 0, 6
# What each row wants to say; after its end row 0 would go on with other tokens.
SCRIPT = np.array([[3, END, 4, 5, 4, 5], [2, 2, 2, 2, END, 1], [5, 1, END, END, END, END]])


def scripted(script, **options):
    """Run the loop on a model that says `script`; the cache counts how often it was read."""
    logits = jnp.float32(10 * np.eye(V)[script])
    step = lambda cache, token, s: (cache + 1, logits[:, s + 1])  # noqa: E731
    counted = []

    def watched(cache, token, s):
        jax.debug.callback(lambda s: counted.append(int(s)), s)
        return step(cache, token, s)

    first = jnp.int32(0), logits[:, 0]
    run = jax.jit(lambda: generate(first, watched, end=END, max_new=6, **options))
    out = jax.block_until_ready(run())
    jax.effects_barrier()
    return jax.tree.map(np.asarray, out), len(counted)


def test_rows_end_for_good_and_the_loop_with_the_longest():
    out, calls = scripted(SCRIPT)
    want = [[3, PAD, PAD, PAD, PAD, PAD], [2, 2, 2, 2, PAD, PAD], [5, 1, PAD, PAD, PAD, PAD]]
    np.testing.assert_array_equal(out.tokens, want)
    assert out.ended.all()
    assert out.steps == 5 and calls == 4  # four tokens and an end; the model read four of them


def test_a_row_that_never_ends_stops_at_the_limit():
    out, calls = scripted(np.full((2, 7), 3))
    assert (out.tokens == 3).all() and not out.ended.any()
    assert out.steps == 6 and calls == 5


def test_a_rule_masks_and_ends_rows_without_a_step_for_the_marker():
    """The rule: token k takes k units of 5, and the end comes only when all are used."""
    size = jnp.arange(V)
    rule = Rule(
        start=jnp.full(3, 5),
        allowed=lambda left: jnp.where(
            (left == 0)[:, None], size == END, (size > 0) & (size <= left[:, None])
        ),
        advance=lambda left, token: left - jnp.maximum(token, 0),
    )
    out, calls = scripted(np.array([[4, 4, 4, 4], [END] * 4, [2, 3, 1, 1]]), rule=rule)
    want = [[4, 1], [1, 1], [2, 3]]
    np.testing.assert_array_equal(out.tokens[:, :2], want)
    assert (np.maximum(out.tokens, 0).sum(1) == 5).all()
    assert out.ended.all() and out.steps == 5 and calls == 4  # row 1: five times one unit


def test_draws_have_the_softmax_frequencies_and_belong_to_rows():
    logits = jnp.array([0.0, 1.0, 2.0, -jnp.inf])
    temperature, n = 0.7, 4000
    keys = Keys(jax.random.split(jax.random.key(0), 4), jnp.arange(4), jax.random.key(1), 4)
    pick = sampler(keys, temperature)
    many = jnp.tile(logits, (n, 1))
    drawn = np.asarray(pick(many, jnp.int32(3)))
    p = np.exp(np.array([0.0, 1.0, 2.0]) / temperature)
    p /= p.sum()
    share = np.bincount(drawn, minlength=4) / n
    np.testing.assert_allclose(share[:3], p, atol=4 * np.sqrt(0.25 / n))
    assert share[3] == 0
    assert (np.asarray(pick(many, jnp.int32(4))) != drawn).any()  # each step has its own noise
    half = Keys(keys.keys[2:], keys.ids[2:], keys.shared, 4)  # the second device of two
    np.testing.assert_array_equal(sampler(half, temperature)(many[n // 2 :], 3), drawn[n // 2 :])
