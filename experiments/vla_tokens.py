"""Text and action tokens of `experiments.vla`, fitted on samples of its data."""

from __future__ import annotations

from typing import Any

import numpy as np
from ml_collections import ConfigDict

from rlx import tokenizers
from rlx.data.chunks import Batch
from rlx.data.vla_rows import Rows
from rlx.tokenizers.layout import Layout
from rlx.tokenizers.stats import NormStats
from rlx.tokenizers.text import ByteTokenizer, HFTextTokenizer

SCALED = ("fast", "hf_fast", "dct")  # tokenizers that round scaled coefficients


def fit(config: ConfigDict, sample: Batch, name: str) -> tuple[Rows, int]:
    """Return what turns samples into rows, and the tokens of the longest prefix.

    Raises ValueError where `data.max_len` is too short for more than 1 % of the samples.
    """
    data, actions, speaks = config.data, sample["actions"], config.learner.head != "flow"
    action = action_tokenizer(name, actions, data)
    text = HFTextTokenizer(data.text) if data.text else ByteTokenizer()
    states = NormStats.fit(sample["state"])
    says = config.learner.state_input == "text"
    prompts, ids = sample["prompt"], action.encode(actions) if speaks else None
    widest = np.full_like(sample["state"], 1e9) if says else None  # three digits each
    bare = Layout(text, action, 1, states)
    longest = int(bare.lengths(prompts, widest, action_ids=ids).max())
    layout = Layout(text, action, data.max_len or -(-longest // 8) * 8, states)
    layout.check(prompts, sample["state"] if says else None, action_ids=ids)
    widest = None if widest is None else widest[: len(set(prompts))]
    said = layout.prefix(sorted(set(prompts)), widest, longest)["lengths"].max()
    stats = action.stats or NormStats.fit(actions)
    return Rows(layout, states, stats, says, speaks), int(said) + data.prompt_room


def action_tokenizer(name: str, actions: np.ndarray, data: ConfigDict) -> Any:
    """Fit the tokenizer `name` with the settings of the section `data` that are its own."""
    scale = {} if data.scale is None or name not in SCALED else {"scale": data.scale}
    if name != "fast":
        return tokenizers.make(name, actions, **scale)
    size = data.vocab_size
    if data.merges is not None:
        size = tokenizers.make(name, actions, vocab_size=None, **scale).vocab_size + data.merges
    return tokenizers.make(name, actions, vocab_size=size, **scale)
