"""Ethernet frames by hand, honest or not: each function wraps what it carries and fills in lengths and checksums."""

from __future__ import annotations

import ipaddress
import struct

BROADCAST = "ff:ff:ff:ff:ff:ff"
IPV4, ARP, VLAN, QINQ, IPV6 = 0x0800, 0x0806, 0x8100, 0x88A8, 0x86DD
ICMP, IPIP, TCP, UDP, IPV6_IN_IP, ROUTING, FRAGMENT, GRE, ICMPV6, OPTIONS = 1, 4, 6, 17, 41, 43, 44, 47, 58, 60
LSRR, SSRR = 131, 137


def ethernet(source: str, target: str, kind: int, payload: bytes) -> bytes:
    return _mac(target) + _mac(source) + struct.pack(">H", kind) + payload.ljust(46, b"\0")


def tagged(frame: bytes, vlan: int, kind: int = VLAN) -> bytes:
    return frame[:12] + struct.pack(">HH", kind, vlan) + frame[12:]


def ipv4(source: str, target: str, protocol: int, payload: bytes, *, options: bytes = b"", fragment: int = 0) -> bytes:
    """`fragment`: the whole 16 bits of flags and offset."""
    words = 5 + len(options) // 4
    header = struct.pack(">BBHHHBBH", 0x40 | words, 0, words * 4 + len(payload), 1, fragment, 64, protocol, 0)
    header += _ip(source) + _ip(target) + options
    return header[:10] + _checksum(header) + header[12:] + payload


def ipv6(source: str, target: str, protocol: int, payload: bytes, *, hops: int = 255) -> bytes:
    """Payload with an ICMPv6 header gets its checksum here."""
    if protocol == ICMPV6:
        pseudo = _ip(source) + _ip(target) + struct.pack(">II", len(payload), protocol)
        payload = payload[:2] + _checksum(pseudo + payload) + payload[4:]
    return struct.pack(">IHBB", 6 << 28, len(payload), protocol, hops) + _ip(source) + _ip(target) + payload


def udp(target: int, payload: bytes, source: int = 40000) -> bytes:
    """Without checksum."""
    return struct.pack(">HHHH", source, target, 8 + len(payload), 0) + payload


def tcp_syn(target: int, payload: bytes) -> bytes:
    return struct.pack(">HHIIBBHHH", 40000, target, 1, 0, 0x50, 2, 1024, 0, 0) + payload


def icmp(kind: int, payload: bytes, code: int = 0) -> bytes:
    message = struct.pack(">BBHI", kind, code, 0, 0) + payload
    return message[:2] + _checksum(message) + message[4:]


def icmpv6(kind: int, body: bytes) -> bytes:
    """`ipv6` fills in the checksum."""
    return struct.pack(">BBH", kind, 0, 0) + body


def neighbour(kind: int, target: str, mac: str, *, flags: int = 0) -> bytes:
    """Solicitation (135) or advertisement (136) with one link-layer address option."""
    option = 1 if kind == 135 else 2
    return icmpv6(kind, struct.pack(">I", flags) + _ip(target) + bytes((option, 1)) + _mac(mac))


def router_advertisement(mac: str) -> bytes:
    return icmpv6(134, struct.pack(">BBHII", 64, 0, 1800, 0, 0) + b"\1\1" + _mac(mac))


def routing_header(kind: int, then: int, waypoint: str) -> bytes:
    return struct.pack(">BBBBI", then, 2, kind, 1, 0) + _ip(waypoint)


def destination_options(then: int) -> bytes:
    return bytes((then, 0, 1, 4, 0, 0, 0, 0))


def fragment_header(then: int, offset: int, *, more: bool) -> bytes:
    return struct.pack(">BBHI", then, 0, offset | more, 7)


def source_route(kind: int, waypoint: str) -> bytes:
    return bytes((kind, 7, 4)) + _ip(waypoint) + b"\0"


def arp(operation: int, sender_mac: str, sender: str, target_mac: str, target: str) -> bytes:
    header = struct.pack(">HHBBH", 1, IPV4, 6, 4, operation)
    return header + _mac(sender_mac) + _ip(sender) + _mac(target_mac) + _ip(target)


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _ip(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def _checksum(data: bytes) -> bytes:
    total = sum(struct.unpack(f">{(len(data) + 1) // 2}H", data + bytes(len(data) & 1)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack(">H", ~total & 0xFFFF)
