"""Nothing is lost between pods while BIRDs die, configurations change, agents restart, and a cluster goes from one way of routing to
another.  Counted by sequence numbers."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import pytest

from netloom.datastore import connect
from netloom.lab import cluster
from netloom.lab.cluster import Lab, datastore_of
from netloom.lab.topology import Router, one_switch
from netloom.model import manifest
from netloom.model.bgp_node import NodeBGP
from netloom.model.resources import Encapsulation, Node
from tests.lab.conftest import settled
from tests.lab.routing import (
    bfd,
    bfd_is_up,
    bird_of,
    blocks,
    cut,
    established,
    peers,
    restart_bird,
    routes,
    to_node,
    to_router,
    wait_until_it_speaks,
)
from tests.lab.test_live_change import streams
from tests.pure.ipam.making import LONG
from tests.waiting import eventually

PATIENCE = 60.0
NODES = ("node-0", "node-1", "node-2")

Manifest = dict[str, Any]


def configuration(**spec: object) -> Manifest:
    return {"apiVersion": "netloom.io/v1", "kind": "BGPConfiguration", "metadata": {"name": "default"}, "spec": spec}


def peer(name: str, address: str, number: int, **spec: object) -> Manifest:
    spec = {"peerIP": address, "asNumber": number, **spec}
    return {"apiVersion": "netloom.io/v1", "kind": "BGPPeer", "metadata": {"name": name}, "spec": spec}


def declare(lab: Lab, *manifests: Manifest) -> None:
    datastore = connect(datastore_of(lab.name))
    try:
        read = manifest.read((f"{i}", msgspec.json.encode(each)) for i, each in enumerate(manifests))
        assert not read.errors, read.errors
        for item in read.items:
            stored = datastore.get(item.resource.kind, item.resource.key)
            if stored is None:
                datastore.create(item.resource)
            else:
                datastore.update(item.resource, stored.revision)
    finally:
        datastore.close()


def withdraw(lab: Lab, kind: str, *names: str) -> None:
    datastore = connect(datastore_of(lab.name))
    try:
        for name in names:
            datastore.delete(kind, name)
    finally:
        datastore.close()


def ways(lab: Lab, node: str) -> Mapping[str, tuple[str, str]]:
    """To others' blocks: through whom, and whose the routes are."""
    theirs = {str(block) for other, there in blocks(lab).items() if other != node for block in there}
    words = [line.split() for line in routes(lab, node)]
    return {w[0]: (w[w.index("via") + 1], w[w.index("proto") + 1]) for w in words if w[0] in theirs and "via" in w}


