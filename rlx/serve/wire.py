"""Messages between robots and policies: msgpack with NumPy arrays, the layout of openpi's clients.

  array   {b"__ndarray__": True, b"data": bytes (C order), b"dtype": "<f4", b"shape": [2, 3]}
  scalar  {b"__npgeneric__": True, b"data": number, b"dtype": "<f4"}

Arrays of objects, structures and complex numbers are refused in both directions: nothing that
comes over the wire is ever executed. Lists and dicts are limited in length and number, since one
byte of msgpack can be 70 bytes of Python.
"""

from __future__ import annotations

import math
import re
from typing import Any, cast

import numpy as np

_REFUSED = "VOc"  # kinds of dtype: structures, objects, complex numbers
MAX_LENGTH = 4096  # entries of a list or dict
MAX_ITEMS = 2**18  # entries of all lists and dicts of a message; arrays are none


class WireError(ValueError):
    """A message that cannot be read or written."""


def pack(message: Any) -> bytes:
    """Return `message`, nested dicts and lists of numbers, str, bytes and arrays, as bytes.

    Raises WireError for dtypes and types that the format does not have.
    """
    import msgpack

    try:
        return cast(bytes, msgpack.packb(message, default=_to_wire))
    except (TypeError, ValueError, OverflowError) as error:
        raise WireError(str(error)) from error


def unpack(data: bytes) -> Any:
    """Return what `pack` was given; arrays are read-only views of `data`.

    Raises WireError for anything else, whatever it is.
    """
    import msgpack

    count = 0

    def counted(container: Any) -> Any:
        nonlocal count
        count += 1 + len(container)
        if count > MAX_ITEMS:
            raise WireError(f"a message has at most {MAX_ITEMS} entries of lists and dicts")
        return container

    try:
        return msgpack.unpackb(
            data,
            object_hook=lambda fields: _from_wire(counted(fields)),
            list_hook=counted,
            max_array_len=MAX_LENGTH,
            max_map_len=MAX_LENGTH,
        )
    except WireError:
        raise
    except (msgpack.UnpackException, ValueError, TypeError, OverflowError) as error:
        if re.search("exceeds max_(array|map)_len", str(error)):
            text = f"no msgpack message of lists and dicts of at most {MAX_LENGTH} entries"
            raise WireError(text) from error
        raise WireError(f"no msgpack message: {type(error).__name__}") from error


def _to_wire(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        _check_dtype(value.dtype)
        if isinstance(value, np.generic):
            return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
        return {
            b"__ndarray__": True,
            b"data": value.tobytes(),
            b"dtype": value.dtype.str,
            b"shape": value.shape,
        }
    raise WireError(f"a message holds no {type(value).__name__}")


def _from_wire(fields: dict[Any, Any]) -> Any:
    if b"__ndarray__" in fields:
        data, dtype, shape = (fields.get(key) for key in (b"data", b"dtype", b"shape"))
        dtype = _dtype(dtype)
        if not isinstance(data, bytes) or not isinstance(shape, list):
            raise WireError("an array consists of bytes and a list of sizes")
        if not all(isinstance(n, int) and n >= 0 for n in shape):
            raise WireError(f"sizes of an array are whole numbers >= 0, got {shape}")
        if len(data) != math.prod(shape) * dtype.itemsize:
            raise WireError(f"{len(data)} bytes are no {dtype} array of shape {shape}")
        return np.frombuffer(data, dtype).reshape(shape)
    if b"__npgeneric__" in fields:
        dtype, data = _dtype(fields.get(b"dtype")), fields.get(b"data")
        if not isinstance(data, int | float | str | bytes):
            raise WireError(f"a scalar is a number or text, got {type(data).__name__}")
        return dtype.type(data)
    return fields


def _dtype(name: Any) -> np.dtype:
    if not isinstance(name, str):
        raise WireError(f"a dtype is a text such as '<f4', got {type(name).__name__}")
    try:
        dtype = np.dtype(name)
    except (TypeError, ValueError, SyntaxError) as error:
        raise WireError(f"unknown dtype {name[:40]!r}") from error
    _check_dtype(dtype)
    return dtype


def _check_dtype(dtype: np.dtype) -> None:
    if dtype.kind in _REFUSED:
        raise WireError(f"arrays of dtype {dtype} are not sent")
