"""virtio_net_hdr: what the kernel says of a packet that it gives to a TUN, and what it is told of one (linux/virtio_net.h).

    flags  gso type  header length  segment size  checksum's start  checksum's offset        in the machine's own byte order
      1       1            2              2               2                  2

A packet whose gso type is not 0 is many: headers once, and the payload of all, of which each is to get `size` bytes.  Its checksum is
unfinished, as that of a single packet may be: the field holds the sum of the pseudo header, with the length of the whole.  What is
given to the kernel so is taken as checked.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from netloom.tunnel.forwarder.packets import TCP, UDP

LENGTH = 10
PLAIN = bytes(LENGTH)
NEEDS_CHECKSUM = 1
TCP_IPV4, TCP_IPV6, UDP_ANY, WITH_ECN = 1, 4, 5, 0x80
_HEADER = struct.Struct("=BBHHHH")
_PROTOCOLS = {TCP_IPV4: TCP, TCP_IPV6: TCP, UDP_ANY: UDP}


class Super(NamedTuple):
    """Many packets as one: `protocol` is TCP or UDP, whose header is at `l4`, and each is to carry `size` bytes."""

    protocol: int
    l4: int
    size: int


def unfinished(header: bytes | bytearray) -> tuple[int, int]:
    """Where what the checksum covers begins, and where the checksum is."""
    _, _, _, _, start, offset = _HEADER.unpack_from(header)
    return start, start + offset


def super_packet(header: bytes | bytearray, packet: memoryview) -> Super | None:
    """None where header and packet are not what a kernel gives: a pod that may send raw frames has a say in both."""
    flags, kind, _, size, l4, _ = _HEADER.unpack_from(header)
    protocol = _PROTOCOLS.get(kind & ~WITH_ECN)
    if protocol is None or not flags & NEEDS_CHECKSUM or not size or l4 & 3:
        return None
    least = (packet[0] & 15) << 2 if packet[0] >> 4 == 4 else 40
    if l4 < max(least, 20) or (packet[0] >> 4 == 4 and l4 != least):
        return None
    if protocol == UDP:
        end = l4 + 8
    elif l4 + 20 > len(packet):
        return None
    else:
        end = l4 + (packet[l4 + 12] >> 4 << 2)
        if end < l4 + 20:
            return None
    return Super(protocol, l4, size) if end < len(packet) and end + size <= 0xFFFF else None


def merged(protocol: int, version: int, l4: int, header: int, size: int) -> bytes:
    """Of many packets as one: `header` is the length of all their headers."""
    kind = UDP_ANY if protocol == UDP else TCP_IPV4 if version == 4 else TCP_IPV6
    return _HEADER.pack(NEEDS_CHECKSUM, kind, header, size, l4, 6 if protocol == UDP else 16)


def partial(l4: int, offset: int) -> bytes:
    """Of one packet whose checksum is unfinished."""
    return _HEADER.pack(NEEDS_CHECKSUM, 0, 0, 0, l4, offset)
