"""Which routes of BIRD's matter to ours, read from a real kernel; here `ip` writes them in BIRD's name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from netloom.agent.birds import BirdsRoutes
from netloom.calc.tables import Tables
from netloom.dataplane.netlink import Netlink
from netloom.model.desired import Route, RouteKey
from netloom.model.host import Host
from netloom.model.resources import AnyResource, convert
from netloom.model.snapshot import Snapshot
from tests.kernel.iproute import run

pytestmark = pytest.mark.usefixtures("node")

PREFIXES = ("10.244.2.0/26", "10.244.3.0/26", "fd00:10:244::40/122", "10.9.1.0/26")
HOST = Host(node="n1", node_id="1")
ON = convert({"kind": "BGPConfiguration", "metadata": {"name": "default"}, "spec": {}})


@pytest.fixture
def kernel() -> Iterator[Netlink]:
    run("ip link add eth0 type veth peer name eth0p")
    run("ip address add 192.0.2.1/24 dev eth0")
    run("ip address add fd00::1/64 dev eth0 nodad")
    run("ip link set eth0 up")
    run("ip link set eth0p up")
    with Netlink() as netlink:
        yield netlink


def pools(encapsulation: str) -> list[AnyResource]:
    spec = {"p": "10.244.0.0/16", "p6": "fd00:10:244::/56"}
    return [
        convert({"kind": "IPPool", "metadata": {"name": n}, "spec": {"cidr": c, "encapsulation": encapsulation}})
        for n, c in spec.items()
    ]


def snapshot(encapsulation: str = "None", *more: AnyResource) -> Snapshot:
    return Snapshot.of(1, [*pools(encapsulation), *more])


def ours(*prefixes: str) -> Tables:
    gateways = {4: ip_address("192.0.2.2"), 6: ip_address("fd00::2")}
    routes = {RouteKey(p, 70000): Route("eth0", gateways[p.version]) for p in map(ip_network, prefixes)}
    return Tables(routes=routes, lasting=[key.prefix for key in routes])


def bird(prefix: str, verb: str = "add", kind: str = "") -> None:
    via = "" if kind else "via fd00::2 dev eth0" if ":" in prefix else "via 192.0.2.2"
    run(f"ip route {verb} {kind} {prefix} {via} metric 700 proto bird")


def texts(host: Host) -> tuple[set[str], set[str]]:
    return {str(p) for p in host.lasting}, {str(p) for p in host.birds}


def test_without_bgp_nothing_is_said(kernel: Netlink) -> None:
    bird(PREFIXES[0])
    facts = BirdsRoutes(kernel)
    assert facts.host(snapshot(), HOST, ours(*PREFIXES)) == HOST
    assert not facts.changed()


def test_routes_of_ours_last_until_birds_are_there(kernel: Netlink) -> None:
    facts, cluster, last = BirdsRoutes(kernel), snapshot("None", ON), ours(*PREFIXES)
    bird(PREFIXES[1])
    assert texts(facts.host(cluster, HOST, last)) == ({PREFIXES[0], PREFIXES[2]}, set())
    assert not facts.changed()
    bird(PREFIXES[0], kind="blackhole")
    assert not facts.changed()
    bird(PREFIXES[2])
    assert facts.changed()
    assert texts(facts.host(cluster, HOST, last)) == ({PREFIXES[0]}, set())
    bird(PREFIXES[0], "replace")
    assert facts.changed()
    assert texts(facts.host(cluster, HOST, last)) == (set(), set())
    bird(PREFIXES[0], "del")
    assert not facts.changed()
    assert texts(facts.host(cluster, HOST, last)) == (set(), set())


def test_what_is_none_of_birds_does_not_last(kernel: Netlink) -> None:
    """Of a pool that is for neighbours, what leads through the tunnel."""
    facts, cluster = BirdsRoutes(kernel), snapshot("VXLANCrossSubnet", ON)
    assert texts(facts.host(cluster, HOST, ours(*PREFIXES)))[0] == set(PREFIXES[:3])
    near = replace(ours(*PREFIXES), lasting=[ip_network(PREFIXES[0])])
    assert texts(facts.host(cluster, HOST, near))[0] == {PREFIXES[0]}


def test_a_node_that_turns_out_to_be_a_neighbour_keeps_its_tunnel_until_birds_route_is_there(kernel: Netlink) -> None:
    facts, cluster = BirdsRoutes(kernel), snapshot("VXLANCrossSubnet", ON)
    far = replace(HOST, far={"n2": "a router stands between"})
    none = replace(ours(*PREFIXES), lasting=[])
    facts.host(cluster, far, none)
    assert texts(facts.host(cluster, far, none)) == (set(), set())
    assert texts(facts.host(cluster, HOST, none))[0] == set(PREFIXES[:3])


def test_an_agent_that_starts_takes_its_routes_from_the_kernel(kernel: Netlink) -> None:
    run(f"ip route add {PREFIXES[0]} via 192.0.2.2 metric 70000 proto 79")
    run(f"ip route add blackhole {PREFIXES[1]} metric 4294967040 proto 79")
    assert texts(BirdsRoutes(kernel).host(snapshot("None", ON), HOST, None)) == ({PREFIXES[0]}, set())


@pytest.mark.parametrize("encapsulation", ["IPIP", "IPIPCrossSubnet"])
def test_birds_routes_to_what_it_is_to_leave_are_known_until_they_are_gone(kernel: Netlink, encapsulation: str) -> None:
    facts = BirdsRoutes(kernel)
    for prefix in PREFIXES:
        bird(prefix)
    facts.host(snapshot("None", ON), HOST, None)
    cluster, last = snapshot(encapsulation, ON), Tables(left=[ip_network(prefix) for prefix in PREFIXES[:2]])
    assert texts(facts.host(cluster, HOST, ours())) == (set(), set(PREFIXES[:3]))
    assert texts(facts.host(cluster, HOST, last)) == (set(), set(PREFIXES[:2]))
    bird(PREFIXES[0], "del")
    assert facts.changed()
    assert texts(facts.host(cluster, HOST, last)) == (set(), {PREFIXES[1]})
