"""The heap of glibc, where whatever is larger than 512 bytes lives: tables of dicts, messages, file contents.

A start and a change of thousands of nodes need some megabytes for a moment, and the allocator would keep them for ever.
"""

from __future__ import annotations

import ctypes

_M_ARENA_MAX = -8  # malloc.h

_libc = ctypes.CDLL(None)


def keep_together() -> None:
    """glibc gives each thread an arena of its own, which at size costs a third more memory; Python's lock makes them useless."""
    _libc.mallopt(_M_ARENA_MAX, 1)


def give_back() -> None:
    """Free pages go back to the kernel; a millisecond, or two."""
    _libc.malloc_trim(0)
