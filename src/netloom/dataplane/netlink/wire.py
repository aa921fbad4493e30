"""The frame of a netlink message: header, attributes, and their order in a buffer (linux/netlink.h, host byte order).

A message is a header of 16 bytes, a fixed part that depends on its type, and attributes: length, type, value, padded to 4.
Everything here is a pure function on bytes.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator

HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
HEADER_LENGTH = 16
_ATTRIBUTE = struct.Struct("=HH")
_U32 = struct.Struct("=HHI")

NLMSG_ERROR, NLMSG_DONE = 2, 3

NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP_INTR = 0x1, 0x4, 0x10
NLM_F_DUMP = 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400

NLA_F_NESTED = 0x8000
_NLA_TYPE_MASK = 0x3FFF

AF_UNSPEC, AF_INET, AF_BRIDGE, AF_INET6 = 0, 2, 7, 10
FAMILY = {4: AF_INET, 6: AF_INET6}
"""Address family by `ipaddress` version."""


def message(kind: int, flags: int, body: bytes) -> bytes:
    """A request; the socket fills in the sequence number and asks for the acknowledgement."""
    return HEADER.pack(HEADER_LENGTH + len(body), kind, NLM_F_REQUEST | flags, 0, 0) + body


def attribute(kind: int, value: bytes) -> bytes:
    length = 4 + len(value)
    padding = -length & 3
    head = _ATTRIBUTE.pack(length, kind)
    return head + value + bytes(padding) if padding else head + value


def u8(kind: int, value: int) -> bytes:
    return attribute(kind, bytes((value,)))


def u32(kind: int, value: int) -> bytes:
    return _U32.pack(8, kind, value)


def text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def nested(kind: int, *attributes: bytes) -> bytes:
    return attribute(kind | NLA_F_NESTED, b"".join(attributes))


def attributes(buffer: bytes, offset: int = 0) -> dict[int, bytes]:
    """Attributes from `offset` on, by type; the last one of a type counts, as for the kernel.  ValueError if cut short."""
    found: dict[int, bytes] = {}
    end = len(buffer)
    while offset + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(buffer, offset)
        if length < 4 or offset + length > end:
            raise ValueError(f"attribute {kind} of {length} bytes at {offset} does not fit into {end}")
        found[kind & _NLA_TYPE_MASK] = buffer[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def listed(buffer: bytes) -> Iterator[bytes]:
    """The values of a list, whose attributes all have the same type.  ValueError if one is cut short."""
    offset, end = 0, len(buffer)
    while offset + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(buffer, offset)
        if length < 4 or offset + length > end:
            raise ValueError(f"attribute {kind} of {length} bytes at {offset} does not fit into {end}")
        yield buffer[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def messages(buffer: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Type, flags, sequence number and body of each message in a datagram.  ValueError if one is cut short."""
    offset, end = 0, len(buffer)
    while offset < end:
        length, kind, flags, sequence, _ = HEADER.unpack_from(buffer, offset)
        if length < HEADER_LENGTH or offset + length > end:
            raise ValueError(f"message {kind} of {length} bytes at {offset} does not fit into {end}")
        yield kind, flags, sequence, buffer[offset + HEADER_LENGTH : offset + length]
        offset += (length + 3) & ~3


def to_int(value: bytes) -> int:
    """An unsigned number of any width in host order."""
    return int.from_bytes(value, sys.byteorder)


def to_text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")
