"""Prefixes as intervals: the kernel refuses ranges that overlap, so a set of prefixes is made canonical before it is written.

The result depends on the addresses covered only, not on how they were written: overlapping and adjoining prefixes melt
into one range.
"""

from __future__ import annotations

from collections.abc import Iterable

from netloom.model.addresses import Prefix

_BITS = {4: 32, 6: 128}
BEGIN, END = b"\0", b"\1"


def disjoint(prefixes: Iterable[Prefix]) -> list[tuple[int, int]]:
    """Ascending, disjoint, not adjoining ranges (first address, last address + 1) of prefixes of one family."""
    ranges: list[tuple[int, int]] = []
    for prefix in sorted(prefixes):
        first, after = int(prefix.network_address), int(prefix.broadcast_address) + 1
        if ranges and first <= ranges[-1][1]:
            ranges[-1] = (ranges[-1][0], max(after, ranges[-1][1]))
        else:
            ranges.append((first, after))
    return ranges


def points(prefixes: Iterable[Prefix], version: int) -> frozenset[bytes]:
    """Keys of an interval set: where a range begins and where it ends.  The one that reaches the last address has no end."""
    bits = _BITS[version]
    keys = set()
    for first, after in disjoint(prefix for prefix in prefixes if prefix.version == version):
        keys.add(first.to_bytes(bits // 8, "big") + BEGIN)
        if after < 1 << bits:
            keys.add(after.to_bytes(bits // 8, "big") + END)
    return frozenset(keys)
