"""The four rules hold for every encapsulation and wiring, on every underlay."""

from __future__ import annotations

import ipaddress
import re
import socket
import subprocess
from pathlib import Path

import msgspec
import pytest

from netloom.dataplane import netns
from netloom.lab.cluster import RESPONDER_PORT, Lab
from netloom.lab.manifest import load
from netloom.lab.topology import Switch, Topology, altered, one_switch
from netloom.model.attachments import Wiring
from netloom.model.resources import Encapsulation
from tests.lab.conftest import Raise, settled

EXAMPLES = Path(__file__).parents[2] / "examples"


def assert_proven(lab: Lab) -> None:
    proof = settled(lab)
    assert list(proof.problems()) == []
    assert proof.results


def output(lab: Lab, place: str, *command: str) -> str:
    with lab.namespace(place) as namespace, netns.entered(namespace):
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def on_underlay(topology: Topology, *subnets: str) -> Topology:
    switch = Switch(name="switch", subnets=tuple(ipaddress.ip_network(s) for s in subnets))
    return msgspec.structs.replace(topology, switches=(switch,))


TUNNELS = (Encapsulation.VXLAN, Encapsulation.IPIP, Encapsulation.UDP)
ACROSS = (Encapsulation.VXLAN_CROSS_SUBNET, Encapsulation.IPIP_CROSS_SUBNET, Encapsulation.UDP_CROSS_SUBNET)


def routes_to_nodes(lab: Lab, node: str) -> list[str]:
    return [line for line in output(lab, node, "ip", "route", "show", "proto", "79").splitlines() if " via " in line]


@pytest.mark.parametrize(
    ("encapsulation", "wiring"),
    [
        *((encapsulation, wiring) for encapsulation in (Encapsulation.VXLAN, Encapsulation.NONE) for wiring in Wiring),
        (Encapsulation.IPIP, Wiring.ROUTED),
        (Encapsulation.UDP, Wiring.BRIDGE),
    ],
)
def test_every_pod_reaches_every_other(bring_up: Raise, encapsulation: Encapsulation, wiring: Wiring) -> None:
    assert_proven(bring_up(one_switch(encapsulation=encapsulation, wiring=wiring)))


def test_every_pod_reaches_every_other_through_processes(bring_up: Raise) -> None:
    lab = bring_up(msgspec.structs.replace(one_switch(encapsulation=Encapsulation.UDP), settings={"tunnelEngine": "forwarder"}))
    assert_proven(lab)
    assert "tun" in output(lab, "node-0", "ip", "-d", "link", "show", "loom.udp")


@pytest.mark.parametrize("encapsulation", ACROSS)
def test_across_subnets_only_what_crosses_a_router_is_tunnelled(bring_up: Raise, encapsulation: Encapsulation) -> None:
    lab = bring_up(altered(load(str(EXAMPLES / "two-racks.yaml")), encapsulation=encapsulation))
    assert_proven(lab)
    routes = routes_to_nodes(lab, "a-0")
    assert len([r for r in routes if "via 10.1.0.12 dev eth0" in r]) == 1
    assert len([r for r in routes if f"dev loom.{encapsulation.method.value.lower()}" in r]) == 2


def test_bridged_pods_cross_subnets_too(bring_up: Raise) -> None:
    assert_proven(bring_up(altered(load(str(EXAMPLES / "two-racks.yaml")), wiring=Wiring.BRIDGE)))


