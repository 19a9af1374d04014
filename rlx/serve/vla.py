"""The policy of a trained vision-language-action model: observations in, chunks of actions out.

An observation is {"prompt": str, "state": [S] numbers, camera: uint8 [h, w, 3] ...}, images of any
size, see `rlx.serve.observations`; a reply has `actions` f32 [T, A] in the data's units, `valid`
(the tokens stood for a whole chunk) and `tokens` (how many they were). It depends on the
observation alone: the noise that a flow begins with is drawn from a key made of it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from rlx import tokenizers
from rlx.agents import vla
from rlx.infra.checkpoint import policy_of, read_assets, read_params
from rlx.infra.config import from_json
from rlx.infra.errors import ConfigError
from rlx.infra.random import key_for
from rlx.serve.batching import BadObservation, Message
from rlx.serve.observations import checked, number
from rlx.serve.policy import Served
from rlx.tokenizers.layout import Layout
from rlx.tokenizers.stats import NormStats, absolute
from rlx.tokenizers.text import ByteTokenizer, HFTextTokenizer
from rlx.types import EnvSpec, Keys, Spec

FORMAT = 2
TEXT = "tokenizer.json"  # of the text, beside the files of the action tokenizer


def assets(
    learner: ConfigDict,
    layout: Layout,
    actions: NormStats,
    spec: EnvSpec,
    prefix: int,
    text: str | Path | None = None,
    delta: Sequence[bool] | None = None,
) -> dict[str, Any]:
    """Return, as JSON, what `load` needs beside parameters: it goes into every checkpoint.

    Args: layout with its statistics of states; `actions`: those of the flow's actions; prefix:
      tokens before the action; text: file (or its folder) of the text's tokenizer, whose content is
      kept, None = bytes; delta: [<= A] which actions the model learned relative to the state.
    Raises ValueError for a delta that the actions or the state are too short for.
    """
    with tempfile.TemporaryDirectory() as folder:
        layout.action.save(folder)
        files = {file.name: file.read_text() for file in Path(folder).iterdir()}
    obs = {name: [list(own.shape), np.dtype(own.dtype).name] for name, own in spec.obs.items()}
    return {
        "format": FORMAT,
        "learner": learner.to_dict(),
        "tokenizer": files,
        "text": None if text is None else HFTextTokenizer(text).path.read_text("utf-8"),
        "max_len": layout.max_len,
        "prefix": prefix,
        "obs": obs,
        "chunk": list(spec.action.shape),
        "delta": _mask(delta or (), spec),
        "norm_mode": actions.mode,
        "norm_stats": {
            "state": cast(NormStats, layout.state_stats).to_json(),
            "actions": actions.to_json(),
        },
    }


def _mask(delta: Sequence[bool], spec: EnvSpec) -> list[bool]:
    """`delta` up to its last True, as long as `absolute` takes it."""
    last = max((i for i, relative in enumerate(delta) if relative), default=-1)
    sizes = spec.action.shape[-1], spec.obs["state"].shape[-1]
    if len(delta) > sizes[0] or last >= sizes[1]:
        raise ValueError(
            f"delta is a mask of {sizes[0]} actions over a state of {sizes[1]} numbers, "
            f"got {list(delta)}"
        )
    return [bool(relative) for relative in delta[: last + 1]]


def load(workdir: str | Path) -> Served:
    """Return the policy of the newest checkpoint of `workdir`.

    Metadata: `chunk` [T, A], `cameras`, `tokenizer`, and `absolute` [<= A]: which actions the model
    says as differences; replies have the state added to them.
    Raises ConfigError for checkpoints of another kind, and for statistics of another mode than the
    model was trained with.
    """
    saved = read_assets(workdir)
    if saved.get("format") != FORMAT:
        raise ConfigError(f"{workdir} has assets of format {saved.get('format')}, not {FORMAT}")
    layout, prefix, delta = restored_layout(saved, workdir), saved["prefix"], saved["delta"]
    tokenizer, state_stats = layout.action, cast(NormStats, layout.state_stats)
    obs = {name: Spec(tuple(shape), np.dtype(d)) for name, (shape, d) in saved["obs"].items()}
    spec = EnvSpec(obs, Spec(tuple(saved["chunk"])))
    config = from_json(saved["learner"])
    learner = vla.make(config, spec, slots=layout.slots, codec=tokenizer.codec(*spec.action.shape))
    state = restored(learner, read_params(workdir))
    act = jax.jit(lambda state, seen, own: learner.act(state, seen, row_keys(own), False))
    cameras = [name for name in obs if name != "state"]

    def policy(observations: Sequence[Message]) -> list[Message]:
        rows = [checked(own, obs, prefix) for own in observations]
        states = np.stack([row["state"] for row in rows])
        said = states if config.state_input == "text" else None
        try:
            seen: dict[str, Any] = layout.prefix([row["prompt"] for row in rows], said, prefix)
        except ValueError as error:  # too long; all else was checked
            raise BadObservation(str(error)) from error
        del seen["lengths"]
        seen["state"] = state_stats.normalize(states).astype(np.float32)
        if cameras:
            seen["images"] = {name: np.stack([row[name] for row in rows]) for name in cameras}
        own = np.array([number(row) for row in rows], np.uint32)
        chunk, extras = jax.device_get(act(state, seen, own))
        chunk = absolute(chunk, states, delta)
        return [
            {"actions": chunk[i], "valid": bool(extras["valid"][i]), "tokens": int(n)}
            for i, n in enumerate(extras["num_tokens"])
        ]

    example = {name: np.zeros(own.shape, own.dtype) for name, own in obs.items()}
    metadata = {"chunk": list(spec.action.shape), "cameras": cameras, "tokenizer": tokenizer.name}
    return Served(policy, metadata | {"absolute": delta}, {**example, "prompt": "warm up"})


def row_keys(numbers: jax.Array) -> Keys:
    """Return a key per row from its own number alone, `numbers` uint32 [B]."""
    key, count = key_for(0, 0, "act"), len(numbers)
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, numbers)
    # Without the barrier XLA computes the keys anew for every number drawn from them.
    ids = jnp.arange(count, dtype=jnp.int32)
    return Keys(jax.lax.optimization_barrier(keys), ids, key, count)


def restored_layout(saved: dict[str, Any], workdir: str | Path) -> Layout:
    """Return text and action tokens of the assets; ConfigError for statistics of another mode."""
    stats = {name: NormStats.from_json(own) for name, own in saved["norm_stats"].items()}
    with tempfile.TemporaryDirectory() as folder:
        for name, content in saved["tokenizer"].items():
            (Path(folder) / name).write_text(content)
        tokenizer = tokenizers.load(folder)
    with tempfile.TemporaryDirectory() as folder:
        if saved["text"] is None:
            text = ByteTokenizer()
        else:
            (Path(folder) / TEXT).write_text(saved["text"], "utf-8")
            text = HFTextTokenizer(folder)  # reads the file at once
    modes = {"statistics": stats["actions"].mode}
    if tokenizer.stats is not None:
        modes["tokenizer's statistics"] = tokenizer.stats.mode
    for whose, mode in modes.items():
        if mode != saved["norm_mode"]:
            raise ConfigError(
                f"{workdir} was trained on actions normalised by {saved['norm_mode']}, its {whose} "
                f"are of {mode}"
            )
    return Layout(text, tokenizer, saved["max_len"], stats["state"])


def restored(learner: Any, params: dict[str, Any]) -> Any:
    """Return a learner state that acts with the exported parameters."""
    hp = {name: jnp.float32(value) for name, value in learner.hp.items()}
    shapes = jax.eval_shape(learner.init, jax.random.key(0), hp)
    wanted = policy_of(shapes)
    flat, tree = jax.tree.flatten(wanted)
    given = jax.tree.leaves({name: params[name] for name in wanted})
    if [x.shape for x in flat] != [x.shape for x in given]:
        raise ConfigError("the checkpoint's parameters do not fit its config")
    own = jax.tree.unflatten(tree, given)
    return shapes.replace(**own, hp=hp, opt_state=None, grad_steps=jnp.int32(0))
