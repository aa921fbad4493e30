"""Other nodes, as one node knows them: by what they have put into the datastore, and not running anywhere."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator

from netloom.model.addresses import Interface, Mac, Prefix
from netloom.model.resources import Claim, IPBlock, IPBlockSpec, Metadata, Node, NodeSpec, block_name

FAR = ipaddress.IPv4Address("172.16.0.0")
"""Where many of them live: behind a router, on one link of their own."""


def other_node(name: str, node_id: str, number: int, underlay: Interface, blocks: Iterable[Prefix]) -> Node:
    """`number`: tells its VTEP from others.  In each of `blocks` the first address is its own."""
    spec = NodeSpec(
        id=node_id,
        addresses=(underlay,),
        tunnel_addresses=tuple(block.network_address for block in blocks),
        vtep_mac=Mac(f"66:00:00:00:{number >> 8:02x}:{number & 255:02x}"),
    )
    return Node(metadata=Metadata(name=name), spec=spec)


def its_block(slot: Prefix, node: str, node_id: str) -> IPBlock:
    claim = Claim(cidr=slot, node=node, node_id=node_id)
    return IPBlock(metadata=Metadata(name=block_name(slot)), spec=IPBlockSpec(cidr=slot, claims=(claim,)))


def far_node(number: int, blocks: Iterable[Prefix]) -> Iterator[Node | IPBlock]:
    """One of thousands, and its blocks."""
    name, node_id, slots = f"remote-{number}", f"id-{number}", tuple(blocks)
    yield other_node(name, node_id, number, ipaddress.ip_interface((int(FAR) + number, 12)), slots)
    yield from (its_block(slot, name, node_id) for slot in slots)