def all_go(lab: Lab, proto: str, router: Router | None = None) -> bool:
    """Every node sends to every other one directly, or through the router; by routes that are the agent's or BIRD's."""
    for node in lab.topology.nodes:
        hops = {other.name: to_node(lab, other) for other in lab.topology.nodes}
        if router:
            hops = dict.fromkeys(hops, to_router(lab, router, node.switch))
        wanted = {
            str(b): (str(hops[other].via[b.version]), proto)
            for other, there in blocks(lab).items()
            if other != node.name
            for b in there
        }
        lines = [line for line in routes(lab, node.name) if line.split()[0] in wanted]
        if ways(lab, node.name) != wanted or len(lines) != len(wanted):
            return False
    return True


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Three nodes on one switch, with a route reflector and a top-of-rack router that nobody knows yet.  BGP is off."""
    name = f"t{os.getpid()}-loss"
    topology = one_switch(name, nodes=3, pods=3, encapsulation=Encapsulation.NONE)
    topology = msgspec.structs.replace(
        topology,
        routers=(
            Router(name="tor", switches=("switch",), as_number=65000, peers=NODES),
            Router(name="reflector", switches=("switch",), as_number=64512, cluster_id="10.0.0.1", peers=NODES),
        ),
        bgp=True,
    )
    try:
        made = cluster.up(topology)
        assert settled(made)
        yield made
    finally:
        cluster.down(name)


@pytest.fixture
def mesh(lab: Lab) -> Lab:
    """The lab, with its nodes in a full mesh."""
    declare(lab, configuration())
    eventually(lambda: all_go(lab, "bird"), PATIENCE)
    return lab


def test_a_cluster_goes_from_the_agents_routes_to_birds_and_back(lab: Lab) -> None:
    eventually(lambda: all_go(lab, "79"), PATIENCE)
    with streams(lab) as sent:
        for _ in range(5 if LONG else 2):
            declare(lab, configuration())
            eventually(lambda: all_go(lab, "bird"), PATIENCE)
            withdraw(lab, "BGPConfiguration", "default")
            eventually(lambda: all_go(lab, "79"), PATIENCE)
    assert "\n".join(sent.lost) == ""


def test_a_bird_is_killed_and_killed_again_before_its_peers_have_told_it_everything(mesh: Lab) -> None:
    chance = random.Random(8)
    with streams(mesh) as sent:
        before = routes(mesh, "node-0", "proto", "bird")
        for _ in range(10 if LONG else 2):
            for pause in (0.0, chance.random() * 3):
                time.sleep(pause)
                restart_bird(mesh, "node-0")
            wait_for_sessions_of(mesh, "node-0", 4)
    assert "\n".join(sent.lost) == ""
    assert routes(mesh, "node-0", "proto", "bird") == before


def wait_for_sessions_of(lab: Lab, node: str, number: int) -> None:
    eventually(lambda: len(established(lab, node)) == number, PATIENCE)


def test_configurations_that_change_elsewhere_move_no_route(mesh: Lab) -> None:
    """A peer that is not there comes and goes: every BIRD reads its file anew each time."""
    with streams(mesh) as sent:
        for _ in range(50 if LONG else 5):
            declare(mesh, peer("elsewhere", "192.168.100.99", 65099))
            eventually(lambda: all(len(peers(mesh, node)) == 5 for node in NODES), PATIENCE)
            withdraw(mesh, "BGPPeer", "elsewhere")
            eventually(lambda: all(len(peers(mesh, node)) == 4 for node in NODES), PATIENCE)
    assert "\n".join(sent.lost) == ""
    assert all(len(established(mesh, node)) == 4 for node in NODES)


@pytest.mark.parametrize("number", [pytest.param(signal.SIGTERM, marks=pytest.mark.long), signal.SIGKILL])
def test_agents_restart(mesh: Lab, number: signal.Signals) -> None:
    birds = [bird_of(mesh, node) for node in NODES]
    with streams(mesh) as sent:
        for node in mesh.topology.nodes:
            mesh.stop_agent(node.name, number)
            mesh.start_agents((node,))
        eventually(lambda: all_go(mesh, "bird"), PATIENCE)
    assert "\n".join(sent.lost) == ""
    assert [bird_of(mesh, node) for node in NODES] == birds


def test_a_mesh_becomes_reflectors_and_then_a_fabric(mesh: Lab) -> None:
    """New peers first; the old ones go when the new ones are there."""
    tor, reflector = mesh.topology.routers
    for router in (tor, reflector):  # nobody has spoken to them yet
        wait_until_it_speaks(mesh, router.name)
    with streams(mesh) as sent:
        addresses = [a.ip for a in mesh.topology.router_addresses(reflector, "switch")]
        declare(mesh, *(peer(f"reflector-{a.version}", str(a), 64512) for a in addresses))
        eventually(lambda: all(len(established(mesh, node)) == 6 for node in NODES), PATIENCE)
        declare(mesh, configuration(nodeToNodeMeshEnabled=False))
        eventually(lambda: all(len(peers(mesh, node)) == 2 for node in NODES), PATIENCE)
        eventually(lambda: all_go(mesh, "bird"), PATIENCE)
        addresses = [a.ip for a in mesh.topology.router_addresses(tor, "switch")]
        declare(mesh, *(peer(f"tor-{a.version}", str(a), 65000, numAllowedLocalASNumbers=1) for a in addresses))
        eventually(lambda: all(len(established(mesh, node)) == 4 for node in NODES), PATIENCE)
        withdraw(mesh, "BGPPeer", "reflector-4", "reflector-6")
        eventually(lambda: all_go(mesh, "bird", tor), PATIENCE)
        declare(mesh, configuration(nodeToNodeMeshEnabled=True))
        eventually(lambda: all(len(established(mesh, node)) == 6 for node in NODES), PATIENCE)
        withdraw(mesh, "BGPPeer", "tor-4", "tor-6")
        eventually(lambda: all_go(mesh, "bird"), PATIENCE)
    assert "\n".join(sent.lost) == ""


def test_all_sessions_begin_anew_in_another_as_and_with_another_hold_time(mesh: Lab) -> None:
    with streams(mesh) as sent:
        declare(mesh, configuration(asNumber=64999, nodeMeshHoldTime="30s"))
        eventually(lambda: agreed(mesh) == {(64999, 30)}, PATIENCE)
        eventually(lambda: all_go(mesh, "bird"), PATIENCE)
    assert "\n".join(sent.lost) == ""


def test_a_node_becomes_the_reflector_of_the_others_and_a_node_again(mesh: Lab) -> None:
    between = {
        "apiVersion": "netloom.io/v1",
        "kind": "BGPPeer",
        "metadata": {"name": "inside"},
        "spec": {"peerSelector": "role == 'reflector'"},
    }
    with streams(mesh) as sent:
        declare(mesh, between)
        make(mesh, "node-0", "reflector", NodeBGP(route_reflector_cluster_id="10.0.0.9"))
        eventually(lambda: {name[:6] for name in established(mesh, "node-0")} == {"peer_i"}, PATIENCE)
        declare(mesh, configuration(nodeToNodeMeshEnabled=False))
        eventually(lambda: not any(name.startswith("mesh") for node in NODES for name in peers(mesh, node)), PATIENCE)
        eventually(lambda: all_go(mesh, "bird"), PATIENCE)
        declare(mesh, configuration())
        make(mesh, "node-0", "worker", NodeBGP())
        withdraw(mesh, "BGPPeer", "inside")
        eventually(lambda: all(len(established(mesh, node)) == 4 for node in NODES), PATIENCE)
        eventually(lambda: all_go(mesh, "bird"), PATIENCE)
    assert "\n".join(sent.lost) == ""


def make(lab: Lab, name: str, role: str, bgp: NodeBGP) -> None:
    datastore = connect(datastore_of(lab.name))
    try:
        stored = datastore.get("Node", name)
        assert stored is not None and isinstance(stored.resource, Node)
        node = stored.resource
        metadata = msgspec.structs.replace(node.metadata, labels={**node.metadata.labels, "role": role})
        datastore.update(Node(metadata=metadata, spec=msgspec.structs.replace(node.spec, bgp=bgp)), stored.revision)
    finally:
        datastore.close()


def agreed(lab: Lab) -> set[tuple[int, int]]:
    """AS and hold time of the nodes' sessions."""
    return {(p.remote_as, p.hold_time) for node in NODES for p in peers(lab, node).values()}


