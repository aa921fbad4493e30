"""This machine as a value, read from a real kernel: addresses, uplinks, default routes."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

import pytest

from netloom.agent.facts import default_devices
from netloom.agent.hosting import Hosting
from netloom.agent.identity import Identity
from netloom.calc.forms import pod_mtu
from netloom.config import Settings
from netloom.dataplane.netlink import Netlink
from netloom.model.host import Host
from netloom.model.resources import Encapsulation, Metadata, Node, NodeSpec
from netloom.model.snapshot import Snapshot
from tests.kernel.iproute import run
from tests.pure.ipam.making import pool

pytestmark = pytest.mark.usefixtures("node")


@pytest.fixture
def kernel() -> Iterator[Netlink]:
    """Two interfaces with addresses, a pod's link, a bridge of the users' choice."""
    for name, address in (("eth0", "192.0.2.1/24"), ("eth1", "198.51.100.1/24")):
        run(f"ip link add {name} mtu 1500 type veth peer name {name}p")
        run(f"ip address add {address} dev {name}")
        run(f"ip link set {name} up")
        run(f"ip link set {name}p up")
    for name in ("loom0123456789a", "cni0"):
        run(f"ip link add {name} type bridge")
        run(f"ip address add 10.9.{len(name)}.1/24 dev {name}")
        run(f"ip link set {name} up")
    with Netlink() as netlink:
        yield netlink


def hosting(kernel: Netlink, **settings: object) -> Hosting:
    return Hosting(Settings(node_name="a", **settings), Identity("mine"), kernel)  # type: ignore[arg-type]  # each test gives its own settings


def host(found: Hosting) -> Host:
    found.stale = True
    return found.host((), (), {"cni0"})


def addresses(found: Hosting) -> list[str]:
    return [str(a) for a in host(found).addresses]


def test_uplinks_are_what_is_neither_ours_nor_the_loopback(kernel: Netlink) -> None:
    found = host(hosting(kernel)).uplinks
    assert {"eth0", "eth1"} <= found.keys()
    assert not found.keys() & {"lo", "cni0", "loom0123456789a"}
    assert ipaddress.ip_interface("192.0.2.1/24") in found["eth0"].addresses
    assert (found["eth0"].mtu, found["eth0"].up, found["eth0"].default) == (1500, True, False)


def test_default_routes_are_found_in_their_order(kernel: Netlink) -> None:
    run("ip route add default via 198.51.100.9 metric 50")
    run("ip route add default via 192.0.2.9 metric 10")
    run("ip -6 address add fd00::1/64 dev eth1 nodad")
    run("ip -6 route add default via fd00::9")
    assert default_devices(kernel) == ["eth0", "eth1"]


def test_each_next_hop_of_a_default_route_is_an_uplink(kernel: Netlink) -> None:
    for name, address in (("eth0", "fd00::1/64"), ("eth1", "fd01::1/64")):
        run(f"ip -6 address add {address} dev {name} nodad")
    run("ip route add default nexthop via 192.0.2.9 nexthop via 198.51.100.9")
    assert sorted(default_devices(kernel)) == ["eth0", "eth1"]
    run("ip route delete default")
    assert default_devices(kernel) == []
    run("ip -6 route add default nexthop via fd00::9 nexthop via fd01::9")
    assert sorted(default_devices(kernel)) == ["eth0", "eth1"]
    assert {name for name, uplink in host(hosting(kernel)).uplinks.items() if uplink.default} == {"eth0", "eth1"}


def test_each_next_hop_of_a_route_to_other_nodes_is_a_way_there(kernel: Netlink) -> None:
    run("ip route add default via 192.0.2.9")
    run("ip route add 203.0.113.0/24 mtu 1300 nexthop via 192.0.2.9 nexthop via 198.51.100.9")
    found = hosting(kernel)
    spec = NodeSpec(id="b", addresses=(ipaddress.ip_interface("203.0.113.7/24"),))
    found.heard({"b": Node(metadata=Metadata(name="b"), spec=spec)})
    now = host(found)
    assert now.ways == ("eth0", "eth1")
    assert now.mtu == 1300


def test_without_a_clear_choice_there_is_a_problem_and_no_address(kernel: Netlink) -> None:
    found = hosting(kernel)
    assert addresses(found) == []
    assert found.problem is not None
    assert not found.addressed
    assert "interfaces with one: eth0, eth1" in found.problem


def test_the_default_route_decides_and_then_the_choice_stands(kernel: Netlink) -> None:
    run("ip route add default via 198.51.100.9")
    found = hosting(kernel)
    assert addresses(found) == ["198.51.100.1/24"]
    assert host(found).uplinks["eth1"].default
    run("ip route replace default via 192.0.2.9")
    assert addresses(found) == ["198.51.100.1/24"], "everybody else knows it"
    assert addresses(hosting(kernel)) == ["192.0.2.1/24"], "at the next start"
    run("ip address del 198.51.100.1/24 dev eth1")
    assert addresses(found) == ["192.0.2.1/24"]


def test_a_family_that_comes_later_is_added(kernel: Netlink) -> None:
    run("ip route add default via 192.0.2.9")
    found = hosting(kernel)
    assert addresses(found) == ["192.0.2.1/24"]
    run("ip -6 address add fd00::1/64 dev eth0 nodad")
    assert addresses(found) == ["192.0.2.1/24", "fd00::1/64"]


def test_the_kernel_is_read_only_when_it_said_that_something_changed(kernel: Netlink) -> None:
    run("ip route add default via 192.0.2.9")
    found = hosting(kernel)
    first = host(found)
    run("ip link set eth0 mtu 1400")
    assert found.host((), (), {"cni0"}) == first
    assert host(found).mtu == 1400


def test_an_uplink_that_goes_down_keeps_its_place(kernel: Netlink) -> None:
    run("ip -6 address add fd00::1/64 dev eth0 nodad")
    run("ip route add default via 192.0.2.9")
    found = hosting(kernel)
    before = host(found)
    run("ip link set eth0 down")
    after = host(found)
    assert after.addresses == before.addresses
    assert (after.mtu, after.uplinks["eth0"].up) == (1500, False)
    assert found.problem == "eth0 is down, which holds this node's address"
    run("ip link set eth0 up")
    run("ip -6 address add fd00::1/64 dev eth0 nodad")
    run("ip route add default via 192.0.2.9")
    assert host(found).uplinks["eth0"].up
    assert found.problem is None


def test_an_address_that_moves_takes_the_node_along(kernel: Netlink) -> None:
    found = hosting(kernel, node_addresses=(ipaddress.ip_interface("192.0.2.1/24"),))
    assert host(found).uplink_of(ipaddress.ip_address("192.0.2.1")) == host(found).uplinks["eth0"]
    run("ip address del 192.0.2.1/24 dev eth0")
    assert addresses(found) == ["192.0.2.1/24"]
    assert found.problem is not None
    assert "no interface holds 192.0.2.1" in found.problem
    run("ip link set eth1 mtu 1300")
    run("ip address add 192.0.2.1/24 dev eth1")
    after = host(found)
    assert found.problem is None
    uplink = after.uplink_of(ipaddress.ip_address("192.0.2.1"))
    assert uplink is not None
    assert (uplink.name, after.mtu) == ("eth1", 1300)


def test_what_is_remembered_stands_until_there_is_a_choice(kernel: Netlink) -> None:
    last = (ipaddress.ip_interface("203.0.113.1/24"),)
    found = Hosting(Settings(node_name="a"), Identity("mine"), kernel, last)
    assert host(found).addresses == last
    assert found.addressed
    assert found.problem
    run("ip route add default via 192.0.2.9")
    assert addresses(found) == ["192.0.2.1/24"]
    assert not found.problem


def test_pods_mtu_fits_through_every_pool(kernel: Netlink) -> None:
    run("ip route add default via 192.0.2.9")
    here = host(hosting(kernel))
    flat, tunnel = pool("f", "10.0.0.0/16"), pool("t", "10.1.0.0/16", encapsulation=Encapsulation.VXLAN)
    assert pod_mtu(Snapshot(), here, [flat], 0) == 1500
    assert pod_mtu(Snapshot(), here, [flat, tunnel], 0) == 1450
    assert pod_mtu(Snapshot(), here, [flat, tunnel], 1280) == 1280


# The other nodes


def nodes(*addresses: str) -> dict[str, Node]:
    specs = [NodeSpec(id=a, addresses=(ipaddress.ip_interface(a),)) for a in addresses]
    return {f"n{i}": Node(metadata=Metadata(name=f"n{i}"), spec=spec) for i, spec in enumerate(specs)}


def test_what_fits_is_what_fits_on_the_way_to_every_other_node(kernel: Netlink) -> None:
    run("ip route add default via 192.0.2.9")
    run("ip link set eth1 mtu 1420")
    found = hosting(kernel)
    assert host(found).mtu == 1500, "nobody else is there"
    found.heard(nodes("192.0.2.2/24", "203.0.113.5/32"))
    assert host(found).mtu == 1500
    run("ip route add 203.0.113.0/24 via 198.51.100.9")
    assert found.ways_changed()
    assert host(found).mtu == 1420
    assert not found.ways_changed()
    run("ip route replace 203.0.113.0/24 via 198.51.100.9 mtu 1380")
    assert found.ways_changed()
    assert host(found).mtu == 1380
    run("ip route del 203.0.113.0/24")
    assert found.ways_changed()
    assert host(found).mtu == 1500


def test_a_machine_that_is_new_to_a_cluster_chooses_again_when_it_sees_the_others(kernel: Netlink) -> None:
    run("ip route add default via 198.51.100.9")
    found = hosting(kernel)
    assert addresses(found) == ["198.51.100.1/24"]
    found.heard(nodes("192.0.2.2/24", "192.0.2.3/24"))
    assert found.addressed, "until then it has one"
    assert addresses(found) == ["192.0.2.1/24"]
    assert "whose link 2 other nodes are on" in found.choice.reason
    found.heard(nodes("198.51.100.2/24"))
    assert addresses(found) == ["192.0.2.1/24"], "everybody else knows it"


def test_a_rule_that_asks_the_kernel_is_answered_by_its_routes(kernel: Netlink) -> None:
    run("ip route add default via 198.51.100.9")
    run("ip route add 203.0.113.0/24 via 192.0.2.9")
    found = hosting(kernel, ip_autodetection_method="can-reach=203.0.113.7")
    assert addresses(found) == ["192.0.2.1/24"]
    assert found.choice.passed_over == ("198.51.100.1 of eth1",)


def test_an_address_that_passes_is_taken_only_where_there_is_no_other(kernel: Netlink) -> None:
    run("ip -6 address add fd00::99/64 dev eth0 nodad preferred_lft 0")
    run("ip -6 address add fd00::1/64 dev eth0 nodad")
    run("ip route add default via 192.0.2.9")
    assert addresses(hosting(kernel)) == ["192.0.2.1/24", "fd00::1/64"]
    run("ip -6 address del fd00::1/64 dev eth0")
    assert addresses(hosting(kernel)) == ["192.0.2.1/24", "fd00::99/64"]
