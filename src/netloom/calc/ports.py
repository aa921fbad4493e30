"""Published ports: which ports of the host lead to which pod, and what the kernel has to allow for it.

A port without a host address is published in every family that the pod has an address of.  127.0.0.1 is a packet that leaves by an
interface with a source that no interface but lo may see: `route_localnet`, on the pod's interface alone.  IPv6 has no such
switch, so ::1 is not served.
"""

from __future__ import annotations

from collections.abc import Iterable

from netloom.model.attachments import Attachment, PublishedPort
from netloom.model.desired import Published


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


def _published(attachment: Attachment) -> Iterable[Published]:
    interface = attachment.bridge or attachment.host_interface
    for port in attachment.ports:
        host = port.host_address
        for address in attachment.addresses:
            if host is None or host.version == address.version:
                where = None if host is None or host.is_unspecified else host
                to = address.ip, port.container_port, interface, address.network
                yield Published(port.protocol, where, port.host_port, *to)
