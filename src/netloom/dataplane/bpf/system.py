"""bpf(2) by ctypes: one system call, whose second argument is a union of structs, one per command (linux/bpf.h)."""

from __future__ import annotations

import ctypes
import enum
import errno
import os
import platform
import struct

from netloom.errors import DataplaneError

_NUMBERS = {"x86_64": 321, "aarch64": 280}
_libc = ctypes.CDLL(None, use_errno=True)
_ROOM = 144  # the largest of the structs, rounded up; the kernel takes any length whose unknown rest is zero
_HINTS = {
    errno.EPERM: "loading needs CAP_BPF and CAP_NET_ADMIN (before 5.8 CAP_SYS_ADMIN), and a kernel that is not locked down",
    errno.ENOSYS: "this kernel has no bpf(2)",
}


class Command(enum.IntEnum):
    MAP_CREATE = 0
    MAP_LOOKUP = 1
    MAP_UPDATE = 2
    MAP_DELETE = 3
    MAP_NEXT_KEY = 4
    PROG_LOAD = 5
    PIN = 6
    GET = 7
    PROG_ATTACH = 8
    PROG_DETACH = 9
    TEST_RUN = 10
    PROG_NEXT_ID = 11
    PROG_FD_BY_ID = 13
    INFO = 15
    PROG_QUERY = 16
    MAP_LOOKUP_BATCH = 24


class BpfError(DataplaneError):
    """The kernel refused; `reason` is its word, and what it takes."""

    def __init__(self, key: str, code: int, more: str = "") -> None:
        reason = "; ".join(part for part in (os.strerror(code), more or _HINTS.get(code, "")) if part)
        super().__init__("bpf", key, reason, errno=code)
        self.reason = reason


def bpf(command: Command, layout: str, *values: int | bytes, what: str) -> int:
    """`layout`: of the command's struct, as for `struct`.  `what`: whom it is about, for the error.  Returns what the kernel does: a
    descriptor, or 0."""
    return call(command, attributes(layout, *values), what=what)


def attributes(layout: str, *values: int | bytes) -> ctypes.Array[ctypes.c_char]:
    """For a command that also answers by its struct."""
    return ctypes.create_string_buffer(struct.pack("=" + layout, *values), _ROOM)


def call(command: Command, attributes: ctypes.Array[ctypes.c_char], *, what: str) -> int:
    number = _NUMBERS.get(platform.machine())
    if number is None:
        raise BpfError(what, errno.ENOSYS, f"the number of bpf(2) on {platform.machine()} is not known here")
    result = int(_libc.syscall(number, int(command), attributes, len(attributes)))
    if result < 0:
        raise BpfError(what, ctypes.get_errno())
    return result


def buffer(content: bytes | int) -> ctypes.Array[ctypes.c_char]:
    """Bytes, or room for so many, that the kernel gets the address of; hold on to it for as long as the call lasts."""
    return ctypes.create_string_buffer(content, len(content) if isinstance(content, bytes) else content)


def address(of: ctypes.Array[ctypes.c_char]) -> int:
    return ctypes.addressof(of)
