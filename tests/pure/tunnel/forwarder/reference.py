"""Packets, and what is to become of them, written down as RFC 791, 1071, 768, 8200 and 9293 have it: word by word, slowly."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass, replace

TCP, UDP = 6, 17
PODS = {4: ("10.244.1.2", "10.244.2.3"), 6: ("fd00:1::2", "fd00:2::3")}


def ones(data: bytes) -> int:
    """The one's complement sum, folded."""
    if len(data) % 2:
        data += b"\0"
    found = 0
    for (word,) in struct.iter_unpack(">H", data):
        found += word
        found = (found & 0xFFFF) + (found >> 16)
    return found


def same_sum(a: int, b: int) -> bool:
    """0 and 0xffff are one number."""
    return a % 0xFFFF == b % 0xFFFF


@dataclass(frozen=True)
class Flow:
    """A TCP segment or UDP datagram, and around it its packet.  `options` of TCP."""

    version: int = 4
    protocol: int = TCP
    payload: bytes = b""
    sequence: int = 1000
    flags: int = 0x10
    options: bytes = b""
    identification: int = 7
    dont_fragment: bool = True
    ttl: int = 62
    port: int = 40000
    ip_options: bytes = b""
    target_port: int = 5201
    addresses: tuple[str, str] | None = None
    traffic_class: int = 0

    @property
    def header(self) -> int:
        return self.l4 + (20 + len(self.options) if self.protocol == TCP else 8)

    @property
    def l4(self) -> int:
        return 20 + len(self.ip_options) if self.version == 4 else 40

    def _transport(self, checksum: int) -> bytes:
        if self.protocol == UDP:
            return struct.pack(">HHHH", self.port, self.target_port, 8 + len(self.payload), checksum) + self.payload
        words = 5 + len(self.options) // 4
        fixed = struct.pack(
            ">HHIIBBHHH", self.port, self.target_port, self.sequence % 2**32, 77, words << 4, self.flags, 512, checksum, 0
        )
        return fixed + self.options + self.payload

    def _ends(self) -> bytes:
        return b"".join(ipaddress.ip_address(text).packed for text in self.addresses or PODS[self.version])

    def pseudo(self) -> int:
        return ones(self._ends() + struct.pack(">II", len(self._transport(0)), self.protocol))

    def packet(self, *, unfinished: bool = False) -> bytes:
        """`unfinished`: the checksum's field has the sum of the pseudo header."""
        checksum = self.pseudo() if unfinished else 0xFFFF - ones(struct.pack(">H", self.pseudo()) + self._transport(0))
        if not unfinished and checksum == 0:
            checksum = 0xFFFF
        transport = self._transport(checksum)
        if self.version == 6:
            first = 6 << 28 | self.traffic_class << 20
            return struct.pack(">IHBB", first, len(transport), self.protocol, self.ttl) + self._ends() + transport
        words = 5 + len(self.ip_options) // 4
        fragment = 0x4000 if self.dont_fragment else 0
        length = words * 4 + len(transport)
        header = struct.pack(
            ">BBHHHBBH",
            *(0x40 | words, self.traffic_class, length, self.identification % 65536),
            *(fragment, self.ttl, self.protocol, 0),
        )
        header += self._ends() + self.ip_options
        return header[:10] + struct.pack(">H", 0xFFFF - ones(header)) + header[12:] + transport


def cut(flow: Flow, size: int) -> list[bytes]:
    """What the kernel sends of a flow's packet when it cuts it into segments of `size`."""
    found = []
    for at in range(0, len(flow.payload), size):
        flags = flow.flags
        if at + size < len(flow.payload):
            flags &= ~0x09
        if at:
            flags &= ~0x80
        number = flow.identification if flow.dont_fragment else flow.identification + at // size
        part = flow.payload[at : at + size]
        found.append(replace(flow, payload=part, sequence=flow.sequence + at, flags=flags, identification=number).packet())
    return found


def is_whole(packet: bytes) -> bool:
    """Whether lengths and checksums are right."""
    if packet[0] >> 4 == 4:
        words = (packet[0] & 15) * 4
        if struct.unpack_from(">H", packet, 2)[0] != len(packet) or ones(packet[:words]) != 0xFFFF:
            return False
        protocol, transport, addresses = packet[9], packet[words:], packet[12:20]
    else:
        if struct.unpack_from(">H", packet, 4)[0] + 40 != len(packet):
            return False
        protocol, transport, addresses = packet[6], packet[40:], packet[8:40]
    if protocol == UDP and struct.unpack_from(">H", transport, 4)[0] != len(transport):
        return False
    return ones(addresses + struct.pack(">II", len(transport), protocol) + transport) == 0xFFFF
