"""Carried: what IPIP and UDP have in common.  A device stands in the route, as with any overlay; which node a packet goes to is not
in the route but in a table of the device's own, by the longest prefix.

    route     10.244.1.0/26 via 192.0.2.12 dev loom.ipip onlink
    tunnel    loom.ipip 10.244.1.0/26 → 192.0.2.12
    sender    loom.ipip 192.0.2.12

IPv6 prefixes go via the link-local address that the peer's VTEP MAC stands for, as with VXLAN: nobody asks for it, the device resolves
no neighbours.  Outer packets are of one family per cluster node: IPv4 where the node has an IPv4 address, else IPv6.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Container, Iterable
from dataclasses import replace

from netloom.calc.encap.own import own_side, room
from netloom.calc.encap.peer import Peer
from netloom.calc.tables import Tables
from netloom.model.addresses import IPV6_MTU, Address, host_prefix, link_local
from netloom.model.desired import (
    AddressKey,
    Carrier,
    Catcher,
    Engine,
    Finisher,
    Link,
    Route,
    RouteKey,
    SenderKey,
    Tunnel,
    TunnelKey,
    catcher,
    finishers,
)
from netloom.model.forms import Form
from netloom.model.host import Host

IP_HEADER = {4: 20, 6: 40}
_UDP_HEADER = {Carrier.IPIP: 0, Carrier.UDP: 8}


def local(host: Host, form: Form, carrier: Carrier, device: str, overhead: int) -> Tables:
    engine = host.engines.get(carrier)
    address = host.outer
    if address is None or host.vtep_mac is None:
        return Tables(problems=[f"this node has no underlay address: {form.method.value} cannot send"])
    if engine is None:
        return Tables(problems=[f"nothing on this node can carry {form.method.value}: its kernel allows no eBPF programs"])
    if engine is Engine.KERNEL and address.version == 6:
        return Tables(problems=["the kernel's IPIP needs an IPv4 address of this node, which has none"])
    uplink = host.uplink_of(address.ip)
    if uplink is None:
        return Tables(problems=[f"no interface holds this node's address {address.ip}: {form.method.value} cannot send"])
    mtu = room(host, overhead)
    uplinks = tuple(sorted(u.name for u in host.uplinks.values() if u is uplink or u.default or u.name in host.ways))
    addresses = (*(a.ip for a in host.addresses), *host.former)
    own = (*host.blocks, *map(host_prefix, addresses))
    also = tuple(a for a in addresses if a.version == address.version and a != address.ip)
    early = host.early and not any(u.whole for u in host.uplinks.values() if u.name in uplinks)
    tunnel = Tunnel(host.vtep_mac, mtu, carrier, engine, address.ip, form.port, uplinks, early=early, also=also)
    tables = Tables(
        links={device: tunnel},
        tunnels={TunnelKey(device, prefix): address.ip for prefix in own},  # nobody else sends in our name
    )
    tables.add(own_side(host, device, mtu))
    if engine is Engine.EBPF:  # its program looks the way to a peer up as if it came from there, which needs forwarding
        tables.sysctls[f"net/ipv{address.version}/conf/lo/forwarding"] = "1"
    if engine is Engine.KERNEL and also:
        tables.add(_caught(host, device, mtu))
    return tables


def _caught(host: Host, device: str, mtu: int) -> Tables:
    """The kernel's own device takes in what comes to one address; one that has none takes what is left.  An address of its own it needs
    all the same: reverse path checks, however loose, believe nothing that comes by a device without."""
    name = catcher(device)
    own = [ipaddress.ip_interface(f"{a}/32") for a in host.tunnel_addresses if a.version == 4]
    return Tables(
        links={name: Catcher(mtu)},
        addresses={AddressKey(name, each): None for each in own},
        sysctls={f"net/ipv4/conf/{name}/forwarding": "1", f"net/ipv4/conf/{name}/rp_filter": "2"},
    )


def known(host: Host, peers: Iterable[Peer], device: str, doubts: Container[Address]) -> Tables:
    """A packet from one of a node's prefixes, or from its own address, has to come from that node, whatever pool it goes to.  What is
    nobody's comes from outside the cluster, which any node may pass on."""
    tables, own = Tables(), host.outer
    for peer in peers:
        destination = peer.address(own.version) if own else None
        if destination is not None:
            addresses = (host_prefix(address) for address in peer.addresses if address not in doubts)
            tables.tunnels |= {TunnelKey(device, prefix): destination for prefix in (*peer.prefixes, *addresses)}
            tables.senders[SenderKey(device, destination)] = None
            former = (a for a in peer.former if a not in doubts and a.version == destination.version)
            tables.senders |= {SenderKey(device, address): destination for address in former}
    return tables


def finished(host: Host, device: str, tunnel: Link) -> Tables:
    """For peers that are processes.  Between containers of one machine there is no network card, and what our programs put into a
    datagram would come there with an unfinished checksum, and many packets as one.  Kernels, ours and others', know what to do with
    that; a process that reads and writes does not (reference: bench/udp_loop.c, Flannel's `udp`)."""
    if not isinstance(tunnel, Tunnel) or tunnel.engine is not Engine.EBPF:
        return Tables()
    if not any(u.unfinished for u in host.uplinks.values() if u.name in tunnel.uplinks):
        return Tables()
    enter, leave = finishers(device)
    return Tables(links={device: replace(tunnel, finished=True), enter: Finisher(leave), leave: Finisher(enter)})


def peer(host: Host, peer: Peer, carrier: Carrier, device: str) -> Tables:
    own, name = host.outer, carrier.value.upper()
    if own is None or carrier not in host.engines:
        return Tables()  # `local` has said why
    destination = peer.address(own.version)
    if destination is None:
        return Tables(problems=[f"node {peer.name} has no IPv{own.version} address: {name} cannot reach it"])
    version = peer.prefixes[0].version
    if version == 6 and room(host, IP_HEADER[own.version] + _UDP_HEADER[carrier]) < IPV6_MTU:
        return Tables()  # `local` has said why
    if host.engines[carrier] is Engine.KERNEL and (version, own.version) != (4, 4):
        return Tables(problems=[f"the kernel's {name} carries IPv4 in IPv4 alone: no IPv{version} pods of node {peer.name}"])
    gateway = _gateway(peer, destination, version)
    if gateway is None:
        return Tables(problems=[f"node {peer.name} has no VTEP MAC: {name} cannot reach its IPv{version} pods"])
    source = next((a for a in host.tunnel_addresses if a.version == version), None)
    route = Route(device=device, gateway=gateway, onlink=True, source=source)
    return Tables(routes={RouteKey(prefix, peer.metric): route for prefix in peer.prefixes})


def _gateway(peer: Peer, destination: Address, version: int) -> Address | None:
    """In the prefix's own family, as a route wants it.  For IPv6 never the node's own address: the kernel finds it on the uplink and
    takes it for no neighbour of another device, onlink or not."""
    if version == 6:
        return link_local(peer.vtep_mac) if peer.vtep_mac else None
    return destination if destination.version == 4 else peer.tunnel_address(4)
