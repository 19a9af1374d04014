"""A vision-language-action model as a served policy: answers, refusals, assets, MuJoCo.

Its parameters are random, what is tested does not depend on them.
"""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import vla_runs as toys

from experiments import vla_served
from rlx import tokenizers
from rlx.agents import vla as agent
from rlx.infra.checkpoint import Checkpoints, policy_of, read_assets
from rlx.infra.errors import ConfigError
from rlx.serve import vla
from rlx.serve.batching import BadObservation
from rlx.serve.client import Client
from rlx.serve.observations import CHARACTERS, checked, number
from rlx.serve.server import background
from rlx.tokenizers.layout import Layout
from rlx.tokenizers.stats import NormStats
from rlx.tokenizers.text import ByteTokenizer, HFTextTokenizer
from rlx.types import EnvSpec, Spec

T, A, S, SIZE, PREFIX = 3, 2, 3, 16, 64
SPEC = EnvSpec({"state": Spec((S,)), "base": Spec((SIZE, SIZE, 3), np.uint8)}, Spec((T, A)))
BLIND = EnvSpec({"state": Spec((S,))}, SPEC.action)  # compiles in half the time
MASK = (True, False)


def save(folder: Path, spec=SPEC, text=None, delta=None, **settings) -> Path:
    """A checkpoint of a small model with random parameters."""
    rng = np.random.default_rng(0)
    actions, states = rng.normal(size=(200, T, A)), rng.normal(1.0, 2.0, (200, S))
    action = tokenizers.make("bins", actions, n_bins=16)
    words = ByteTokenizer() if text is None else HFTextTokenizer(text)
    layout = Layout(words, action, 96, NormStats.fit(states))
    config = agent.get_config()
    small = dict(decoder="micro", expert_decoder="micro_expert", vit="tiny", flow_steps=2)
    config.update(small | {"vocab_size": layout.vocab_size} | settings)
    assets = vla.assets(config, layout, action.stats, spec, PREFIX, text, delta)
    learner = agent.make(config, spec, slots=layout.slots, codec=action.codec(T, A))
    hp = {name: jnp.float32(value) for name, value in learner.hp.items()}
    params = policy_of(jax.jit(learner.init)(jax.random.key(0), hp))
    checkpoints = Checkpoints(folder, assets=assets)
    checkpoints.save(1, {"none": np.zeros(1)}, {}, params)
    checkpoints.close()
    return folder


def ask(**changes):
    """An observation."""
    rng = np.random.default_rng(1)
    state = rng.normal(size=S).astype(np.float32)
    picture = rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    return {"prompt": "go", "state": state, "base": picture} | changes


