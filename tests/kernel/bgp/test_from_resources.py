"""From manifests to what two BIRDs say to each other: who peers with whom, from which port, and with which communities."""

from __future__ import annotations

import time
from collections.abc import Iterator
from ipaddress import ip_interface, ip_network
from typing import Any

import pytest

from netloom.bgp.status import routes
from netloom.bgp.wording import trouble
from netloom.calc import bgp
from netloom.calc.tables import Tables
from netloom.model.host import Host, Uplink
from netloom.model.resources import AnyResource, convert
from netloom.model.routing import Announced, BgpConfig, Secret, Trust
from netloom.model.snapshot import Snapshot
from tests.bird_pair import Node
from tests.kernel.bgp.test_sessions import listening
from tests.waiting import eventually

Pair = tuple[Node, Node]
LABELS = {"a": {"rack": "left"}, "b": {"rack": "right"}}


@pytest.fixture
def cluster(nodes: Pair) -> Iterator[Cluster]:
    yield Cluster(nodes)
    for node in nodes:
        node.secrets.clear()


def made(kind: str, name: str, **spec: Any) -> AnyResource:  # Any: what a manifest holds
    return convert({"kind": kind, "metadata": {"name": name}, "spec": spec})


def peer(name: str, **spec: Any) -> AnyResource:
    return made("BGPPeer", name, **spec)


class Cluster:
    """Both nodes, with one pool for each family."""

    def __init__(self, nodes: Pair) -> None:
        self._nodes = nodes
        self.wanted: dict[str, BgpConfig] = {}

    def apply(self, *resources: AnyResource, **of_nodes: dict[str, Any]) -> None:
        """To the one BIRD and the other, as each node's agent computes it.  `of_nodes`: `spec.bgp` by name."""
        snapshot = Snapshot.of(1, [*self._resources(of_nodes), *resources])
        for node in self._nodes:
            self._apply(node, snapshot)

    def apply_without_the_second(self, *resources: AnyResource) -> list[str]:
        """To the one; the other is no node.  Returns the problems."""
        a, b = self._nodes
        nodes = [resource for resource in self._resources({}) if resource.name != b.name]
        return self._apply(a, Snapshot.of(1, [*nodes, *resources]))

    def words(self, node: Node, name: str) -> str:
        """What is wrong with its session of that name."""
        [session] = [session for session in self.wanted[node.name].sessions if session.name == name]
        return trouble(session, node.bird.peers().get(name), time.time())

    def _apply(self, node: Node, snapshot: Snapshot) -> list[str]:
        addresses = _addresses(node)
        blocks, uplinks = (node.block, node.block6), {"up0": Uplink("up0", 1500, addresses)}
        host = Host(node=node.name, node_id=node.name, addresses=addresses, uplinks=uplinks, blocks=blocks)
        tables = Tables()
        config = bgp.config(snapshot, host, tables, ())
        assert config is not None
        self.wanted[node.name] = config
        node.apply(config)
        return tables.problems

    def _resources(self, of_nodes: dict[str, dict[str, Any]]) -> Iterator[AnyResource]:
        for node in self._nodes:
            addresses = [str(address) for address in _addresses(node)]
            spec = {"id": node.name, "addresses": addresses, "bgp": of_nodes.get(node.name, {})}
            yield convert({"kind": "Node", "metadata": {"name": node.name, "labels": LABELS[node.name]}, "spec": spec})
        for name, cidr in (("four", "10.244.0.0/16"), ("six", "fd00:244::/48")):
            yield convert({"kind": "IPPool", "metadata": {"name": name}, "spec": {"cidr": cidr, "encapsulation": "None"}})


def _addresses(node: Node) -> tuple[Any, ...]:  # of either family
    return ip_interface(f"{node.address}/24"), ip_interface(f"{node.address6}/64")


def up(node: Node) -> set[str]:
    return {name for name, peer in node.bird.peers().items() if peer.established}


def told(node: Node) -> dict[str, set[str]]:
    """What a peer said, and with which communities."""
    found, _ = routes(node.bird.control.ask("show route all"), 100)
    return {route.destination: set(route.communities) for route in found if route.protocol.startswith(("mesh", "peer"))}


NO_MESH = made("BGPConfiguration", "default", nodeToNodeMeshEnabled=False)


def test_a_mesh_with_ports_addresses_as_numbers_and_communities_of_each_node(nodes: Pair, cluster: Cluster) -> None:
    a, b = nodes
    tagged = {
        "communities": [{"name": "far", "value": "65000:100"}, {"name": "large", "value": "65000:1:2"}],
        "prefixAdvertisements": [
            {"cidr": "10.244.0.0/16", "communities": ["far", "large", "65000:7"]},
            {"cidr": "fd00:244::2:0/112", "communities": ["65000:9"]},
        ],
    }
    cluster.apply(
        made("BGPConfiguration", "default", asNumber=65010, bindMode="NodeIP", **tagged),
        made("BGPConfiguration", "node.a", listenPort=1179),
        made("BGPConfiguration", "node.b", listenPort=1790, bindMode="None"),
        b={"asNumber": 65002},
    )
    eventually(lambda: up(a) == {"mesh_b", "mesh6_b"} and up(b) == {"mesh_a", "mesh6_a"})
    assert {peer.remote_as for peer in a.bird.peers().values()} == {65002}
    assert {peer.remote_as for peer in b.bird.peers().values()} == {65010}
    assert listening(a, 1179) == {"192.0.2.1:1179", "[fd00:2::1]:1179"}
    assert listening(b, 1790) == {"0.0.0.0:1790", "[::]:1790"}
    far = {"65000:100", "65000:7", "65000:1:2"}
    eventually(lambda: told(a) == {"10.244.2.0/26": far, "fd00:244::2:0/122": {"65000:9"}})
    eventually(lambda: told(b) == {"10.244.1.0/26": far, "fd00:244::1:0/122": set()})


