"""Action tokens back to actions, and which token may come next, for NumPy and for JAX arrays.

A chunk of T actions of A numbers is `size` units, and every token stands for `lengths[id] >= 1` of
them; units are coefficients in the order of the flattened chunk. That one picture holds for all
tokenizers (Pertsch et al. 2025, arXiv 2501.09747, and the baselines it compares):
  FAST        a unit is a DCT coefficient, a token is a run of them found by byte-pair encoding;
              with `eob` a trailing run of zeros is left out, so any prefix is a whole chunk
  binning     a unit is an action number, every token has length 1
  byte-level  a unit is HALF a character (the public FAST files): a one-byte character has two, of a
              two-byte character each byte one; `entry` is the half at which a token may start
Nothing of JAX is imported here: functions follow the arrays they get.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from rlx.ops.dct import basis as cosines
from rlx.ops.dct import matmul

Array = Any  # np.ndarray or jax.Array


class Slots(NamedTuple):
    """Where action tokens live in a model's vocabulary: model id = first + step * action id."""

    first: int
    step: int  # +1 or -1
    count: int  # action tokens
    end: int  # model id of the end marker
    eos: int
    pad: int

    def to_model(self, ids: Array) -> Array:
        """Return model ids of action ids."""
        return self.first + self.step * ids

    def to_action(self, ids: Array) -> Array:
        """Return action ids of model ids; those of other tokens are outside [0, count)."""
        return self.step * (ids - self.first)

    def generated(self, ids: Array) -> Array:
        """Return action ids of a generated suffix `[B, L]`, -1 from its first end, eos or pad on.

        A token of another kind before that becomes `count`, an unknown action id.
        """
        xp = ids.__array_namespace__()
        ends = (ids == self.end) | (ids == self.eos) | (ids == self.pad)
        action = self.to_action(ids)
        action = xp.where((action >= 0) & (action < self.count), action, self.count)
        return xp.where(xp.cumsum(ends, axis=1) > 0, -1, action)


class Codec(NamedTuple):
    """What turns action ids into actions of one shape; arrays only, so it may enter a `jit`."""

    lengths: Array  # [V] int32, units per token
    size: Array  # [] int32, units of a chunk
    eob: Array  # [] bool, the units that are missing at the end are zeros
    start: Array  # [V] int32, where a token's units begin in `flat`
    flat: Array | None  # [sum of lengths] float32; None if only a network knows (FSQ)
    basis: Array  # [T, T] float32, normalised actions = basis^T @ coefficients
    scale: Array  # [A] float32, actions = scale * normalised + offset
    offset: Array  # [A] float32
    place: Array | None = None  # [T * A, units per number] int32 unit of a number; None = in order
    entry: Array | None = None  # [V] int8, (units so far) mod (units per number) it follows; -1 no
    usable: Array | None = None  # [V] bool, may be sampled; None = all

    @property
    def vocab_size(self) -> int:
        """Number of action tokens, V."""
        return self.lengths.shape[0]

    @property
    def horizon(self) -> int:
        """Steps of a chunk, T."""
        return self.basis.shape[0]

    @property
    def action_dim(self) -> int:
        """Numbers of an action, A."""
        return self.offset.shape[0]

    @property
    def per_number(self) -> int:
        """Units per number: 2 for byte-level vocabularies, else 1."""
        return 1 if self.place is None else self.place.shape[1]


class Encoder(NamedTuple):
    """What turns actions of one shape into FAST ids on the device; arrays only."""

    basis: Array  # [T, T] float32
    inverse_scale: Array  # [A] float32, 0 for constant numbers
    offset: Array  # [A] float32
    clip: Array  # [] float32 of normalised actions, infinite = none
    gamma: Array  # [] float32, steps of a coefficient per unit
    bound: Array  # [] int32, symbol = coefficient + bound
    eob: Array  # [] bool
    rank: Array  # [V, V] int16, number of the merge of two ids; V = none
    source: Array | None = None  # [T * A] int32 number of a symbol; None = in order


def decode(codec: Codec, ids: Array) -> tuple[Array, Array, dict[str, Array]]:
    """Return the actions of `ids [B, L]`, padded with -1, whatever the ids are.

    Units that are missing are zeros, units too many are dropped, unknown ids stand for no unit.

    Returns: actions `[B, T, A]` float32 in the data's units; valid `[B]` bool, the ids are exactly
    one chunk; info, each `[B]`: n_tokens, n_symbols (units), overflow and padded (units dropped and
    filled in), malformed (unknown ids or tokens that cannot follow, bool).
    """
    coefficients, valid, info = decode_coefficients(codec, ids)
    return to_actions(codec, coefficients), valid, info