def close(one, other) -> None:
    np.testing.assert_allclose(one["actions"], other["actions"], rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> Path:
    return save(tmp_path_factory.mktemp("flow"), head="flow", delta=MASK)


@pytest.fixture(scope="module")
def flow(workdir):
    return vla.load(workdir).policy


@pytest.mark.parametrize("head", ["flow", "tokens"])
def test_answers_do_not_depend_on_who_else_asks(head, flow, tmp_path):
    policy = flow if head == "flow" else vla.load(save(tmp_path, BLIND)).policy
    asked = [ask(), ask(state=np.ones(S)), ask(prompt="stop"), ask(state=np.zeros(S))]
    together, turned = policy(asked), policy(asked[::-1])[::-1]
    for one, reply, other in zip(asked, together, turned, strict=True):
        close(policy([one])[0], reply)
        close(other, reply)
        assert reply["actions"].shape == (T, A) and reply["actions"].dtype == np.float32
    repeated = policy([asked[1]] * 4)
    for reply in repeated:
        close(reply, together[1])


def test_every_part_of_an_observation_moves_the_noise_and_nothing_else_does():
    own = [
        ask(),
        ask(prompt="come"),
        ask(state=np.zeros(S)),
        ask(base=np.zeros((SIZE, SIZE, 3), np.uint8)),
    ]
    numbers = [number(checked(one, SPEC.obs, PREFIX)) for one in own]
    assert len(set(numbers)) == len(own)
    shuffled = dict(reversed(ask(more=3, state=ask()["state"].tolist()).items()))
    assert number(checked(shuffled, SPEC.obs, PREFIX)) == numbers[0]
    keys = vla.row_keys(np.array([numbers[0], numbers[1], numbers[0]], np.uint32))
    assert keys.keys[0] == keys.keys[2] != keys.keys[1]


def test_the_noise_of_observations_differs(flow):
    """Of a model that hardly looks at its text the flow's noise is what a prompt changes."""
    [one], [other] = flow([ask()]), flow([ask(prompt="stop")])
    assert np.abs(one["actions"] - other["actions"]).max() > 0.1


BAD = {
    "missing": (lambda: {"state": np.zeros(S)}, "the observation lacks base, prompt"),
    "no text": (lambda: ask(prompt=b"go"), "prompt is a str, got bytes"),
    "no prompt": (lambda: ask(prompt=np.zeros(2)), "prompt is a str, got ndarray"),
    "long": (lambda: ask(prompt="a" * PREFIX), r"a prefix of \d+ tokens, longer than 64: 'aaa"),
    "longest": (
        lambda: ask(prompt="a" * (CHARACTERS * PREFIX + 1)),
        "prompt has 4097 characters, the model has room for 64 tokens",
    ),
    "short state": (lambda: ask(state=np.zeros(2)), r"state has shape \[3\], got \[2\]"),
    "rows": (lambda: ask(state=np.zeros((1, S))), r"state has shape \[3\], got \[1, 3\]"),
    "number": (lambda: ask(state=1.0), r"state has shape \[3\], got \[\]"),
    "words": (lambda: ask(state=["a", "b", "c"]), r"state is numbers \[3\], got <U1"),
    "flags": (lambda: ask(state=np.ones(S, bool)), r"state is numbers \[3\], got bool"),
    "none": (lambda: ask(state=None), r"state is numbers \[3\], got object"),
    "dict": (lambda: ask(state={"a": 1}), r"state is numbers \[3\], got object"),
    "ragged": (lambda: ask(state=[[1], [1, 2]]), r"state is numbers \[3\], got lists that differ"),
    "nan": (lambda: ask(state=[0.0, np.nan, 0.0]), r"state is finite, got nan at \[1\]"),
    "large": (lambda: ask(state=np.array([0, 0, 1e300])), r"state is finite, got 1e\+300 at \[2\]"),
    "floats": (
        lambda: ask(base=np.zeros((SIZE, SIZE, 3), np.float32)),
        r"base is uint8 \[h, w, 3\], got float32",
    ),
    "list": (lambda: ask(base=[1, 2]), r"base is uint8 \[h, w, 3\], got list"),
    "grey": (
        lambda: ask(base=np.zeros((SIZE, SIZE), np.uint8)),
        r"base has shape \[h, w, 3\], got \[16, 16\]",
    ),
    "alpha": (
        lambda: ask(base=np.zeros((4, 4, 4), np.uint8)),
        r"base has shape \[h, w, 3\], got \[4, 4, 4\]",
    ),
    "empty": (
        lambda: ask(base=np.zeros((0, 4, 3), np.uint8)),
        r"base has shape \[h, w, 3\], got \[0, 4, 3\]",
    ),
}


@pytest.mark.parametrize(("bad", "says"), BAD.values(), ids=BAD)
def test_what_is_wrong_is_named(flow, bad, says):
    with pytest.raises(BadObservation, match=says):
        flow([bad()])
    with pytest.raises(BadObservation, match=says):
        flow([ask(), bad()])


def test_images_of_any_size_are_fitted_with_black_margins():
    wide = np.full((8, 32, 3), 200, np.uint8)
    seen = checked(ask(base=wide), SPEC.obs, PREFIX)["base"]
    assert seen.shape == (SIZE, SIZE, 3)
    np.testing.assert_array_equal(seen[6:10], 200)  # 4 rows of 16 by the ratio 4:1
    assert seen[:6].max() == seen[10:].max() == 0
    exact = ask()["base"]
    np.testing.assert_array_equal(checked(ask(), SPEC.obs, PREFIX)["base"], exact)


def test_answers_are_absolute_where_the_model_says_differences(workdir, flow):
    """The same parameters without the mask say what the state is added to."""
    served, plain = vla.load(workdir), edited(workdir, lambda assets: assets.update(delta=[]))
    assert served.metadata["absolute"] == [True] and plain.metadata["absolute"] == []
    for own in (ask(state=np.array([5.0, -7.0, 2.0])), ask()):
        [reply], [bare] = flow([own]), plain.policy([own])
        want = bare["actions"] + np.array([own["state"][0], 0.0])
        np.testing.assert_allclose(reply["actions"], want, atol=1e-5)


def test_a_mask_that_fits_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"2 actions over a state of 3 numbers, got \[1, 1, 0\]"):
        save(tmp_path, head="flow", delta=(1, 1, 0))


