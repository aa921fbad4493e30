"""Addresses, routes, neighbours and FDB entries as bytes, both families on one path.

A route, neighbour or FDB entry is encoded exactly as the kernel dumps it: the same attributes in the same order.  So one
function serves for the request and for the comparison with a dump, which then is a comparison of sets of bytes; only what
differs has to be decoded.  Behind an entry the kernel may put what changes by itself (ages, probes): `*_TAIL` bytes.
Encoding wrongly ordered attributes would still be correct, only slower: decoding decides.

Sources: linux/rtnetlink.h, linux/if_addr.h, linux/neighbour.h.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from netloom.dataplane.netlink.wire import (
    AF_BRIDGE,
    AF_INET,
    AF_INET6,
    FAMILY,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    attribute,
    attributes,
    message,
    to_int,
    u32,
)
from netloom.model.addresses import Address, Interface, Mac, Prefix, mac_bytes, mac_text
from netloom.model.desired import Route, RouteKey, RouteKind

PUT = NLM_F_CREATE | NLM_F_REPLACE

# addresses

RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
IFADDR = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS, IFA_RT_PRIORITY = 1, 2, 8, 9
IFA_F_NODAD, IFA_F_DADFAILED, IFA_F_PERMANENT, IFA_F_NOPREFIXROUTE = 0x02, 0x08, 0x80, 0x200
IFA_F_SECONDARY, IFA_F_DEPRECATED, IFA_F_TENTATIVE = 0x01, 0x20, 0x40  # SECONDARY is TEMPORARY in IPv6 (RFC 8981)
_IFA_F_PASSING = IFA_F_SECONDARY | IFA_F_DEPRECATED | IFA_F_TENTATIVE | IFA_F_DADFAILED
_IFA_F_TELLING = IFA_F_DADFAILED | IFA_F_PERMANENT | IFA_F_NOPREFIXROUTE
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK, RT_SCOPE_NOWHERE = 0, 253, 255


def put_address(index: int, address: Interface, *, prefix_route: bool = True, dad: bool = False) -> bytes:
    """Usable at once: without `dad` the kernel asks nobody whether the address is taken (RFC 4862, 5.4)."""
    flags = (0 if dad else IFA_F_NODAD) | (0 if prefix_route else IFA_F_NOPREFIXROUTE)
    return message(RTM_NEWADDR, PUT, encode_address(index, address) + u32(IFA_FLAGS, flags))


def delete_address(index: int, address: Interface) -> bytes:
    return message(RTM_DELADDR, 0, encode_address(index, address))


def delete_found_address(body: bytes) -> bytes:
    """Exactly the address of a dump, whatever its peer."""
    found = attributes(body, IFADDR.size)
    exact = (attribute(kind, found[kind]) for kind in (IFA_LOCAL, IFA_ADDRESS) if kind in found)
    return message(RTM_DELADDR, 0, body[: IFADDR.size] + b"".join(exact))


def get_addresses(version: int) -> bytes:
    """To be dumped."""
    return message(RTM_GETADDR, 0, IFADDR.pack(FAMILY[version], 0, 0, 0, 0))


def parse_address(body: bytes) -> tuple[int, Interface, bool]:
    """Index, address, and whether it is as `put_address` makes it: for ever, with its prefix's route, without a peer."""
    family, length, _, scope, index = IFADDR.unpack_from(body)
    found = attributes(body, IFADDR.size)
    remote = found[IFA_ADDRESS]
    local = found.get(IFA_LOCAL, remote)
    address = ipaddress.ip_interface((local, length))
    plain = (
        to_int(found.get(IFA_FLAGS, b"")) & _IFA_F_TELLING == IFA_F_PERMANENT
        and local == remote
        and (family == AF_INET6 or scope == _scope(address))
        and IFA_RT_PRIORITY not in found
    )
    return index, address, plain


def is_passing(body: bytes) -> bool:
    """Whether an address is none to give to others while there is a better one: temporary, secondary, deprecated, or not proven."""
    return bool(to_int(attributes(body, IFADDR.size).get(IFA_FLAGS, b"")) & _IFA_F_PASSING)


