"""Direct: plain routes between neighbours, Flannel's host-gw.  Nothing is added to a packet.

    10.244.1.0/26 via 192.0.2.12 dev eth0

Works only where the other node is on the same link: a router between them would not know where pods are.  A next hop must be
of the prefix's own family.
"""

from __future__ import annotations

from collections.abc import Container, Iterable

from netloom.calc.encap.peer import Peer
from netloom.calc.tables import Tables
from netloom.model.addresses import Address
from netloom.model.desired import Route, RouteKey
from netloom.model.forms import Form
from netloom.model.host import Host

DEVICE = ""


def overhead(host: Host) -> int:
    return 0


def local(host: Host, form: Form, device: str) -> Tables:
    return Tables()


def is_neighbour(host: Host, peer: Peer) -> bool:
    """Whether plain routes can carry this peer's prefixes."""
    gateway = peer.address(peer.prefixes[0].version)
    return gateway is not None and peer.name not in host.far and host.uplink_towards(gateway) is not None


def known(host: Host, device: str, peers: Iterable[Peer], doubts: Container[Address]) -> Tables:
    return Tables()


def peer(host: Host, device: str, peer: Peer) -> Tables:
    version = peer.prefixes[0].version
    gateway = peer.address(version)
    if gateway is None:
        return Tables(
            problems=[f"node {peer.name} has no IPv{version} address: plain routes cannot carry its IPv{version} pods"]
        )
    if peer.name in host.far:
        return Tables(problems=[f"plain routes cannot lead to node {peer.name} ({gateway}): {host.far[peer.name]}"])
    uplink = host.uplink_towards(gateway)
    if uplink is None:
        return Tables(
            problems=[f"node {peer.name} ({gateway}) is not a neighbour: its pools need a tunnel, as VXLAN or VXLANCrossSubnet"]
        )
    if not uplink.up:
        return Tables(problems=[f"{uplink.name} is down: no way to node {peer.name}"])
    route = Route(device=uplink.name, gateway=gateway)
    return Tables(routes={RouteKey(prefix, peer.metric): route for prefix in peer.prefixes})
