"""Wiring: a pod's interface, from nothing to carrying packets, in five sends.

    host   veth, its other end born inside the pod's namespace with its final name      (down: nothing can pass)
    host   the rates that the link is held to, if any were asked for
    host   sysctls, before the link is up, so that no router advertisement slips in
    host   up, the pod's slice of routes and neighbours                                 (closed: no source is admitted yet)
    pod    sysctls, link up, addresses, the gateway as permanent neighbour, routes

Never by moving a link between namespaces, which costs 20 ms.  Both ends get the same index, chosen here from the attachment's
sequence number, so nothing has to be asked in between.

The first interface of a pod leads out: a default route that is there stays.

`routed`: the pod holds /32 or /128 and sends everything to a link-local gateway, which every host end answers for by its MAC.
`bridge`: the host end is a port of a bridge that holds the block's gateway address, and the pod's address has the block's length.
In a network with a pool of its own both are the pool's; where that is internal, the pod has no default route.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import time

from netloom.calc.pods import BRIDGE_MAC, GATEWAYS, IPV4_SETTINGS, host_sysctls, ipv6_sysctls
from netloom.calc.tables import Tables
from netloom.cni.limiting import limit
from netloom.dataplane import netns
from netloom.dataplane.netlink import (
    Device,
    Netlink,
    add_route,
    addresses_of,
    device,
    get_link,
    is_local,
    new_bridge,
    new_veth,
    parse_link,
    put_address,
    put_neighbour,
    put_route,
    set_hairpin,
    set_link,
)
from netloom.dataplane.netlink.tables import get_neighbours, parse_neighbour
from netloom.dataplane.sysctls import speaks_ipv6, write_sysctls
from netloom.errors import DataplaneError
from netloom.model.addresses import host_prefix
from netloom.model.attachments import Attachment, Wiring
from netloom.model.desired import Bridge, NeighbourKey, Route, RouteKey

_FIRST_INDEX = 1 << 30  # above what a kernel gives out by itself in a boot: it counts up from 1
_INDEXES = 1 << 29
_LOOPBACK_UP = set_link(1, up=True)
_INTAKE = 0.05  # seconds
_POD_METRIC = {4: 0, 6: 1024}
_DEFAULT = {
    version: RouteKey(ipaddress.ip_network(text), _POD_METRIC[version]) for version, text in ((4, "0.0.0.0/0"), (6, "::/0"))
}
_TO_GATEWAY = {version: RouteKey(host_prefix(gateway), _POD_METRIC[version]) for version, gateway in GATEWAYS.items()}


def attach(kernel: Netlink, attachment: Attachment, part: Tables, pod: int, home: int) -> None:
    """Makes everything of `part` (the pod's slice) and the pod's inside.  Raises DataplaneError, then `device` says what is left.

    `kernel`: a socket in the node's namespace, which the calling thread is in and `home` is a descriptor of.  `pod`: one of the pod's.
    """
    index = index_of(attachment)
    _host_end(kernel, attachment, part, pod, index)
    with netns.entered(pod, home):
        _pod_end(attachment, index)
    # an end that came up drops packets until the kernel has looked after its carrier; asking for the link makes it do so now
    kernel.ask(get_link(attachment.host_interface))


def index_of(attachment: Attachment) -> int:
    """Of both ends."""
    return _FIRST_INDEX + attachment.sequence % _INDEXES


def _host_end(kernel: Netlink, attachment: Attachment, part: Tables, pod: int, index: int) -> None:
    name = attachment.host_interface
    devices = {name: index}
    master = 0
    if attachment.bridge:
        master = devices[attachment.bridge] = _bridge(kernel, attachment.bridge, part)
    kernel.transact(
        new_veth(
            name,
            attachment.key.interface,
            pod,
            mac=attachment.host_mac,
            peer_mac=attachment.mac,
            mtu=attachment.mtu,
            index=index,
            peer_index=index,
            master=master,
        ),
        set_link(index, alias=attachment.alias, generates=_no_generation(attachment.mtu), ipv4=IPV4_SETTINGS),
        *((set_hairpin(index, True),) if master else ()),
    )
    if part.shaping:
        limit(kernel, attachment, part, index, index + _INDEXES)
    write_sysctls(ipv6_sysctls(name))
    kernel.transact(
        set_link(index, up=True),
        *(put_address(devices[key.device], key.address) for key in part.addresses),
        *(put_neighbour(devices[key.device], key.address, mac) for key, mac in part.neighbours.items()),
        *(put_route(key, route, devices[route.device]) for key, route in part.routes.items()),
    )


def _bridge(kernel: Netlink, name: str, part: Tables) -> int:
    """The bridge's index; it is made if it is not there.  One that somebody else made is refused: a pass would give it another MAC
    and MTU, and it may be what the host itself is connected by.  Ours are known by their MAC."""
    found, wanted = device(kernel, name), part.links[name]
    assert isinstance(wanted, Bridge)
    if found is None:
        kernel.transact(new_bridge(name, mac=wanted.mac, mtu=wanted.mtu))
        found = parse_link(kernel.ask(get_link(name)))
        write_sysctls(host_sysctls(name))
        kernel.transact(set_link(found.index, generates=_no_generation(wanted.mtu), up=True))
    elif reason := not_ours(found):
        raise DataplaneError("links", name, reason)
    return found.index


def not_ours(found: Device) -> str | None:
    """Why this link cannot be a bridge of ours; None if it is one."""
    if found.kind != "bridge":
        return f"is a {found.kind or 'hardware'} interface, not a bridge"
    if found.mac != BRIDGE_MAC:
        return f"is a bridge that somebody else made (its MAC is {found.mac}, not {BRIDGE_MAC})"
    return None


def _no_generation(mtu: int) -> bool | None:
    """For `set_link(generates=...)`: the kernel refuses the question where there is no IPv6."""
    return False if speaks_ipv6(mtu) else None


def _pod_end(attachment: Attachment, index: int) -> None:
    """Inside the pod's namespace."""
    name = attachment.key.interface
    versions = {a.version for a in attachment.addresses}
    if 6 in versions:
        write_sysctls({f"net/ipv6/conf/{name}/disable_ipv6": "0", f"net/ipv6/conf/{name}/accept_ra": "0"})
    gateways = [NeighbourKey(name, gateway) for gateway in attachment.gateways if attachment.wiring is Wiring.ROUTED]
    with Netlink(buffer=0) as kernel:
        requests = [
            _LOOPBACK_UP,
            *((set_link(index, generates=False),) if 6 in versions else ()),
            set_link(index, up=True),
            *(put_address(index, address) for address in attachment.addresses),
            *(put_neighbour(index, key.address, attachment.host_mac) for key in gateways),
        ]
        routes = [add_route(key, route, index) for key, route in pod_routes(attachment).items()]
        for place, error in kernel.send_many(requests + routes).items():
            if place < len(requests) or error.errno != errno.EEXIST:
                raise error
        _wait_for_intake(kernel, attachment)


def _wait_for_intake(kernel: Netlink, attachment: Attachment) -> None:
    """Until packets to the pod's addresses are taken in: for IPv6 a kernel worker has to have been at it.  Some 20 µs; a machine
    that is too busy for it in 50 ms loses a first packet, which is no reason to refuse the pod."""
    deadline = time.monotonic() + _INTAKE
    for address in attachment.addresses:
        while address.version == 6 and not is_local(kernel, address.ip) and time.monotonic() < deadline:
            time.sleep(0)


def pod_routes(attachment: Attachment) -> dict[RouteKey, Route]:
    """A default route per family where there is a way out, and in routed wiring the way to its gateway, as `ip route` shows it inside the pod."""
    name = attachment.key.interface
    routed = attachment.wiring is Wiring.ROUTED
    found: dict[RouteKey, Route] = {}
    for address, gateway in zip(attachment.addresses, attachment.gateways, strict=True):
        version = address.version
        if routed:
            found[_TO_GATEWAY[version]] = Route(device=name)
        if attachment.leads_out:
            found[_DEFAULT[version]] = Route(device=name, gateway=gateway, onlink=routed)
    return found


def inspect(kernel: Netlink, attachment: Attachment, pod: int, mac: str) -> list[str]:
    """What is not as ADD left it, in words; empty if all is well.  `mac`: what the interface should have now, since a later
    plugin in the chain may have changed it."""
    name = attachment.key.interface
    host = device(kernel, attachment.host_interface)
    if host is None:
        return [f"the host interface {attachment.host_interface} is gone"]
    found = [] if host.up else [f"the host interface {attachment.host_interface} is down"]
    with netns.entered(pod), Netlink(buffer=0) as inside:
        end = device(inside, name)
        if end is None:
            return [*found, f"there is no {name} in the sandbox"]
        if not end.up:
            found.append(f"{name} is down")
        if end.mac != mac:
            found.append(f"{name} has MAC {end.mac}, expected {mac}")
        if end.peer != host.index:
            found.append(f"{name} is not the other end of {attachment.host_interface}")
        held = addresses_of(inside, end.index)
        found += [f"{name} has lost {address}" for address in attachment.addresses if address not in held]
        return found + _missing_routes(attachment) + _missing_neighbours(inside, attachment, end.index)


def _missing_neighbours(inside: Netlink, attachment: Attachment, index: int) -> list[str]:
    """Gateways of routed wiring, which answer nobody who asks for their MAC.  The kernel forgets all neighbours of an interface that
    gets a MAC, even the one that it has."""
    if attachment.wiring is not Wiring.ROUTED:
        return []
    entries = [
        parse_neighbour(body) for gateway in attachment.gateways for body in inside.dump(get_neighbours(gateway.version))
    ]
    return [
        f"{attachment.key.interface} has forgotten the MAC of its gateway {gateway}, as after a change of its own MAC"
        for gateway in attachment.gateways
        if (index, gateway, attachment.host_mac) not in entries
    ]


def _missing_routes(attachment: Attachment) -> list[str]:
    """Inside the pod's namespace: default routes that are not there.  Somebody else's default route is as good as ours."""
    if not attachment.leads_out:
        return []
    return [
        f"the sandbox has no IPv{address.version} default route"
        for address in attachment.addresses
        if not _has_default_route(address.version)
    ]


def _has_default_route(version: int) -> bool:
    if version == 4:
        with open("/proc/thread-self/net/route", encoding="ascii") as file:
            return any(line.split()[1] == "00000000" and line.split()[7] == "00000000" for line in file.readlines()[1:])
    if not os.path.exists("/proc/thread-self/net/ipv6_route"):
        return False
    with open("/proc/thread-self/net/ipv6_route", encoding="ascii") as file:
        return any(line.startswith("0" * 32 + " 00 ") and not line.rstrip().endswith(" lo") for line in file)
