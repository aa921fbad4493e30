"""Published ports: which ports of the host lead to which pod, and what the kernel has to allow for it.

A port without a host address is published in every family that the pod has an address of.  127.0.0.1 is a packet that leaves by an
interface with a source that no interface but lo may see: `route_localnet`, on the pod's interface alone.  IPv6 has no such
switch, so ::1 is not served.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final

from netloom.model.addresses import Address
from netloom.model.attachments import Attachment, PublishedPort
from netloom.model.desired import Published

EVERYWHERE: Final[dict[int, Address]] = {4: ipaddress.IPv4Address(0), 6: ipaddress.IPv6Address(0)}


def published(attachment: Attachment) -> tuple[Published, ...]:
    if not attachment.ports:
        return ()
    return tuple(_published(attachment))


def clash(one: PublishedPort, other: PublishedPort) -> bool:
    """Whether both cannot be published on one host, by pods that have both families."""
    if (one.protocol, one.host_port) != (other.protocol, other.host_port):
        return False
    a, b = one.host_address, other.host_address
    if a is None or b is None:
        return True
    return a.version == b.version and (a == b or a.is_unspecified or b.is_unspecified)


def takes(port: Published, other: Published) -> bool:
    """Whether both cannot lead to different pods."""
    if (port.protocol, port.host_port, port.address.version) != (other.protocol, other.host_port, other.address.version):
        return False
    return None in (port.host_address, other.host_address) or port.host_address == other.host_address


def needs_localnet(ports: Iterable[Published]) -> frozenset[str]:
    """Interfaces to which packets from 127.0.0.1 have to go."""
    return frozenset(
        port.interface
        for port in ports
        if port.address.version == 4 and (port.host_address is None or port.host_address.is_loopback)
    )


def localnet(interface: str, *, on: bool) -> dict[str, str]:
    return {f"net/ipv4/conf/{interface}/route_localnet": str(int(on))}


def recovered(attachment: Attachment, found: Iterable[Published]) -> tuple[PublishedPort, ...]:
    """The other way round: what an attachment publishes, from what a kernel holds."""
    own = {address.ip for address in attachment.addresses}
    hosts: dict[tuple[str, int, int], set[Address]] = {}
    for port in found:
        if port.address in own:
            host = port.host_address or EVERYWHERE[port.address.version]
            hosts.setdefault((port.protocol, port.host_port, port.port), set()).add(host)
    every = {EVERYWHERE[address.version] for address in own}
    return tuple(
        PublishedPort(*key, host_address=host)
        for key, some in sorted(hosts.items())
        for host in ([None] if some == every else sorted(some, key=lambda host: (host.version, int(host))))
    )


def _published(attachment: Attachment) -> Iterable[Published]:
    interface = attachment.bridge or attachment.host_interface
    for port in attachment.ports:
        host = port.host_address
        for address in attachment.addresses:
            if host is None or host.version == address.version:
                where = None if host is None or host.is_unspecified else host
                to = address.ip, port.container_port, interface, address.network
                yield Published(port.protocol, where, port.host_port, *to)
