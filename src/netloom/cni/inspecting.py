"""Inspecting: whether everything is as ADD left it, in words that name what is not.

The node's side is compared with the pod's slice (`calc.pod`), which a pass repairs as well; the pod's side with what wiring made there.
The pod's side is others' too: plugins behind us in the chain change it and say so in their result (`prevResult`).  A route that is
there besides ours is nobody's damage, one that takes the place of ours is, unless that result knows it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from netloom.calc.tables import Tables
from netloom.cni.results import ResultRoute
from netloom.cni.second import missing
from netloom.cni.wiring import pod_routes
from netloom.dataplane import netns
from netloom.dataplane.netlink import Device, Netlink, addresses_of, device
from netloom.dataplane.netlink.tables import (
    RT_TABLE_MAIN,
    SeenRoute,
    get_neighbours,
    get_routes_by,
    is_permanent,
    parse_neighbour,
    see_route,
)
from netloom.dataplane.sysctls import Sysctls
from netloom.model.addresses import Address, Mac
from netloom.model.attachments import Attachment, Wiring
from netloom.model.desired import Bridge, Route, RouteKey, Veth

_FORWARDING = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}
_FOR_PORTS = "/route_localnet"
"""Which ports are published by way of an interface decides, not one pod."""


def inspect(
    kernel: Netlink,
    attachment: Attachment,
    part: Tables,
    pod: int,
    mac: Mac | str | None = None,
    told: Collection[ResultRoute] | None = None,
) -> list[str]:
    """What is not as ADD left it; empty if all is well.  `part`: the pod's slice.  `mac`: what the interface should have now, and
    `told`: the routes that stand, as plugins behind us have it; None: as we left them."""
    host = device(kernel, attachment.host_interface)
    if host is None:
        return [f"the host interface {attachment.host_interface} is gone"]
    found = [*_node(kernel, attachment, part, host)]
    with netns.entered(pod), Netlink(buffer=0) as inside:
        return found + _sandbox(inside, attachment, host, mac or attachment.mac, told)


# the node


def _node(kernel: Netlink, attachment: Attachment, part: Tables, host: Device) -> Iterator[str]:
    """In the node's namespace, which the calling thread is in."""
    at = {attachment.host_interface: host}
    for name, link in part.links.items():
        have = at.get(name) or device(kernel, name)
        if have is None:
            yield f"{name} is gone"
            continue
        at[name] = have
        if isinstance(link, Veth):
            yield from _host_end(have, link)
        elif isinstance(link, Bridge):
            yield from _state(f"the bridge {name}", have, link.mac)
    if attachment.bridge in at and host.master != at[attachment.bridge].index:
        yield f"{attachment.host_interface} is no port of {attachment.bridge}"
    elif attachment.bridge and not host.hairpin:
        yield f"{attachment.host_interface} sends nothing back that it has sent itself: hairpin is off"
    yield from _tables(kernel, part, at)
    switches = part.sysctls | {_FORWARDING[a.version]: "1" for a in attachment.addresses}
    wrong = Sysctls().changes({name: value for name, value in switches.items() if not name.endswith(_FOR_PORTS)})
    yield from (f"{name} is not {value}" for name, value in wrong.put.items())


def _host_end(have: Device, link: Veth) -> Iterator[str]:
    yield from _state(f"the host interface {have.name}", have, link.mac)
    if have.mtu != link.mtu:
        yield f"{have.name} has MTU {have.mtu}, expected {link.mtu}"
    if have.alias != link.alias:
        yield f"{have.name} does not say any more whose it is: its alias is {have.alias!r}"
    if have.master and link.bridge is None:
        yield f"{have.name} was put on a bridge"


def _state(what: str, have: Device, mac: Mac) -> Iterator[str]:
    if not have.up:
        yield f"{what} is down"
    if have.mac != mac:
        yield f"{what} has MAC {have.mac}, expected {mac}"


