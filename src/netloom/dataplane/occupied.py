"""Occupied: what of this host already is where a new network wants to be.  Two of the same addresses on one host hide each other.

Default routes lead everywhere and occupy nothing, and blackholes of ours are where nobody is.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection

from netloom.dataplane.netlink import Netlink, device_names, get_addresses, parse_address
from netloom.dataplane.netlink.tables import PROTOCOL, RTA_DST, RTA_OIF, RTMSG, get_routes
from netloom.dataplane.netlink.wire import AF_INET, attributes, to_int
from netloom.model.addresses import Prefix, overlap
from netloom.model.desired import RouteKind


def occupant(kernel: Netlink, subnets: Collection[Prefix], bridge: str) -> str | None:
    """An address or route in the way of `subnets`, in words; None if there is none.  `bridge`: the network's own, which may stand."""
    names = device_names(kernel)
    versions = {subnet.version for subnet in subnets}
    for body in (body for version in versions for body in kernel.dump(get_addresses(version))):
        index, address, _ = parse_address(body)
        name = names.get(index, "?")
        for subnet in subnets:
            if name != bridge and overlap(subnet, address.network):
                return f"{subnet} overlaps {address} of {name}"
    for body in (body for version in versions for body in kernel.dump(get_routes(version, protocol=0))):
        family, length, *_, protocol, _, kind, _ = RTMSG.unpack_from(body)
        if not length or (protocol == PROTOCOL and kind == RouteKind.BLACKHOLE.value):
            continue
        found = attributes(body, RTMSG.size)
        name = names.get(to_int(found.get(RTA_OIF, b"")), "")
        prefix = ipaddress.ip_network((found.get(RTA_DST, bytes(4 if family == AF_INET else 16)), length))
        for subnet in subnets:
            if name != bridge and overlap(subnet, prefix):
                return f"{subnet} overlaps the route {prefix}{f' dev {name}' if name else ''}"
    return None
