"""Where other projects keep each parameter of ours; see `rlx.nn.pretrained`.

Shapes, with L layers, D width, N query heads, K key heads, H head size, F MLP, V tokens:
  q/w [L, N, D, H]   kv/w [L, 2, K, D, H]   out/w [L, N, H, D]   gating/w [L, 2, D, F]
  linear/w [L, F, D]   norms [L, D]   embedding [V, D]
of images: query, key, value/kernel [L, D, N, H]   out/kernel [L, N, H, D]   positions [tokens, D]
The npz layout has the same shapes; HuggingFace has one (out, in) matrix per layer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

TABLE = "llm/embedding"
Make = Callable[[list[np.ndarray], tuple[int, ...]], np.ndarray]


class Entry(NamedTuple):
    """One of our parameters: the names of its parts there ("{}" = the layer), how it is made.

    make(parts, shape): parts with "{}" arrive stacked over layers; shape is ours.
    """

    names: tuple[str, ...]
    make: Make = lambda parts, shape: parts[0]

    def sources(self, shape: tuple[int, ...]) -> list[str]:
        """All names there, layer by layer, part by part."""
        layers = range(shape[0]) if "{}" in self.names[0] else range(1)
        return [name.format(i) for name in self.names for i in layers]

    def value(self, arrays: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
        """The parameter made of the arrays of `sources`; what cannot be made of them, as it is."""
        parts = arrays
        try:
            if "{}" in self.names[0]:
                parts = [
                    np.stack(arrays[i : i + shape[0]]) for i in range(0, len(arrays), shape[0])
                ]
            return self.make(parts, shape)
        except ValueError:  # sizes that do not divide: the caller reports the shapes
            return parts[0]


def _gemma(ours: str, suffix: str = "") -> dict[str, Entry]:
    """A decoder in the names of PaliGemma and openpi."""
    layers, there = f"{ours}/layers", "llm/layers"
    names = {
        f"{layers}/attention/q/w": f"{there}/attn/q_einsum{suffix}/w",
        f"{layers}/attention/kv/w": f"{there}/attn/kv_einsum{suffix}/w",
        f"{layers}/attention/out/w": f"{there}/attn/attn_vec_einsum{suffix}/w",
        f"{layers}/mlp/gating/w": f"{there}/mlp{suffix}/gating_einsum",
        f"{layers}/mlp/linear/w": f"{there}/mlp{suffix}/linear",
    }
    for norm, other in (
        (f"{layers}/attention_norm", f"{there}/pre_attention_norm{suffix}"),
        (f"{layers}/mlp_norm", f"{there}/pre_ffw_norm{suffix}"),
        (f"{ours}/final_norm", f"llm/final_norm{suffix}"),
    ):
        names[f"{norm}/scale"] = f"{other}/scale"
        for leaf in ("kernel", "bias"):  # of adaptive norms
            names[f"{norm}/modulation/{leaf}"] = f"{other}/Dense_0/{leaf}"
    return {mine: Entry((name,)) for mine, name in names.items()}


def _siglip() -> dict[str, Entry]:
    """The image encoder in the names of PaliGemma and openpi."""
    block = "img/Transformer/encoderblock"
    attention = f"{block}/MultiHeadDotProductAttention_0"
    modules = {
        "img/embedding": ("img/embedding", "kernel"),
        "img/layers/attention_norm": (f"{block}/LayerNorm_0", "scale"),
        "img/layers/query": (f"{attention}/query", "kernel"),
        "img/layers/key": (f"{attention}/key", "kernel"),
        "img/layers/value": (f"{attention}/value", "kernel"),
        "img/layers/out": (f"{attention}/out", "kernel"),
        "img/layers/mlp_norm": (f"{block}/LayerNorm_1", "scale"),
        "img/layers/up": (f"{block}/MlpBlock_0/Dense_0", "kernel"),
        "img/layers/down": (f"{block}/MlpBlock_0/Dense_1", "kernel"),
        "img/final_norm": ("img/Transformer/encoder_norm", "scale"),
        "img/head": ("img/head", "kernel"),
    }
    entries = {
        f"{ours}/{leaf}": Entry((f"{there}/{leaf}",))
        for ours, (there, weight) in modules.items()
        for leaf in (weight, "bias")
    }
    squeezed = Entry(("img/pos_embedding",), lambda parts, shape: parts[0].reshape(shape))
    return entries | {"img/positions": squeezed}


def _expert() -> dict[str, Entry]:
    """The action expert of openpi."""
    projections = {
        "action_in": "action_in_proj",
        "action_out": "action_out_proj",
        "state_in": "state_proj",
        "time_in": "time_mlp_in",
        "time_out": "time_mlp_out",
    }
    return _gemma("expert/decoder", "_1") | {
        f"expert/{ours}/{leaf}": Entry((f"{there}/{leaf}",))
        for ours, there in projections.items()
        for leaf in ("kernel", "bias")
    }


def _swap(w: np.ndarray) -> np.ndarray:
    """(out, in) -> (in, out), layer by layer."""
    return w.swapaxes(-1, -2)


def _heads(w: np.ndarray, size: int) -> np.ndarray:
    """[L, N H, D] -> [L, N, D, H]."""
    return _swap(w.reshape(w.shape[0], -1, size, w.shape[-1]))


def _from_heads(w: np.ndarray, size: int) -> np.ndarray:
    """[L, D, N H] -> [L, N, H, D]."""
    return np.moveaxis(w.reshape(*w.shape[:2], -1, size), 1, -1)


def _huggingface() -> dict[str, Entry]:
    """PaliGemma's language model, image encoder and projection."""
    layer, vision = "language_model.layers.{}", "vision_tower.vision_model"
    block, attention = f"{vision}.encoder.layers.{{}}", f"{layer}.self_attn"
    one: Make = lambda parts, shape: parts[0]  # noqa: E731
    swap: Make = lambda parts, shape: _swap(parts[0])  # noqa: E731
    spread: Make = lambda parts, shape: parts[0].reshape(shape)  # noqa: E731
    table = {
        TABLE: (one, "language_model.embed_tokens.weight"),
        "llm/final_norm/scale": (one, "language_model.norm.weight"),
        "llm/layers/attention_norm/scale": (one, f"{layer}.input_layernorm.weight"),
        "llm/layers/mlp_norm/scale": (one, f"{layer}.post_attention_layernorm.weight"),
        "llm/layers/attention/q/w": (
            lambda parts, shape: _heads(parts[0], shape[-1]),
            f"{attention}.q_proj.weight",
        ),
        "llm/layers/attention/kv/w": (
            lambda parts, shape: np.stack([_heads(w, shape[-1]) for w in parts], axis=1),
            f"{attention}.k_proj.weight",
            f"{attention}.v_proj.weight",
        ),
        "llm/layers/attention/out/w": (
            lambda parts, shape: _from_heads(parts[0], shape[-2]),
            f"{attention}.o_proj.weight",
        ),
        "llm/layers/mlp/gating/w": (
            lambda parts, shape: np.stack([_swap(w) for w in parts], axis=1),
            f"{layer}.mlp.gate_proj.weight",
            f"{layer}.mlp.up_proj.weight",
        ),
        "llm/layers/mlp/linear/w": (swap, f"{layer}.mlp.down_proj.weight"),
        "img/embedding/kernel": (
            lambda parts, shape: parts[0].transpose(2, 3, 1, 0),
            f"{vision}.embeddings.patch_embedding.weight",
        ),
        "img/embedding/bias": (one, f"{vision}.embeddings.patch_embedding.bias"),
        "img/positions": (one, f"{vision}.embeddings.position_embedding.weight"),
        "img/layers/out/kernel": (
            lambda parts, shape: _from_heads(parts[0], shape[-2]),
            f"{block}.self_attn.out_proj.weight",
        ),
        "img/layers/out/bias": (one, f"{block}.self_attn.out_proj.bias"),
        "img/head/kernel": (swap, "multi_modal_projector.linear.weight"),
        "img/head/bias": (one, "multi_modal_projector.linear.bias"),
    }
    for ours, there in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj")):
        name = f"{block}.self_attn.{there}"
        table[f"img/layers/{ours}/kernel"] = (
            lambda parts, shape: _swap(parts[0]).reshape(shape),
            f"{name}.weight",
        )
        table[f"img/layers/{ours}/bias"] = (spread, f"{name}.bias")
    for ours, there in (("up", "fc1"), ("down", "fc2")):
        table[f"img/layers/{ours}/kernel"] = (swap, f"{block}.mlp.{there}.weight")
        table[f"img/layers/{ours}/bias"] = (one, f"{block}.mlp.{there}.bias")
    for ours, there in (
        ("img/layers/attention_norm", f"{block}.layer_norm1"),
        ("img/layers/mlp_norm", f"{block}.layer_norm2"),
        ("img/final_norm", f"{vision}.post_layernorm"),
    ):
        table[f"{ours}/scale"] = (one, f"{there}.weight")
        table[f"{ours}/bias"] = (one, f"{there}.bias")
    return {ours: Entry(tuple(names), make) for ours, (make, *names) in table.items()}


_TABLE = {TABLE: Entry(("llm/embedder/input_embedding",))}
PALIGEMMA = _TABLE | _gemma("llm") | _siglip()
ENTRIES = {
    "paligemma": PALIGEMMA,
    "openpi": PALIGEMMA | _expert(),
    "huggingface": _huggingface(),
}