def decode_coefficients(codec: Codec, ids: Array) -> tuple[Array, Array, dict[str, Array]]:
    """Like `decode`, up to the coefficients `[B, T, A]` (of binning: the normalised actions)."""
    xp = ids.__array_namespace__()
    if codec.flat is None:
        raise ValueError("this tokenizer decodes with a network: use its own decode")
    units = codec.horizon * codec.action_dim * codec.per_number
    known = (ids >= 0) & (ids < codec.vocab_size)
    token = xp.where(known, ids, 0)
    length = xp.where(known, xp.asarray(codec.lengths)[token], 0)
    end = xp.cumsum(length, axis=1, dtype=xp.int32)
    begin = end - length
    total, broken = end[:, -1] if ids.shape[1] else xp.zeros(ids.shape[:1], xp.int32), False
    filled = total
    if codec.entry is not None:  # what follows a token that cannot stand there is no chunk
        wrong = known & (xp.asarray(codec.entry)[token] != begin % codec.per_number)
        filled = xp.minimum(filled, xp.min(xp.where(wrong, begin, units), axis=1, initial=units))
        filled = filled - filled % codec.per_number
        broken = xp.any(wrong, axis=1)
    expand = _expand_ragged if xp is np else _expand_static
    values = expand(codec, xp.asarray(codec.start)[token], begin, end, filled, units)
    if codec.place is not None:
        values = xp.sum(values[:, xp.asarray(codec.place)], axis=-1)
    malformed = broken | xp.any(~known & (ids != -1), axis=1)
    fits = (total == codec.size) | (xp.asarray(codec.eob) & (total <= codec.size))
    info = {
        "n_tokens": xp.sum(ids != -1, axis=1),
        "n_symbols": total,
        "overflow": xp.maximum(total - units, 0),
        "padded": xp.maximum(units - filled, 0),
        "malformed": malformed,
    }
    return values.reshape(-1, codec.horizon, codec.action_dim), fits & ~malformed, info


def _expand_static(
    codec: Codec, start: Array, begin: Array, end: Array, filled: Array, units: int
) -> Array:
    """The units `[B, units]` of the tokens, zeros from `filled [B]` on, by static shapes.

    Within a token, unit p lies at `flat[start + p - begin]`. The differences of `start - begin`
    between tokens are put where each token begins, so their running sum is what p needs.
    """
    xp = start.__array_namespace__()
    shift = xp.where(end > begin, start, 0) - begin
    change = xp.concatenate([shift[:, :1], shift[:, 1:] - shift[:, :-1]], axis=1)
    row, column = xp.arange(start.shape[0])[:, None], xp.minimum(begin, units)
    jumps = xp.zeros((start.shape[0], units + 1), xp.int32).at[row, column].add(change)
    position = xp.arange(units, dtype=xp.int32)
    index = xp.cumsum(jumps[:, :units], axis=1, dtype=xp.int32) + position
    values = xp.take(xp.asarray(codec.flat), index, mode="clip")
    return xp.where(position < filled[:, None], values, 0)


def _expand_ragged(
    codec: Codec, start: Array, begin: Array, end: Array, filled: Array, units: int
) -> np.ndarray:
    """The same on the host, for the units that there are: one list of all of them."""
    last = np.minimum(filled, units)
    length = (np.minimum(end, last[:, None]) - np.minimum(begin, last[:, None])).reshape(-1)
    before = np.cumsum(length) - length
    index = np.repeat(start.reshape(-1) - before, length) + np.arange(length.sum())
    out = np.zeros((len(start), units), np.float32)
    out[np.arange(units) < last[:, None]] = np.asarray(codec.flat)[index]
    return out


def to_actions(codec: Codec, coefficients: Array) -> Array:
    """Return actions `[B, T, A]` in the data's units of `coefficients [B, T, A]`."""
    xp = coefficients.__array_namespace__()
    actions = matmul(xp.asarray(codec.basis).T, coefficients)  # then in place on the host
    actions *= xp.asarray(codec.scale)
    actions += xp.asarray(codec.offset)
    return actions


def first(ids: Array, tokens: int | Array) -> Array:
    """Return the first `tokens` (one number, or `[B, 1]`) of `ids [B, L]`, the rest padded.

    With `eob` that is a chunk too: what is left out are higher frequencies. So a policy may stop
    early and execute a smooth approximation (any-time decoding).
    """
    xp = ids.__array_namespace__()
    return xp.where(xp.arange(ids.shape[1]) < tokens, ids, -1)


def allowed(codec: Codec, produced: Array) -> tuple[Array, Array]:
    """Return which tokens may follow `produced [B]` units, `[B, V]` bool, and whether the chunk may
    end here, `[B]` bool. `advance` counts the units.

    A sampler that obeys ends with a valid chunk whatever the model: tokens fit into what is left,
    and until nothing is left there is one that does.
    """
    xp = produced.__array_namespace__()
    left = codec.size - produced
    fits = xp.asarray(codec.lengths)[None, :] <= left[:, None]
    whole = produced % codec.per_number == 0
    if codec.entry is not None:
        fits = fits & (xp.asarray(codec.entry)[None, :] == (produced % codec.per_number)[:, None])
    if codec.usable is not None:
        fits = fits & xp.asarray(codec.usable)[None, :]
    return fits, (left == 0) | (xp.asarray(codec.eob) & whole)


