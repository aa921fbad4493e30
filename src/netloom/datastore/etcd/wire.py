"""Protobuf's wire format: numbers and chunks of bytes, each with its field's number before it.

A message is a row of fields.  A field begins with its number and its type, together in one varint; a varint has 7 bits to a byte,
lowest first, and the highest bit says that more follow.  What the fields mean is the reader's to know (messages).  Whatever
comes is read or refused: there is no length, number or type that leads out of the bytes at hand.

Source: https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _FIXED64, _CHUNK, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}
_MORE = 0x80
_BITS = 64


class NotAMessage(ValueError):
    """Bytes that are no message."""


def number(field: int, value: int) -> bytes:
    """`value` is not negative."""
    return _varint(field << 3 | _VARINT) + _varint(value)


def chunk(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | _CHUNK) + _varint(len(value)) + value


def fields(message: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Number, value as an integer, value as bytes, of each field in its order; a field has one of both values, and 0 or b"" for the
    other one.  Raises NotAMessage."""
    at, end = 0, len(message)
    while at < end:
        tag, at = _read(message, at)
        kind = tag & 7
        if kind == _VARINT:
            value, at = _read(message, at)
            yield tag >> 3, value, b""
            continue
        if kind == _CHUNK:
            size, at = _read(message, at)
        elif kind in _FIXED:
            size = _FIXED[kind]
        else:
            raise NotAMessage(f"a field of type {kind}")
        if size > end - at:
            raise NotAMessage(f"{end - at} bytes where {size} should be")
        if kind == _CHUNK:
            yield tag >> 3, 0, message[at : at + size]
        at += size


def _read(message: bytes, at: int) -> tuple[int, int]:
    """A varint, and the place after it."""
    try:
        value = message[at]
        if value < _MORE:
            return value, at + 1
        value, shift = value & 0x7F, 7
        while shift < _BITS:
            at += 1
            byte = message[at]
            value |= (byte & 0x7F) << shift
            if byte < _MORE:
                return value, at + 1
            shift += 7
    except IndexError as e:
        raise NotAMessage("it ends within a number") from e
    raise NotAMessage("a number without an end")


def _varint(value: int) -> bytes:
    made = bytearray()
    while value >= _MORE:
        made.append(value & 0x7F | _MORE)
        value >>= 7
    made.append(value)
    return bytes(made)
