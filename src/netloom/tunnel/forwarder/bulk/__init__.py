"""Many packets at once: one that the kernel has not cut yet into datagrams, and datagrams into one that the kernel takes whole.

    cut     headers, 60 KB of payload  ─▶  40 packets back to back, each with its own headers and checksums     (TUN → UDP)
    merge   40 packets back to back    ─▶  headers, 60 KB of payload; what does not fit together stays alone    (UDP → TUN)

Twice: `vectorised` does a column of all packets at a time, by numpy; `plain` goes from packet to packet, where there is no numpy.  What
a packet's headers become, and which packets belong together, is said once for both: `templates`, `flows`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Protocol

from netloom.tunnel.forwarder.offload import Super

MOST_SEGMENTS, MOST_BYTES = 64, 65507
"""Of one sendmsg with UDP_SEGMENT (UDP_MAX_SEGMENTS of old kernels; what fits into an IPv4 packet less its headers)."""
LONGEST = 0xFFFF
"""Bytes of a packet that the kernel takes as one."""

Datagrams = tuple[memoryview, int]
"""Back to back, each of that size; the last may be shorter.  As many as one sendmsg takes; to be used before the next are asked for."""
Written = tuple[bytes, memoryview]
"""A virtio_net_hdr and its packet; to be used before the next is asked for."""


class Bulk(Protocol):
    name: str

    def cut(self, packet: memoryview, many: Super) -> Iterator[Datagrams]: ...

    def merge(self, datagrams: memoryview, size: int) -> Iterator[Written]:
        """`size`: of each but the last.  In the order in which they came, each packet at most once, none left out."""


def best(*, udp_as_one: bool = True) -> Bulk:
    """`udp_as_one`: whether the kernel takes UDP so."""
    if importlib.util.find_spec("numpy") is None:
        from netloom.tunnel.forwarder.bulk.plain import Plain

        return Plain(udp_as_one=udp_as_one)
    from netloom.tunnel.forwarder.bulk.vectorised import Vectorised

    return Vectorised(udp_as_one=udp_as_one)
