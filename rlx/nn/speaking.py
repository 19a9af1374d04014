"""A decoder that says chunks of actions: it chooses among action tokens and the end marker alone,
and never what would not end as a valid chunk.

Choices are 0 ... count - 1, the action ids, and `count`, the end marker.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlx.nn.decoding import decode_step, prefill
from rlx.nn.transformer import Decoder
from rlx.nn.vision_language import Sequence
from rlx.ops import action_tokens
from rlx.ops.action_tokens import Codec, Slots
from rlx.ops.generate import Pick, Rule, generate
from rlx.types import PyTree


def vocabulary(slots: Slots) -> np.ndarray:
    """Return the model ids of all choices, `[count + 1]` int32."""
    ids = [*slots.to_model(np.arange(slots.count)), slots.end]
    return np.asarray(ids, np.int32)


def choice_of(slots: Slots, tokens: jax.Array) -> jax.Array:
    """Return the choices of model ids; -1 of other tokens."""
    ids = slots.to_action(tokens)
    known = jnp.where((ids >= 0) & (ids < slots.count), ids, -1)
    return jnp.where(tokens == slots.end, slots.count, known)


def chunk_rule(codec: Codec, rows: int) -> Rule:
    """Return the rule under which every row of choices is a valid chunk of `codec`."""

    def allowed(produced: jax.Array) -> jax.Array:
        tokens, may_end = action_tokens.allowed(codec, produced)
        return jnp.concatenate([tokens, may_end[:, None]], axis=1)

    advance = lambda produced, ids: action_tokens.advance(codec, produced, ids)  # noqa: E731
    return Rule(jnp.zeros((rows,), jnp.int32), allowed, advance)


def say_actions(
    llm: Decoder,
    params: PyTree,
    seq: Sequence,
    slots: Slots,
    codec: Codec,
    max_new: int,
    pick: Pick,
) -> tuple[jax.Array, dict[str, Any]]:
    """Return actions `[B, T, A]` in the codec's units, and what was said.

    extras: tokens `[B, max_new]` action ids, -1 after the end; valid and num_tokens `[B]`; steps,
    of the longest row: the decoder read the prefix and then `steps - 1` tokens.
    """
    model_ids = vocabulary(slots)
    head = llm.apply(params, method="head")[model_ids].astype(llm.dtype)
    logits = lambda y: jnp.einsum("bd,vd->bv", y, head, preferred_element_type=jnp.float32)  # noqa: E731

    def step(cache: PyTree, choice: jax.Array, s: jax.Array) -> tuple[PyTree, jax.Array]:
        x = llm.apply(params, jnp.asarray(model_ids)[choice], method="embed")
        cache, y = decode_step(llm, params, cache, x, s)
        return cache, logits(y)

    cache, y = prefill(llm, params, seq.x, seq.mask_ar, seq.segment, max_new)
    rule = chunk_rule(codec, len(y))
    said = generate(
        (cache, logits(y)), step, end=slots.count, max_new=max_new, pick=pick, rule=rule
    )
    actions, valid, info = action_tokens.decode(codec, said.tokens)
    extras = {"tokens": said.tokens, "valid": valid, "num_tokens": info["n_tokens"]}
    return actions, extras | {"steps": said.steps}
