"""VXLAN: pods' packets in UDP (RFC 7348), over one device that learns nothing.

    route       10.244.1.0/26 via 10.244.1.0 dev loom.vxlan onlink       where: the peer's own address in its block
    neighbour   10.244.1.0 lladdr VTEP-MAC                              which MAC that is
    FDB         VTEP-MAC dst 192.0.2.12                                 which node has that MAC

IPv6 prefixes go via the link-local address that the peer's VTEP MAC stands for, so they need nothing of IPv6 on the underlay.
Outer packets are of one family per cluster node: IPv4 where the node has an IPv4 address, else IPv6.  The VTEP MAC survives a
reboot, so peers' entries never go stale by one.
"""

from __future__ import annotations

from collections.abc import Container, Iterable

from netloom.calc.encap.own import own_side, room
from netloom.calc.encap.peer import Peer
from netloom.calc.tables import Tables
from netloom.model.addresses import IPV6_MTU, Address, Mac, link_local
from netloom.model.desired import FdbKey, NeighbourKey, Route, RouteKey, Vxlan
from netloom.model.forms import Form
from netloom.model.host import Host

DEVICE = "loom.vxlan"
_OVERHEAD = {4: 50, 6: 70}  # outer Ethernet 14, IP 20 or 40, UDP 8, VXLAN 8


def overhead(host: Host) -> int:
    address = host.outer
    return _OVERHEAD[address.version if address else 4]


def local(host: Host, form: Form, device: str) -> Tables:
    address = host.outer
    if address is None or host.vtep_mac is None:
        return Tables(problems=["this node has no underlay address: VXLAN cannot send"])
    uplink = host.uplink_of(address.ip)
    if uplink is None:
        return Tables(problems=[f"no interface holds this node's address {address.ip}: VXLAN cannot send"])
    mtu = room(host, _OVERHEAD[address.version])
    tables = Tables(
        links={
            device: Vxlan(
                mac=host.vtep_mac,
                mtu=mtu,
                vni=form.vni,
                port=form.port,
                local=address.ip,
                parent=uplink.name,
            )
        }
    )
    tables.add(own_side(host, device, mtu))
    return tables


def known(host: Host, device: str, peers: Iterable[Peer], doubts: Container[Address]) -> Tables:
    return Tables()


def peer(host: Host, device: str, peer: Peer) -> Tables:
    own = host.outer
    destination = peer.address(own.version) if own else None
    if own is None or destination is None or peer.vtep_mac is None:
        wanted = f"IPv{own.version} address" if own else "underlay"
        return Tables(problems=[f"node {peer.name} has no {wanted} or VTEP MAC: VXLAN cannot reach it"])
    gateway = _gateway(peer, peer.vtep_mac)
    version = peer.prefixes[0].version
    if version == 6 and room(host, overhead(host)) < IPV6_MTU:
        return Tables()  # `local` has said why
    source = next((a for a in host.tunnel_addresses if a.version == version), None)
    route = Route(device=device, gateway=gateway, onlink=True, source=source)
    return Tables(
        routes={RouteKey(prefix, peer.metric): route for prefix in peer.prefixes},
        neighbours={NeighbourKey(device, gateway): peer.vtep_mac},
        fdb={FdbKey(device, peer.vtep_mac): destination},
    )


def _gateway(peer: Peer, vtep_mac: Mac) -> Address:
    """It only stands for a MAC.  A node that has too few addresses to take one for itself has none of its own."""
    if peer.prefixes[0].version == 6:
        return link_local(vtep_mac)
    return peer.tunnel_address(4) or min(peer.prefixes).network_address
