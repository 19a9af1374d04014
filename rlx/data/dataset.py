"""A fixed data set on device with the sampling face of a `Buffer`; it never adds."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from rlx.ops.shards import rows
from rlx.types import Buffer, Keys, Transition


def make_dataset(transitions: Transition) -> tuple[Buffer, Transition]:
    """Wrap `transitions [M, ...]` (M >= 1) as `(Buffer, state)`; sampling draws rows with
    replacement.

    Raises ValueError when leaves disagree on M. `Buffer.add` raises: a data set does not grow.
    """
    lengths = {x.shape[0] for x in jax.tree.leaves(transitions)}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            f"a data set needs leaves with one common length >= 1, got lengths {sorted(lengths)}"
        )
    size = lengths.pop()

    def init(example: Transition | None = None, num_envs: int = 0) -> Transition:
        del example, num_envs
        return jax.tree.map(jnp.asarray, transitions)

    def add(data: Transition, step: jax.Array, transition: Transition) -> Transition:
        del data, step, transition
        raise ValueError("a data set does not grow; collect into make_buffer and mix the two")

    def sample(
        data: Transition, step: jax.Array, keys: Keys, batch_size: int, discount: jax.Array
    ) -> Transition:
        """Draw `batch_size` rows; `extras["discount"]` = discount * (1 - terminated)."""
        del step
        shape = (batch_size // keys.keys.shape[0],)
        index = rows(lambda key: jax.random.randint(key, shape, 0, size), keys)
        batch = jax.tree.map(lambda x: x.at[index].get(mode="promise_in_bounds"), data)
        bootstrap = discount * (1.0 - batch.terminated)
        return batch.replace(extras={**batch.extras, "discount": bootstrap})

    return Buffer(size, init, add, sample), init()
