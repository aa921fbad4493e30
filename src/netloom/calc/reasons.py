"""Reasons: why a route to another node's pods is as it is, in words, from what the calculation went by.

VXLAN, by pool default
neighbour on eth0
neighbour on eth0: VXLANCrossSubnet tunnels only what crosses a router
other subnet: a router stands between
VXLAN:4096:4789 until both nodes are ready for IPIP
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from netloom.calc.forms import wanted
from netloom.model.addresses import Prefix, contains
from netloom.model.desired import Carrier, Link, Route, Tunnel, Vxlan
from netloom.model.forms import Form, Method
from netloom.model.host import Host
from netloom.model.resources import IPPool, Node
from netloom.model.snapshot import Snapshot

_METHODS = {Carrier.IPIP: Method.IPIP, Carrier.UDP: Method.UDP}


@dataclass(frozen=True, slots=True)
class Reason:
    """`form`: how packets cross by this route."""

    pool: str
    form: Form
    why: str


def reason(
    snapshot: Snapshot, host: Host, prefix: Prefix, route: Route, node: Node | None, links: Mapping[str, Link]
) -> Reason:
    """Of a route of `Desired` that leads to a node."""
    pool = next((p for p in snapshot.pools.values() if contains(p.spec.cidr, prefix)), None)
    used = form_of(links.get(route.device))
    if pool is None:
        return Reason("", used, "its pool is gone")
    return Reason(pool.name, used, _why(snapshot, host, pool, prefix, route, node, used))


def form_of(link: Link | None) -> Form:
    """What leaves by it."""
    match link:
        case Vxlan():
            return Form(Method.VXLAN, link.vni, link.port)
        case Tunnel():
            return Form(_METHODS[link.carrier], port=link.port)
    return Form(Method.NONE)


def _why(snapshot: Snapshot, host: Host, pool: IPPool, prefix: Prefix, route: Route, node: Node | None, used: Form) -> str:
    encapsulation = pool.spec.encapsulation
    want = wanted(snapshot, host, pool)
    address = node.spec.address(prefix.version) if node else None
    near = address is not None and host.uplink_towards(address.ip) is not None
    expected = Form(Method.NONE) if encapsulation.cross_subnet and near else want
    if used != expected:
        return f"{_name(used)} until both nodes are ready for {_name(expected)}"
    if used.method is Method.NONE:
        also = f": {encapsulation.value} tunnels only what crosses a router" if encapsulation.cross_subnet else ""
        return f"neighbour on {route.device}{also}"
    if encapsulation.cross_subnet:
        return "other subnet: a router stands between"
    return f"{encapsulation.value}, by pool {pool.name}"


def _name(form: Form) -> str:
    return "plain routes" if form.method is Method.NONE else str(form)
