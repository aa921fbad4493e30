"""The prober's sockets, and what Linux lets one say and hear beside a packet.

Device and source go along with each datagram (IP_PKTINFO, RFC 3542): the socket is bound to neither.  A datagram must not be cut
(IP_PMTUDISC_PROBE: the don't-fragment bit, whatever the kernel has learned of the path).  What became of a stream is asked of the
kernel's own record of it (struct tcp_info).
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from netloom.model.addresses import Address

_HOPS = 64  # time to live of what is sent
_BACKLOG = 128  # who waits behind more than this sends again, and a stream looks stalled

# linux/in.h, linux/in6.h, linux/udp.h; what the socket module does not name
_IP_PKTINFO, _IP_MTU_DISCOVER, _IP_RECVTTL, _IP_TTL = 8, 10, 12, 2
_IPV6_MTU_DISCOVER, _IPV6_DONTFRAG, _PMTUDISC_PROBE = 23, 62, 3
_SO_NO_CHECK, _UDP_NO_CHECK6_TX, _UDP_NO_CHECK6_RX = 11, 101, 102
_PKTINFO4, _PKTINFO6, _NUMBER = struct.Struct("=i4s4s"), struct.Struct("=16si"), struct.Struct("=i")
RESET = struct.pack("=ii", 1, 0)  # struct linger: closed by a reset, and nothing is sent again
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


@dataclass(frozen=True, slots=True)
class Ancillary:
    """What the kernel says beside a datagram: which address was asked, on which link where that matters, and how far it came."""

    asked: Address | None = None
    link: int = 0
    hops: int = -1

    @classmethod
    def of(cls, found: Iterable[tuple[int, int, bytes]]) -> Ancillary:
        asked: Address | None = None
        link, hops = 0, -1
        for level, kind, data in found:
            if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
                asked = ipaddress.IPv4Address(_PKTINFO4.unpack_from(data)[2])
            elif (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
                packed, index = _PKTINFO6.unpack_from(data)
                asked = ipaddress.IPv6Address(packed)
                link = index if asked.is_link_local else 0
            elif (level, kind) in ((socket.IPPROTO_IP, _IP_TTL), (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT)):
                hops = max(-1, _HOPS - _NUMBER.unpack_from(data)[0])
        return cls(asked, link, hops)


def reset(connection: socket.socket) -> None:
    """Who asked knows at once that nobody took it."""
    with connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def resent(state: bytes) -> int:
    """tcpi_total_retrans of struct tcp_info (linux/tcp.h)."""
    return int(_NUMBER.unpack_from(state, 100)[0])


def on_their_way(state: bytes) -> int:
    """tcpi_unacked: segments that the other kernel has not acknowledged; none once it ended the connection."""
    return int(_NUMBER.unpack_from(state, 24)[0])


def sent_from(source: Address, index: int) -> tuple[int, int, bytes]:
    if source.version == 4:
        return socket.IPPROTO_IP, _IP_PKTINFO, _PKTINFO4.pack(index, source.packed, bytes(4))
    return socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, _PKTINFO6.pack(source.packed, index)


@contextmanager
def unchecked(sock: socket.socket, version: int) -> Iterator[None]:
    """What is sent by this socket meanwhile has no UDP checksum."""
    level, option = (socket.SOL_SOCKET, _SO_NO_CHECK) if version == 4 else (socket.IPPROTO_UDP, _UDP_NO_CHECK6_TX)
    sock.setsockopt(level, option, 1)
    try:
        yield
    finally:
        sock.setsockopt(level, option, 0)


_OPTIONS = {
    4: (
        (socket.IPPROTO_IP, _IP_PKTINFO, 1),
        (socket.IPPROTO_IP, _IP_RECVTTL, 1),
        (socket.IPPROTO_IP, _IP_TTL, _HOPS),
        (socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE),
    ),
    6: (
        (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1),
        (socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1),
        (socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1),
        (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, _HOPS),
        (socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE),
        (socket.IPPROTO_IPV6, _IPV6_DONTFRAG, 1),
        (socket.IPPROTO_UDP, _UDP_NO_CHECK6_RX, 1),
    ),
}
_ANY = {4: "0.0.0.0", 6: "::"}  # noqa: S104  # answers only to nodes, see frames


def datagram_socket(version: int, port: int) -> socket.socket:
    sock = socket.socket(FAMILY[version], socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        for option in _OPTIONS[version]:
            sock.setsockopt(*option)
        sock.bind((_ANY[version], port))
    except OSError:
        sock.close()
        raise
    return sock


def stream_listener(version: int, port: int) -> socket.socket:
    sock = socket.socket(FAMILY[version], socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if version == 6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((_ANY[version], port))
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock
