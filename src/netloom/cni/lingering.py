"""Lingering: what there still is of a pod's interface whose host end is not there under its name.

Somebody may have renamed that end or moved it into another namespace, and the pod has its address all the same.  So the end is looked
for by what it says of itself (its alias) and by its index, which only ADD chooses so high.  Where the node does not have it, the sandbox
is asked; with the pod's end the other one goes, wherever it is.  What cannot be found out counts as in use.
"""

from __future__ import annotations

import os
from typing import Protocol

from netloom.cni.wiring import index_of
from netloom.dataplane.netlink import Device, Netlink, delete_link, devices, get_addresses, parse_address
from netloom.errors import DataplaneError
from netloom.model.attachments import Attachment, AttachmentKey, NetnsId, parse_alias


class Sandboxes(Protocol):
    """One look at what this kernel knows of namespaces."""

    def alive(self, netns: NetnsId) -> bool:
        """Whether any process or mount holds it; True where that cannot be found out."""

    def open(self, netns: NetnsId) -> int | None:
        """A descriptor, to be closed by the caller; None where it cannot be had."""


def owners(links: list[Device]) -> dict[AttachmentKey, Device]:
    """Host ends by whose they say that they are."""
    ours = ((link, parse_alias(link.alias)) for link in links if link.kind == "veth")
    return {owner.key: link for link, owner in ours if owner is not None}


def renamed(kernel: Netlink, attachment: Attachment) -> Device | None:
    """Its host end under whatever name."""
    links = devices(kernel)
    by_alias = owners(links).get(attachment.key)
    index = index_of(attachment)
    by_index = (link for link in links if link.index == index and link.kind == "veth" and parse_alias(link.alias) is None)
    return by_alias or next(by_index, None)


def uproot(look: Sandboxes, attachment: Attachment) -> None:
    """Takes away what the sandbox has of the interface, if the sandbox is still there.  Raises DataplaneError: the address is in use,
    or may be.  Blocks for as long as the kernel does, some 20 ms."""
    if not look.alive(attachment.netns):
        return
    sandbox = look.open(attachment.netns)
    if sandbox is None:
        reason = "is not there, and whether its sandbox still has the other end cannot be found out: its addresses stay in use"
        raise DataplaneError("links", attachment.host_interface, reason)
    try:
        with Netlink(sandbox) as inside:
            for index in _holders(inside, attachment):
                inside.transact(delete_link(index))
    finally:
        os.close(sandbox)


def _holders(inside: Netlink, attachment: Attachment) -> set[int]:
    """Veths with an address of the attachment's.  Whatever else has it, nothing that it sends is let through."""
    own = {address.ip for address in attachment.addresses}
    found = (parse_address(body) for version in (4, 6) for body in inside.dump(get_addresses(version)))
    holding = {index for index, address, _ in found if address.ip in own}
    return {link.index for link in devices(inside) if link.index in holding and link.kind == "veth"}
