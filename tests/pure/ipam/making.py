"""Values that these tests are made of."""

from __future__ import annotations

import ipaddress
import os
from typing import Any

from netloom.model.addresses import Interface, Mac, Prefix
from netloom.model.attachments import Attachment, AttachmentKey, NetnsId, State, host_interface_name
from netloom.model.resources import (
    Claim,
    IPBlock,
    IPBlockSpec,
    IPPool,
    IPPoolSpec,
    IPReservation,
    IPReservationSpec,
    Metadata,
    Node,
    NodeSpec,
    block_name,
)

LONG = bool(os.environ.get("NETLOOM_TEST_LONG"))
BOOT = "54718e98-e1f6-4fe7-a7e3-806a149d0332"
NETNS = NetnsId(4, 4026531833)


def key(name: str) -> AttachmentKey:
    return AttachmentKey("netloom", name, "eth0")


def attachment(name: str, sequence: int, *addresses: Interface | str, state: State = State.PENDING) -> Attachment:
    return Attachment(
        key=key(name),
        sequence=sequence,
        state=state,
        netns=NetnsId(4, 4026532000 + sequence),
        host_interface=host_interface_name(key(name)),
        mac=Mac("0a:58:0a:f4:00:02"),
        host_mac=Mac("ee:ee:ee:ee:ee:ee"),
        mtu=1450,
        addresses=tuple(ipaddress.ip_interface(str(a)) for a in addresses),
        pod=name,
    )


def pool(name: str, cidr: str, block_size: int = 0, **spec: Any) -> IPPool:  # Any: each field has a type of its own
    return IPPool(metadata=Metadata(name=name), spec=IPPoolSpec(cidr=prefix(cidr), block_size=block_size, **spec))


def prefix(text: str) -> Prefix:
    return ipaddress.ip_network(text)


def reservation(name: str, *cidrs: str) -> IPReservation:
    return IPReservation(metadata=Metadata(name=name), spec=IPReservationSpec(reserved_cidrs=tuple(map(prefix, cidrs))))


def node(name: str, incarnation: str = "", *tunnel: str, **labels: str) -> Node:
    spec = NodeSpec(id=incarnation, tunnel_addresses=tuple(map(ipaddress.ip_address, tunnel)))
    return Node(metadata=Metadata(name=name, labels=labels), spec=spec)


def claim(cidr: str, owner: str) -> Claim:
    """`owner` is the node's name, and its incarnation is `NAME-1`."""
    return Claim(cidr=prefix(cidr), node=owner, node_id=f"{owner}-1")


def block(slot: str, *claims: Claim) -> IPBlock:
    return IPBlock(metadata=Metadata(name=block_name(prefix(slot))), spec=IPBlockSpec(cidr=prefix(slot), claims=claims))
