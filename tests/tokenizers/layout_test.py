"""The sequence of tokens, read back by hand; masks, lengths, and what does not fit."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from action_data import smooth
from text_tokens_test import vocabulary  # noqa: F401  a fixture

from rlx.tokenizers.bins import BinningTokenizer
from rlx.tokenizers.fast import FastTokenizer
from rlx.tokenizers.layout import Layout
from rlx.tokenizers.stats import NormStats
from rlx.tokenizers.text import ByteTokenizer, HFTextTokenizer
from rlx.types import TokenBatch

T, A = 10, 3
ACTIONS = smooth(300, T, A, 0)
STATES = np.random.default_rng(0).uniform(-1.2, 1.2, (300, 2))
TEXT = ByteTokenizer()


@pytest.fixture(scope="module")
def action():
    return FastTokenizer.fit(ACTIONS, scale=5)


@pytest.fixture(scope="module")
def layout(action):
    return Layout(TEXT, action, 120)


def test_a_sequence_read_back(layout, action):
    batch = layout.encode([" Pick_Up the CUP \n", "go"], [[-1.5, 0.999], [0.0, 1.5]], ACTIONS[:2])
    ids = action.encode(ACTIONS[:2])
    prompts = [
        "Task: pick up the cup, State: 0 255;\nAction: ",
        "Task: go, State: 128 255;\nAction: ",
    ]
    for row in range(2):
        given = [TEXT.bos, *TEXT.encode([prompts[row]])[0]]
        made = [259 + i for i in ids[row]] + [3 + ord("|"), TEXT.eos]
        tokens = batch["tokens"][row].tolist()
        n = len(given) + len(made)
        assert tokens == given + made + [TEXT.pad] * (120 - n)
        want_loss = [False] * len(given) + [True] * len(made) + [False] * (120 - n)
        assert batch["mask_loss"][row].tolist() == want_loss
        assert batch["mask_ar"][row].tolist() == want_loss
        assert batch["segment"][row].tolist() == [1] * n + [0] * (120 - n)
        got = layout.slots.generated(batch["tokens"][row : row + 1, len(given) :])[0]
        assert got[got >= 0].tolist() == ids[row]
    assert batch.keys() - {"fits"} < set(TokenBatch.__dataclass_fields__)
    assert {k: v.dtype.name for k, v in batch.items()} == {
        "tokens": "int32",
        "mask_loss": "bool",
        "mask_ar": "bool",
        "segment": "int32",
        "fits": "bool",
    }


def test_state_digits_are_bins_of_the_published_edges(layout):
    edges = np.linspace(-1, 1, 257)[:-1]
    for value in (-1.0, -0.99, 0.0, 0.3, 1.0, *edges[[1, 77, 255]]):
        (text,) = [TEXT.decode(r) for r in layout.prefix(["x"], [[value]])["tokens"]]
        digit = int(text.split("State: ")[1].split(";")[0])
        assert digit == np.digitize(value, edges) - 1


def test_states_in_data_units(action):
    stats = NormStats.fit(STATES * 100)
    raw, normal = Layout(TEXT, action, 120, stats), Layout(TEXT, action, 120)
    a = raw.encode(["x"] * 5, STATES[:5] * 100, ACTIONS[:5])
    b = normal.encode(["x"] * 5, stats.normalize(STATES[:5] * 100), ACTIONS[:5])
    np.testing.assert_array_equal(a["tokens"], b["tokens"])


def test_without_states(layout):
    tokens = layout.prefix(["go"], None)["tokens"][0]
    assert TEXT.decode(tokens) == "Task: go;\nAction: "


def test_a_prefix_is_the_beginning_of_its_sequence(layout):
    batch = layout.encode(["a", "a longer prompt"], STATES[:2], ACTIONS[:2])
    prefix = layout.prefix(["a", "a longer prompt"], STATES[:2], 60)
    for row, n in enumerate(prefix["lengths"]):
        np.testing.assert_array_equal(prefix["tokens"][row, :n], batch["tokens"][row, :n])
        assert not batch["mask_ar"][row, :n].any() and batch["mask_ar"][row, n]
        assert (prefix["tokens"][row, n:] == TEXT.pad).all()
        assert prefix["segment"][row].sum() == n
    assert prefix["tokens"].shape == (2, 60) and not prefix["mask_ar"].any()
    assert layout.prefix(["a"], STATES[:1])["tokens"].shape == (1, 120)


def test_without_actions_a_sequence_is_its_prefix(layout):
    prompts = ["a", "a longer prompt"]
    rows, prefix = layout.encode(prompts, STATES[:2]), layout.prefix(prompts, STATES[:2])
    for name in ("tokens", "segment", "mask_ar"):
        np.testing.assert_array_equal(rows[name], prefix[name])
    assert not rows["mask_loss"].any() and rows["fits"].all()
    np.testing.assert_array_equal(layout.lengths(prompts, STATES[:2]), prefix["lengths"])


def test_ids_may_be_given_as_lists_or_padded(layout, action):
    ids = action.encode(ACTIONS[:3])
    padded = np.full((3, 40), -1)
    for row, found in zip(padded, ids):
        row[: len(found)] = found
    want = layout.encode(["x"] * 3, STATES[:3], ACTIONS[:3])
    for given in (ids, padded):
        got = layout.encode(["x"] * 3, STATES[:3], action_ids=given)
        for key, value in want.items():
            np.testing.assert_array_equal(got[key], value)


def test_with_a_vocabulary_from_a_file(vocabulary, action):  # noqa: F811
    text = HFTextTokenizer(vocabulary, vocab_size=2000)
    layout = Layout(text, action, 120)
    slots = layout.slots
    assert (slots.first, slots.step, slots.count) == (1871, -1, action.vocab_size)
    assert layout.vocab_size == 2000 and text.decode([slots.end]) == "|"
    batch = layout.encode(["reach the red disc"], STATES[:1], ACTIONS[:1])
    start = int(batch["mask_loss"][0].argmax())
    got = slots.generated(batch["tokens"][:, start:])[0]
    assert got[got >= 0].tolist() == action.encode(ACTIONS[:1])[0]
    given = [i for i in batch["tokens"][0, 1:start]]
    assert text.decode(given).startswith("Task: reach the red disc, State: ")


def test_samples_too_long_are_counted_and_teach_nothing(action):
    prompts = ["x"] * 9 + ["y" * 100]
    short = Layout(TEXT, action, 100)
    with pytest.warns(UserWarning, match="1 of 10 samples are longer than max_len 100"):
        batch = short.encode(prompts, STATES[:10], ACTIONS[:10])
    assert batch["tokens"].shape == (10, 100)
    assert batch["mask_loss"].any(1).tolist() == batch["fits"].tolist() == [True] * 9 + [False]
    with pytest.warns(UserWarning, match="1 of 10 samples are longer than max_len 100"):
        assert short.encode(prompts, STATES[:10])["fits"].tolist() == [True] * 9 + [False]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        short.encode(prompts[:9], STATES[:9], ACTIONS[:9])


def test_the_check_at_start_up(action):
    prompts = ["go"] * 300
    lengths = Layout(TEXT, action, 10).lengths(prompts, STATES, ACTIONS)
    p999 = int(np.sort(lengths)[int(np.ceil(0.999 * 299))])
    with pytest.raises(ValueError, match=f"99.9 % of them have at most {p999} tokens") as caught:
        Layout(TEXT, action, 40).check(prompts, STATES, ACTIONS)
    share = (lengths > 40).mean()
    assert f"max_len 40 is too short: {share:.1%} of 300" in str(caught.value)
    found = Layout(TEXT, action, p999).check(prompts, STATES, ACTIONS)
    assert found["p999"] == p999 and found["truncated_frac"] <= 0.01
    assert found["mean"] == lengths.mean() and found["longest"] == lengths.max()


def test_one_per_cent_may_be_too_long(action):
    prompts = ["go"] * 297 + ["g" * 200] * 3
    found = Layout(TEXT, action, 120).check(prompts, STATES, ACTIONS)
    assert found["truncated_frac"] == pytest.approx(0.01)


def test_an_empty_prompt_is_allowed_and_said_once(layout):
    with pytest.warns(UserWarning, match="a prompt is empty") as caught:
        layout.encode(["", "  "], STATES[:2], ACTIONS[:2])
    assert len(caught) == 1
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):  # one place in the program
            layout.encode([""], STATES[:1], ACTIONS[:1])
    assert len(caught) == 1


BAD = [
    (lambda l: l.encode([3], STATES[:1], ACTIONS[:1]), TypeError, "a prompt is a string, got int"),
    (lambda l: l.encode(["a"], STATES[:2], ACTIONS[:1]), ValueError, "1 prompts, but 2 states"),
    (lambda l: l.encode(["a"], STATES[:1], ACTIONS[:2]), ValueError, "1 prompts, but 2 chunks"),
    (lambda l: l.encode(["a"], STATES[0], ACTIONS[:1]), ValueError, r"\[B, S\], got shape \(2,\)"),
    (lambda l: l.encode(["a"], [[0, np.nan]], ACTIONS[:1]), ValueError, "sample 0, dim 1: nan"),
    (
        lambda l: l.encode(["a"], STATES[:1], ACTIONS[:1], action_ids=[[4]]),
        ValueError,
        "actions or action_ids, not both",
    ),
    (
        lambda l: l.encode(["a"], STATES[:1], action_ids=[[4000]]),
        ValueError,
        r"action ids are in \[0, \d+\), got \[4000\]",
    ),
    (lambda l: l.prefix(["a" * 99], None, 50), ValueError, "longer than 50: 'aaa"),
]


@pytest.mark.parametrize(("call", "error", "says"), BAD)
def test_bad_input(layout, call, error, says):
    with pytest.raises(error, match=says):
        call(layout)


def test_vocabularies_that_clash(vocabulary):  # noqa: F811
    bins = BinningTokenizer(256)
    tight = HFTextTokenizer(vocabulary, vocab_size=300, skip=0)
    with pytest.raises(ValueError, match="action ids cover special tokens"):
        _ = Layout(tight, bins, 50).slots

    class Spelled(ByteTokenizer):
        def encode(self, texts):
            return [[3, 4] for _ in texts]

    with pytest.raises(ValueError, match="must be one token of the text, got ids"):
        _ = Layout(Spelled(), bins, 50).slots
