"""Checkpoints written here in each foreign layout come back as the same network."""

from __future__ import annotations

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from decoder_numpy import jit
from safetensors.numpy import save_file

from rlx.nn import pretrained
from rlx.nn.action_expert import ActionExpert
from rlx.nn.transformer import Decoder, Variant
from rlx.nn.vision_language import Networks, init, read, sequence
from rlx.nn.vit import ViT, ViTVariant
from rlx.ops import partition
from rlx.types import EnvSpec, Spec

V, L, N, H, D = 9, 2, 4, 6, 12
LLM = Variant(D, L, 10, N, 1, H)
IMAGE = ViTVariant(8, 2, 10, 2, 4, 8)
SPEC = EnvSpec({"state": Spec((3,))}, Spec((4, 2)))


@functools.cache
def networks(expert=None):
    small = Variant(8, L, 14, N, 1, H)
    head = None if expert is None else ActionExpert(small, expert, 2)
    return Networks(Decoder(LLM, V), ViT(IMAGE, D), head, ("cam",))


@functools.cache
def random(expert=None, seed=0):
    params = jit(lambda key: init(networks(expert), key, SPEC))(jax.random.key(seed))
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: np.float32(x + 0.1 * rng.normal(size=x.shape)), params)


def logits(params):
    nets = networks()
    rng = np.random.default_rng(5)
    tokens, one = rng.integers(0, V, size=(2, 5)), np.ones((2, 5), np.int32)
    images = {"cam": np.float32(rng.uniform(-1, 1, size=(2, 8, 8, 3)))}

    @jit
    def run(params):
        seq = sequence(nets, params, (tokens, one, one == 0), images, {})
        y, _ = read(nets, params, seq)
        return nets.llm.apply({"params": params["llm"]}, y, method="logits")

    return np.asarray(run(params))


def npz_names(params):
    """The layout of PaliGemma's npz, written down from its description."""
    p = partition.paths(params)
    at = lambda name: p[f"llm/layers/{name}"]  # noqa: E731
    out = {
        "llm/embedder/input_embedding": p["llm/embedding"],
        "llm/final_norm/scale": p["llm/final_norm/scale"],
        "llm/layers/attn/q_einsum/w": at("attention/q/w"),
        "llm/layers/attn/kv_einsum/w": at("attention/kv/w"),
        "llm/layers/attn/attn_vec_einsum/w": at("attention/out/w"),
        "llm/layers/mlp/gating_einsum": at("mlp/gating/w"),
        "llm/layers/mlp/linear": at("mlp/linear/w"),
        "llm/layers/pre_attention_norm/scale": at("attention_norm/scale"),
        "llm/layers/pre_ffw_norm/scale": at("mlp_norm/scale"),
        "img/pos_embedding": p["img/positions"][None],
    }
    block, mha = "img/Transformer/encoderblock", "MultiHeadDotProductAttention_0"
    pairs = [("img/embedding", "embedding"), ("img/head", "head")]
    pairs += [("img/Transformer/encoder_norm", "final_norm")]
    pairs += [(f"{block}/{mha}/{n}", f"layers/{n}") for n in ("query", "key", "value", "out")]
    pairs += [(f"{block}/LayerNorm_0", "layers/attention_norm")]
    pairs += [(f"{block}/LayerNorm_1", "layers/mlp_norm")]
    pairs += [
        (f"{block}/MlpBlock_0/Dense_{i}", f"layers/{n}") for i, n in enumerate(("up", "down"))
    ]
    for theirs, ours in pairs:
        for leaf in ("kernel", "scale", "bias"):
            if f"img/{ours}/{leaf}" in p:
                out[f"{theirs}/{leaf}"] = p[f"img/{ours}/{leaf}"]
    return out


def openpi_tree(params, kind):
    """Nested, with a `value` at every leaf; the second expert as `_1`."""
    p = partition.paths(params)
    flat = {f"PaliGemma/{name}": x for name, x in npz_names(params).items()}
    gemma, layers = "PaliGemma/llm", "expert/decoder/layers"
    flat |= {
        f"{gemma}/layers/attn/q_einsum_1/w": p[f"{layers}/attention/q/w"],
        f"{gemma}/layers/attn/kv_einsum_1/w": p[f"{layers}/attention/kv/w"],
        f"{gemma}/layers/attn/attn_vec_einsum_1/w": p[f"{layers}/attention/out/w"],
        f"{gemma}/layers/mlp_1/gating_einsum": p[f"{layers}/mlp/gating/w"],
        f"{gemma}/layers/mlp_1/linear": p[f"{layers}/mlp/linear/w"],
    }
    norms = (
        (f"{gemma}/layers/pre_attention_norm_1", f"{layers}/attention_norm"),
        (f"{gemma}/layers/pre_ffw_norm_1", f"{layers}/mlp_norm"),
        (f"{gemma}/final_norm_1", "expert/decoder/final_norm"),
    )
    for theirs, ours in norms:
        if kind == "pi0":
            flat[f"{theirs}/scale"] = p[f"{ours}/scale"]
        else:
            for leaf in ("kernel", "bias"):
                flat[f"{theirs}/Dense_0/{leaf}"] = p[f"{ours}/modulation/{leaf}"]
    time = "action_time_mlp" if kind == "pi0" else "time_mlp"
    names = {
        "action_in": "action_in_proj",
        "action_out": "action_out_proj",
        "time_in": f"{time}_in",
        "time_out": f"{time}_out",
        "state_in": "state_proj",
    }
    for ours, theirs in names.items():
        for leaf in ("kernel", "bias"):
            if f"expert/{ours}/{leaf}" in p:
                flat[f"{theirs}/{leaf}"] = p[f"expert/{ours}/{leaf}"]
    return partition.tree_of({f"params/{name}/value": x for name, x in flat.items()})


