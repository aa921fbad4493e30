"""A forwarder's descriptors: its TUN, the UDP socket of the tunnel, and raw sockets for ICMP errors.

They are opened before privileges are given up, or come from the process that had them before.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from netloom.dataplane import tun
from netloom.errors import ConfigError, DataplaneError
from netloom.model.addresses import Address
from netloom.tunnel.forwarder.classes import hear_classes

_SOL_UDP, _UDP_NO_CHECK6_RX, _UDP_SEGMENT, _UDP_GRO = 17, 102, 103, 104  # linux/udp.h
_IP_MTU_DISCOVER, _IP_MTU, _IP_FREEBIND = 10, 14, 15  # linux/in.h
_IPV6_MTU_DISCOVER, _IPV6_MTU, _IPV6_FREEBIND = 23, 24, 78  # linux/in6.h
_NEVER, _ALWAYS = 0, 2
"""DF on outer packets (IP_PMTUDISC_DONT, _DO)."""
_SNDBUFFORCE, _RCVBUFFORCE = 32, 33  # asm-generic/socket.h
_RECEIVED, _SENT = 8 << 20, 4 << 20
"""Bytes that wait to be read, since 64 KiB arrive at once and others' turns come first; and to be sent, which is a router's queue: what
does not fit is lost."""
_SOL_RAW, _ICMP_FILTER, _ICMP6_FILTER = 255, 1, 1  # linux/icmp.h, linux/icmpv6.h


@dataclass(frozen=True, slots=True)
class Sockets:
    """`errors`: by family of what they are about; where the kernel has no IPv6 there is none.  `udp_as_one`: the TUN takes many UDP
    packets as one, as it does TCP's (Linux 6.2).  `also`: for what comes to other addresses of this node; nothing is sent by them."""

    tun: int
    udp: socket.socket
    errors: dict[int, socket.socket]
    udp_as_one: bool
    also: tuple[socket.socket, ...] = ()

    def descriptors(self) -> list[int]:
        return [self.tun, self.udp.fileno(), *(s.fileno() for s in (*self.errors.values(), *self.also))]

    def close(self) -> None:
        os.close(self.tun)
        for each in (self.udp, *self.errors.values(), *self.also):
            each.close()


def open_all(device: str, local: Address, port: int, also: Sequence[Address] = ()) -> Sockets:
    """Raises ConfigError or DataplaneError: what is wrong, and what to do about it."""
    with ExitStack() as stack:
        own, udp_as_one = _attach(device)
        stack.callback(os.close, own)
        udp, *others = (stack.enter_context(open_udp(address, port)) for address in (local, *also))
        errors = {version: stack.enter_context(opened) for version in (4, 6) if (opened := _open_errors(version))}
        stack.pop_all()
        return Sockets(own, udp, errors, udp_as_one, tuple(others))


def adopt(
    descriptors: Sequence[int], local: Address, port: int, also: Sequence[Address] = (), opened: Sequence[socket.socket] = ()
) -> Sockets:
    """As `descriptors` gives them, those of the tunnel by their addresses.  `opened`: besides theirs."""
    own, *rest = descriptors
    theirs = [socket.socket(fileno=fd) for fd in rest]
    carrying: dict[tuple[str, int], socket.socket] = {}
    for each in (*(s for s in theirs if s.type == socket.SOCK_DGRAM), *opened):
        each.setblocking(False)
        hear_classes(each)  # its opener may have been older than that
        carrying[each.getsockname()[:2]] = each
    udp, *others = (carrying.pop((str(address), port)) for address in (local, *also))
    for unwanted in carrying.values():
        unwanted.close()
    families = {socket.AF_INET: 4, socket.AF_INET6: 6}
    errors = {families[s.family]: s for s in theirs if s.type == socket.SOCK_RAW}
    return Sockets(own, udp, errors, tun.offload(own), tuple(others))


def _attach(device: str) -> tuple[int, bool]:
    try:
        fd = tun.attach(device)
    except OSError as e:
        if e.errno == errno.ENOENT:
            raise ConfigError(
                "there is none: the kernel has no TUN, or this container may not use it", where="/dev/net/tun"
            ) from e
        if e.errno == errno.EBUSY:
            raise DataplaneError("tun", device, "another process has it", errno=e.errno) from e
        raise DataplaneError("tun", device, e.strerror or "refused", errno=e.errno or 0) from e
    try:
        return fd, tun.offload(fd)
    except OSError as e:
        os.close(fd)
        raise DataplaneError("tun", device, f"gives no packets before they are cut: {e.strerror}", errno=e.errno or 0) from e


def open_udp(local: Address, port: int) -> socket.socket:
    """Bound to the node's own address, from which others expect it to send; also while no interface holds that."""
    family = socket.AF_INET if local.version == 4 else socket.AF_INET6
    made = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        if local.version == 4:
            made.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        else:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
            made.setsockopt(_SOL_UDP, _UDP_NO_CHECK6_RX, 1)  # programs in the kernel send no outer checksum (RFC 6935)
        fragment(made, allowed=False)
        for option, fallback, size in ((_RCVBUFFORCE, socket.SO_RCVBUF, _RECEIVED), (_SNDBUFFORCE, socket.SO_SNDBUF, _SENT)):
            try:
                made.setsockopt(socket.SOL_SOCKET, option, size)
            except PermissionError:  # without CAP_NET_ADMIN as much as net.core.rmem_max allows
                made.setsockopt(socket.SOL_SOCKET, fallback, size)
        made.setsockopt(_SOL_UDP, _UDP_GRO, 1)
        hear_classes(made)
        made.bind((str(local), port))
    except OSError as e:
        made.close()
        hint = f"ss -ulnp sport = :{port}" if e.errno == errno.EADDRINUSE else None
        raise ConfigError(f"cannot be bound: {e.strerror}", where=f"UDP {local} port {port}", hint=hint) from e
    return made


def _open_errors(version: int) -> socket.socket | None:
    """For sending only: whatever ICMP comes in is filtered away."""
    family, protocol = (socket.AF_INET, socket.IPPROTO_ICMP) if version == 4 else (socket.AF_INET6, socket.IPPROTO_ICMPV6)
    try:
        made = socket.socket(family, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, protocol)
    except OSError as e:
        if e.errno in (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT):
            return None
        raise DataplaneError("sockets", "ICMP", e.strerror or "refused", errno=e.errno or 0) from e
    if version == 4:
        made.setsockopt(_SOL_RAW, _ICMP_FILTER, b"\xff" * 4)
    else:
        made.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, b"\xff" * 32)
    return made


def segments(size: int) -> list[tuple[int, int, bytes]]:
    """Ancillary data: what is sent is datagrams of that size, and a last one."""
    return [(_SOL_UDP, _UDP_SEGMENT, struct.pack("=H", size))]


def fragment(udp: socket.socket, *, allowed: bool) -> None:
    """Whether outer packets may be fragmented; they are not, but for what nobody could make smaller."""
    level, option = (
        (socket.IPPROTO_IP, _IP_MTU_DISCOVER) if udp.family == socket.AF_INET else (socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER)
    )
    udp.setsockopt(level, option, _NEVER if allowed else _ALWAYS)


def path_mtu(local: str, where: tuple[str, int]) -> int:
    """To a peer, as the kernel knows it now; raises OSError where there is no way to it."""
    family = socket.AF_INET6 if ":" in where[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asking:
        asking.bind((local, 0))
        asking.connect(where)
        if family == socket.AF_INET:
            return asking.getsockopt(socket.IPPROTO_IP, _IP_MTU)
        return asking.getsockopt(socket.IPPROTO_IPV6, _IPV6_MTU)
