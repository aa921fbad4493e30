"""What other modules ask of the kernel: links, names, indexes, addresses."""

from __future__ import annotations

import errno
from collections.abc import Collection

from netloom.dataplane.netlink.connection import Netlink, NetlinkError
from netloom.dataplane.netlink.links import Device, get_link, get_links, operating, parse_index_and_name, parse_link
from netloom.dataplane.netlink.tables import RTMSG, RTN_LOCAL, get_addresses, look_up, parse_address
from netloom.model.addresses import Address, Interface

FEW = 16
"""Up to here asking by name is quicker than a dump of all links."""


def devices(netlink: Netlink) -> list[Device]:
    return [parse_link(body) for body in netlink.dump(get_links())]


def device(netlink: Netlink, name: str) -> Device | None:
    """One link by name."""
    body = _ask_for(netlink, name)
    return parse_link(body) if body else None


def in_service(netlink: Netlink, name: str) -> bool:
    """Whether a link sends what it is given.  One whose peer has just come up drops it until a kernel worker has taken note of its
    carrier, some milliseconds; from Linux 6.8 on asking for one link (not a dump) makes the kernel do so at once."""
    body = _ask_for(netlink, name)
    return body is not None and operating(body)


def device_names(netlink: Netlink) -> dict[int, str]:
    """Names of all links by index."""
    return dict(parse_index_and_name(body) for body in netlink.dump(get_links()))


def indexes(netlink: Netlink, names: Collection[str]) -> dict[str, int]:
    """Indexes of those of `names` that exist."""
    if len(names) > FEW:
        return {name: index for index, name in device_names(netlink).items() if name in names}
    found = {name: _ask_for(netlink, name) for name in names}
    return {name: parse_index_and_name(body)[0] for name, body in found.items() if body}


def addresses_of(netlink: Netlink, index: int) -> list[Interface]:
    """Addresses of one link, IPv4 first."""
    found = (parse_address(body) for version in (4, 6) for body in netlink.dump(get_addresses(version)))
    return [address for owner, address, _ in found if owner == index]


def is_local(netlink: Netlink, address: Address) -> bool:
    """Whether packets to `address` are taken in.  An IPv6 address is shown at once, but taken in only when a kernel worker has
    been at it: mostly some 20 µs later, 5 ms on a busy machine."""
    try:
        return bool(RTMSG.unpack_from(netlink.ask(look_up(address)))[7] == RTN_LOCAL)
    except NetlinkError:
        return False


def _ask_for(netlink: Netlink, name: str) -> bytes | None:
    try:
        return netlink.ask(get_link(name))
    except NetlinkError as e:
        if e.errno == errno.ENODEV:
            return None
        raise
