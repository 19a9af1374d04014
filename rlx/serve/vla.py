"""The policy of a trained vision-language-action model: observations in, chunks of actions out.

An observation is {"prompt": str, "state": f32 [S], camera: uint8 [H, W, 3] ...}; a reply has
`actions` f32 [T, A] in the data's units, `valid` (the tokens stood for a whole chunk) and `tokens`
(how many they were).
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from rlx import tokenizers
from rlx.agents import vla
from rlx.infra.checkpoint import policy_of, read_assets, read_params
from rlx.infra.config import from_json
from rlx.infra.errors import ConfigError
from rlx.infra.random import key_for, shard_keys
from rlx.serve.batching import BadObservation
from rlx.serve.policy import Served
from rlx.tokenizers.layout import Layout
from rlx.tokenizers.stats import NormStats
from rlx.tokenizers.text import ByteTokenizer, HFTextTokenizer
from rlx.types import EnvSpec, Spec

FORMAT = 1


def assets(
    learner: ConfigDict,
    layout: Layout,
    actions: NormStats,
    spec: EnvSpec,
    prefix: int,
    text: str | None = None,
) -> dict[str, Any]:
    """Return, as JSON, what `load` needs beside parameters: it goes into every checkpoint.

    Args: layout with its statistics of states; `actions`: those of the flow's actions; prefix:
      tokens before the action; text: file of the text's tokenizer, None = bytes.
    """
    with tempfile.TemporaryDirectory() as folder:
        layout.action.save(folder)
        files = {file.name: file.read_text() for file in Path(folder).iterdir()}
    obs = {name: [list(own.shape), np.dtype(own.dtype).name] for name, own in spec.obs.items()}
    return {
        "format": FORMAT,
        "learner": learner.to_dict(),
        "tokenizer": files,
        "text": text,
        "max_len": layout.max_len,
        "prefix": prefix,
        "obs": obs,
        "chunk": list(spec.action.shape),
        "norm_mode": actions.mode,
        "norm_stats": {"state": layout.state_stats.to_json(), "actions": actions.to_json()},
    }


def load(workdir: str | Path) -> Served:
    """Return the policy of the newest checkpoint of `workdir`.

    Raises ConfigError for checkpoints of another kind, and for statistics of another mode than the
    model was trained with.
    """
    saved = read_assets(workdir)
    if saved.get("format") != FORMAT:
        raise ConfigError(f"{workdir} has assets of format {saved.get('format')}, not {FORMAT}")
    stats = {name: NormStats.from_json(own) for name, own in saved["norm_stats"].items()}
    if stats["actions"].mode != saved["norm_mode"]:
        raise ConfigError(
            f"{workdir} was trained on actions normalised by {saved['norm_mode']}, its statistics "
            f"are of {stats['actions'].mode}"
        )
    with tempfile.TemporaryDirectory() as folder:
        for name, text in saved["tokenizer"].items():
            (Path(folder) / name).write_text(text)
        tokenizer = tokenizers.load(folder)
    text = HFTextTokenizer(saved["text"]) if saved["text"] else ByteTokenizer()
    layout = Layout(text, tokenizer, saved["max_len"], stats["state"])
    obs = {name: Spec(tuple(shape), np.dtype(d)) for name, (shape, d) in saved["obs"].items()}
    spec = EnvSpec(obs, Spec(tuple(saved["chunk"])))
    config = from_json(saved["learner"])
    learner = vla.make(config, spec, slots=layout.slots, codec=tokenizer.codec(*spec.action.shape))
    state = restored(learner, read_params(workdir))
    keys = jax.jit(lambda: shard_keys(key_for(0, 0, "act"), 1))()
    act = jax.jit(lambda state, seen: learner.act(state, seen, keys, False))
    cameras = [name for name in obs if name != "state"]

    wanted = {"prompt", "state", *cameras}

    def policy(observations: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        for own in observations:
            if missing := wanted - own.keys():
                raise BadObservation(f"the observation lacks {', '.join(sorted(missing))}")
        states = np.stack([np.asarray(own["state"], np.float32) for own in observations])
        said = states if config.state_input == "text" else None
        seen = layout.prefix([own["prompt"] for own in observations], said, saved["prefix"])
        del seen["lengths"]
        seen["state"] = stats["state"].normalize(states).astype(np.float32)
        if cameras:
            seen["images"] = {c: np.stack([own[c] for own in observations]) for c in cameras}
        chunk, extras = jax.device_get(act(state, seen))
        return [
            {"actions": chunk[i], "valid": bool(extras["valid"][i]), "tokens": int(n)}
            for i, n in enumerate(extras["num_tokens"])
        ]

    example = {name: np.zeros(own.shape, own.dtype) for name, own in obs.items()}
    metadata = {"chunk": list(spec.action.shape), "cameras": cameras, "tokenizer": tokenizer.name}
    return Served(policy, metadata, {**example, "prompt": "warm up"})


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
