"""What two programs and the agent agree on: maps, their elements, and what a tunnel looks like on the wire.

    prefixes4, prefixes6    prefix → outer address of the node that has it
    peers                   outer address → what was sent there, what came from there, what was refused
    formers                 an outer address that a node had before → the one that it has now

An outer address is 16 bytes in a map, an IPv4 one with zeros behind it.  Every processor has counters of its own for each peer.
"""

from __future__ import annotations

import hashlib
import ipaddress
import struct
from dataclasses import dataclass
from typing import NamedTuple

from netloom.dataplane.bpf import Shape, maps
from netloom.model.addresses import Address, Mac, Prefix
from netloom.model.desired import Carrier

ADDRESS = 16
ROOM = 1 << 17
"""Elements that a map may have.  Memory is taken as they come."""


class Counters(NamedTuple):
    """Of one peer.  Packets are counted as they are on the wire, not as the kernel holds several in one; bytes are those of the inner
    packets.  `lost`: was to be sent, but no route leads there, or it is too long for it."""

    sent: int
    sent_bytes: int
    received: int
    received_bytes: int
    refused: int
    lost: int


COUNTERS = struct.calcsize("=6Q")

TOKEN = 8
MARK = TOKEN + ADDRESS
"""Bytes of what lies before a packet that was unpacked in the driver: the tunnel's token, and the outer source."""

SHAPES = {
    "prefixes4": Shape(maps.Kind.LPM_TRIE, key=4 + 4, value=ADDRESS, room=ROOM),
    "prefixes6": Shape(maps.Kind.LPM_TRIE, key=4 + 16, value=ADDRESS, room=ROOM),
    "formers": Shape(maps.Kind.HASH, key=ADDRESS, value=ADDRESS, room=ROOM),
    "peers": Shape(maps.Kind.COUNTERS, key=ADDRESS, value=COUNTERS, room=ROOM),
}
PREFIXES = {4: "prefixes4", 6: "prefixes6"}


@dataclass(frozen=True, slots=True)
class Wire:
    """One end of a tunnel: its device, and what its outer packets are.  `port` 0: there is no UDP header.  `also`: other addresses that
    packets come to."""

    device: int
    mac: Mac
    carrier: Carrier
    local: Address
    port: int = 0
    also: tuple[Address, ...] = ()

    @property
    def token(self) -> int:
        """64 bits by which this tunnel knows what it has unpacked itself: other nodes of the same kernel have others."""
        text = f"{self.mac} {self.device} {self.port}".encode()  # not of its address, which may change under traffic
        return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1

    @property
    def ip_header(self) -> int:
        return 20 if self.local.version == 4 else 40

    @property
    def overhead(self) -> int:
        return self.ip_header + (8 if self.carrier is Carrier.UDP else 0)


def pack(address: Address) -> bytes:
    return address.packed.ljust(ADDRESS, b"\0")


def unpack(packed: bytes) -> Address:
    """Nobody's IPv6 address is zeros from the fifth byte on."""
    return ipaddress.ip_address(packed if any(packed[4:]) else packed[:4])


def unpack_prefix(key: bytes) -> Prefix:
    (length,) = struct.unpack_from("=I", key)
    return ipaddress.ip_network((key[4:], length))
