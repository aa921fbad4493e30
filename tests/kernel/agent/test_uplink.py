"""The machine's own interfaces change: addresses, size, down and up, router advertisements.  What hangs on them follows."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterator

import pytest

from netloom.cni.wiring import FIRST_INDEX
from netloom.dataplane import netns
from netloom.model.resources import IPPoolSpec, Node
from tests.agent_process import NODE, POOLS, altered, machine, running_machine
from tests.kernel.agent.conftest import FLAT, Place, place_of, remote_node
from tests.residue import differences
from tests.waiting import eventually

REMOTE, DIRECT = "10.244.7.0/26", "10.50.7.0/26"


@pytest.fixture
def place() -> Iterator[Place]:
    """Its address is found, not set."""
    with running_machine({**POOLS, **FLAT}, altered(repairs=0.1), nodeAddresses=[]) as made, place_of(made) as here:
        remote_node(here.store, 2, REMOTE, "fd00:244::700/122", DIRECT)
        assert here.add("resident").ok
        eventually(lambda: DIRECT in here.run("ip route"))
        yield here


def node(place: Place) -> Node:
    stored = place.store.get("Node", NODE)
    assert stored is not None and isinstance(stored.resource, Node)
    return stored.resource


def test_routes_over_an_uplink_that_was_down_come_back_and_nothing_else_went(place: Place) -> None:
    before, spec = place.quiet_residue(), node(place).spec
    place.run("ip link set eth0 down")
    eventually(lambda: any("eth0 is down" in p.message for p in place.machine.state().problems))
    assert DIRECT not in place.run("ip route")
    assert REMOTE in place.run("ip route"), "the tunnel stands"
    assert place.add("meanwhile").ok, "pods can come"
    assert place.delete("meanwhile").ok
    assert node(place).spec == spec
    place.run("ip link set eth0 up")
    place.run(
        "ip address add fd00:77::1/64 dev eth0 nodad"
    )  # the kernel takes it away with the link, whoever set it puts it back
    eventually(lambda: not differences(before, place.quiet_residue()))  # the kernel takes the link into use a moment later
    assert not any("eth0" in p.message for p in place.machine.state().problems)
    assert "loom.vxlan]" not in place.machine.log().partition("eth0 is down")[2], "the tunnel device was not made anew"


def test_an_agent_that_starts_while_the_uplink_is_down_takes_nothing_away(place: Place) -> None:
    place.run("ip link set eth0 down")
    eventually(lambda: DIRECT not in place.run("ip route"))
    before = place.quiet_residue()
    place.machine.restart()
    eventually(lambda: not differences(before, place.quiet_residue()))
    assert place.add("meanwhile").ok


def test_the_tunnel_and_pods_follow_the_uplinks_size(place: Place) -> None:
    place.run("ip link set eth0 mtu 1400")
    eventually(lambda: "mtu 1350" in place.run("ip link show loom.vxlan"))
    eventually(lambda: node(place).spec.mtu == 1400)
    assert place.add("small").ok
    assert "mtu 1350" in place.run(f"ip link show {place.links['small']}")
    eventually(lambda: "mtu 1350" in place.run(f"ip link show {place.links['resident']}"))


def test_the_tunnel_follows_the_way_to_the_other_nodes(place: Place) -> None:
    place.run("ip route add 203.0.113.0/24 via 192.168.77.2 mtu 1300")
    remote_node(place.store, 9, "10.244.9.0/26", address="203.0.113.9/24")
    eventually(lambda: "mtu 1250" in place.run("ip link show loom.vxlan"))
    eventually(lambda: node(place).spec.mtu == 1300)
    place.run("ip route replace 203.0.113.0/24 via 192.168.77.2 mtu 1350")
    eventually(lambda: "mtu 1300" in place.run("ip link show loom.vxlan"))
    place.run("ip route del 203.0.113.0/24")
    eventually(lambda: "mtu 1450" in place.run("ip link show loom.vxlan"))


def test_the_tunnel_follows_an_uplink_that_is_numbered_as_pods_links_are(place: Place) -> None:
    """A node may run inside a pod."""
    place.run(f"ip link add eth9 index {FIRST_INDEX + 9} mtu 1400 type ifb")
    place.run("ip link set eth9 addrgenmode none")  # nobody tells of an address
    place.run("ip link set eth9 up")
    place.run("ip address add 203.0.113.1/24 dev eth9")
    remote_node(place.store, 9, "10.244.9.0/26", address="203.0.113.9/24")
    eventually(lambda: "mtu 1350" in place.run("ip link show loom.vxlan"))
    place.run("ip link set eth9 mtu 1300")
    eventually(lambda: "mtu 1250" in place.run("ip link show loom.vxlan"))


def test_a_new_address_is_published_and_the_tunnel_leaves_from_it(place: Place) -> None:
    place.run("ip address add 192.168.77.21/24 dev eth0")
    place.run("ip address del 192.168.77.1/24 dev eth0")  # takes its secondary with it, unless that is promoted
    place.run("ip address replace 192.168.77.21/24 dev eth0")
    eventually(lambda: ipaddress.ip_interface("192.168.77.21/24") in node(place).spec.addresses)
    eventually(lambda: "local 192.168.77.21" in place.run("ip -d link show loom.vxlan"))
    eventually(lambda: DIRECT in place.run("ip route") and REMOTE in place.run("ip route"))
    assert place.add("new").ok


def test_an_uplink_that_vanishes_is_said_and_its_pods_stay(place: Place) -> None:
    spec = node(place).spec
    place.run("ip link del eth0")
    eventually(lambda: any("eth0" in p.message for p in place.machine.state().problems))
    place.quiet_residue()
    told = place.machine.log()
    assert node(place).spec == spec
    assert place.addresses["resident"][0] in place.run("ip route")
    for _ in range(3):
        another_pass(place)
    assert place.machine.log() == told, "it is said once"


def another_pass(place: Place) -> None:
    """One that has nothing to do: somebody makes a link that is none of ours, and takes it away."""
    before = place.machine.state().last_pass
    place.run("ip link add other1 type bridge")
    place.run("ip link del other1")
    eventually(lambda: place.machine.state().last_pass != before)


# Router advertisements (RFC 4861, section 4.2)

ALL_NODES = "ff02::1"
V6_ONLY = {"v6": IPPoolSpec(cidr=ipaddress.ip_network("fd00:244::/48"))}


def advertise(namespace: int, lifetime: int) -> None:
    """As a router at the other end of the uplink, `lifetime` seconds from now."""
    with netns.entered(namespace):
        with open("/proc/sys/net/ipv6/conf/eth0/forwarding", "w", encoding="ascii") as file:
            file.write("1")
        router = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        index = socket.if_nametoindex("eth0")
    with router:
        router.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        body = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, lifetime, 0, 0)
        router.sendto(body, (ALL_NODES, 0, 0, index))


def routes_after(place: Place, lifetime: int) -> str:
    """IPv6 routes, once the host has been told how long it may go this way."""
    advertise(place.machine.outside, lifetime)
    return place.run("ip -6 route")


def test_a_host_that_begins_to_forward_keeps_its_advertised_default_route() -> None:
    with machine(V6_ONLY) as made, place_of(made) as here:
        here.write_sysctl("net/ipv6/conf/all/forwarding", "0")
        here.write_sysctl("net/ipv6/conf/eth0/accept_ra", "1")
        here.run("ip link add other0 type bridge")
        here.run("ip link set other0 up")
        other = here.sysctl("net/ipv6/conf/other0/accept_ra")
        eventually(lambda: "tentative" not in here.run("ip -6 address show dev eth0"))
        eventually(lambda: "default via fe80" in routes_after(here, 600))
        made.start()
        eventually(lambda: here.sysctl("net/ipv6/conf/all/forwarding") == "1")
        assert here.sysctl("net/ipv6/conf/eth0/accept_ra") == "2"
        assert "default via fe80" in here.run("ip -6 route")
        assert here.sysctl("net/ipv6/conf/other0/accept_ra") == other, "from elsewhere nothing is taken"
        eventually(lambda: "default" not in routes_after(here, 0))
        eventually(lambda: "default via fe80" in routes_after(here, 600))


@pytest.mark.parametrize("value", ["0", "2"])
def test_what_people_have_decided_about_advertisements_stays(value: str) -> None:
    with machine(V6_ONLY) as made, place_of(made) as here:
        here.write_sysctl("net/ipv6/conf/all/forwarding", "0")
        here.write_sysctl("net/ipv6/conf/eth0/accept_ra", value)
        made.start()
        eventually(lambda: here.sysctl("net/ipv6/conf/all/forwarding") == "1")
        assert here.sysctl("net/ipv6/conf/eth0/accept_ra") == value
