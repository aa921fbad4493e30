import ipaddress

import msgspec
import pytest

from netloom.lab.topology import Member, Node, Router, Switch, Topology, altered, cables, one_switch, static_routes
from netloom.model.attachments import Wiring
from netloom.model.resources import Encapsulation, IPPoolSpec

net = ipaddress.ip_network


def leaf_and_spine() -> Topology:
    return Topology(
        switches=(
            Switch(name="rack-a", subnets=(net("10.1.0.0/24"), net("fd01::/64"))),
            Switch(name="rack-b", subnets=(net("10.2.0.0/24"), net("fd02::/64"))),
            Switch(name="spine", subnets=(net("10.9.0.0/24"), net("fd09::/64"))),
        ),
        routers=(Router(name="tor-a", switches=("rack-a", "spine")), Router(name="tor-b", switches=("rack-b", "spine"))),
        nodes=(Node(name="a", switch="rack-a"), Node(name="b", switch="rack-b")),
        pools=(IPPoolSpec(cidr=net("10.244.0.0/16")),),
    )


def test_three_nodes_share_a_switch_and_pods_are_dealt_out_one_by_one() -> None:
    lab = one_switch(nodes=3, pods=6)
    assert [node.switch for node in lab.nodes] == ["switch"] * 3
    assert [pod.node for pod in lab.pods] == ["node-0", "node-1", "node-2"] * 2


def test_addresses_follow_from_the_order_of_the_declarations() -> None:
    found = {(c.place, c.interface): [str(a) for a in c.addresses] for c in cables(leaf_and_spine())}
    assert found == {
        ("tor-a", "rack-a"): ["10.1.0.1/24", "fd01::1/64"],
        ("tor-a", "spine"): ["10.9.0.1/24", "fd09::1/64"],
        ("tor-b", "rack-b"): ["10.2.0.1/24", "fd02::1/64"],
        ("tor-b", "spine"): ["10.9.0.2/24", "fd09::2/64"],
        ("a", "eth0"): ["10.1.0.11/24", "fd01::b/64"],
        ("b", "eth0"): ["10.2.0.11/24", "fd02::b/64"],
    }


def test_nodes_have_a_default_route_and_routers_reach_what_lies_beyond_the_next_one() -> None:
    routes = {place: [f"{p} via {g}" for p, g in found] for place, found in static_routes(leaf_and_spine()).items()}
    assert routes == {
        "tor-a": ["10.2.0.0/24 via 10.9.0.2", "fd02::/64 via fd09::2"],
        "tor-b": ["10.1.0.0/24 via 10.9.0.1", "fd01::/64 via fd09::1"],
        "a": ["0.0.0.0/0 via 10.1.0.1", "::/0 via fd01::1"],
        "b": ["0.0.0.0/0 via 10.2.0.1", "::/0 via fd02::1"],
    }


def test_a_node_without_a_router_has_no_default_route() -> None:
    lab = msgspec.structs.replace(one_switch(), routers=())
    assert not any(static_routes(lab).values())


def test_a_lab_is_altered_as_a_whole() -> None:
    lab = altered(one_switch(), name="other", encapsulation=Encapsulation.NONE, wiring=Wiring.BRIDGE)
    assert (lab.name, lab.wiring) == ("other", Wiring.BRIDGE)
    assert {pool.encapsulation for pool in lab.pools} == {Encapsulation.NONE}
    assert altered(lab) == lab


def test_a_lab_is_altered_to_a_mesh_once() -> None:
    lab = altered(one_switch(), encapsulation=Encapsulation.NONE, mesh=True)
    assert lab.bgp and [(r.kind, r.name) for r in lab.declared()] == [("BGPConfiguration", "default")]
    assert altered(lab, mesh=True) == lab


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mtu": 100}, "mtu: 100 is out of range"),
        ({"nodes": (Node(name="x", switch="y"),), "pods": ()}, r"nodes\[0\].switch: there is no switch 'y'; there is switch"),
        (
            {"nodes": (Node(name="switch", switch="switch"),), "pods": ()},
            r"nodes\[0\].name: 'switch' is the name of switches\[0\]",
        ),
        ({"pools": (IPPoolSpec(cidr=net("192.168.0.0/16")),)}, r"pools\[0\].cidr: 192.168.0.0/16 overlaps 192.168.100.0/24"),
        ({"switches": (Switch(name="switch", subnets=(net("10.0.0.0/29"),)),)}, r"switches\[0\].subnets\[0\]: .* too small"),
    ],
)
def test_what_does_not_fit_together_is_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        msgspec.structs.replace(one_switch(), **change)


@pytest.mark.parametrize("name", ["", "-a", "A", "a_b", "0a", "a" * 16, "a/b", "a-"])
def test_a_place_has_a_name_that_fits_a_port_and_a_path(name: str) -> None:
    with pytest.raises(ValueError, match="is not a name here"):
        Node(name=name, switch="switch")


def test_members_of_an_etcd_have_the_addresses_after_the_nodes() -> None:
    topology = one_switch(nodes=2, etcd=2)
    assert [str(topology.member_addresses(m)[0]) for m in topology.etcd] == ["192.168.100.13/24", "192.168.100.14/24"]
    assert {cable.place for cable in cables(topology)} >= {"etcd-0", "etcd-1"}
    assert {"etcd-0", "etcd-1"} <= set(static_routes(topology))


def test_a_member_of_an_etcd_is_on_a_switch_that_there_is() -> None:
    with pytest.raises(ValueError, match=r"etcd\[0\].switch: there is no switch 'elsewhere'"):
        msgspec.structs.replace(one_switch(), etcd=(Member(name="etcd-0", switch="elsewhere"),))
