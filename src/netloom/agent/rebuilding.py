"""Rebuilding: a journal that is lost or damaged is made anew from the kernel, whose links say whose they are.

Each host link's alias names network, container, interface and addresses; the link's name is a hash of the first three, so an
alias that somebody else wrote is found out.  The pod's MAC is in the permanent neighbour entries; where somebody took those away, it
is what a pod has that did not ask for another.  What the kernel does not say stays unknown: which pod it is, and which namespace,
which therefore counts as alive.
"""

from __future__ import annotations

import ipaddress
import logging

from netloom.calc.pods import GATEWAYS
from netloom.cni.attaching import pod_mac
from netloom.dataplane.netlink import Device, Netlink, devices
from netloom.dataplane.netlink.tables import get_neighbours, is_permanent, parse_neighbour
from netloom.ipam.blocks import gateway
from netloom.model.addresses import Address, Interface, Mac
from netloom.model.attachments import PREFIX, Attachment, AttachmentKey, NetnsId, State, Wiring, host_interface_name

log = logging.getLogger(__name__)

_UNKNOWN_NETNS = NetnsId(0, 0)
_WORDS = 5  # "netloom", network, container, interface, and at least one address


def attachments_of(kernel: Netlink) -> list[Attachment]:
    """One per host link of ours, READY; sequence numbers are the journal's to give."""
    links = devices(kernel)
    names = {0: "", **{link.index: link.name for link in links}}
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


def _attachment(link: Device, names: dict[int, str], neighbours: dict[tuple[int, Address], Mac]) -> Attachment | None:
    words = link.alias.split(" ")
    if len(words) < _WORDS or words[0] != "netloom":
        return None
    key = AttachmentKey(*words[1:4])
    try:
        addresses: tuple[Interface, ...] = tuple(ipaddress.ip_interface(word) for word in words[4:])
    except ValueError:
        return None
    if host_interface_name(key) != link.name:
        return None
    bridge = names[link.master] or None
    entries = ((link.master or link.index, a.ip) for a in addresses)
    mac = next((neighbours[entry] for entry in entries if entry in neighbours), pod_mac(key, addresses))
    gateways = tuple(g for a in addresses if (g := gateway(a.network) if bridge else GATEWAYS[a.version]))
    if len(gateways) < len(addresses):
        return None
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
        gateways=gateways,
    )


def _neighbours(kernel: Netlink) -> dict[tuple[int, Address], Mac]:
    """By interface and address; only what was put there, not what somebody on a link says."""
    entries = (body for version in (4, 6) for body in kernel.dump(get_neighbours(version)) if is_permanent(body))
    return {(index, address): mac for index, address, mac in map(parse_neighbour, entries) if mac}
