"""One pod's slice of a node's state: its host link and the rates it is held to, the route to each of its addresses, and its
neighbour entries.

ADD applies the slice of its pod, a pass applies those of all: one definition, two callers.  Neighbour entries are permanent,
so neither side ever asks by ARP or ND, and nothing that a pod sends can change where its packets go.
"""

from __future__ import annotations

import ipaddress

from netloom.calc import metrics
from netloom.calc.shaping import shaping
from netloom.calc.tables import Tables
from netloom.model.addresses import Address, Interface, Mac, host_prefix
from netloom.model.attachments import Attachment, Wiring
from netloom.model.desired import AddressKey, Bridge, NeighbourKey, Route, RouteKey, Veth

GATEWAYS: dict[int, Address] = {4: ipaddress.IPv4Address("169.254.1.1"), 6: ipaddress.IPv6Address("fe80::1")}
"""Routed wiring's gateway, the same in every pod: link-local, so it collides with nothing and is never routed."""

HOST_MAC = Mac("ee:ee:ee:ee:ee:ee")
"""The host's end of every routed pod, as Calico has it: the pod's neighbour entry holds for any host end."""

BRIDGE_MAC = Mac("0e:58:6c:6f:6f:6d")
"""Fixed, so that a bridge does not take the MAC of whichever port came last (0e:58, then "loom")."""

# A host link is closed to what IPv6 does by itself, and answers ARP for nobody.  Sources are checked by our own rules.
# Whether IPv4 forwards what comes from a link is the link's own switch, born as `conf.default` has it; IPv6 has one for all of them.
IPV6_SETTINGS = {"accept_ra": 0}
IPV4_SETTINGS = {"forwarding": 1, "rp_filter": 0, "send_redirects": 0, "route_localnet": 0, "proxy_arp": 0}


def pod(attachment: Attachment) -> Tables:
    tables = _bridged(attachment) if attachment.wiring is Wiring.BRIDGE else _routed(attachment)
    if attachment.bandwidth is not None:
        tables.add(shaping(attachment, attachment.bandwidth))
    return tables


def host_sysctls(interface: str) -> dict[str, str]:
    return ipv6_sysctls(interface) | {f"net/ipv4/conf/{interface}/{name}": str(value) for name, value in IPV4_SETTINGS.items()}


def ipv6_sysctls(interface: str) -> dict[str, str]:
    """Those that netlink does not take."""
    return {f"net/ipv6/conf/{interface}/{name}": str(value) for name, value in IPV6_SETTINGS.items()}


def _link(attachment: Attachment) -> Veth:
    return Veth(attachment.host_mac, attachment.mtu, attachment.alias, attachment.bridge)


def _routed(attachment: Attachment) -> Tables:
    tables = Tables(links={attachment.host_interface: _link(attachment)}, sysctls=host_sysctls(attachment.host_interface))
    for address in attachment.addresses:
        key = RouteKey(host_prefix(address.ip), metrics.POD[address.version])
        tables.routes[key] = Route(device=attachment.host_interface)
        tables.neighbours[NeighbourKey(attachment.host_interface, address.ip)] = attachment.mac
    return tables


def _bridged(attachment: Attachment) -> Tables:
    """The bridge stands with the gateway's address of each block that has a pod on it."""
    bridge = attachment.bridge or ""
    tables = Tables(
        links={attachment.host_interface: _link(attachment), bridge: Bridge(BRIDGE_MAC, attachment.mtu)},
        sysctls=host_sysctls(attachment.host_interface) | host_sysctls(bridge),
    )
    for address, gateway in zip(attachment.addresses, attachment.gateways, strict=True):
        tables.addresses[AddressKey(bridge, _on_wire(gateway, address))] = None
        tables.neighbours[NeighbourKey(bridge, address.ip)] = attachment.mac
    return tables


def _on_wire(gateway: Address, address: Interface) -> Interface:
    return ipaddress.ip_interface(f"{gateway}/{address.network.prefixlen}")