def is_deprecated(body: bytes) -> bool:
    """Whether its preferred time is over: nobody is to begin anything with it."""
    return bool(to_int(attributes(body, IFADDR.size).get(IFA_FLAGS, b"")) & IFA_F_DEPRECATED)


def encode_address(index: int, address: Interface) -> bytes:
    head = IFADDR.pack(FAMILY[address.version], address.network.prefixlen, 0, _scope(address), index)
    return head + attribute(IFA_LOCAL, address.ip.packed) + attribute(IFA_ADDRESS, address.ip.packed)


def _scope(address: Interface) -> int:
    return RT_SCOPE_LINK if address.is_link_local else RT_SCOPE_UNIVERSE


# routes

RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTMSG = struct.Struct("=BBBBBBBBI")  # family, lengths of destination and source, TOS, table, protocol, scope, type, flags
RT_TABLE_MAIN = 254
RTPROT_KERNEL, RTPROT_BIRD = 2, 12
PROTOCOL = 79
"""Marks routes as ours, in the kernel and for everybody who looks (`proto 79`)."""
RTNH_F_ONLINK = 4
RTN_UNICAST, RTN_LOCAL = 1, 2
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC = 1, 4, 5, 6, 7
RTA_METRICS, RTA_MULTIPATH, RTA_CACHEINFO, RTA_TABLE, RTA_PREF = 8, 9, 12, 15, 20
RTM_F_FIB_MATCH = 0x2000
RTNEXTHOP = struct.Struct("=HBBi")  # its length, flags, weight, index
RTAX_MTU = 2
_KNOWN = {RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC, RTA_CACHEINFO, RTA_TABLE, RTA_PREF}
LOOPBACK = 1
"""Index of `lo`, where the kernel hangs IPv6 blackholes."""

_MAIN = u32(RTA_TABLE, RT_TABLE_MAIN)
_CACHEINFO = attribute(RTA_CACHEINFO, bytes(32))  # struct rta_cacheinfo: all zero unless the route expires
_NO_PREFERENCE = attribute(RTA_PREF, b"\0")
AFTER_ROUTE = {4: b"", 6: _CACHEINFO + _NO_PREFERENCE}
_EXPIRES = slice(8, 12)  # rta_expires in struct rta_cacheinfo
_KINDS = {kind.value: kind for kind in RouteKind}


def encode_route(key: RouteKey, route: Route, index: int, table: int = RT_TABLE_MAIN) -> bytes:
    """The route as the kernel dumps it, but for what stands at the end of IPv6 ones (`AFTER_ROUTE`).  `index`: of `route.device`."""
    prefix, metric = key
    version, length = prefix.version, prefix.prefixlen
    gateway, kind = route.gateway, route.kind
    if kind is RouteKind.BLACKHOLE and version == 6:
        index = LOOPBACK
    on_link = gateway is None and kind is RouteKind.UNICAST and version == 4
    scope = RT_SCOPE_LINK if on_link else RT_SCOPE_UNIVERSE
    flags = RTNH_F_ONLINK if route.onlink else 0
    priority = u32(RTA_PRIORITY, metric) if metric else b""
    source = attribute(RTA_PREFSRC, route.source.packed) if route.source else b""
    return (
        RTMSG.pack(FAMILY[version], length, 0, 0, min(table, RT_TABLE_MAIN), PROTOCOL, scope, kind.value, flags)
        + (_MAIN if table == RT_TABLE_MAIN else u32(RTA_TABLE, table))
        + (attribute(RTA_DST, prefix.network_address.packed) if length else b"")
        + (priority + source if version == 4 else source + priority)
        + (attribute(RTA_GATEWAY, gateway.packed) if gateway else b"")
        + (u32(RTA_OIF, index) if index else b"")
    )


def put_route(key: RouteKey, route: Route, index: int) -> bytes:
    """Takes the place of whatever route has this prefix and metric."""
    return message(RTM_NEWROUTE, PUT, encode_route(key, route, index))


