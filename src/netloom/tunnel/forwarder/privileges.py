"""Privileges, given up: a process that reads hostile packets is nobody, and can become nobody else.

Its descriptors were opened before and stay.  Where the process may not change its user (a service whose capabilities are bounded) it
remains root by name, and has none of root's capabilities.
"""

from __future__ import annotations

import ctypes
import os
import struct
from contextlib import suppress

_NOBODY = 65534
_PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 4, 24, 38  # linux/prctl.h
_VERSION_3 = 0x20080522  # linux/capability.h
_HEADER = struct.pack("=Ii", _VERSION_3, 0)
_NONE = bytes(24)
_MOST = 64

_libc = ctypes.CDLL(None, use_errno=True)


def give_up() -> None:
    """All of them, for good.  Raises OSError."""
    for number in range(_MOST):
        if _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0):
            break  # no such capability, or none that would be needed for this: then no_new_privs has to do
    with suppress(PermissionError):
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _call("prctl", _PR_SET_DUMPABLE, 0, 0, 0, 0)
    _call("capset", _HEADER, _NONE)


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments) < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
