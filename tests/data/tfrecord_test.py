"""Checksums against RFC 3720 and a bit-by-bit loop; damaged files; Examples against protobuf."""

from __future__ import annotations

import numpy as np
import pytest

from rlx.data import example, tfrecord


def slow_crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    ("data", "crc"),
    [  # RFC 3720, B.4, and the check value of the CRC catalogues
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"123456789", 0xE3069283),
        (b"", 0),
    ],
)
def test_published_checksums(data, crc):
    assert tfrecord.crc32c(data) == crc


@pytest.mark.parametrize("length", [1, 511, 512, 513, 1030, 32767, 32768, 32769, 33285, 70001])
def test_long_data_in_lanes_have_the_checksum_of_the_loop(length):
    data = np.random.default_rng(length).bytes(length)
    assert tfrecord.crc32c(data) == slow_crc32c(data)


def test_the_mask():
    crc = tfrecord.crc32c(b"123456789")
    rotated = (crc >> 15 | crc << 17) % 2**32
    assert tfrecord.masked_crc(b"123456789") == (rotated + 0xA282EAD8) % 2**32


def test_a_file_byte_for_byte(tmp_path):
    path = tmp_path / "a"
    tfrecord.write(path, [b"abc", b""])
    empty = bytes(4) + bytes(4)  # length 0
    want = [
        (3).to_bytes(8, "little"),
        tfrecord.masked_crc((3).to_bytes(8, "little")).to_bytes(4, "little"),
        b"abc",
        tfrecord.masked_crc(b"abc").to_bytes(4, "little"),
        empty,
        tfrecord.masked_crc(empty).to_bytes(4, "little"),
        tfrecord.masked_crc(b"").to_bytes(4, "little"),
    ]
    assert path.read_bytes() == b"".join(want)
    assert list(tfrecord.places(path)) == [(12, 3), (31, 0)]
    assert [tfrecord.read(path, place) for place in tfrecord.places(path)] == [b"abc", b""]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d[:20] + bytes([d[20] ^ 1]) + d[21:], r"contents of the record at byte 0 "),
        (lambda d: d[:116] + bytes([d[116] ^ 4]) + d[117:], r"length of the record at byte 116 "),
        (lambda d: d[:-1], "ends in mid-record at byte 116"),
        (lambda d: d[:120], "ends in mid-record at byte 116"),
        (lambda d: d[:-8] + bytes([d[-8] ^ 128]) + d[-7:], r"contents of the record at byte 116 "),
    ],
)
def test_damage_is_found_and_located(tmp_path, change, says):
    path = tmp_path / "shard"
    tfrecord.write(path, [bytes(100), bytes(range(60))])
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=says) as error:
        [tfrecord.read(path, place) for place in tfrecord.places(path)]
    assert str(path) in str(error.value)


def protobuf_example(features):
    """The Example of TFDS's generated protobuf classes."""
    from tensorflow_datasets.proto import tf_example_pb2

    message = tf_example_pb2.Example()
    for name, values in features.items():
        feature = message.features.feature[name]
        if isinstance(values, np.ndarray) and values.dtype.kind == "f":
            feature.float_list.value.extend(values.tolist())
        elif isinstance(values, np.ndarray):
            feature.int64_list.value.extend(values.tolist())
        else:
            feature.bytes_list.value.extend(values)
    return message


FEATURES = {
    "floats": np.array([1.5, -2.25, 3e20], np.float32),
    "ints": np.array([0, 127, 128, -1, 2**62, -(2**63), 300], np.int64),
    "small": np.arange(100),
    "bytes": [b"", b"abc", bytes(1000)],
    "none": np.zeros(0, np.float32),
}


def test_examples_are_those_of_protobuf_both_ways():
    read = example.parse(protobuf_example(FEATURES).SerializeToString())
    assert set(read) == set(FEATURES)
    np.testing.assert_array_equal(read["floats"], FEATURES["floats"])
    np.testing.assert_array_equal(read["ints"], FEATURES["ints"])
    np.testing.assert_array_equal(read["small"], FEATURES["small"])
    assert [bytes(b) for b in read["bytes"]] == FEATURES["bytes"]
    assert len(read["none"]) == 0
    message = protobuf_example({})
    message.ParseFromString(example.serialize(FEATURES))
    assert message == protobuf_example(FEATURES)


def test_numbers_that_are_not_packed_are_read_too():
    value = b"\x1a\x04\x08\x05\x08\x7f"  # Int64List {1: 5, 1: 127}, a tag before each
    entry = b"\x0a\x01k\x12" + bytes([len(value)]) + value
    record = b"\x0a" + bytes([len(entry) + 2]) + b"\x0a" + bytes([len(entry)]) + entry
    np.testing.assert_array_equal(example.parse(record)["k"], [5, 127])


@pytest.mark.parametrize(
    "record", [b"\x0a\x7f", b"\x0a\x02\x0a", b"\x0b", b"\x0a\x04\x0a\x02\x12\x00"]
)
def test_what_is_no_example_is_refused(record):
    with pytest.raises(ValueError, match=r"no tf.train.Example"):
        example.parse(record)