def edited(workdir: Path, change) -> vla.Served:
    """The policy of the checkpoint with its assets changed on disk, which are put back."""
    file = workdir / "checkpoints" / "1" / "assets" / "metadata"
    before = file.read_text()
    assets = json.loads(before)
    change(assets)
    file.write_text(json.dumps(assets))
    try:
        return vla.load(workdir)
    finally:
        file.write_text(before)


def other_tokenizer(assets):
    tokenizer = json.loads(assets["tokenizer"]["bins.json"])
    tokenizer["norm_stats"]["mode"] = "zscore"
    assets["tokenizer"]["bins.json"] = json.dumps(tokenizer)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda assets: assets.update(norm_mode="zscore"),
            "normalised by zscore, its statistics are of quantile",
        ),
        (other_tokenizer, "normalised by quantile, its tokenizer's statistics are of zscore"),
        (lambda assets: assets.update(format=1), "assets of format 1, not 2"),
    ],
)
def test_assets_that_do_not_fit_are_refused(workdir, change, says):
    with pytest.raises(ConfigError, match=says):
        edited(workdir, change)


def test_the_text_tokenizer_travels_with_the_checkpoint(tmp_path):
    file = tmp_path / "here" / "tokenizer.json"
    file.parent.mkdir()
    write_words(file)
    want = HFTextTokenizer(file).encode(["go ä"])
    workdir = save(tmp_path / "run", BLIND, text=file.parent)
    file.unlink()
    layout = vla.restored_layout(read_assets(workdir), workdir)
    assert layout.text.encode(["go ä"]) == want
    assert vla.load(workdir).metadata["tokenizer"] == "bins"  # its parameters fit the vocabulary


def write_words(file: Path) -> None:
    """A tokenizer.json of characters."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    known = special + [chr(i) for i in range(32, 127)] + ["\n", "ä"]
    known += [f"<extra{i}>" for i in range(300)]  # room for actions
    words = models.WordLevel({word: i for i, word in enumerate(known)}, unk_token="<unk>")
    tokenizer = Tokenizer(words)
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.add_special_tokens(special)
    tokenizer.save(str(file))


@pytest.mark.slow
def test_a_client_plays_in_mujoco_what_a_trained_policy_says(tmp_path, monkeypatch):
    changes = dict(train__steps=2, train__eval_every=2, train__log_every=2)
    config = toys.config(learner__state_input="text", **changes)
    toys.train(config, tmp_path)
    served = vla.load(tmp_path)
    assert served.metadata["chunk"] == list(toys.problem(config).spec.action.shape)
    with background(served.policy, metadata=served.metadata, example=served.example) as port:
        with Client(port=port) as client:
            found = vla_served.play(client, "reach", 5, 6, images=False)
            assert 0.0 <= found["success"] <= 1.0
            assert found["actions"].shape == (6, 5, 3) and np.isfinite(found["actions"]).all()
            monkeypatch.setattr(vla_served, "AT_ONCE", 4)  # two requests
            again = vla_served.play(client, "reach", 5, 6, images=False)
            np.testing.assert_allclose(again["actions"], found["actions"], atol=1e-6)
        assert vla_served.main([f"--port={port}", "--episodes=6"]) == 0
        with pytest.raises(ConfigError, match=r"the server does not answer --task=push: .*state"):
            vla_served.main([f"--port={port}", "--episodes=6", "--task=push"])


def test_a_client_that_finds_no_server_says_so_in_one_line():
    with pytest.raises(ConfigError, match=r"nobody serves at 127.0.0.1:1: .*python -m rlx.serve"):
        vla_served.main(["--port=1", "--wait=0"])


def test_chunks_are_played_at_the_rate_they_were_learned_at():
    with background(lambda observations: [], metadata={"chunk": [5, 3]}) as port:
        with pytest.raises(ConfigError, match="--hz=50, but the policy says chunks of 5 steps"):
            vla_served.main([f"--port={port}", "--hz=50"])