def add_route(key: RouteKey, route: Route, index: int, table: int = RT_TABLE_MAIN) -> bytes:
    """Refused (EEXIST) where there is a route with this prefix and metric."""
    return message(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, encode_route(key, route, index, table))


def delete_route(key: RouteKey, route: Route, index: int) -> bytes:
    """Exactly this route.  (The kernel takes metric 0 of an IPv4 request for any metric; gateway and device make it exact.)"""
    return message(RTM_DELROUTE, 0, encode_route(key, route, index))


def delete_route_by_key(key: RouteKey) -> bytes:
    """Any route of ours with this prefix and metric; see `delete_route` for metric 0."""
    prefix, metric = key
    head = RTMSG.pack(FAMILY[prefix.version], prefix.prefixlen, 0, 0, RT_TABLE_MAIN, PROTOCOL, RT_SCOPE_NOWHERE, 0, 0)
    destination = attribute(RTA_DST, prefix.network_address.packed) if prefix.prefixlen else b""
    return message(RTM_DELROUTE, 0, head + destination + u32(RTA_PRIORITY, metric))


def get_routes(version: int, protocol: int = PROTOCOL) -> bytes:
    """To be dumped: ours in the main table; protocol 0, everybody's.  The kernel does not mark a route dump that changed half way; an
    event tells."""
    return message(RTM_GETROUTE, 0, RTMSG.pack(FAMILY[version], 0, 0, 0, RT_TABLE_MAIN, protocol, 0, 0, 0))


def get_routes_by(version: int, index: int = 0) -> bytes:
    """To be dumped: everybody's in all tables, by one interface; 0: by any, or none."""
    by = u32(RTA_OIF, index) if index else b""
    return message(RTM_GETROUTE, 0, RTMSG.pack(FAMILY[version], 0, 0, 0, 0, 0, 0, 0, 0) + by)


@dataclass(frozen=True, slots=True)
class SeenRoute:
    """What a route says of where packets go; `kind` as in linux/rtnetlink.h.  `mtu`: its own, 0 for the interface's; `source`: what
    the host's own packets leave with."""

    prefix: Prefix
    table: int
    metric: int
    index: int
    gateway: Address | None
    kind: int
    protocol: int = 0
    source: Address | None = None
    mtu: int = 0

    @property
    def unicast(self) -> bool:
        return self.kind == RTN_UNICAST


def see_route(body: bytes) -> SeenRoute | None:
    """None where it is for some packets only (type of service, source)."""
    family, length, source_length, tos, table, protocol, _, kind, _ = RTMSG.unpack_from(body)
    if source_length or tos:
        return None
    found = attributes(body, RTMSG.size)
    gateway, source = found.get(RTA_GATEWAY), found.get(RTA_PREFSRC)
    return SeenRoute(
        prefix=ipaddress.ip_network((found.get(RTA_DST, bytes(4 if family == AF_INET else 16)), length)),
        table=to_int(found[RTA_TABLE]) if RTA_TABLE in found else table,
        metric=to_int(found.get(RTA_PRIORITY, b"")),
        index=to_int(found.get(RTA_OIF, b"")),
        gateway=ipaddress.ip_address(gateway) if gateway else None,
        kind=kind,
        protocol=protocol,
        source=ipaddress.ip_address(source) if source else None,
        mtu=_mtu(found),
    )


def default_ways(body: bytes) -> tuple[int, tuple[int, ...]] | None:
    """Metric and interfaces of a default route; None where it is none.  For dumps: most routes are told by their second byte."""
    if body[1]:
        return None
    route = see_route(body)
    if route is None or not route.unicast:
        return None
    found = attributes(body, RTMSG.size)
    if route.gateway is None and route.prefix.version == 6 and RTA_MULTIPATH not in found:
        return None  # of a tunnel, or the kernel's own
    return route.metric, _interfaces(found)


def all_ways(body: bytes) -> tuple[int, ...]:
    """Interfaces of a route: several, where it has several next hops (ECMP)."""
    return _interfaces(attributes(body, RTMSG.size))


