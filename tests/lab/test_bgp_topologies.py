"""Each example with BGP: the four rules hold, and every kernel's routes have the shape that the field draws."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from netloom.lab import cluster
from netloom.lab.cluster import Lab
from netloom.lab.manifest import load
from netloom.lab.topology import altered
from netloom.model.addresses import contains
from netloom.model.resources import Encapsulation
from tests.lab.conftest import settled
from tests.lab.inventory import inventory
from tests.lab.routing import (
    METRIC,
    Hop,
    blocks,
    cut,
    peers,
    prefixes,
    restart_bird,
    routes,
    say,
    shown,
    to_node,
    to_router,
    wait_for_bfd,
    wait_for_route,
    wait_for_sessions,
)
from tests.lab.test_live_change import streams
from tests.pure.ipam.making import LONG
from tests.waiting import eventually

EXAMPLES = Path(__file__).parents[2] / "examples"
ROUTERS = 32
"""Metric of routes in the lab's routers: BIRD's own."""


@contextmanager
def example(name: str, encapsulation: Encapsulation | None = None, *, patient: bool = False) -> Iterator[Lab]:
    """Up, with all its sessions, and proven; nothing is left of it afterwards.  `patient`: its BFD takes nobody for dead on a busy
    machine."""
    lab_name = f"t{os.getpid()}-{name[4:7]}"
    topology = altered(load(str(EXAMPLES / f"{name}.yaml")), name=lab_name, encapsulation=encapsulation)
    if patient:
        topology = msgspec.structs.replace(topology, resources=tuple(map(with_patience, topology.resources)))
    try:
        lab = cluster.up(topology)
        wait_for_sessions(lab)
        assert list(settled(lab).problems()) == []
        yield lab
    finally:
        cluster.down(lab_name)
    left = inventory(lab_name)
    assert not left.processes and not left.namespaces and not left.files


def with_patience(manifest: dict[str, Any]) -> dict[str, Any]:  # Any: what manifests hold
    spec = manifest.get("spec", {})
    return {**manifest, "spec": {**spec, "bfd": {"multiplier": 20}}} if "bfd" in spec else manifest


def of_pods(lab: Lab, place: str, proto: str) -> set[str]:
    """Routes into pools, by whom."""
    pools = [pool.cidr for pool in lab.topology.pools]

    def inside(line: str) -> bool:
        prefix = ipaddress.ip_network(re.sub(r"^(blackhole|unreachable) ", "", line).split()[0].replace("default", "0.0.0.0/0"))
        return any(contains(pool, prefix) for pool in pools)

    return {line for line in routes(lab, place) if f" proto {proto} " in line and inside(line)}


def wait_for_pod_routes(lab: Lab, place: str, wanted: set[str]) -> None:
    try:
        eventually(lambda: of_pods(lab, place, "bird") == wanted)
    except AssertionError:
        assert of_pods(lab, place, "bird") == wanted


def hops(lab: Lab, node: str, hop: Callable[[str], Hop]) -> set[str]:
    """What the node's routes to all other nodes' blocks should be."""
    return {line for other, there in blocks(lab).items() if other != node for line in shown(hop(other), there)}


def own_pods(lab: Lab, node: str) -> None:
    """`10.92.77.163 dev loom… proto 79 scope link`, as DESIGN section 8 has it, and a blackhole below them."""
    agents = of_pods(lab, node, "79")
    for pod in lab.topology.pods_on(node):
        four, six = (a.ip for a in lab.record.sandboxes[pod.name].addresses)
        assert any(
            re.fullmatch(rf"{re.escape(str(four))} dev loom[0-9a-f]{{11}} proto 79 scope link", line) for line in agents
        ), agents
        assert any(
            re.fullmatch(rf"{re.escape(str(six))} dev loom[0-9a-f]{{11}} proto 79 metric 1024", line) for line in agents
        ), agents
    for block in blocks(lab)[node]:
        assert any(line.startswith(f"blackhole {block} ") for line in agents), agents


def no_tunnel(lab: Lab) -> None:
    for node in lab.topology.nodes:
        devices = say(lab, node.name, "ip", "-br", "link")
        assert "loom.vxlan" not in devices and "loom.ipip" not in devices and "loom.udp" not in devices


def test_a_mesh_on_one_subnet() -> None:
    with example("bgp-mesh") as lab:
        nodes = {node.name: node for node in lab.topology.nodes}
        for node in nodes:
            wait_for_pod_routes(lab, node, hops(lab, node, lambda other: to_node(lab, nodes[other])))
            own_pods(lab, node)
            assert not [line for line in of_pods(lab, node, "79") if " via " in line]
        no_tunnel(lab)


def test_two_racks_with_a_pair_of_reflectors_and_a_router_between() -> None:
    with example("bgp-reflectors") as lab:
        nodes = {node.name: node for node in lab.topology.nodes}
        core = lab.topology.routers[0]
        for node in nodes.values():

            def hop(other: str, switch: str = node.switch) -> Hop:
                return to_node(lab, nodes[other]) if nodes[other].switch == switch else to_router(lab, core, switch)

            wait_for_pod_routes(lab, node.name, hops(lab, node.name, hop))
            own_pods(lab, node.name)
        wanted = {
            to_node(lab, nodes[name], nodes[name].switch).route(block, ROUTERS)
            for name, there in blocks(lab).items()
            for block in there
        }
        wait_for_pod_routes(lab, "core", wanted)
        no_tunnel(lab)


def test_nodes_reflect_and_one_of_them_may_die() -> None:
    with example("bgp-reflecting", patient=True) as lab:
        nodes = {node.name: node for node in lab.topology.nodes}
        wanted = {name: hops(lab, name, lambda other: to_node(lab, nodes[other])) for name in nodes}
        for name, node in nodes.items():
            wait_for_pod_routes(lab, name, wanted[name])
            own_pods(lab, name)
            assert len(peers(lab, name)) == 2 * (3 if node.cluster_id else 2)
        of_dead = {line for line in wanted["node-0"] if line.split()[0] in map(str, blocks(lab)["reflector-0"])}
        assert of_dead
        with streams(lab, pods=("pod-0", "pod-1", "pod-r1")) as sent, cut(lab, "switch", "reflector-0"):
            for name in ("node-0", "node-1", "reflector-1"):
                wait_for_pod_routes(lab, name, wanted[name] - of_dead)
        assert "\n".join(sent.lost) == ""
        wait_for_sessions(lab)
        for name in nodes:
            wait_for_pod_routes(lab, name, wanted[name])


@pytest.fixture(scope="module")
def underlay() -> Iterator[Lab]:
    with example("bgp-underlay") as lab:
        yield lab


def test_the_fabric_as_underlay_routes_pods(underlay: Lab) -> None:
    lab = underlay
    nodes = {node.name: node for node in lab.topology.nodes}
    tors = {"rack-a": lab.topology.routers[0], "rack-b": lab.topology.routers[1]}
    for node in nodes.values():

        def hop(other: str, switch: str = node.switch) -> Hop:
            return to_node(lab, nodes[other]) if nodes[other].switch == switch else to_router(lab, tors[switch], switch)

        wait_for_pod_routes(lab, node.name, hops(lab, node.name, hop))
        own_pods(lab, node.name)
    for name, there in blocks(lab).items():
        tor = tors[nodes[name].switch]
        wanted = {to_router(lab, tor, "fabric", "fabric").route(block, ROUTERS) for block in there}
        eventually(lambda wanted=wanted: wanted <= of_pods(lab, "spine", "bird"))
    no_tunnel(lab)
    assert all(block.prefixlen == 23 for there in blocks(lab).values() for block in there if block.version == 4)


def test_a_top_of_rack_router_restarts_and_nothing_is_lost(underlay: Lab) -> None:
    """Its kernel forwards meanwhile, and its peers keep what it told them (graceful restart)."""
    with streams(underlay) as sent:
        for _ in range(5 if LONG else 1):
            restart_bird(underlay, "tor-a")
            wait_for_sessions(underlay)
    assert "\n".join(sent.lost) == ""


def test_two_uplinks_share_the_load_and_one_is_enough() -> None:
    with example("bgp-two-uplinks") as lab:
        left, right = lab.topology.routers
        both = [(to_router(lab, left, "a-left"), "eth0"), (to_router(lab, right, "a-right"), "eth1")]
        wanted = {
            f"{block} proto bird metric {METRIC} "
            + " ".join(f"nexthop via {hop.via[block.version]} dev {device}" for hop, device in both)
            for block in blocks(lab)["b"]
        }
        wait_for_pod_routes(lab, "a", wanted)
        wait_for_bfd(lab, "a", *both[1][0].via.values())
        with cut(lab, "a-right", "right"):
            wait_for_pod_routes(lab, "a", set(shown(both[0][0], blocks(lab)["b"])))
        wait_for_pod_routes(lab, "a", wanted)


def test_two_nodes_announce_one_prefix_and_the_one_that_is_left_answers() -> None:
    with example("bgp-anycast") as lab:
        for node in lab.topology.nodes:
            say(lab, node.name, "ip", "address", "add", "198.51.100.10/32", "dev", "lo")
        both = "nexthop via 192.168.100.11 dev switch nexthop via 192.168.100.12 dev switch"
        wait_for_route(lab, "router", f"198.51.100.0/24 proto bird metric 32 {both}")
        say(lab, "client", "ping", "-c1", "-W10", "198.51.100.10")
        wait_for_bfd(lab, "router", *to_node(lab, lab.topology.nodes[0]).via.values())
        with cut(lab, "switch", "node-0"):
            wait_for_route(lab, "router", "198.51.100.0/24 via 192.168.100.12 dev switch proto bird metric 32")
            say(lab, "client", "ping", "-c1", "-W10", "198.51.100.10")


@pytest.mark.parametrize(
    "encapsulation",
    [Encapsulation.VXLAN_CROSS_SUBNET, pytest.param(Encapsulation.IPIP_CROSS_SUBNET, marks=pytest.mark.long)],
)
def test_bgp_inside_a_site_and_tunnels_between_sites(encapsulation: Encapsulation) -> None:
    with example("bgp-hybrid", encapsulation) as lab:
        nodes = {node.name: node for node in lab.topology.nodes}
        device = f"loom.{encapsulation.method.value.lower()}"
        for node in nodes.values():
            near = {n for n, other in nodes.items() if other.switch == node.switch and n != node.name}
            wanted = {line for n in near for line in shown(to_node(lab, nodes[n]), blocks(lab)[n])}
            wait_for_pod_routes(lab, node.name, wanted)
            own_pods(lab, node.name)
            far = {str(block) for n, there in blocks(lab).items() if nodes[n].switch != node.switch for block in there}
            agents = {line.split()[0]: line for line in of_pods(lab, node.name, "79") if " via " in line}
            assert set(agents) == far and all(f" dev {device} " in line for line in agents.values())
        assert not prefixes(lab, "wan", "proto", "bird")