def advance(codec: Codec, produced: Array, ids: Array) -> Array:
    """Return the units after the tokens `ids [B]` that follow `produced [B]`; -1 adds nothing."""
    xp = ids.__array_namespace__()
    known = (ids >= 0) & (ids < codec.vocab_size)
    return produced + xp.where(known, xp.asarray(codec.lengths)[xp.where(known, ids, 0)], 0)


def fix_prefix(actions: Array, executed: Array, memory: float) -> Array:
    """Return the chunks `actions [B, T, A]` changed so that they begin with `executed [B, k, A]`.

    Real-time chunking for token policies: while the next chunk was decoded, k of its steps were
    executed already. The change c is the least squares solution in DCT space
      min sum_k (1 + (memory pi k / T)**2) C_k**2   s.t.   D^T C = executed - actions on k steps
    so it is smooth and fades over about `memory` steps (> 0) after the executed ones.
    """
    xp = actions.__array_namespace__()
    T, k = actions.shape[1], executed.shape[1]
    if not 1 <= k <= T:
        raise ValueError(f"executed has {k} steps, expected 1 to the chunk's {T}")
    frequency = np.pi * np.arange(T) / T
    D = cosines(T, "float64")
    kernel = D.T @ (D / (1.0 + (memory * frequency[:, None]) ** 2))
    gain = kernel[:, :k] @ np.linalg.inv(kernel[:k, :k])
    gain[:k] = np.eye(k)
    return actions + matmul(xp.asarray(gain, dtype=actions.dtype), executed - actions[:, :k])


def encode(encoder: Encoder, actions: Array) -> Array:
    """Return the ids of JAX `actions [B, T, A]` on their device: `[B, T A]`, padded with -1.

    The same byte-pair encoding as the host's, for loops that never leave the accelerator; a
    coefficient on the edge between two integers may be rounded to the other one.
    """
    xp = actions.__array_namespace__()
    x = (actions - xp.asarray(encoder.offset)) * xp.asarray(encoder.inverse_scale)
    C = matmul(xp.asarray(encoder.basis), xp.clip(x, -encoder.clip, encoder.clip))
    Q = xp.rint(C * encoder.gamma).astype(xp.int32)
    symbols = xp.clip(Q, -encoder.bound, encoder.bound).reshape(len(actions), -1)
    if encoder.source is not None:
        symbols = symbols[:, xp.asarray(encoder.source)]
    tail = xp.cumsum(xp.flip(symbols != 0, axis=1), axis=1) == 0  # zeros that end the row
    written = ~(xp.asarray(encoder.eob) & xp.flip(tail, axis=1))
    ids = xp.where(written, symbols + encoder.bound, -1)
    return merge(xp.asarray(encoder.rank), 2 * encoder.bound + 1, ids)


def merge(rank: Array, alphabet: Array | int, ids: Array) -> Array:
    """Return JAX `ids [B, N]`, padded with -1, after all merges: until none applies, each row
    applies the first merge that it can at all its places, left to right.

    rank: `[V, V]`, number of the merge of two ids, V = none; merge m makes the id alphabet + m.
    """
    import jax

    xp, none = ids.__array_namespace__(), len(rank)
    row, position = xp.arange(ids.shape[0])[:, None], xp.arange(ids.shape[1])

    def best(ids: Array) -> tuple[Array, Array]:
        follower = xp.concatenate([ids[:, 1:], xp.full_like(ids[:, :1], -1)], axis=1)
        ranks = xp.where((ids >= 0) & (follower >= 0), rank[ids, follower], none)
        return ranks, xp.min(ranks, axis=1, keepdims=True, initial=none)

    def step(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        ids, ranks, lowest = state
        hit = (ranks == lowest) & (lowest < none)
        # Hits in a row (of one id repeated) overlap: every other one counts.
        before = jax.lax.cummax(xp.where(hit, -1, position), axis=1)
        hit = hit & ((position - before) % 2 == 1)
        swallowed = xp.concatenate([xp.zeros_like(hit[:, :1]), hit[:, :-1]], axis=1)
        ids = xp.where(hit, alphabet + lowest, ids)
        kept = (ids >= 0) & ~swallowed
        place = xp.where(kept, xp.cumsum(kept, axis=1) - 1, ids.shape[1])
        ids = xp.full_like(ids, -1).at[row, place].set(ids, mode="drop")
        return ids, *best(ids)

    return jax.lax.while_loop(lambda s: xp.any(s[2] < none), step, (ids, *best(ids)))[0]