def first_way(body: bytes) -> tuple[Prefix, Address, int, bool] | None:
    """Prefix, gateway, interface, and whether the gateway is taken to be on the link: of several next hops the first.  None where no
    gateway of the same family leads there, or not for all packets."""
    family, length, source_length, tos, _, _, _, kind, flags = RTMSG.unpack_from(body)
    if source_length or tos or kind != RTN_UNICAST:
        return None
    found = attributes(body, RTMSG.size)
    index, hop = to_int(found.get(RTA_OIF, b"")), found
    if len(hops := found.get(RTA_MULTIPATH, b"")) >= RTNEXTHOP.size:
        end, flags, _, index = RTNEXTHOP.unpack_from(hops)
        hop = attributes(hops[:end], RTNEXTHOP.size)
    if RTA_GATEWAY not in hop:
        return None
    destination = ipaddress.ip_network((found.get(RTA_DST, bytes(4 if family == AF_INET else 16)), length))
    return destination, ipaddress.ip_address(hop[RTA_GATEWAY]), index, bool(flags & RTNH_F_ONLINK)


def _interfaces(found: Mapping[int, bytes]) -> tuple[int, ...]:
    if RTA_MULTIPATH not in found:
        return (to_int(found.get(RTA_OIF, b"")),)
    hops, at, indexes = found[RTA_MULTIPATH], 0, []
    while at + RTNEXTHOP.size <= len(hops):
        length, _, _, index = RTNEXTHOP.unpack_from(hops, at)
        indexes.append(index)
        at += max(length + 3 & ~3, RTNEXTHOP.size)
    return tuple(dict.fromkeys(indexes))


def _mtu(found: Mapping[int, bytes]) -> int:
    """What somebody gave to the route.  What the kernel has learned for a while, anybody may have told it."""
    if any(found.get(RTA_CACHEINFO, b"")[_EXPIRES]):
        return 0
    return to_int(attributes(found.get(RTA_METRICS, b"")).get(RTAX_MTU, b""))


def look_up(destination: Address, *, every_way: bool = False) -> bytes:
    """To be asked: the route that a packet to `destination` takes; `every_way`: as it stands in the table, with all its next hops."""
    flags = RTM_F_FIB_MATCH if every_way else 0
    head = RTMSG.pack(FAMILY[destination.version], destination.max_prefixlen, 0, 0, 0, 0, 0, 0, flags)
    return message(RTM_GETROUTE, 0, head + attribute(RTA_DST, destination.packed))


@dataclass(frozen=True, slots=True)
class FoundRoute:
    """A route of a dump.  `route` is None where it is a route that `Route` cannot say.
    `selective`: it is for some packets only (type of service, source), so its key is more than `key`."""

    key: RouteKey
    route: Route | None
    selective: bool


def parse_route(body: bytes, names: Mapping[int, str]) -> FoundRoute:
    """`names`: of interfaces by index."""
    family, length, source_length, tos, _, _, scope, kind, flags = RTMSG.unpack_from(body)
    found = attributes(body, RTMSG.size)
    zeros = bytes(4 if family == AF_INET else 16)
    prefix = ipaddress.ip_network((found.get(RTA_DST, zeros), length))
    key = RouteKey(prefix, to_int(found.get(RTA_PRIORITY, b"")))
    index = to_int(found.get(RTA_OIF, b"")) if kind != RouteKind.BLACKHOLE.value else 0
    gateway, source = found.get(RTA_GATEWAY), found.get(RTA_PREFSRC)
    route = Route(
        device=names.get(index, ""),
        gateway=ipaddress.ip_address(gateway) if gateway else None,
        onlink=bool(flags & RTNH_F_ONLINK),
        source=ipaddress.ip_address(source) if source else None,
        kind=_KINDS.get(kind, RouteKind.UNICAST),
    )
    on_link = not gateway and kind == RouteKind.UNICAST.value and family == AF_INET
    plain = (
        kind in _KINDS
        and scope == (RT_SCOPE_LINK if on_link else RT_SCOPE_UNIVERSE)
        and found.keys() <= _KNOWN
        and not any(found.get(RTA_CACHEINFO, b"")[_EXPIRES] + found.get(RTA_PREF, b""))
    )
    return FoundRoute(key, route if plain else None, bool(tos or source_length))