def test_nodes_by_selectors_peer_back_by_themselves_unless_it_is_manual(nodes: Pair, cluster: Cluster) -> None:
    a, b = nodes
    there = {"nodeSelector": "rack == 'left'", "peerSelector": "rack == 'right'"}
    cluster.apply(NO_MESH, peer("x", **there))
    both = {f"peer_x_{each}" for each in ("192_0_2_2", "fd00_2__2")}, {f"peer_x_{each}" for each in ("192_0_2_1", "fd00_2__1")}
    eventually(lambda: (up(a), up(b)) == both)
    cluster.apply(NO_MESH, peer("x", **there, reversePeering="Manual"))
    eventually(lambda: up(a) == set() and not b.bird.peers())
    assert a.bird.peers().keys() == both[0], "one end of it stands, and nobody answers"
    back = {"nodeSelector": "rack == 'right'", "peerSelector": "rack == 'left'", "reversePeering": "Manual"}
    cluster.apply(NO_MESH, peer("x", **there, reversePeering="Manual"), peer("y", **back))
    eventually(lambda: len(up(a)) == len(up(b)) == 2)
    assert {name.split("_")[1] for name in up(a)} == {"x"} and {name.split("_")[1] for name in up(b)} == {"y"}


def test_peers_by_address_port_and_password(nodes: Pair, cluster: Cluster) -> None:
    """Each for one node; to a router's port it goes as it is said."""
    a, b = nodes
    for node in nodes:
        node.secrets[Secret("fabric", "key")] = "correct horse"
    common = {
        "password": {"secretKeyRef": {"name": "fabric", "key": "key"}},
        "ttlSecurity": 1,
        "holdTime": "30s",
        "keepaliveTime": "5s",
        "families": ["IPv4", "IPv6"],
    }
    cluster.apply(
        NO_MESH,
        made("BGPConfiguration", "node.b", listenPort=1790),
        peer("to-b", node="a", peerIP="192.0.2.2:1790", asNumber=65002, **common),
        peer("to-a", nodeSelector="rack == 'right'", peerIP="192.0.2.1", asNumber=64512, localASNumber=65002, **common),
    )
    eventually(lambda: (up(a), up(b)) == ({"peer_to_b"}, {"peer_to_a"}))
    assert a.bird.peers()["peer_to_b"].hold_time == 30
    eventually(lambda: told(a).keys() == {"10.244.2.0/26", "fd00:244::2:0/122"})


def test_nodes_that_expect_other_as_numbers_say_which(nodes: Pair, cluster: Cluster) -> None:
    a, b = nodes
    cluster.apply(
        NO_MESH,
        peer("to-b", node="a", peerIP="192.0.2.2", asNumber=65002),
        peer("to-a", node="b", peerIP="192.0.2.1", asNumber=64513, localASNumber=65002),
    )
    said = "refused: they expect AS 64513 (BGPPeer to-a on node b), we send 64512"
    eventually(lambda: cluster.words(a, "peer_to_b") == said)
    said = "refused by us: they send AS 64512 (BGPPeer to-b on node a), we expect 64513"
    eventually(lambda: cluster.words(b, "peer_to_a") == said)


def test_a_node_that_claims_a_routers_address_takes_nothing_from_its_session(nodes: Pair, cluster: Cluster) -> None:
    """Its default route is believed as before, and its port is its own."""
    a, b = nodes
    tor = peer("tor", peerIP="192.0.2.2", asNumber=65002)
    elsewhere = made("BGPConfiguration", "default", nodeToNodeMeshEnabled=False, listenPort=1179)
    default = (Announced(ip_network("0.0.0.0/0"), "a way out"),)
    b.apply(b.config(b.session(a, port=1179, remote_as=64512, local_as=65002, trust=Trust.ANYTHING), announced=default))
    assert cluster.apply_without_the_second(elsewhere, tor) == []
    eventually(lambda: told(a).keys() == {"0.0.0.0/0"})
    before = a.bird.peers()["peer_tor"].since
    liar = convert({"kind": "Node", "metadata": {"name": "liar"}, "spec": {"id": "liar", "addresses": ["192.0.2.2/24"]}})
    problems = cluster.apply_without_the_second(elsewhere, tor, liar)
    assert problems == ["BGPPeer tor: node liar, in AS 64512, says to have its address 192.0.2.2"]
    assert (up(a), told(a).keys()) == ({"peer_tor"}, {"0.0.0.0/0"})
    assert a.bird.peers()["peer_tor"].since == before
