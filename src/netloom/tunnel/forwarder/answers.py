"""ICMP errors: what a router says to the sender of a packet that goes no further (RFC 792, 1191, 4443, 8201).

Time Exceeded is not among them: the kernel has forwarded each packet before it comes to the TUN, and forwards it again on the other
side; so hop limits are its business, and a route that leads in circles ends.

None is sent about an ICMP error, a fragment other than the first, or a packet whose source or target is not one single host
(RFC 1122, 3.2.2; RFC 4443, 2.4 e).  They are few (`Budget`): somebody who sends into nowhere is told so now and then.

They go out by raw sockets, not into the TUN: the kernel chooses the source, and finds the way to a pod or to a program of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from netloom.tunnel.forwarder.checksums import checksum
from netloom.tunnel.forwarder.packets import ICMP, ICMPV6, is_fragment, source, target

_NET_UNREACHABLE, _HOST_UNREACHABLE, _TOO_BIG = (3, 0), (3, 1), (3, 4)
_NO_ROUTE6, _ADDRESS_UNREACHABLE6, _TOO_BIG6 = (1, 0), (1, 3), (2, 0)
_ERRORS = {3, 4, 5, 11, 12}
"""ICMP's; what ICMPv6 reports as an error is below 128."""
_QUOTED = {4: 576 - 28, 6: 1280 - 48}
"""Bytes of the packet that is complained about (RFC 1812, 4.3.2.3; RFC 4443, 2.4 c)."""
V6_LEAST = 1280


def unreachable(packet: memoryview, *, node: bool = False) -> bytes | None:
    """No peer has its target; `node`: one has, and there is no way to it.  None where nothing is to be said."""
    if not is_answerable(packet):
        return None
    if packet[0] >> 4 == 4:
        return _message(_HOST_UNREACHABLE if node else _NET_UNREACHABLE, 0, packet)
    return _message(_ADDRESS_UNREACHABLE6 if node else _NO_ROUTE6, 0, packet)


def too_big(packet: memoryview, mtu: int) -> bytes | None:
    """More than `mtu` bytes do not pass."""
    if not is_answerable(packet):
        return None
    return _message(_TOO_BIG if packet[0] >> 4 == 4 else _TOO_BIG6, mtu, packet)


def _message(kind: tuple[int, int], number: int, packet: memoryview) -> bytes:
    """ICMPv6's checksum is the kernel's work, since it knows the source that goes into it."""
    version = packet[0] >> 4
    message = bytes(kind) + b"\0\0" + number.to_bytes(4, "big") + bytes(packet[: _QUOTED[version]])
    return message if version == 6 else message[:2] + checksum(message).to_bytes(2, "big") + message[4:]


def is_answerable(packet: memoryview) -> bool:
    if not (_is_one_host(source(packet)) and _is_one_host(target(packet))):
        return False
    if packet[0] >> 4 == 4:
        at = (packet[0] & 15) << 2
        if is_fragment(packet) and (packet[6] & 0x1F or packet[7]):
            return False
        return packet[9] != ICMP or (len(packet) > at and packet[at] not in _ERRORS)
    protocol, at = packet[6], 40
    while protocol in (0, 43, 60) and len(packet) >= at + 8:  # hop-by-hop, routing, destination options
        protocol, at = packet[at], at + 8 * (packet[at + 1] + 1)
    if protocol == 44 and len(packet) >= at + 8:  # fragment
        if packet[at + 2] or packet[at + 3] & 0xF8:
            return False
        protocol, at = packet[at], at + 8
    return protocol != ICMPV6 or (len(packet) > at and packet[at] >= 128)


def _is_one_host(address: bytes) -> bool:
    if len(address) == 4:
        return 0 < address[0] < 224 and address[0] != 127
    return address[0] != 0xFF and address[:-1] != bytes(15)  # multicast; unspecified, loopback


class Budget:
    """How many errors: `rate` a second, `burst` at once, for all; and for each receiver a hundredth of it, so that one that asks for
    trouble does not use up what others need to find their path's MTU."""

    def __init__(self, rate: float = 1000.0, burst: float = 200.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._all = (burst, clock())
        self._each: dict[bytes, tuple[float, float]] = {}

    def allows(self, receiver: bytes) -> bool:
        now = self._clock()
        own = self._refilled(self._each.get(receiver, (self._own_burst, now)), now, self._rate / 100, self._own_burst)
        common = self._refilled(self._all, now, self._rate, self._burst)
        if own < 1 or common < 1:
            return False
        self._each.pop(receiver, None)  # to the end: those that were told something last stay longest
        self._each[receiver] = own - 1, now
        self._all = common - 1, now
        if len(self._each) > _RECEIVERS:
            del self._each[next(iter(self._each))]
        return True

    @property
    def _own_burst(self) -> float:
        return max(self._burst / 20, 1)

    @staticmethod
    def _refilled(state: tuple[float, float], now: float, rate: float, burst: float) -> float:
        tokens, at = state
        return min(burst, tokens + (now - at) * rate)


_RECEIVERS = 4096