# neighbours and FDB entries

RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30
NDMSG = struct.Struct("=BxxxiHBB")  # family, index, state, flags, type
NDA_DST, NDA_LLADDR, NDA_CACHEINFO, NDA_PROBES, NDA_IFINDEX = 1, 2, 3, 4, 8
NUD_PERMANENT, NUD_NOARP = 0x80, 0x40
NTF_SELF = 0x02
NEIGHBOUR_TAIL = 28  # NDA_PROBES and NDA_CACHEINFO
FDB_TAIL = 20  # NDA_CACHEINFO
_LLADDR = struct.Struct("=HH6sxx").pack
_FDB_KNOWN = {NDA_DST, NDA_LLADDR, NDA_CACHEINFO}


def encode_neighbour(index: int, address: Address, mac: Mac) -> bytes:
    head = NDMSG.pack(FAMILY[address.version], index, NUD_PERMANENT, 0, RTN_UNICAST)
    return head + attribute(NDA_DST, address.packed) + _LLADDR(10, NDA_LLADDR, mac_bytes(mac))


def put_neighbour(index: int, address: Address, mac: Mac) -> bytes:
    return message(RTM_NEWNEIGH, PUT, encode_neighbour(index, address, mac))


def delete_neighbour(index: int, address: Address) -> bytes:
    return message(RTM_DELNEIGH, 0, NDMSG.pack(FAMILY[address.version], index, 0, 0, 0) + attribute(NDA_DST, address.packed))


def get_neighbours(version: int, index: int = 0) -> bytes:
    """To be dumped; those of one interface, if given."""
    of = u32(NDA_IFINDEX, index) if index else b""
    return message(RTM_GETNEIGH, 0, NDMSG.pack(FAMILY[version], 0, 0, 0, 0) + of)


def is_permanent(body: bytes) -> bool:
    return bool(NDMSG.unpack_from(body)[2] & NUD_PERMANENT)


def neighbour_index(body: bytes) -> int:
    return int(NDMSG.unpack_from(body)[1])


def parse_neighbour(body: bytes) -> tuple[int, Address, Mac | None]:
    """Index, address and MAC of a neighbour."""
    found = attributes(body, NDMSG.size)
    mac = found.get(NDA_LLADDR)
    return neighbour_index(body), ipaddress.ip_address(found[NDA_DST]), mac_text(mac) if mac else None


def encode_fdb(index: int, mac: Mac, destination: Address) -> bytes:
    """An entry of a VXLAN device's own table: frames to `mac` go to `destination`."""
    head = NDMSG.pack(AF_BRIDGE, index, NUD_PERMANENT, NTF_SELF, RTN_UNICAST)
    return head + _LLADDR(10, NDA_LLADDR, mac_bytes(mac)) + attribute(NDA_DST, destination.packed)


def put_fdb(index: int, mac: Mac, destination: Address) -> bytes:
    return message(RTM_NEWNEIGH, PUT, encode_fdb(index, mac, destination))


def delete_fdb(index: int, mac: Mac) -> bytes:
    head = NDMSG.pack(AF_BRIDGE, index, NUD_PERMANENT, NTF_SELF, 0)
    return message(RTM_DELNEIGH, 0, head + attribute(NDA_LLADDR, mac_bytes(mac)))


def get_fdb(index: int) -> bytes:
    """To be dumped: the entries of one device."""
    return message(RTM_GETNEIGH, 0, NDMSG.pack(AF_BRIDGE, 0, 0, 0, 0) + u32(NDA_IFINDEX, index))


def parse_fdb(body: bytes) -> tuple[int, Mac, Address | None]:
    """Index, MAC and destination; None where the entry says more than a destination (another port, VNI or device)."""
    found = attributes(body, NDMSG.size)
    destination = found.get(NDA_DST)
    plain = destination and found.keys() <= _FDB_KNOWN
    return (
        neighbour_index(body),
        mac_text(found[NDA_LLADDR]),
        ipaddress.ip_address(destination) if destination and plain else None,
    )
