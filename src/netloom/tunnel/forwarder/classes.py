"""The class of a packet: six bits that ask for a treatment (DSCP), and two for congestion (ECN), which every IP header has.

What goes out has the class of what is in it: routers between nodes treat it as they would treat that (RFC 2983, uniform model; RFC 6040,
normal mode).  Of what comes in only congestion counts that was met on the way: it is written into the inner packet, which is lost if it
cannot bear a mark.  So do the programs in the kernel (`tunnel.ebpf`).
"""

from __future__ import annotations

import socket
import struct
import sys
from functools import lru_cache

from netloom.tunnel.forwarder.checksums import Bytes, checksum
from netloom.tunnel.forwarder.packets import whole

CONGESTED = 3
LOW = 0 if sys.byteorder == "little" else -1
"""Where the class is in what the kernel says of a datagram: one byte for IPv4, an int for IPv6."""


def class_of(packet: Bytes) -> int:
    return packet[1] if packet[0] >> 4 == 4 else (packet[0] & 15) << 4 | packet[1] >> 4


@lru_cache(512)
def marked(version: int, kind: int) -> tuple[int, int, bytes]:
    """Ancillary data: the outer header has this class."""
    level, option = (socket.IPPROTO_IP, socket.IP_TOS) if version == 4 else (socket.IPPROTO_IPV6, socket.IPV6_TCLASS)
    return level, option, struct.pack("=i", kind)


def hear_classes(udp: socket.socket) -> None:
    """The kernel says of what class a datagram came."""
    if udp.family == socket.AF_INET:
        udp.setsockopt(socket.IPPROTO_IP, _IP_RECVTOS, 1)
    else:
        udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)


_IP_RECVTOS = 13  # linux/in.h


def bears_congestion(packet: memoryview) -> bool:
    """Writes into the inner packet that it met congestion; False: it cannot bear that."""
    if not whole(packet):
        return True  # and is refused as what it is
    kind = class_of(packet)
    if not kind & CONGESTED:
        return False
    if packet[0] >> 4 == 6:
        packet[1] |= CONGESTED << 4
    elif kind & CONGESTED != CONGESTED:
        header = (packet[0] & 15) << 2
        packet[1] |= CONGESTED
        packet[10:12] = b"\0\0"
        packet[10:12] = checksum(packet[:header]).to_bytes(2, "big")
    return True
