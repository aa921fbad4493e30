"""A pool goes into a tunnel and out of it while BGP is on, with neighbours and across a router that knows pods: nothing is lost."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from netloom.lab import cluster
from netloom.lab.cluster import Lab
from netloom.lab.manifest import decode
from netloom.model.resources import Encapsulation
from tests.lab.conftest import settled
from tests.lab.routing import blocks, routes, wait_for_sessions
from tests.lab.test_live_change import changing, streams
from tests.waiting import eventually

PATIENCE = 60.0
TOPOLOGY = """
switches:
  - {name: rack-a, subnets: [10.1.0.0/24, "fd01::/64"]}
  - {name: rack-b, subnets: [10.2.0.0/24, "fd02::/64"]}
routers:
  - {name: tor, switches: [rack-a, rack-b], asNumber: 64512, clusterId: 10.0.0.1, peers: [a-0, a-1, b-0]}
bgp: true
nodes:
  - {name: a-0, switch: rack-a, labels: {rack: a}}
  - {name: a-1, switch: rack-a, labels: {rack: a}}
  - {name: b-0, switch: rack-b, labels: {rack: b}}
pods:
  - {name: pod-a0, node: a-0}
  - {name: pod-a1, node: a-1}
  - {name: pod-b0, node: b-0}
pools:
  - {cidr: 10.244.0.0/16, encapsulation: None}
  - {cidr: "fd00:10:244::/48", encapsulation: None}
resources:
  - {apiVersion: netloom.io/v1, kind: BGPConfiguration, metadata: {name: default}, spec: {nodeToNodeMeshEnabled: false}}
  - {apiVersion: netloom.io/v1, kind: BGPPeer, metadata: {name: a}, spec: {nodeSelector: rack == 'a', peerIP: 10.1.0.1, asNumber: 64512}}
  - {apiVersion: netloom.io/v1, kind: BGPPeer, metadata: {name: b}, spec: {nodeSelector: rack == 'b', peerIP: 10.2.0.1, asNumber: 64512}}
  - {apiVersion: netloom.io/v1, kind: BGPPeer, metadata: {name: a-6}, spec: {nodeSelector: rack == 'a', peerIP: "fd01::1", asNumber: 64512}}
  - {apiVersion: netloom.io/v1, kind: BGPPeer, metadata: {name: b-6}, spec: {nodeSelector: rack == 'b', peerIP: "fd02::1", asNumber: 64512}}
"""
PLAIN, TUNNELLED = "bird", "79"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    name = f"t{os.getpid()}-pools"
    try:
        made = cluster.up(decode(f"name: {name}\n{TOPOLOGY}", "the test"))
        wait_for_sessions(made)
        assert list(settled(made).problems()) == []
        yield made
    finally:
        cluster.down(name)


def owners(lab: Lab, node: str) -> dict[str, set[str]]:
    """By whose routes each other node is reached."""
    found: dict[str, set[str]] = {}
    lines = [line.split() for line in routes(lab, node)]
    for other, there in blocks(lab).items():
        if other != node:
            found[other] = {w[w.index("proto") + 1] for b in there for w in lines if w[0] == str(b) and "proto" in w}
    return found


def leads(lab: Lab, far: str, near: str) -> bool:
    """Whether all routes to nodes in other racks, and to neighbours, are theirs alone."""
    racks = {node.name: node.switch for node in lab.topology.nodes}
    return all(
        whose == {near if racks[other] == racks[node] else far} for node in racks for other, whose in owners(lab, node).items()
    )


def test_a_pool_goes_into_a_tunnel_and_out_of_it_under_bgp(lab: Lab) -> None:
    walk = [
        (Encapsulation.IPIP, TUNNELLED, TUNNELLED),
        (Encapsulation.NONE, PLAIN, PLAIN),
        (Encapsulation.VXLAN_CROSS_SUBNET, TUNNELLED, PLAIN),
        (Encapsulation.VXLAN, TUNNELLED, TUNNELLED),
        (Encapsulation.NONE, PLAIN, PLAIN),
    ]
    with changing(lab) as change, streams(lab) as sent:
        eventually(lambda: leads(lab, PLAIN, PLAIN), PATIENCE)
        for encapsulation, far, near in walk:
            change.encapsulation(encapsulation)
            eventually(lambda far=far, near=near: leads(lab, far, near), PATIENCE)
    assert "\n".join(sent.lost) == ""
    assert list(settled(lab).problems()) == []
