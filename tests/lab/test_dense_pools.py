"""A pool of sixteen addresses on three nodes: whoever finds no block gets a part of another's, and every address is used."""

from __future__ import annotations

import ipaddress
import signal
from collections import Counter

import msgspec
import pytest

from netloom.datastore import connect
from netloom.errors import CniError
from netloom.lab import sandboxes
from netloom.lab.cluster import Lab, datastore_of
from netloom.lab.topology import Pod, Topology, one_switch
from netloom.model.resources import Encapsulation, IPBlock, IPPoolSpec
from tests.lab.conftest import Raise, settled

POOLS = ("10.244.0.0/28", "fd00:10:244::/124")
SIZE = 16


def crowded(*pods_per_node: int, encapsulation: Encapsulation = Encapsulation.VXLAN) -> Topology:
    size = {4: 28, 6: 124}
    pools = tuple(
        IPPoolSpec(cidr=cidr, block_size=size[cidr.version], encapsulation=encapsulation, nat_outgoing=True)
        for cidr in map(ipaddress.ip_network, POOLS)
    )
    pods = tuple(
        Pod(name=f"pod-{node}-{number}", node=f"node-{node}")
        for node, count in enumerate(pods_per_node)
        for number in range(count)
    )
    topology = one_switch(nodes=len(pods_per_node), pods=0, encapsulation=encapsulation)
    return msgspec.structs.replace(topology, pools=pools, pods=pods, settings={**topology.settings, "coolDown": 0.0})


def owners(lab: Lab) -> list[dict[str, int]]:
    """Of each slot: how many addresses each node has."""
    store = connect(datastore_of(lab.name))
    try:
        blocks = [s.resource for s in store.list("IPBlock").items if isinstance(s.resource, IPBlock)]
    finally:
        store.close()
    found = []
    for block in blocks:
        sizes = Counter[str]()
        for claim in block.spec.claims:
            sizes[claim.node] += claim.cidr.num_addresses
        found.append(dict(sizes))
    return found


def test_three_nodes_use_a_pool_to_its_last_address(bring_up: Raise, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = bring_up(crowded(8, 5, 3, encapsulation=Encapsulation.NONE))
    assert owners(lab) == [{"node-0": 8, "node-1": 5, "node-2": 3}] * 2
    assert settled(lab)

    moved = lab.topology.pods[0]
    elsewhere = msgspec.structs.replace(moved, node="node-2")
    monkeypatch.setattr(sandboxes, "_PATIENCE", 0.0)
    with pytest.raises(
        CniError, match=r"node node-2 finds no free address and no free block: pool pool-0 .*other nodes have been asked"
    ):
        sandboxes.add(lab.name, elsewhere, "c" * 64, lab.topology.wiring)
    monkeypatch.undo()

    lab.detach((moved,))
    lab.keep(topology=msgspec.structs.replace(lab.topology, pods=(elsewhere, *lab.topology.pods[1:])))
    lab.attach((elsewhere,))
    assert owners(lab) == [{"node-0": 7, "node-1": 5, "node-2": 4}] * 2
    assert settled(lab)


def test_nodes_with_a_tunnel_survive_a_kill_and_no_address_is_anybody_elses(bring_up: Raise) -> None:
    lab = bring_up(crowded(5, 4, 3))
    for node in lab.topology.nodes:
        lab.stop_agent(node.name, signal.SIGKILL)
    lab.start_agents(lab.topology.nodes)
    assert settled(lab)
    for slot in owners(lab):
        assert all(slot[node.name] >= pods for node, pods in zip(lab.topology.nodes, (5, 4, 3), strict=True)), slot
        assert sum(slot.values()) <= SIZE, "what nobody needs may have been given back"
