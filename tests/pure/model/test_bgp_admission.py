"""What does not fit to the nodes, pools, filters and secrets that there are is refused, and named, before it is written."""

from __future__ import annotations

from typing import Any

import pytest

from netloom.model.admission import check_against, check_deletion
from netloom.model.resources import AnyResource, convert
from netloom.model.snapshot import Snapshot


def made(kind: str, name: str, spec: object = None, **fields: Any) -> AnyResource:
    labels = fields.pop("labels", {})
    return convert(
        {"kind": kind, "metadata": {"name": name, "labels": labels}, **({"spec": spec} if spec is not None else {}), **fields}
    )


def node(number: int, **labels: str) -> AnyResource:
    return made("Node", f"n{number}", {"id": str(number), "addresses": [f"192.0.2.{number}/24"]}, labels=labels)


def peer(name: str = "tor", **spec: Any) -> AnyResource:
    return made("BGPPeer", name, {"peerIP": "192.0.2.254", "asNumber": 64513, **spec})


def configuration(name: str = "default", **spec: Any) -> AnyResource:
    return made("BGPConfiguration", name, spec)


SECRET = made("Secret", "fabric", data={"tor": "aHVzaA=="})
FILTER = made("BGPFilter", "in", {"importV4": [{"action": "Reject"}]})
NODES = [node(1, rack="a"), node(2, rack="b")]


def refusals(existing: list[AnyResource], *new: AnyResource) -> list[str]:
    return [f"{p.resource.name} {p.path}: {p.message}" for p in check_against(Snapshot.of(1, existing), new)]


def kept(existing: list[AnyResource], *removed: AnyResource) -> list[str]:
    return [f"{p.resource.name}: {p.message}" for p in check_deletion(Snapshot.of(1, existing), removed)]


def password(name: str = "fabric", key: str = "tor", **more: object) -> dict[str, object]:
    return {"password": {"secretKeyRef": {"name": name, "key": key, **more}}}


def test_what_fits_is_admitted() -> None:
    assert refusals([*NODES, SECRET, FILTER], peer(filters=["in"], **password()), configuration()) == []
    assert refusals(NODES, SECRET, FILTER, peer(filters=["in"], **password())) == []


@pytest.mark.parametrize("who", [{"node": "n1"}, {"nodeSelector": "rack == 'a'"}])
def test_nobody_peers_with_itself(who: dict[str, str]) -> None:
    assert refusals(NODES, peer(peerIP="192.0.2.1", **who)) == [
        "tor spec.peerIP: 192.0.2.1 is the address of node n1 itself, and nobody peers with itself"
    ]


def test_all_may_peer_with_one_node_at_its_address() -> None:
    assert refusals(NODES, peer(peerIP="192.0.2.1")) == []


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ({}, {}, "for all nodes"),
        ({}, {"node": "n2"}, "for n2, too"),
        ({"nodeSelector": "rack == 'a'"}, {"node": "n1"}, "for n1, too"),
        ({"nodeSelector": "has(rack)"}, {}, "for n1, n2, too"),
    ],
)
def test_two_peers_at_one_address_are_one_too_many(one: dict[str, str], other: dict[str, str], words: str) -> None:
    refused = [f"b spec.peerIP: BGPPeer a has 192.0.2.254 already, {words}; a node has one session with one address"]
    assert refusals([*NODES, peer("a", **one)], peer("b", **other)) == refused
    assert refusals(NODES, peer("a", **one), peer("b", **other)) == refused
    assert refusals([*NODES, peer("b", **other)], peer("a", **one)) == [
        refused[0].replace("b spec", "a spec").replace("BGPPeer a", "BGPPeer b")
    ]


def test_different_nodes_may_have_the_same_gateway() -> None:
    assert refusals(NODES, peer("a", node="n1"), peer("b", nodeSelector="rack == 'b'")) == []


def test_a_peer_may_be_written_again() -> None:
    assert refusals([*NODES, peer()], peer(asNumber=64514)) == []


def test_a_filter_has_to_be_there() -> None:
    assert refusals([FILTER], peer(filters=["in", "out"])) == ["tor spec.filters[1]: there is no BGPFilter out"]
    assert kept([FILTER, peer(filters=["in"])], FILTER) == ["in: BGPPeer tor goes by it"]
    assert kept([FILTER, peer(filters=["in"])], FILTER, peer(filters=["in"])) == []
    assert kept([FILTER, peer()], FILTER) == []


def test_a_password_has_to_be_there_unless_it_is_said_to_be_elsewhere() -> None:
    assert refusals([], peer(**password())) == [
        "tor spec.password.secretKeyRef: there is no Secret fabric: its password is missing"
    ]
    assert refusals([SECRET], peer(**password(key="spine"))) == [
        "tor spec.password.secretKeyRef: there is no key spine in Secret fabric: its password is missing"
    ]
    assert refusals([], peer(**password(optional=True))) == []
    mesh = {"nodeMeshPassword": {"secretKeyRef": {"name": "fabric", "key": "mesh"}}}
    assert refusals([SECRET], configuration(**mesh)) == [
        "default spec.nodeMeshPassword.secretKeyRef: there is no key mesh in Secret fabric: its password is missing"
    ]
    assert kept([SECRET, peer(**password())], SECRET) == ["fabric: BGPPeer tor has its password there"]
    assert kept([SECRET, configuration(**mesh)], SECRET) == ["fabric: BGPConfiguration default has its password there"]
    assert kept([SECRET, peer(**password(optional=True))], SECRET) == []


def test_communities_are_called_by_names_that_they_have() -> None:
    advertised = {"prefixAdvertisements": [{"cidr": "10.0.0.0/8", "communities": ["far", "65000:1"]}]}
    words = "spec.prefixAdvertisements[0].communities: no community is called far"
    assert refusals([], configuration(**advertised)) == [f"default {words}"]
    named = configuration(communities=[{"name": "far", "value": "65000:2"}])
    assert refusals([named], configuration("node.n1", **advertised)) == []
    assert refusals([], configuration("node.n1", **advertised)) == [f"node.n1 {words}"]


def test_services_and_pools_are_apart() -> None:
    pool = made("IPPool", "p", {"cidr": "10.244.0.0/16"})
    services = configuration(serviceClusterIPs=[{"cidr": "10.96.0.0/12"}, {"cidr": "10.244.128.0/20"}])
    refused = "default spec.serviceClusterIPs[1].cidr: 10.244.128.0/20 overlaps pool p (10.244.0.0/16)"
    assert refusals([pool], services) == [refused]
    assert refusals([], pool, services) == [refused]
    assert refusals([services], pool) == [
        "p spec.cidr: 10.244.0.0/16 overlaps a range in BGPConfiguration default, serviceClusterIPs"
    ]


def test_people_say_of_a_nodes_bgp_what_is_theirs_to_say() -> None:
    assert refusals(NODES, made("Node", "n1", {"bgp": {"asNumber": 65001}, "draining": True})) == []
    assert refusals(NODES, made("Node", "n1", {"bgp": {"ipv4Address": "192.0.2.1/24"}})) == []
    assert refusals(NODES, made("Node", "n1", {"bgp": {"ipv4Address": "192.0.2.7/24"}})) == [
        "n1 spec.bgp.ipv4Address: 192.0.2.7 is not what node n1 has: 192.0.2.1"
    ]
    assert refusals(NODES, made("Node", "n1", {"bgp": {"asNumber": 65001}, "mtu": 9000})) == [
        "n1 spec: a node writes its own spec"
    ]