def huggingface_names(params, prefix=""):
    """One (out, in) matrix per layer, written head by head."""
    p = partition.paths(params)
    text, vision = f"{prefix}language_model.", f"{prefix}vision_tower.vision_model."
    if not prefix:
        text += "model."
    out = {f"{text}embed_tokens.weight": p["llm/embedding"]}
    out[f"{text}norm.weight"] = p["llm/final_norm/scale"]
    for i in range(L):
        at = lambda name: p[f"llm/layers/{name}"][i]  # noqa: E731
        layer = f"{text}layers.{i}."
        q, (k, v), o = at("attention/q/w"), at("attention/kv/w"), at("attention/out/w")
        attention = f"{layer}self_attn."
        out[f"{attention}q_proj.weight"] = np.concatenate([head.T for head in q])
        out[f"{attention}k_proj.weight"] = np.concatenate([head.T for head in k])
        out[f"{attention}v_proj.weight"] = np.concatenate([head.T for head in v])
        out[f"{attention}o_proj.weight"] = np.concatenate(list(o)).T
        out[f"{layer}mlp.gate_proj.weight"] = at("mlp/gating/w")[0].T
        out[f"{layer}mlp.up_proj.weight"] = at("mlp/gating/w")[1].T
        out[f"{layer}mlp.down_proj.weight"] = at("mlp/linear/w").T
        out[f"{layer}input_layernorm.weight"] = at("attention_norm/scale")
        out[f"{layer}post_attention_layernorm.weight"] = at("mlp_norm/scale")
    patch = p["img/embedding/kernel"]  # (h, w, in, out)
    out[f"{vision}embeddings.patch_embedding.weight"] = np.einsum("hwio->oihw", patch)
    out[f"{vision}embeddings.patch_embedding.bias"] = p["img/embedding/bias"]
    out[f"{vision}embeddings.position_embedding.weight"] = p["img/positions"]
    for i in range(IMAGE.depth):
        at = lambda name: p[f"img/layers/{name}"][i]  # noqa: E731
        layer = f"{vision}encoder.layers.{i}."
        for ours, theirs in (("query", "q"), ("key", "k"), ("value", "v")):
            name = f"{layer}self_attn.{theirs}_proj"
            kernel = at(f"{ours}/kernel")  # (D, heads, size)
            heads = [kernel[:, head].T for head in range(IMAGE.heads)]
            out[f"{name}.weight"] = np.concatenate(heads)
            out[f"{name}.bias"] = np.concatenate(list(at(f"{ours}/bias")))
        out[f"{layer}self_attn.out_proj.weight"] = np.concatenate(list(at("out/kernel"))).T
        out[f"{layer}self_attn.out_proj.bias"] = at("out/bias")
        for ours, theirs in (("up", "fc1"), ("down", "fc2")):
            out[f"{layer}mlp.{theirs}.weight"] = at(f"{ours}/kernel").T
            out[f"{layer}mlp.{theirs}.bias"] = at(f"{ours}/bias")
        for ours, theirs in (("attention_norm", "layer_norm1"), ("mlp_norm", "layer_norm2")):
            out[f"{layer}{theirs}.weight"] = at(f"{ours}/scale")
            out[f"{layer}{theirs}.bias"] = at(f"{ours}/bias")
    out[f"{vision}post_layernorm.weight"] = p["img/final_norm/scale"]
    out[f"{vision}post_layernorm.bias"] = p["img/final_norm/bias"]
    out[f"{prefix}multi_modal_projector.linear.weight"] = p["img/head/kernel"].T
    out[f"{prefix}multi_modal_projector.linear.bias"] = p["img/head/bias"]
    return {name: np.ascontiguousarray(x) for name, x in out.items()}