def _tables(kernel: Netlink, part: Tables, at: dict[str, Device]) -> Iterator[str]:
    """Addresses, routes and neighbours of the pod's slice."""
    for name, have in at.items():
        wanted = [key.address for key in part.addresses if key.device == name]
        held = addresses_of(kernel, have.index) if wanted else []
        yield from (f"{name} has lost {address}" for address in wanted if address not in held)
        for version in (4, 6):
            routes = [key for key, r in part.routes.items() if r.device == name and key.prefix.version == version]
            seen = _routes(kernel, version, have.index) if routes else []
            for key in routes:
                if not any((r.prefix, r.metric, r.table, r.unicast) == (*key, RT_TABLE_MAIN, True) for r in seen):
                    yield f"the node has no route to {key.prefix} by {name}"
            macs = {k.address: mac for k, mac in part.neighbours.items() if k.device == name and k.address.version == version}
            yield from _neighbours(kernel, f"the node's {name}", have.index, macs)


# the sandbox


def _sandbox(
    inside: Netlink, attachment: Attachment, host: Device, mac: str, told: Collection[ResultRoute] | None
) -> list[str]:
    """Inside the pod's namespace."""
    name = attachment.key.interface
    end = device(inside, name)
    if end is None:
        return [f"there is no {name} in the sandbox"]
    found = [] if end.up else [f"{name} is down"]
    if end.mac != mac:
        found.append(f"{name} has MAC {end.mac}, expected {mac}")
    if end.peer != host.index:
        found.append(f"{name} is not the other end of {attachment.host_interface}")
    held = addresses_of(inside, end.index)
    found += [f"{name} has lost {address}" for address in attachment.addresses if address not in held]
    routes = [r for version in sorted({a.version for a in attachment.addresses}) for r in _routes(inside, version)]
    for key, route in pod_routes(attachment).items():
        found += _route(attachment, key, route, end.index, routes, told)
    found += missing(inside, attachment, end.index, routes)
    if attachment.wiring is Wiring.ROUTED:
        for gateway in attachment.gateways:
            found += _neighbours(inside, name, end.index, {gateway: attachment.host_mac}, "its gateway ")
    return found


def _route(
    attachment: Attachment,
    key: RouteKey,
    route: Route,
    index: int,
    routes: Collection[SeenRoute],
    told: Collection[ResultRoute] | None,
) -> list[str]:
    """What has taken the place of this route, if anything has.  Of several to one prefix the kernel takes that of the least metric."""
    version, default = key.prefix.version, not key.prefix.prefixlen
    same = [r for r in routes if r.table == RT_TABLE_MAIN and r.prefix == key.prefix]
    if default:
        words = f"IPv{version} default route"
        known = [r.gw for r in told if r.dst.network == key.prefix] if told is not None else [route.gateway]
        if version in attachment.secondary or route.gateway not in known:
            return []  # it never stood, or a plugin behind us has taken it away
        same = [r for r in same if r.gateway == route.gateway or r.gateway not in known]
    else:
        words = f"route to its gateway {key.prefix.network_address}"
        if any(r.unicast and r.gateway is None for r in same):
            return []  # of whichever interface: all of ours have the same gateway
    first = min(same, key=lambda r: r.metric, default=None)
    if first is None:
        return [f"the sandbox has no {words}"]
    if first.unicast and (first.index, first.gateway) == (index, route.gateway):
        return []
    way = f"via {first.gateway or 'no gateway'}" if first.unicast else "nowhere"
    wanted = f"via {route.gateway} dev {route.device}" if default else f"dev {route.device}"
    return [f"the sandbox's {words} leads {way}, expected {wanted}"]


# both


def _routes(kernel: Netlink, version: int, index: int = 0) -> list[SeenRoute]:
    return [seen for body in kernel.dump(get_routes_by(version, index)) if (seen := see_route(body)) is not None]


def _neighbours(kernel: Netlink, who: str, index: int, wanted: Mapping[Address, Mac], what: str = "") -> Iterator[str]:
    """Permanent entries, of one family: nobody answers who asks for these MACs."""
    if not wanted:
        return
    version = next(iter(wanted)).version
    bodies = (body for body in kernel.dump(get_neighbours(version, index)) if is_permanent(body))
    known = {address: mac for _, address, mac in map(parse_neighbour, bodies)}
    for address, mac in wanted.items():
        if address not in known:
            yield f"{who} has forgotten the MAC of {what}{address}"
        elif known[address] != mac:
            yield f"{who} takes {known[address]} for the MAC of {what}{address}, expected {mac}"
