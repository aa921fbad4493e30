"""Offloads of an interface: work on packets that it says its hardware does (linux/ethtool.h).

Who says that it does checksums gets packets without them, and many as one; all else follows from that.  Without it the kernel finishes
and cuts what is sent there, before it is sent.
"""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct

_SIOCETHTOOL, _GET_CHECKSUMS, _SET_CHECKSUMS = 0x8946, 0x16, 0x17  # ETHTOOL_GTXCSUM, ETHTOOL_STXCSUM
_GET_CUTTING = 0x1E  # ETHTOOL_GTSO
_VALUE, _REQUEST = struct.Struct("=II"), struct.Struct("=16sQ16x")


def does_checksums(name: str) -> bool:
    """Of what is sent by that interface of the calling thread's namespace.  Raises OSError."""
    return bool(_VALUE.unpack(_ask(name, _VALUE.pack(_GET_CHECKSUMS, 0)))[1])


def leaves_cutting(name: str) -> bool:
    """Whether TCP's packets are sent there many as one.  Raises OSError."""
    return bool(_VALUE.unpack(_ask(name, _VALUE.pack(_GET_CUTTING, 0)))[1])


def leave_checksums_to_the_kernel(name: str) -> None:
    _ask(name, _VALUE.pack(_SET_CHECKSUMS, 0))


def _ask(name: str, value: bytes) -> bytes:
    buffer = ctypes.create_string_buffer(value, len(value))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        fcntl.ioctl(control, _SIOCETHTOOL, _REQUEST.pack(name.encode(), ctypes.addressof(buffer)))
    return buffer.raw