def test_bfd_comes_and_goes(mesh: Lab) -> None:
    """A patient one: on a busy machine nobody is to be taken for dead."""
    with streams(mesh) as sent:
        declare(mesh, configuration(nodeMeshBFD={"multiplier": 30}))
        eventually(lambda: all(bfd_is_up(mesh, node) for node in NODES), PATIENCE)
        declare(mesh, configuration())
        eventually(lambda: all(not bfd(mesh, node) for node in NODES), PATIENCE)
    assert "\n".join(sent.lost) == ""
    assert all(len(established(mesh, node)) == 4 for node in NODES)


def test_with_bfd_a_dead_nodes_routes_go_long_before_the_hold_time(mesh: Lab) -> None:
    declare(mesh, configuration(nodeMeshBFD={}))
    eventually(lambda: all(bfd_is_up(mesh, node) for node in NODES), PATIENCE)
    with cut(mesh, "switch", "node-2"):
        eventually(lambda: not to_dead(mesh))
    eventually(lambda: all_go(mesh, "bird"), PATIENCE)


def test_without_bfd_a_dead_nodes_routes_go_after_hold_time_and_restart_time(mesh: Lab) -> None:
    declare(mesh, configuration(nodeMeshHoldTime="6s", nodeMeshMaxRestartTime="1s"))
    eventually(lambda: {p.hold_time for node in NODES for p in peers(mesh, node).values()} == {6}, PATIENCE)
    with cut(mesh, "switch", "node-2"):
        eventually(lambda: not to_dead(mesh))
    eventually(lambda: all_go(mesh, "bird"), PATIENCE)


def to_dead(lab: Lab) -> set[str]:
    """Routes of the first node to the third one's blocks."""
    return {str(block) for block in blocks(lab)["node-2"]} & set(ways(lab, "node-0"))
