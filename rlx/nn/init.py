"""Initialisers of weights."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn


def orthogonal(scale: float = 1.0) -> nn.initializers.Initializer:
    """Return an initialiser of kernels `[I, O]` with orthonormal columns (rows if O > I), times
    `scale`: Gram-Schmidt, done twice per column, on a Gaussian matrix (Saxe et al. 2014).

    Not flax's, which calls LAPACK: on a CPU with several devices those calls wait for each other's
    threads for ever (jaxlib 0.10), and on a TPU they are slow.
    """

    def init(key: jax.Array, shape: tuple[int, int], dtype=jnp.float32) -> jax.Array:
        tall = (max(shape), min(shape))
        columns = jnp.arange(tall[1])

        def straighten(j: jax.Array, q: jax.Array) -> jax.Array:
            done, v = jnp.where(columns < j, q, 0.0), q[:, j]
            for _ in range(2):  # the second pass removes what rounding left of the first
                shadow = jnp.matmul(done.T, v, precision="highest")
                v = v - jnp.matmul(done, shadow, precision="highest")
            return q.at[:, j].set(v / jnp.linalg.norm(v))

        q = jax.lax.fori_loop(0, tall[1], straighten, jax.random.normal(key, tall, dtype))
        return scale * (q if shape[0] >= shape[1] else q.T)

    return init
