"""The wire format byte for byte, built here from the rules of msgpack, and what it refuses."""

from __future__ import annotations

import math
import struct
from contextlib import suppress

import numpy as np
import pytest

from rlx.serve.wire import WireError, pack, unpack


def blob(data: bytes) -> bytes:
    """bin 8 or bin 32 of msgpack."""
    size = len(data)
    return (b"\xc4" + bytes([size]) if size < 256 else b"\xc6" + struct.pack(">I", size)) + data


def text(value: str) -> bytes:
    """fixstr of msgpack."""
    return bytes([0xA0 | len(value)]) + value.encode()


def array_bytes(array: np.ndarray) -> bytes:
    """fixmap of 4: the layout of openpi's clients."""
    shape = bytes([0x90 | array.ndim]) + bytes(array.shape)  # sizes < 128 are one byte each
    parts = [blob(b"__ndarray__"), b"\xc3", blob(b"data"), blob(array.tobytes())]
    parts += [blob(b"dtype"), text(array.dtype.str), blob(b"shape"), shape]
    return b"\x84" + b"".join(parts)


ARRAYS = [
    np.arange(6, dtype=np.float32).reshape(2, 3),
    np.arange(12, dtype=np.uint8).reshape(2, 2, 3)[:, ::-1],  # not contiguous
    np.array(5, np.int64),
    np.zeros((0, 4), np.float64),
    np.array([True, False]),
    np.arange(100, dtype=">i2"),
    np.array(["pick", "up"]),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype.str}{list(a.shape)}")
def test_arrays_byte_for_byte_and_back(array):
    data = pack(array)
    assert data == array_bytes(array)
    back = unpack(data)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


def test_an_observation_byte_for_byte():
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    observation = {"image": image, "prompt": "go", "n": 3}
    want = b"\x83" + text("image") + array_bytes(image) + text("prompt") + text("go")
    want += text("n") + b"\x03"
    assert pack(observation) == want
    back = unpack(want)
    np.testing.assert_array_equal(back.pop("image"), image)
    assert back == {"prompt": "go", "n": 3}


def test_scalars_byte_for_byte_and_back():
    want = b"\x83" + blob(b"__npgeneric__") + b"\xc3" + blob(b"data")
    want += b"\xcb" + struct.pack(">d", 0.5) + blob(b"dtype") + text("<f4")
    assert pack(np.float32(0.5)) == want
    back = unpack(want)
    assert (back, back.dtype) == (0.5, np.float32)
    for scalar in (np.int32(-7), np.bool_(True), np.uint8(255)):
        assert unpack(pack(scalar)) == scalar
        assert unpack(pack(scalar)).dtype == scalar.dtype
    assert pack(np.float64(0.5)) == pack(0.5)  # a float of Python, as in the public client


def test_nested_messages_come_back():
    message = {"a": [1, 2.5, None, True, {"b": np.arange(3)}], "c": b"raw", "d": {"e": "text"}}
    back = unpack(pack(message))
    np.testing.assert_array_equal(back["a"][4].pop("b"), np.arange(3))
    assert back == {"a": [1, 2.5, None, True, {}], "c": b"raw", "d": {"e": "text"}}


@pytest.mark.parametrize(
    "value",
    [
        np.array([object()]),
        np.zeros(2, np.complex64),
        np.complex128(1j),
        np.zeros(2, [("a", "f4")]),
        object(),
        {1, 2},
        2**70,
    ],
    ids=["objects", "complex", "complex scalar", "structure", "object", "set", "huge"],
)
def test_what_cannot_be_sent(value):
    with pytest.raises(WireError):
        pack({"x": value})


def planted(dtype="<f4", shape=(2,), data=bytes(8), key=b"__ndarray__"):
    import msgpack

    return msgpack.packb({key: True, b"data": data, b"dtype": dtype, b"shape": shape})


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (planted("|O"), "dtype object"),
        (planted("<c8"), "dtype complex64"),
        (planted("|V8"), "dtype"),
        (planted("f4,f4"), "dtype"),
        (planted("nonsense"), "unknown dtype 'nonsense'"),
        (planted("<f4" * 100), "unknown dtype"),
        (planted(7), "a dtype is a text"),
        (planted(shape=(3,)), "8 bytes are no float32 array of shape"),
        (planted(shape=(-1, 2)), "whole numbers >= 0"),
        (planted(shape=(2**40, 2**40)), "8 bytes are no"),
        (planted(shape="ab"), "a list of sizes"),
        (planted(data="text"), "an array consists of bytes"),
        (planted("<U0", (0,), b""), "no msgpack message"),
        (planted("|O", key=b"__npgeneric__"), "dtype object"),
        (planted(data=[1], key=b"__npgeneric__"), "a scalar is a number"),
        (planted("<i4", data="x", key=b"__npgeneric__"), "no msgpack message"),
        (b"", "no msgpack message"),
        (b"\xc1", "no msgpack message"),
        (pack({"a": 1}) + b"\x00", "no msgpack message"),
        (b"\xdd\xff\xff\xff\xff", "lists and dicts of at most 4096 entries"),
        (b"\xdc\x10\x01" + b"\x80" * 4097, "lists and dicts of at most 4096 entries"),
        (b"\xde\x10\x01" + b"\x80" * 8194, "lists and dicts of at most 4096 entries"),
        ((b"\xdc\x10\x00" + b"\x80" * 4096) * 65, "no msgpack message"),  # 65 messages
        (b"\xdc\x00\x40" + (b"\xdc\x10\x00" + b"\x80" * 4096) * 64, "at most 262144 entries"),
        (b"\xdc\x01\x00" + (b"\xdc\x10\x00" + b"\x00" * 4096) * 256, "at most 262144 entries"),
        (b"\x91" * 5000 + b"\x00", "no msgpack message"),
        (b"\x81\x90\x01", "no msgpack message"),
        (b"\xa2\xff\xfe", "no msgpack message"),
    ],
)
def test_what_cannot_be_read_says_so_and_nothing_else_happens(data, says):
    with pytest.raises(WireError, match=says):
        unpack(data)


def test_lists_up_to_the_limit_are_read():
    numbers = list(range(4096))
    assert unpack(pack({"a": numbers, "b": [numbers] * 60}))["b"][59] == numbers


def test_random_bytes_and_cut_messages_raise_one_kind_of_error():
    rng = np.random.default_rng(0)
    whole = pack({"image": np.zeros((4, 4, 3), np.uint8), "state": np.zeros(3), "n": np.int32(3)})
    for i in range(2000):
        data = bytearray(whole[: rng.integers(len(whole))] if i % 2 else whole)
        for at in rng.integers(0, max(1, len(data)), 3):
            if data:
                data[at] = rng.integers(256)
        with suppress(WireError):
            unpack(bytes(data))


def test_arrays_are_views_of_the_message():
    back = unpack(pack(np.arange(10)))
    assert not back.flags.writeable
    assert math.prod(back.shape) == 10
