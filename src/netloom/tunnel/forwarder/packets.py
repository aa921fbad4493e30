"""Inner packets: of their headers what a forwarder has to know, and whether a datagram is one.

A packet is a memoryview; nothing is copied.  `TCP` and `UDP` are the two protocols of which the kernel gives and takes many packets
as one.
"""

from __future__ import annotations

from netloom.tunnel.forwarder.checksums import Bytes

ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
V4_HEADER, V6_HEADER = 20, 40
FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = 1, 2, 4, 8, 16, 32, 64, 128
DONT_FRAGMENT = 0x40
"""In the byte at 6 of an IPv4 header."""
CHECKSUM_AT = {TCP: 16, UDP: 6}
"""Where the checksum is, from the beginning of a TCP or UDP header."""


def whole(packet: Bytes) -> int:
    """How long the packet at the beginning of this is by its own header; 0 where it is none, or is cut short."""
    size = len(packet)
    if size < V4_HEADER:
        return 0
    if packet[0] >> 4 == 4:
        length, header = packet[2] << 8 | packet[3], (packet[0] & 15) << 2
        return length if V4_HEADER <= header <= length <= size else 0
    if packet[0] >> 4 == 6 and size >= V6_HEADER:
        length = V6_HEADER + (packet[4] << 8 | packet[5])
        return length if length <= size else 0
    return 0


def source(packet: Bytes) -> bytes:
    return bytes(packet[12:16] if packet[0] >> 4 == 4 else packet[8:24])


def target(packet: Bytes) -> bytes:
    return bytes(packet[16:20] if packet[0] >> 4 == 4 else packet[24:40])


def may_be_fragmented(packet: Bytes) -> bool:
    """By a router on its way: IPv4 without DF."""
    return packet[0] >> 4 == 4 and not packet[6] & DONT_FRAGMENT


def is_fragment(packet: Bytes) -> bool:
    """Of IPv4, any but a whole one."""
    return bool(packet[6] & 0x3F or packet[7])
