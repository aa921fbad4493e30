"""Wiring: a pod's interface, from nothing to carrying packets, in five sends.

    host   veth, its other end born inside the pod's namespace with its final name      (down: nothing can pass)
    host   the rates that the link is held to, if any were asked for
    host   sysctls, before the link is up, so that no router advertisement slips in
    host   up, the pod's slice of routes and neighbours                                 (closed: no source is admitted yet)
    pod    sysctls, link up, addresses, the gateway as permanent neighbour, routes

Never by moving a link between namespaces, which costs 20 ms.  Both ends get the same index, chosen here from the attachment's
sequence number, so nothing has to be asked in between.

The first interface of a pod leads out: a default route that is there stays, and this one is the `second`.

`routed`: the pod holds /32 or /128 and sends everything to a link-local gateway, which every host end answers for by its MAC.
`bridge`: the host end is a port of a bridge that holds the block's gateway address, and the pod's address has the block's length.
In a network with a pool of its own both are the pool's; where that is internal, the pod has no default route.
"""

from __future__ import annotations

import errno
import ipaddress
import time
from collections.abc import Collection, Mapping

from netloom.calc.pods import BRIDGE_MAC, GATEWAYS, IPV4_SETTINGS, host_sysctls, ipv6_sysctls
from netloom.calc.tables import Tables
from netloom.cni.limiting import limit
from netloom.cni.second import table_of
from netloom.dataplane import netns
from netloom.dataplane.netlink import (
    Device,
    Netlink,
    NetlinkError,
    add_route,
    device,
    devices,
    get_link,
    in_service,
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
from netloom.dataplane.sysctls import speaks_ipv6, write_sysctls
from netloom.errors import DataplaneError
from netloom.model.addresses import host_prefix
from netloom.model.attachments import Attachment, Wiring
from netloom.model.desired import Bridge, NeighbourKey, Route, RouteKey

FIRST_INDEX = 1 << 30  # above what a kernel gives out by itself in a boot: it counts up from 1
_INDEXES = 1 << 29
_LOOPBACK_UP = set_link(1, up=True)
_INTAKE = 0.05  # seconds
_POD_METRIC = {4: 0, 6: 1024}
_DEFAULT = {
    version: RouteKey(ipaddress.ip_network(text), _POD_METRIC[version]) for version, text in ((4, "0.0.0.0/0"), (6, "::/0"))
}
_TO_GATEWAY = {version: RouteKey(host_prefix(gateway), _POD_METRIC[version]) for version, gateway in GATEWAYS.items()}


def attach(kernel: Netlink, attachment: Attachment, part: Tables, pod: int, home: int) -> tuple[int, ...]:
    """Makes everything of `part` (the pod's slice) and the pod's inside.  Raises DataplaneError, then `device` says what is left.
    Gives the families in which the pod had a default route already.

    `kernel`: a socket in the node's namespace, which the calling thread is in and `home` is a descriptor of.  `pod`: one of the pod's.
    """
    index = index_of(attachment)
    _host_end(kernel, attachment, part, pod, index)
    with netns.entered(pod, home):
        taken = _pod_end(attachment, index)
    _wait_for_service(kernel, attachment.host_interface)
    return taken


def index_of(attachment: Attachment) -> int:
    """Of both ends."""
    return FIRST_INDEX + attachment.sequence % _INDEXES


def is_pods(index: int) -> bool:
    """Whether a link with this index was made for a pod, which may be what a node runs in."""
    return index >= FIRST_INDEX


def _host_end(kernel: Netlink, attachment: Attachment, part: Tables, pod: int, index: int) -> None:
    name = attachment.host_interface
    devices = {name: index}
    master = 0
    if attachment.bridge:
        master = devices[attachment.bridge] = _bridge(kernel, attachment.bridge, part)
    requests = (
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
    try:
        kernel.transact(*requests)
    except NetlinkError as e:
        raise _in_the_way(kernel, attachment, pod, e) from e
    if part.shaping:
        limit(kernel, attachment, part, index, index + _INDEXES)
    write_sysctls(ipv6_sysctls(name))
    kernel.transact(
        set_link(index, up=True),
        *(put_address(devices[key.device], key.address) for key in part.addresses),
        *(put_neighbour(devices[key.device], key.address, mac) for key, mac in part.neighbours.items()),
        *(put_route(key, route, devices[route.device]) for key, route in part.routes.items()),
    )


def _in_the_way(kernel: Netlink, attachment: Attachment, pod: int, refusal: NetlinkError) -> DataplaneError:
    """What is there under a name or the index of the new link, where the kernel says no more than that."""
    if refusal.errno != errno.EEXIST or refusal.index:
        return refusal
    name, index = attachment.key.interface, index_of(attachment)
    with Netlink(pod) as inside:
        places = (kernel, attachment.host_interface, "on this node"), (inside, name, "in the sandbox")
        for netlink, wanted, where in places:
            for link in devices(netlink):
                if wanted == link.name or link.index == index:
                    what = f"{link.kind or 'hardware'} interface {link.name}, MAC {link.mac}"
                    reason = f"cannot be made: {where} there is one already ({what})"
                    return DataplaneError("links", wanted, reason, errno=errno.EEXIST)
    return refusal


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


def _pod_end(attachment: Attachment, index: int) -> tuple[int, ...]:
    """Inside the pod's namespace.  Gives the families that have another default route."""
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
        routes = pod_routes(attachment)
        refused = kernel.send_many(requests + [add_route(key, route, index) for key, route in routes.items()])
        for place, error in refused.items():
            if place < len(requests) or error.errno != errno.EEXIST:
                raise error
        taken = _defaults(routes, [place - len(requests) for place in refused]) if refused else ()
        if taken:
            kernel.transact(*table_of(attachment, index, taken))
        _wait_for_intake(kernel, attachment)
    return taken


def _defaults(routes: Mapping[RouteKey, Route], refused: Collection[int]) -> tuple[int, ...]:
    """Families of default routes among those that were refused, by their place."""
    prefixes = [key.prefix for place, key in enumerate(routes) if place in refused]
    return tuple(prefix.version for prefix in prefixes if not prefix.prefixlen)


def _wait_for_service(kernel: Netlink, name: str) -> None:
    """Until the host's end sends, too: it came up before its peer did, and the kernel looks after its carrier later, if it is not asked to
    (Linux 6.8).  As below, a machine that does not get to it loses a first packet."""
    deadline = time.monotonic() + _INTAKE
    while not in_service(kernel, name) and time.monotonic() < deadline:
        time.sleep(0)


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
