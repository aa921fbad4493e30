"""Facts: what this machine's kernel says of its own interfaces, as the values that a calculation takes."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress

from netloom.dataplane import offloads
from netloom.dataplane.netlink import Netlink, NetlinkError, device_names, devices, get_addresses, parse_address
from netloom.dataplane.netlink.links import get_links, parse_link
from netloom.dataplane.netlink.tables import (
    SeenRoute,
    all_ways,
    default_ways,
    get_routes,
    is_deprecated,
    is_passing,
    look_up,
    see_route,
)
from netloom.model.addresses import Address, Interface
from netloom.model.attachments import PREFIX
from netloom.model.forms import Form, Method, parse_form
from netloom.model.host import Uplink

_LOOPBACK = "lo"
_UNFINISHED = frozenset(("veth", "netkit", "macvlan", "ipvlan"))
"""Kinds of interfaces behind which there may be no network card, but another container of this machine."""


def read_uplinks(kernel: Netlink, bridges: Collection[str], default: Collection[str]) -> dict[str, Uplink]:
    """Interfaces that are not ours, with addresses that stay before those that pass.  `bridges`: ours under names of the users'
    choice; `default`: those of default routes."""
    held: dict[int, list[Interface]] = {}
    deprecated: dict[int, list[Address]] = {}
    for version in (4, 6):
        for body in sorted(kernel.dump(get_addresses(version)), key=lambda body: (is_deprecated(body), is_passing(body))):
            index, address, _ = parse_address(body)
            held.setdefault(index, []).append(address)
            if is_deprecated(body):
                deprecated.setdefault(index, []).append(address.ip)
    return {
        link.name: Uplink(
            link.name,
            link.mtu,
            tuple(held.get(link.index, ())),
            link.up,
            link.name in default,
            _accept_ra(link.name),
            link.kind in _UNFINISHED,
            frozenset(deprecated.get(link.index, ())),
            link.kind in _UNFINISHED and _leaves_cutting(link.name),
        )
        for link in devices(kernel)
        if not _ours(link.name, bridges)
    }


def read_tunnels(kernel: Netlink) -> dict[str, Form]:
    """Our VXLAN devices, and what each carries."""
    found = {}
    for link in map(parse_link, kernel.dump(get_links("vxlan"))):
        if link.vxlan is not None and link.name.startswith(PREFIX):
            found[link.name] = Form(Method.VXLAN, link.vxlan.vni, link.vxlan.port)
    return found


def read_labelled_tunnels(kernel: Netlink) -> dict[str, Form]:
    """Those that do not show what they carry, by their aliases; for a start, since all links have to be asked."""
    found = {}
    for link in devices(kernel):
        if link.name.startswith(PREFIX) and link.alias.startswith("UDP:"):
            with suppress(ValueError):  # somebody else's words
                found[link.name] = parse_form(link.alias)
    return found


def default_devices(kernel: Netlink) -> list[str]:
    """Interfaces of default routes, IPv4 first, each family by metric; of a route with several next hops all of them."""
    names = device_names(kernel)
    found: list[tuple[int, int, str]] = []
    for version in (4, 6):
        for body in kernel.dump(get_routes(version, protocol=0)):
            if (ways := default_ways(body)) is not None:
                metric, indexes = ways
                found += [(version, metric, names[index]) for index in indexes if index in names]
    return list(dict.fromkeys(device for _, _, device in sorted(found, key=lambda each: each[:2])))


def ways_to(kernel: Netlink, destination: Address) -> tuple[Collection[int], int]:
    """Indexes of the interfaces by which this host's packets may go there, and the route's own MTU; none where there is no way."""
    try:
        body = kernel.ask(look_up(destination, every_way=True))
    except NetlinkError:
        return (), 0
    route = see_route(body)
    return (all_ways(body), route.mtu) if route is not None and route.unicast else ((), 0)


def way_to(kernel: Netlink, destination: Address) -> SeenRoute | None:
    """The route that this host's own packets take there; None where there is none."""
    try:
        return see_route(kernel.ask(look_up(destination)))
    except NetlinkError:
        return None


def _ours(name: str, bridges: Collection[str]) -> bool:
    return name == _LOOPBACK or name.startswith(PREFIX) or name in bridges


def _leaves_cutting(name: str) -> bool:
    """Both ends of a cable are taken to be alike."""
    with suppress(OSError):  # it has just gone
        return offloads.leaves_cutting(name)
    return False


def _accept_ra(name: str) -> int:
    return int(next(iter(_lines(f"/proc/sys/net/ipv6/conf/{name}/accept_ra")), "0"))


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii") as file:
            return file.readlines()
    except FileNotFoundError:  # a kernel without this family, or an interface that has just gone
        return []
