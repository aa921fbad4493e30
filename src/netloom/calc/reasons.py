"""Reasons: why a route to another node's pods is as it is, in words, from what the calculation went by.

VXLAN, by pool default
neighbour on eth0
neighbour on eth0: VXLANCrossSubnet tunnels only what crosses a router
other subnet: a router stands between
VXLAN:4096:4789 until both nodes are ready for IPIP
until BIRD leads there
"""

from __future__ import annotations

from dataclasses import dataclass

from netloom.calc.forms import wanted
from netloom.model.addresses import Prefix, contains
from netloom.model.desired import Carrier, Desired, Link, Route, Tunnel, Vxlan
from netloom.model.forms import Form, Method, Use
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


def reason(snapshot: Snapshot, host: Host, prefix: Prefix, route: Route, node: Node | None, desired: Desired) -> Reason:
    """Of a route of `desired` that leads to a node."""
    pool = next((p for p in snapshot.pools.values() if contains(p.spec.cidr, prefix)), None)
    used = form_of(desired.links.get(route.device))
    if pool is None:
        return Reason("", used, "its pool is gone")
    use = desired.uses.get((node.name, pool.name)) if node else None
    return Reason(pool.name, used, _why(snapshot, host, pool, prefix, route, node, used, use))


def form_of(link: Link | None) -> Form:
    """What leaves by it."""
    match link:
        case Vxlan():
            return Form(Method.VXLAN, link.vni, link.port)
        case Tunnel():
            return Form(_METHODS[link.carrier], port=link.port)
    return Form(Method.NONE)


def _why(
    snapshot: Snapshot,
    host: Host,
    pool: IPPool,
    prefix: Prefix,
    route: Route,
    node: Node | None,
    used: Form,
    use: Use | None,
) -> str:
    if prefix in host.lasting or prefix in host.standby:
        return "until BIRD leads there"
    encapsulation = pool.spec.encapsulation
    want = wanted(snapshot, host, pool)
    expected = Form(Method.NONE) if encapsulation.cross_subnet and _is_near(host, node, prefix.version) else want
    if used != expected:
        return f"{_name(used)} instead of {_name(expected)}: {use.why if use and use.why else 'the change is under way'}"
    if used.method is Method.NONE:
        also = f": {encapsulation.value} tunnels only what crosses a router" if encapsulation.cross_subnet else ""
        return f"neighbour on {route.device}{also}"
    if encapsulation.cross_subnet:
        far = host.far.get(node.name) if node else None
        return far or "other subnet: a router stands between"
    return f"{encapsulation.value}, by pool {pool.name}"


def _is_near(host: Host, node: Node | None, version: int) -> bool:
    address = node.spec.address(version) if node and node.name not in host.far else None
    return address is not None and host.uplink_towards(address.ip) is not None


def _name(form: Form) -> str:
    return "plain routes" if form.method is Method.NONE else str(form)
