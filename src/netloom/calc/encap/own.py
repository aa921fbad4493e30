"""What one node needs of its own side of a tunnel, whatever the tunnel is: addresses on the device, and settings for it."""

from __future__ import annotations

import ipaddress

from netloom.calc.tables import Tables
from netloom.model.addresses import IPV6_MTU, link_local
from netloom.model.desired import AddressKey
from netloom.model.host import Host


def room(host: Host, overhead: int) -> int:
    """Bytes of a pod's packet that fit into a tunnel's, on the way to every other node."""
    uplink = host.uplink_of(host.outer.ip) if host.outer else None
    return (host.mtu or (uplink.mtu if uplink else 0)) - overhead


def own_side(host: Host, device: str, mtu: int) -> Tables:
    """The node's tunnel addresses, so that node and remote pod see each other by the same address both ways."""
    tables = Tables(sysctls={f"net/ipv4/conf/{device}/forwarding": "1", f"net/ipv4/conf/{device}/rp_filter": "2"})
    speaks_ipv6 = host.ipv6 and mtu >= IPV6_MTU
    if host.ipv6 and not speaks_ipv6 and any(block.version == 6 for block in host.blocks):
        words = f"{device} has room for packets of {mtu} bytes, and IPv6 needs {IPV6_MTU}: no IPv6 pods of other nodes are reached; "
        tables.problems.append(words + f"give the interfaces towards the other nodes an MTU that is {IPV6_MTU - mtu} larger")
    if speaks_ipv6:
        tables.sysctls |= {f"net/ipv6/conf/{device}/accept_ra": "0", f"net/ipv6/conf/{device}/disable_ipv6": "0"}
    for own in (*host.tunnel_addresses, *((link_local(host.vtep_mac),) if host.vtep_mac else ())):
        if own.version == 6 and not speaks_ipv6:
            continue
        length = 64 if own.is_link_local else own.max_prefixlen
        tables.addresses[AddressKey(device, ipaddress.ip_interface(f"{own}/{length}"))] = None
    return tables
