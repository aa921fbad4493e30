"""The underlay: namespaces for switches, routers, nodes and pods, and the cables between them.

A switch is a bridge in a namespace of its own, so the machine's own network never sees the lab.  A router forwards; a node
does not, until its agent says so.  Every sysctl that matters is set in every namespace: some kernels hand the values of the
first namespace on to new ones, and a lab must be the same everywhere.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping

from netloom.dataplane.netlink import links, tables
from netloom.dataplane.netlink.connection import Netlink
from netloom.dataplane.netlink.wire import message
from netloom.errors import DataplaneError
from netloom.lab.inside import new_namespace
from netloom.lab.record import NAMESPACES, namespace_path
from netloom.lab.topology import StaticRoute, Switch, Topology, cables, static_routes
from netloom.model.addresses import Mac, mac_text
from netloom.model.desired import Route, RouteKey

_RTPROT_STATIC = 4  # linux/rtnetlink.h: made by whoever administers the machine; never taken for the agent's
_LAST_RESORT = 1 << 16
"""Metric of a router's static routes behind those that BGP tells it."""


def _stack(*, forwarding: int, rp_filter: int) -> Mapping[str, str]:
    values = {
        "ipv4/conf/{}/forwarding": forwarding,
        "ipv4/conf/{}/rp_filter": rp_filter,
        "ipv4/conf/{}/proxy_arp": 0,
        "ipv6/conf/{}/disable_ipv6": 0,
        "ipv6/conf/{}/forwarding": forwarding,
        "ipv6/conf/{}/accept_ra": 0,
        "ipv6/conf/{}/accept_dad": 0,
    }
    return {f"net/{name.format(which)}": str(value) for which in ("all", "default") for name, value in values.items()}


_SWITCH = {
    **{f"net/ipv6/conf/{which}/disable_ipv6": "1" for which in ("all", "default")},
    **{f"net/bridge/bridge-nf-call-{tables}": "0" for tables in ("iptables", "ip6tables", "arptables")},
}
_ROUTER = _stack(forwarding=1, rp_filter=0)
_NODE = _stack(forwarding=0, rp_filter=1)  # as strict as distributions ship it
_POD = _stack(forwarding=0, rp_filter=0)


def build(topology: Topology) -> None:
    """Everything but the pods' interfaces, which the CNI plugin makes.  What fails half way is left for `down`.
    Raises DataplaneError."""
    namespaces: dict[str, int] = {}
    try:
        os.makedirs(NAMESPACES, exist_ok=True)
        for parts, sysctls in (
            (topology.switches, _SWITCH),
            (topology.routers, _ROUTER),
            (topology.nodes, _NODE),
            (topology.etcd, _POD),
            (topology.pods, _POD),
        ):
            for part in parts:
                path = namespace_path(topology.name, part.name)
                namespaces[part.name] = new_namespace(topology.name, path, sysctls)
        for switch in topology.switches:
            _plug_in(topology, switch, namespaces)
        speakers = {router.name for router in topology.routers if router.as_number}
        for place, routes in static_routes(topology).items():
            _route(namespaces[place], routes, _LAST_RESORT if place in speakers else 0)
    except OSError as e:
        raise DataplaneError("underlay", topology.name, str(e), errno=e.errno or 0) from e
    finally:
        for descriptor in namespaces.values():
            os.close(descriptor)


def _plug_in(topology: Topology, switch: Switch, namespaces: Mapping[str, int]) -> None:
    """The bridge, and every cable into it: the port here, the other end in its place, with addresses and up."""
    with Netlink(namespaces[switch.name]) as here:
        here.transact(links.new_bridge(switch.name, mac=_mac(topology, switch.name, ""), mtu=topology.mtu, up=True))
        bridge = links.parse_link(here.ask(links.get_link(switch.name))).index
        for cable in cables(topology):
            if cable.switch != switch.name:
                continue
            mac, peer_mac = (_mac(topology, cable.place, cable.interface + end) for end in ("-port", ""))
            here.transact(
                links.new_veth(
                    cable.place,
                    cable.interface,
                    namespaces[cable.place],
                    mac=mac,
                    peer_mac=peer_mac,
                    mtu=topology.mtu,
                    master=bridge,
                    up=True,
                )
            )
            with Netlink(namespaces[cable.place]) as there:
                index = links.parse_link(there.ask(links.get_link(cable.interface))).index
                there.transact(links.set_link(index, up=True), *(tables.put_address(index, a) for a in cable.addresses))


def _route(namespace: int, routes: tuple[StaticRoute, ...], metric: int) -> None:
    with Netlink(namespace) as netlink:
        for prefix, gateway in routes:
            body = bytearray(tables.encode_route(RouteKey(prefix, metric), Route(gateway=gateway), 0))
            body[5] = _RTPROT_STATIC  # rtm_protocol
            netlink.transact(message(tables.RTM_NEWROUTE, tables.PUT, bytes(body)))


def _mac(topology: Topology, place: str, interface: str) -> Mac:
    """The same in every lab of this name: locally administered (second bit of the first octet), unicast."""
    digest = hashlib.sha256(f"{topology.name}/{place}/{interface}".encode()).digest()
    return mac_text(bytes((0x02,)) + digest[:5])
