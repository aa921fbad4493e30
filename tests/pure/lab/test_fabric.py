"""What routers of a lab are configured with; that BIRD takes it, and that it works, tests/lab shows."""

import ipaddress

import msgspec
import pytest

from netloom.lab.fabric import configuration
from netloom.lab.topology import Node, Router, Switch, Topology
from netloom.model.resources import IPPoolSpec

net = ipaddress.ip_network


def rack(**router: object) -> Topology:
    return Topology(
        switches=(
            Switch(name="rack", subnets=(net("10.1.0.0/24"), net("fd01::/64"))),
            Switch(name="far", subnets=(net("10.2.0.0/24"),)),
        ),
        routers=(
            msgspec.structs.replace(Router(name="tor-a", switches=("rack",), as_number=65001, peers=("near",)), **router),
            Router(name="spine", switches=("far", "rack"), as_number=65000, peers=("tor-a",)),
        ),
        nodes=(Node(name="near", switch="rack"), Node(name="away", switch="far")),
        pools=(IPPoolSpec(cidr=net("10.244.0.0/16")),),
        bgp=True,
    )


def of(topology: Topology, name: str) -> str:
    return configuration(topology, next(r for r in topology.routers if r.name == name))


def sessions(text: str) -> dict[str, str]:
    return {block.split()[0]: block for block in text.split("protocol bgp ")[1:]}


def test_a_session_for_each_family_stands_on_the_link_that_both_have() -> None:
    found = sessions(of(rack(), "tor-a"))
    assert list(found) == ["spine_4", "spine_6", "near_4", "near_6"]
    assert "local 10.1.0.1 as 65001;\n    neighbor 10.1.0.11 as 64512;\n    direct;" in found["near_4"]
    assert "neighbor fd01::2 as 65000" in found["spine_6"]


def test_one_of_two_routers_says_that_they_are_peers() -> None:
    assert list(sessions(of(rack(), "spine"))) == ["tor_a_4", "tor_a_6"]


def test_who_is_on_no_link_of_the_router_is_reached_over_others() -> None:
    found = sessions(of(rack(peers=("away",)), "tor-a"))
    assert "neighbor 10.2.0.11 as 64512;\n    multihop;" in found["away_4"]
    assert "away_6" not in found


def test_only_peers_of_its_own_as_are_a_reflectors_clients() -> None:
    found = sessions(of(rack(as_number=64512, cluster_id="0.0.0.7"), "tor-a"))
    assert "rr client; rr cluster id 0.0.0.7;" in found["near_4"] and "next hop self ebgp;" in found["near_4"]
    assert "rr client" not in found["spine_4"] and "next hop self;" in found["spine_4"]


def test_peers_of_another_as_are_told_of_subnets_but_not_of_the_one_they_are_on() -> None:
    found = sessions(of(rack(as_number=64512), "tor-a"))
    assert "if source = RTS_DEVICE && ! (net ~ [ 10.1.0.0/24 ]) then accept;" in found["spine_4"]
    assert "RTS_DEVICE" not in found["near_4"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"as_number": 2**32}, "asNumber: 4294967296 is out of range"),
        ({"as_number": 0}, "asNumber: who has peers, clusterId or bfd needs one"),
        (
            {"peers": ("nobody",)},
            r"routers\[0\].peers\[0\]: there is no peer that speaks BGP 'nobody'; there is tor-a, spine, near, away",
        ),
    ],
)
def test_what_is_no_speaker_is_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rack(**change)


def test_nodes_are_declared_with_what_the_file_says_of_them() -> None:
    topology = msgspec.structs.replace(rack(), nodes=(Node(name="near", switch="rack", labels={"rack": "a"}),))
    assert [(r.kind, r.name, r.metadata.labels) for r in topology.declared()] == [("Node", "near", {"rack": "a"})]


def test_a_manifest_that_is_none_is_named() -> None:
    with pytest.raises(ValueError, match=r"resources\[0\]: .*kind"):
        msgspec.structs.replace(rack(), resources=({"apiVersion": "netloom.io/v1", "kind": "Cloud"},))


def test_a_node_with_more_uplinks_has_an_address_on_each() -> None:
    topology = msgspec.structs.replace(rack(), nodes=(Node(name="near", switch="rack", uplinks=("far",)),))
    assert [str(a) for a in topology.node_addresses(topology.nodes[0])] == ["10.1.0.11/24", "fd01::b/64"]
    assert [str(a) for a in topology.node_addresses(topology.nodes[0], "far")] == ["10.2.0.11/24"]