@pytest.mark.parametrize(
    ("encapsulation", "shape"),
    [
        (Encapsulation.NONE, r"10\.244\.\d+\.\d+/26 via 192\.168\.100\.\d+ dev eth0 metric \d+"),
        (
            Encapsulation.VXLAN,
            r"10\.244\.\d+\.\d+/26 via 10\.244\.\d+\.\d+ dev loom\.vxlan src 10\.244\.\d+\.\d+ metric \d+ onlink",
        ),
        (
            Encapsulation.IPIP,
            r"10\.244\.\d+\.\d+/26 via 192\.168\.100\.\d+ dev loom\.ipip src 10\.244\.\d+\.\d+ metric \d+ onlink",
        ),
        (
            Encapsulation.UDP,
            r"10\.244\.\d+\.\d+/26 via 192\.168\.100\.\d+ dev loom\.udp src 10\.244\.\d+\.\d+ metric \d+ onlink",
        ),
    ],
)
def test_routes_have_the_form_that_the_field_draws(bring_up: Raise, encapsulation: Encapsulation, shape: str) -> None:
    lab = bring_up(one_switch(nodes=2, pods=2, encapsulation=encapsulation))
    assert_proven(lab)
    [route] = routes_to_nodes(lab, "node-0")
    assert re.fullmatch(shape, route.strip())
    assert re.search(
        r"^10\.244\.\d+\.\d+ dev loom[0-9a-f]{11} scope link",
        output(lab, "node-0", "ip", "route", "show", "proto", "79"),
        re.MULTILINE,
    )


@pytest.mark.parametrize("encapsulation", TUNNELS)
def test_ipv6_pods_ride_over_machines_that_have_ipv4_only(bring_up: Raise, encapsulation: Encapsulation) -> None:
    lab = bring_up(altered(load(str(EXAMPLES / "ipv6-over-ipv4.yaml")), encapsulation=encapsulation))
    assert_proven(lab)
    assert {r.probe.address.version for r in settled(lab).results if r.probe.target.name.startswith("pod")} == {4, 6}


@pytest.mark.parametrize("encapsulation", TUNNELS)
def test_pods_of_both_families_ride_over_machines_that_have_ipv6_only(bring_up: Raise, encapsulation: Encapsulation) -> None:
    assert_proven(bring_up(on_underlay(one_switch(nodes=2, pods=2, encapsulation=encapsulation), "fd00:192:168:100::/64")))


def test_a_pod_with_jumbo_frames_below_it_gets_what_the_tunnel_leaves(bring_up: Raise) -> None:
    lab = bring_up(msgspec.structs.replace(one_switch(nodes=2, pods=2), mtu=9000))
    assert "mtu 8950" in output(lab, "pod-0", "ip", "link", "show", "eth0")
    assert_proven(lab)
    far = lab.record.sandboxes["pod-1"].addresses[0].ip
    output(lab, "pod-0", "ping", "-c1", "-W10", "-M", "do", "-s", str(8950 - 28), str(far))


def test_beyond_the_cluster_a_pod_takes_its_nodes_address(bring_up: Raise) -> None:
    lab = bring_up(one_switch(nodes=1, pods=1))
    assert_proven(lab)
    [node_address, _] = lab.topology.node_addresses(lab.topology.nodes[0])
    with lab.namespace("router") as router, netns.entered(router):
        outside = socket.create_server(("192.168.100.1", 0))
    with lab.namespace("pod-0") as pod, netns.entered(pod):
        inside = socket.socket()
    with outside, inside:
        inside.settimeout(10)
        inside.connect(outside.getsockname())
        connection, peer = outside.accept()
        connection.close()
    assert peer[0] == str(node_address.ip)


def test_the_responder_tells_a_pod_who_it_is_to_others(bring_up: Raise) -> None:
    lab = bring_up(one_switch(nodes=2, pods=2))
    assert_proven(lab)
    for number, version in enumerate((4, 6)):
        first, second = (lab.record.sandboxes[name].addresses[number].ip for name in ("pod-0", "pod-1"))
        assert first.version == version
        with lab.namespace("pod-0") as pod, netns.entered(pod):
            client = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6)
        with client:
            client.settimeout(10)
            client.connect((str(second), RESPONDER_PORT))
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            answer = client.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.0 200 OK")
        assert answer.endswith(f"pod-1 sees you as {first}\n".encode())
