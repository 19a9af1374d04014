"""The chunked cross-entropy against float64 NumPy over all logits, its gradient too."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlx.ops.token_loss import row_mean, token_scores

B, L, D, V = 3, 11, 4, 7


def problem(seed=0):
    rng = np.random.default_rng(seed)
    hidden, head = rng.normal(size=(B, L, D)), rng.normal(size=(V, D))
    targets, mask = rng.integers(0, V, size=(B, L)), rng.random((B, L)) < 0.5
    mask[1] = False  # a row without any
    return np.float32(hidden), np.float32(head), targets, mask


def reference(hidden, head, targets, mask):
    logits = hidden.astype(np.float64) @ head.astype(np.float64).T
    log_z = np.log(np.exp(logits).sum(-1))
    nll = log_z - np.take_along_axis(logits, targets[..., None], -1)[..., 0]
    return nll, log_z, logits.argmax(-1) == targets


@pytest.mark.parametrize("chunk", [1, 4, 11, 64])
def test_against_numpy(chunk):
    data = problem()
    scores, mask = token_scores(*data, chunk=chunk), data[3]
    for got, want in zip(scores, reference(*data)):
        for b in range(B):
            n = mask[b].sum()
            np.testing.assert_allclose(got[b, :n], want[b][mask[b]], rtol=1e-5, atol=1e-5)
            assert not got[b, n:].any()
    np.testing.assert_array_equal(scores.counted.sum(1), mask.sum(1))


def test_row_means_and_gradient_against_softmax_minus_one_hot():
    hidden, head, targets, mask = problem(1)

    def loss(hidden, head):
        scores = token_scores(hidden, head, targets, mask, chunk=4)
        return row_mean(scores.nll, scores.counted).mean()

    value, (d_hidden, d_head) = jax.value_and_grad(loss, (0, 1))(hidden, head)
    nll, log_z, _ = reference(hidden, head, targets, mask)
    weight = mask / np.maximum(mask.sum(1, keepdims=True), 1) / B
    np.testing.assert_allclose(value, (nll * weight).sum(), rtol=1e-5)
    p = np.exp(hidden @ head.T - log_z[..., None])
    d_logits = (p - np.eye(V)[targets]) * weight[..., None]
    np.testing.assert_allclose(d_hidden, d_logits @ head, atol=1e-6)
    np.testing.assert_allclose(d_head, np.einsum("blv,bld->vd", d_logits, hidden), atol=1e-6)
    assert not np.asarray(d_hidden)[~mask].any()


def test_no_array_of_all_logits_is_made():
    """At 512 positions and 4,096 tokens all logits would take 16 MB per row of the batch."""
    shapes = (jnp.zeros((2, 512, 8)), jnp.zeros((4096, 8)))
    ids, mask = jnp.zeros((2, 512), jnp.int32), jnp.ones((2, 512), bool)
    loss = lambda h, w: token_scores(h, w, ids, mask).nll.sum()  # noqa: E731
    compiled = jax.jit(jax.grad(loss, (0, 1))).lower(*shapes).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 3 * 2 * 64 * 4096 * 4
