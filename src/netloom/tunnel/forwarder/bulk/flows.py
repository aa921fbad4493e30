"""Which packets belong together: those that one sender would have given as one, and that can be taken apart again into the same.

The rules are those of the kernel's GRO: same headers but for lengths, checksums and what counts on (TCP's sequence number, IPv4's
identification where DF is not set); no fragment, no IPv4 option, no IPv6 extension header; nothing after FIN or PSH, and never SYN,
RST, URG or CWR; all of one length but the last, which may be shorter.  And each checksum is right: what is given to the kernel as one
is taken as checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from netloom.tunnel.forwarder.bulk.templates import set_length
from netloom.tunnel.forwarder.checksums import MODULUS, checksum, total
from netloom.tunnel.forwarder.offload import merged
from netloom.tunnel.forwarder.packets import (
    CHECKSUM_AT,
    CWR,
    DONT_FRAGMENT,
    FIN,
    PSH,
    RST,
    SYN,
    TCP,
    UDP,
    URG,
    V4_HEADER,
    V6_HEADER,
    is_fragment,
    whole,
)

ALONE = SYN | RST | URG | CWR
LAST = FIN | PSH


@dataclass(frozen=True, slots=True)
class Shape:
    """What a packet's headers look like.  `header`: bytes of all of them.  `same`: a mask of the bits in which those that belong
    together agree.  `counted`: IPv4 without DF, whose identification counts on."""

    version: int
    protocol: int
    l4: int
    header: int
    counted: bool

    @property
    def checksum(self) -> int:
        return self.l4 + CHECKSUM_AT[self.protocol]

    @property
    def same(self) -> bytes:
        return _same(self.version, self.protocol, self.l4, self.header)

    @property
    def same_bits(self) -> int:
        return _same_bits(self.version, self.protocol, self.l4, self.header)


@lru_cache(maxsize=64)
def _same(version: int, protocol: int, l4: int, header: int) -> bytes:
    mask = bytearray(b"\xff" * header)
    free = [(2, 6), (10, 12)] if version == 4 else [(4, 6)]
    free += [(l4 + 4, l4 + 8), (l4 + 16, l4 + 18)] if protocol == TCP else [(l4 + 4, l4 + 8)]
    for start, end in free:
        mask[start:end] = bytes(end - start)
    if protocol == TCP:
        mask[l4 + 13] = 0xFF & ~LAST
    return bytes(mask)


@lru_cache(maxsize=64)
def _same_bits(version: int, protocol: int, l4: int, header: int) -> int:
    return int.from_bytes(_same(version, protocol, l4, header), "big")


def transport(packet: memoryview) -> Shape | None:
    """Of a TCP or UDP packet that is whole; no fragment, no IPv4 option, no IPv6 extension header."""
    size = len(packet)
    if whole(packet) != size:
        return None
    if packet[0] == 0x45 and not is_fragment(packet):
        version, l4, protocol, counted = 4, V4_HEADER, packet[9], not packet[6] & DONT_FRAGMENT
    elif packet[0] >> 4 == 6:
        version, l4, protocol, counted = 6, V6_HEADER, packet[6], False
    else:
        return None
    if protocol == TCP and size >= l4 + 20:
        header = l4 + (packet[l4 + 12] >> 4 << 2)
    elif protocol == UDP and size >= l4 + 8:
        header = l4 + 8
    else:
        return None
    return Shape(version, protocol, l4, header, counted) if header <= size and header >= l4 + 8 else None


def shape(packet: memoryview, protocols: tuple[int, ...] = (TCP, UDP)) -> Shape | None:
    """None where the packet stays alone, whatever comes next; `protocols`: others do."""
    of = transport(packet)
    if of is None or of.protocol not in protocols or of.header == len(packet):
        return None
    l4 = of.l4
    if of.protocol == TCP:
        return None if packet[l4 + 13] & ALONE or of.header < l4 + 20 else of
    counts = packet[l4 + 4] << 8 | packet[l4 + 5] == len(packet) - l4 and (packet[l4 + 6] or packet[l4 + 7])
    return of if counts else None


def is_sound(packet: memoryview, of: Shape) -> bool:
    """Whether its checksums are right."""
    if of.version == 4 and total(packet[: of.l4]):
        return False
    return (total(packet[of.l4 :]) + pseudo_sum(packet, of, len(packet))) % MODULUS == 0


def pseudo_sum(header: memoryview | bytearray, of: Shape, length: int) -> int:
    """Of the pseudo header of a packet that is `length` bytes long."""
    addresses = header[12:20] if of.version == 4 else header[8:40]
    return total(addresses) + of.protocol + length - of.l4


def continues(before: memoryview, packet: memoryview, of: Shape) -> bool:
    """Whether `packet` belongs to `before`, the whole of which is not longer than it; both are of that shape."""
    if (int.from_bytes(before[: of.header], "big") ^ int.from_bytes(packet[: of.header], "big")) & of.same_bits:
        return False
    if of.counted and (number(packet, 4, 2) - number(before, 4, 2)) & 0xFFFF != 1:
        return False
    if of.protocol == UDP:
        return True
    ahead = (number(packet, of.l4 + 4, 4) - number(before, of.l4 + 4, 4)) & 0xFFFFFFFF
    return ahead == len(before) - of.header and not before[of.l4 + 13] & LAST


def number(packet: memoryview, at: int, size: int) -> int:
    return int.from_bytes(packet[at : at + size], "big")


def make_one(whole_packet: memoryview, of: Shape, last: memoryview, size: int) -> bytes:
    """Headers of the first, payload of all → one packet; the virtio_net_hdr that goes with it.  `last` of them; `size`: payload of each."""
    length = len(whole_packet)
    set_length(whole_packet, of.l4, length, is_udp=of.protocol == UDP)
    if of.protocol == TCP:
        whole_packet[of.l4 + 13] |= last[of.l4 + 13] & LAST
    if of.version == 4:
        whole_packet[10:12] = b"\0\0"
        whole_packet[10:12] = checksum(whole_packet[: of.l4]).to_bytes(2, "big")
    pseudo = pseudo_sum(whole_packet, of, length)
    whole_packet[of.checksum : of.checksum + 2] = (pseudo % MODULUS).to_bytes(2, "big")
    return merged(of.protocol, of.version, of.l4, of.header, size)