def equal(a, b):
    assert partition.paths(a).keys() == partition.paths(b).keys()
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_npz_and_safetensors_give_the_same_logits(tmp_path):
    params, other = random(), random(seed=1)
    np.savez(tmp_path / "pt.npz", **{f"params/{n}": x for n, x in npz_names(params).items()})
    names = huggingface_names(params)
    names["language_model.lm_head.weight"] = params["llm"]["embedding"]  # tied
    half = len(names) // 2
    folder = tmp_path / "hf"
    folder.mkdir()
    parts = dict(list(names.items())[:half]), dict(list(names.items())[half:])
    where = {}
    for i, part in enumerate(parts):
        file = f"model-{i + 1:05}-of-00002.safetensors"
        save_file(part, folder / file)
        where |= dict.fromkeys(part, file)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": where}))
    found = [
        pretrained.load(other, pretrained.read_npz(tmp_path / "pt.npz"), "paligemma"),
        pretrained.load(other, pretrained.read_safetensors(folder), "huggingface"),
        pretrained.load(other, huggingface_names(params, "model."), "huggingface"),
    ]
    want = logits(params)
    assert np.abs(want - logits(other)).max() > 0.1
    for got, report in found:
        equal(got, params)
        assert report == ([], [], {})
    for got, _ in found[:2]:
        np.testing.assert_array_equal(logits(got), want)
    (folder / file).unlink()
    with pytest.raises(FileNotFoundError, match="model-00002-of-00002"):
        pretrained.read_safetensors(folder)


@pytest.mark.parametrize("kind", ["pi0", "pi05"])
def test_openpi_with_its_expert(kind):
    params = random(kind)
    got, _ = pretrained.load(random(kind, seed=1), openpi_tree(params, kind), "openpi")
    equal(got, params)
    # The same file for a model without the expert, and its own for one that it does not know.
    got, report = pretrained.load(
        random(), openpi_tree(params, kind), "openpi", allow_unexpected="_1|_proj|time_mlp"
    )
    equal(got, {name: params[name] for name in ("llm", "img")})
    assert "action_in_proj/kernel" in report.unexpected
    with pytest.raises(ValueError, match="missing expert/action_in/bias"):
        pretrained.load(params, npz_names(params), "openpi")
    got, report = pretrained.load(params, npz_names(random()), "openpi", allow_missing="^expert/")
    equal(got["expert"], params["expert"])
    assert len(report.missing) == len(partition.paths(params["expert"]))


def test_every_mismatch_is_listed_at_once():
    params = random()
    there = npz_names(params)
    del there["img/head/bias"]
    there["llm/layers/attn/q_einsum/lora_a"] = np.zeros(3)
    there["llm/layers/mlp/linear"] = np.zeros((L, 11, D))
    there["llm/embedder/input_embedding"] = np.zeros((V + 3, D))
    with pytest.raises(ValueError) as error:
        pretrained.load(params, there, "paligemma")
    for text in (
        "missing img/head/bias",
        "unexpected llm/layers/attn/q_einsum/lora_a",
        "shape of llm/layers/mlp/linear/w: ours (2, 10, 12), there (2, 11, 12)",
        "shape of llm/embedding: ours (9, 12), there (12, 12)",
        "takes `rows`",
    ):
        assert text in str(error.value)
    wrong = huggingface_names(params)
    for i in range(L):  # 5 rows are no heads of size 6
        wrong[f"language_model.model.layers.{i}.self_attn.q_proj.weight"] = np.zeros((5, D))
    with pytest.raises(ValueError, match=r"q/w: ours \(2, 4, 12, 6\), there \(2, 5, 12\)"):
        pretrained.load(params, wrong, "huggingface")
    with pytest.raises(ValueError, match=r"layout is one of .*got 'hugging'; nearest: huggingface"):
        pretrained.load(params, there, "hugging")


def test_part_of_a_larger_token_table_is_said_row_by_row():
    params = random()
    there = npz_names(params)
    table = np.float32(np.random.default_rng(2).normal(size=(50, D)))
    there["llm/embedder/input_embedding"] = table
    rows = np.r_[0:5, 46:50]  # text, then the last tokens for actions
    got, _ = pretrained.load(params, there, "paligemma", rows=rows)
    np.testing.assert_array_equal(got["llm"]["embedding"], table[rows])
    for bad in (rows[:-1], rows + 1):
        with pytest.raises(ValueError, match="rows are 9 row numbers below 50"):
            pretrained.load(params, there, "paligemma", rows=bad)


def test_values_take_the_type_of_the_model():
    params = random()
    half = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), params)
    got, _ = pretrained.load(half, npz_names(params), "paligemma")
    assert {x.dtype for x in jax.tree.leaves(got)} == {jnp.dtype("bfloat16")}
    back, _ = pretrained.load(params, npz_names(got), "paligemma")
    assert {x.dtype for x in jax.tree.leaves(back)} == {np.dtype("float32")}
