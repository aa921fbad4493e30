"""Rebuilding: a journal that is lost or damaged is made anew from the kernel, whose links say whose they are.

Each host link's alias names network, container, interface and addresses; the link's name is a hash of the first three, so an
alias that somebody else wrote is found out.  Everything the kernel does not say (which namespace, which pod) is taken from the
node's Endpoints later, and until then counts as alive.
"""

from __future__ import annotations

import ipaddress
import logging

from netloom.calc.pods import GATEWAYS
from netloom.dataplane.netlink import Device, Netlink, devices
from netloom.dataplane.netlink.tables import get_neighbours, parse_neighbour
from netloom.ipam.blocks import gateway
from netloom.model.addresses import Address, Interface, Mac
from netloom.model.attachments import PREFIX, Attachment, AttachmentKey, NetnsId, State, Wiring, host_interface_name

log = logging.getLogger(__name__)

_UNKNOWN_NETNS = NetnsId(0, 0)
_WORDS = 5  # "netloom", network, container, interface, and at least one address


def attachments_of(kernel: Netlink) -> list[Attachment]:
    """One per host link of ours, READY; sequence numbers are the journal's to give."""
    links = devices(kernel)
    names = {link.index: link.name for link in links}
    neighbours = _neighbours(kernel)
    found = []
    for link in links:
        if link.kind != "veth" or not link.name.startswith(PREFIX):
            continue
        attachment = _attachment(link, names, neighbours)
        if attachment is None:
            log.warning("link %s says nothing of whose it is (alias %r): not taken up", link.name, link.alias)
        else:
            found.append(attachment)
    return found


def _attachment(link: Device, names: dict[int, str], neighbours: dict[Address, Mac]) -> Attachment | None:
    words = link.alias.split(" ")
    if len(words) < _WORDS or words[0] != "netloom":
        return None
    key = AttachmentKey(*words[1:4])
    try:
        addresses: tuple[Interface, ...] = tuple(ipaddress.ip_interface(word) for word in words[4:])
    except ValueError:
        return None
    mac = next((neighbours[a.ip] for a in addresses if a.ip in neighbours), None)
    if host_interface_name(key) != link.name or mac is None:
        return None
    bridge = names.get(link.master)
    gateways = tuple(gateway(a.network) if bridge else GATEWAYS[a.version] for a in addresses)
    return Attachment(
        key=key,
        sequence=0,
        state=State.READY,
        netns=_UNKNOWN_NETNS,
        host_interface=link.name,
        mac=mac,
        host_mac=link.mac,
        mtu=link.mtu,
        addresses=addresses,
        wiring=Wiring.BRIDGE if bridge else Wiring.ROUTED,
        bridge=bridge,
        gateways=tuple(g for g in gateways if g is not None),
    )


def _neighbours(kernel: Netlink) -> dict[Address, Mac]:
    found: dict[Address, Mac] = {}
    for version in (4, 6):
        for _, address, mac in map(parse_neighbour, kernel.dump(get_neighbours(version))):
            if mac is not None:
                found[address] = mac
    return found
