"""Published ports: what a runtime asks for, and whether this host can give it.

    [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "127.0.0.1"}]

Runtimes write a range as one mapping for each of its ports.  A port of the host leads to one pod: who asks for one that is taken is told
whose it is.  A pod that has left keeps its ports until nothing is tracked to its addresses any more, as it keeps those; who asks
meanwhile waits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from netloom.calc.ports import clash, published, takes
from netloom.cni.netconf import PortMapping
from netloom.dataplane.netlink import Netlink, is_local
from netloom.dataplane.nft.ports import PROTOCOLS
from netloom.ipam.holdings import Holdings
from netloom.model.addresses import Address, parse_address
from netloom.model.attachments import Attachment, PublishedPort
from netloom.model.desired import Published
from netloom.model.showing import shown


def parse_ports(mappings: Iterable[PortMapping]) -> tuple[PublishedPort, ...]:
    """Raises ValueError that names the mapping.  Those without a port of the host ask for nothing."""
    found: dict[tuple[str, int], list[PublishedPort]] = {}
    for number, mapping in enumerate(mappings):
        host_port = mapping.host_port or mapping.capital_host_port
        if not host_port:
            continue
        try:
            port = _parse_port(mapping, host_port)
        except ValueError as e:
            raise ValueError(f"[{number}].{e}") from e
        same = found.setdefault((port.protocol, port.host_port), [])
        if other := next((other for other in same if clash(port, other)), None):
            raise ValueError(f"[{number}]: {port} and {other} are the same port of the host")
        same.append(port)
    return tuple(port for ports in found.values() for port in ports)


def _parse_port(mapping: PortMapping, host_port: int) -> PublishedPort:
    text = mapping.protocol or mapping.capital_protocol or "tcp"
    protocol = text.lower()
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol: {shown(text)} is none of {', '.join(PROTOCOLS)}")
    container_port = mapping.container_port or mapping.capital_container_port
    if not container_port:
        raise ValueError("containerPort: 0 is no port; 1 to 65535")
    return PublishedPort(protocol, host_port, container_port, _parse_host(mapping.host_ip or mapping.capital_host_ip))


def _parse_host(text: str) -> Address | None:
    try:
        host = parse_address(text[:80]) if text else None
    except ValueError as e:
        raise ValueError(f"hostIP: {e}") from e
    if host is not None and host.version == 6 and host.is_loopback:
        raise ValueError("hostIP: ::1 cannot lead to a pod, IPv6 has no way from there; leave hostIP out, or take 127.0.0.1")
    return host


def unservable(attachment: Attachment, kernel: Netlink) -> str | None:
    """What this host cannot do for the ports of a new attachment, in words."""
    versions = {address.version for address in attachment.addresses}
    for port in attachment.ports:
        host = port.host_address
        if host is None:
            continue
        if host.version not in versions:
            return f"{port}: the pod has no IPv{host.version} address"
        if not host.is_unspecified and not is_local(kernel, host):
            return f"{port}: this host has no address {host}"
    return None


def holder(attachment: Attachment, holdings: Holdings) -> tuple[Published, Attachment] | None:
    """The first port of a new attachment that another has, and who that is."""
    for port in published(attachment):
        for other in holdings.publishers(port.protocol, port.host_port):
            if any(takes(port, theirs) for theirs in published(other)):
                return port, other
    return None


def rivals(ports: Iterable[PublishedPort], holdings: Holdings) -> Iterator[Attachment]:
    """Attachments that have one of these ports, for all that is known before the pod has its addresses."""
    for port in ports:
        for other in holdings.publishers(port.protocol, port.host_port):
            if any(clash(port, theirs) for theirs in other.ports):
                yield other


def in_words(attachment: Attachment) -> str:
    """Whose it is."""
    key = attachment.key
    who = f"{attachment.namespace}/{attachment.pod}" if attachment.pod else f"container {key.container_id}"
    return f"{who} ({key.interface} in network {key.network})"
