"""The `tf.train.Example` of a record, parsed from and turned into bytes without TensorFlow.

Protocol buffers: a message is a row of (tag, value), tag = field number << 3 | wire type. An
Example holds in field 1 a map of features, name (1) to value (2); a value is one of BytesList (1),
FloatList (2) and Int64List (3), whose numbers are in field 1, packed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

Values = list[memoryview] | np.ndarray  # bytes, float32 or int64
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_SIZES = {_FIXED64: 8, _FIXED32: 4}


def parse(record: bytes) -> dict[str, Values]:
    """Return the features of an Example by name; bytes are views of `record`, nothing is copied.

    Raises ValueError where `record` is no Example.
    """
    features: dict[str, Values] = {}
    try:
        for number, _, message in _fields(memoryview(record)):
            for _, _, entry in _fields(message) if number == 1 else ():
                parts = {number: value for number, _, value in _fields(entry)}
                features[bytes(parts[1]).decode()] = _values(parts.get(2, memoryview(b"")))
    except (IndexError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"no tf.train.Example: {type(error).__name__} {error}") from error
    return features


def serialize(features: Mapping[str, Sequence[Any] | np.ndarray]) -> bytes:
    """Return an Example as bytes: float arrays as FloatList, whole numbers and bool as Int64List,
    lists of bytes or str as BytesList.
    """
    entries = b"".join(
        _field(1, _field(1, name.encode()) + _field(2, _feature(values)))
        for name, values in features.items()
    )
    return _field(1, entries)


def _fields(message: memoryview) -> Iterator[tuple[int, int, Any]]:
    """The (field number, wire type, value) of a message; values are int or views of bytes."""
    at, end = 0, len(message)
    while at < end:
        tag, at = _varint(message, at)
        wire = tag & 7
        if wire == _VARINT:
            value, at = _varint(message, at)
        elif wire == _BYTES or wire in _SIZES:
            size, at = _varint(message, at) if wire == _BYTES else (_SIZES[wire], at)
            if at + size > end:
                raise IndexError("a field is longer than its message")
            value, at = message[at : at + size], at + size
        else:
            raise ValueError(f"no tf.train.Example: wire type {wire}")
        yield tag >> 3, wire, value


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number of 7 bits per byte, the lowest first, and the place after it."""
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


def _values(feature: memoryview) -> Values:
    for number, _, message in _fields(feature):
        parts = [(wire, value) for field, wire, value in _fields(message) if field == 1]
        if number == 1:
            return [value for _, value in parts]
        if number == 2:
            return np.frombuffer(b"".join(value for _, value in parts), "<f4")
        if number == 3:
            plain = [value for wire, value in parts if wire == _VARINT]
            if plain:  # not packed: one tag per number
                return np.array(plain, np.uint64).view(np.int64)
            return _packed_varints(b"".join(value for _, value in parts))
    return np.zeros(0, np.float32)  # an empty feature


def _packed_varints(data: bytes) -> np.ndarray:
    """Decode numbers of 7 bits per byte, all at once: int64 [n]."""
    raw = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(raw < 128)
    if len(ends) == len(raw):
        return raw.astype(np.int64)
    starts = np.concatenate([[0], ends[:-1] + 1])
    place = np.arange(len(raw)) - np.repeat(starts, ends - starts + 1)
    parts = (raw & 127).astype(np.uint64) << (7 * place).astype(np.uint64)
    return np.bitwise_or.reduceat(parts, starts).view(np.int64)


def _feature(values: Sequence[Any] | np.ndarray) -> bytes:
    if isinstance(values, np.ndarray) and values.dtype.kind == "f":
        return _field(2, _field(1, values.astype("<f4").tobytes()))
    if isinstance(values, np.ndarray) and values.dtype.kind in "iub":
        numbers = (int(value) & (1 << 64) - 1 for value in values.reshape(-1))
        return _field(3, _field(1, b"".join(map(_to_varint, numbers))))
    items = (value.encode() if isinstance(value, str) else bytes(value) for value in values)
    return _field(1, b"".join(_field(1, item) for item in items))


def _field(number: int, value: bytes) -> bytes:
    return _to_varint(number << 3 | _BYTES) + _to_varint(len(value)) + value


def _to_varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
