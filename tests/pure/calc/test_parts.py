"""Where a slot is split, each part leads to its node: also those of a single address, and of nodes that have none for themselves."""

from __future__ import annotations

import msgspec
import pytest

from netloom.calc import desired
from netloom.model.resources import Claim, Encapsulation, IPBlock, IPBlockSpec, Metadata, Node, block_name
from netloom.model.snapshot import Snapshot
from tests.pure.calc.test_desired import HOST, node, pool, prefix, shown

PARTS = {2: ("10.244.2.0/27", "10.244.2.48/32"), 3: ("10.244.2.32/28", "10.244.2.49/32")}


def split() -> IPBlock:
    claims = [Claim(cidr=prefix(cidr), node=f"node{n}", node_id=f"id{n}") for n, parts in PARTS.items() for cidr in parts]
    spec = IPBlockSpec(cidr=prefix("10.244.2.0/26"), claims=tuple(claims))
    return IPBlock(metadata=Metadata(name=block_name(spec.cidr)), spec=spec)


def without_tunnel_address(one: Node) -> Node:
    return msgspec.structs.replace(one, spec=msgspec.structs.replace(one.spec, tunnel_addresses=()))


@pytest.mark.parametrize("encapsulation", list(Encapsulation))
def test_each_part_of_a_slot_leads_to_its_node(encapsulation: Encapsulation) -> None:
    nodes = [node(2), without_tunnel_address(node(3))]
    lines = shown(desired(Snapshot.of(1, [pool(encapsulation), *nodes, split()]), [], HOST))
    for number, parts in PARTS.items():
        gateways = set()
        for part in parts:
            [route] = [line for line in lines if line.startswith(f"route {part} ")]
            gateways.add(route.split(" via ")[1].split()[0])
        [gateway] = gateways
        if "loom.vxlan" in route:
            assert gateway == parts[0].partition("/")[0]
            assert f"neighbour {gateway} lladdr 66:00:00:00:00:0{number} dev loom.vxlan" in lines
        else:
            assert gateway == f"192.0.2.{10 + number}"
