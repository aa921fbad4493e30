"""What the underlay takes, and what it does to the tables: sizes, who is a neighbour, addresses that two nodes show."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from netloom.calc import desired
from netloom.model.addresses import Prefix
from netloom.model.desired import Finisher, Tunnel, Vxlan
from netloom.model.host import Host, Uplink
from netloom.model.resources import Encapsulation
from netloom.model.snapshot import Snapshot
from tests.pure.calc.test_desired import HOST, block, interface, node, pool, prefix

V6: Prefix = prefix("fd00:244::/48")
V6_BLOCK = "fd00:244::100/122"
OWN_V6 = prefix("fd00:244::/122")


@pytest.mark.parametrize(
    ("encapsulation", "device", "mtu"),
    [(Encapsulation.VXLAN, "loom.vxlan", 1370), (Encapsulation.IPIP, "loom.ipip", 1400), (Encapsulation.UDP, "loom.udp", 1392)],
)
def test_a_tunnel_is_as_small_as_the_ways_to_the_other_nodes(encapsulation: Encapsulation, device: str, mtu: int) -> None:
    found = desired(Snapshot.of(1, [pool(encapsulation)]), [], replace(HOST, mtu=1420))
    link = found.links[device]
    assert isinstance(link, Vxlan | Tunnel)
    assert link.mtu == mtu


@pytest.mark.parametrize("encapsulation", [Encapsulation.VXLAN, Encapsulation.IPIP, Encapsulation.UDP])
def test_where_ipv6_does_not_fit_its_routes_are_left_out_and_that_is_said_once(encapsulation: Encapsulation) -> None:
    resources = [pool(encapsulation), pool(encapsulation, str(V6)), node(2), block(2), block(2, V6_BLOCK)]
    host = replace(HOST, blocks=(*HOST.blocks, OWN_V6), tunnel_addresses=(*HOST.tunnel_addresses, OWN_V6.network_address))
    for mtu, fits in ((1500, True), (1290, False)):
        found = desired(Snapshot.of(1, resources), [], replace(host, mtu=mtu))
        assert any(key.prefix == prefix(V6_BLOCK) for key in found.routes) is fits
        assert any(key.prefix == prefix("10.244.2.0/26") for key in found.routes), "IPv4 goes on"
        said = [problem for problem in found.problems if "IPv6 needs 1280" in problem]
        assert len(said) == (not fits)
    assert "an MTU that is " in said[0]


def test_a_node_that_is_far_whatever_its_address_says_gets_no_plain_route() -> None:
    resources = [pool(Encapsulation.NONE), node(2), block(2)]
    found = desired(Snapshot.of(1, resources), [], replace(HOST, far={"node2": "a translator stands between"}))
    assert not any(key.prefix == prefix("10.244.2.0/26") for key in found.routes)
    assert "plain routes cannot lead to node node2 (192.0.2.12): a translator stands between" in found.problems


def test_across_subnets_it_gets_the_tunnel() -> None:
    resources = [pool(Encapsulation.VXLAN_CROSS_SUBNET), node(2), block(2)]
    host = replace(HOST, far={"node2": "1 routers stand between"})
    [route] = [
        r for key, r in desired(Snapshot.of(1, resources), [], host).routes.items() if key.prefix == prefix("10.244.2.0/26")
    ]
    assert route.device == "loom.vxlan"


def problems(host: Host, *resources: object) -> str:
    return "\n".join(desired(Snapshot.of(1, [pool(), *resources]), [], host).problems)  # type: ignore[list-item]


def test_nodes_with_one_address_are_named_and_nothing_is_taken_away() -> None:
    resources = node(1), node(2, "192.0.2.20/24"), node(3, "192.0.2.20/24"), block(2), block(3)
    assert "nodes node2, node3 have the same address 192.0.2.20" in problems(HOST, *resources)
    found = desired(Snapshot.of(1, [pool(), *resources]), [], HOST)
    assert {key.prefix for key in found.routes} >= {prefix("10.244.2.0/26"), prefix("10.244.3.0/26")}


def test_this_node_is_among_them_and_of_many_only_some_are_named() -> None:
    assert "nodes node1, node2 have the same address 192.0.2.11" in problems(HOST, node(1), node(2, "192.0.2.11/24"))
    everybody = [node(number, "10.0.2.15/24") for number in range(1, 7)]
    vagrant = replace(
        HOST, addresses=(interface("10.0.2.15/24"),), uplinks={"eth0": Uplink("eth0", 1500, (interface("10.0.2.15/24"),))}
    )
    assert "nodes node1, node2, node3 and 3 more have the same address 10.0.2.15" in problems(vagrant, *everybody)


def test_each_of_its_own_is_no_conflict() -> None:
    assert "same address" not in problems(HOST, node(1), node(2), node(3))


def test_what_goes_to_processes_on_the_same_machine_is_finished_first() -> None:
    """A node that says nothing of what it receives may be Flannel's; between containers nobody else finishes what we send it."""
    silent = [pool(Encapsulation.UDP), node(2), block(2)]
    speaking = msgspec.structs.replace(node(2), spec=msgspec.structs.replace(node(2).spec, receives=("UDP:8285",)))
    ours = [pool(Encapsulation.UDP), speaking, block(2)]
    on_veth = replace(HOST, uplinks={"eth0": replace(HOST.uplinks["eth0"], unfinished=True)})
    for resources, host, finished in ((silent, on_veth, True), (ours, on_veth, False), (silent, HOST, False)):
        found = desired(Snapshot.of(1, resources), [], host)
        tunnel = found.links["loom.udp"]
        assert isinstance(tunnel, Tunnel)
        assert tunnel.finished is finished
        assert ({"loom.udp.fin", "loom.udp.done"} <= found.links.keys()) is finished
        assert found.filter.tunnels == {"loom.udp"}


def test_drivers_unpack_no_datagrams_where_others_hand_many_over_as_one() -> None:
    """A veth whose driver runs a program takes no such packets any more, and its peers have to cut each."""
    for whole, wished, early in ((False, True, True), (True, True, False), (False, False, False)):
        host = replace(HOST, uplinks={"eth0": replace(HOST.uplinks["eth0"], whole=whole)}, early=wished)
        tunnel = desired(Snapshot.of(1, [pool(Encapsulation.UDP), node(2), block(2)]), [], host).links["loom.udp"]
        assert isinstance(tunnel, Tunnel)
        assert tunnel.early is early


@pytest.mark.parametrize("encapsulation", [Encapsulation.VXLAN, Encapsulation.IPIP])
def test_what_kernels_take_off_needs_no_finishing(encapsulation: Encapsulation) -> None:
    on_veth = replace(HOST, uplinks={"eth0": replace(HOST.uplinks["eth0"], unfinished=True)})
    found = desired(Snapshot.of(1, [pool(encapsulation), node(2), block(2)]), [], on_veth)
    assert not any(isinstance(link, Finisher) for link in found.links.values())
