"""The checks must tell a good network from each kind of bad one.  The machines of an underlay stand in for pods here."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from netloom.dataplane import netns
from netloom.lab import underlay
from netloom.lab.checks import Proof, prove
from netloom.lab.inside import addresses_inside, marked_namespaces
from netloom.lab.probes import Kind, Place
from netloom.lab.record import namespace_path
from netloom.lab.topology import one_switch

LAB = f"chk{os.getpid()}"


def run(place: Place, *command: str) -> None:
    with netns.entered(place.netns):
        subprocess.run(command, check=True)


@pytest.fixture
def places() -> Iterator[list[Place]]:
    """A node and two "pods" on one switch, both families."""
    topology = one_switch(LAB, nodes=3, pods=0)
    with ExitStack() as stack:
        stack.callback(lambda: [netns.take_name(path) for path in list(marked_namespaces(LAB))])
        underlay.build(topology)
        found = []
        for name, kind in (("node-0", Kind.NODE), ("node-1", Kind.POD), ("node-2", Kind.POD)):
            namespace = netns.open_netns(namespace_path(LAB, name))
            stack.callback(os.close, namespace)
            addresses = tuple(a.ip for a in addresses_inside(namespace, "eth0") if not a.is_link_local)
            found.append(Place(name, kind, namespace, addresses, frozenset(addresses), name))
        yield found


def problems(proof: Proof) -> list[str]:
    return list(proof.problems())


def test_a_good_network_is_proven_in_both_families(places: list[Place]) -> None:
    proof = prove(places)
    assert problems(proof) == []
    assert len(proof.results) == 3 * 2 * (2 + 4)  # protocols, families; pod to pod both ways, pods with the node both ways
    assert len(proof.findings) == 2 * 2


def test_source_nat_is_found_in_every_protocol(places: list[Place]) -> None:
    _, first, second = places
    run(first, "nft", "add table ip t; add chain ip t c { type nat hook postrouting priority 100; }")
    run(first, "ip", "address", "add", "192.168.100.77/24", "dev", "eth0")
    run(first, "nft", "add rule ip t c ip daddr 192.168.100.13 snat to 192.168.100.77")
    found = [p for p in problems(prove(places)) if p.startswith(f"{first.name} → {second.name}")]
    assert len(found) == 3
    assert all("the receiver saw 192.168.100.77 instead of 192.168.100.12" in p for p in found)


def test_a_dropped_packet_is_told_from_a_dropped_answer(places: list[Place]) -> None:
    first = places[1]
    run(first, "nft", "add table ip t; add chain ip t i { type filter hook input priority 0; }")
    run(first, "nft", "add rule ip t i ip saddr 192.168.100.13 meta l4proto { udp, icmp } drop")
    found = dict.fromkeys(problems(prove(places, timeout=4.0)))  # so long, for all the others have to come through
    assert list(found) == [
        "node-1 → node-2 (192.168.100.13) udp: timed out: it arrived from 192.168.100.12, but no answer came back",
        "node-1 → node-2 (192.168.100.13) icmp: timed out: it arrived from 192.168.100.12, but no answer came back",
        "node-2 → node-1 (192.168.100.12) udp: timed out: nothing arrived",
        "node-2 → node-1 (192.168.100.12) icmp: timed out: nothing arrived",
    ]


def test_a_refused_connection_and_a_missing_route_are_named(places: list[Place]) -> None:
    _, first, second = places
    run(second, "nft", "add table ip t; add chain ip t i { type filter hook input priority 0; }")
    run(second, "nft", "add rule ip t i ip saddr 192.168.100.11 meta l4proto tcp reject with tcp reset")
    run(first, "ip", "-6", "route", "flush", "dev", "eth0")
    found = problems(prove(places, timeout=0.6))
    assert "node-0 → node-2 (192.168.100.13) tcp: refused" in found
    assert "node-1 → node-0 (fd00:192:168:100::b) udp: no route at the sender" in found


def test_an_address_inside_that_others_do_not_use_breaks_rule_three(places: list[Place]) -> None:
    second = places[2]
    run(second, "ip", "address", "add", "10.9.9.9/32", "dev", "eth0")
    assert any("eth0 shows 10.9.9.9 192.168.100.13 fd00" in p for p in problems(prove(places)))


def test_two_pods_in_one_namespace_are_found_out(places: list[Place]) -> None:
    node, first, _ = places
    twin = Place("twin", Kind.POD, first.netns, first.addresses, first.own, first.node)
    assert "twin: has no stack of its own: it shares that of node-1" in problems(prove([node, first, twin]))


def test_containers_of_a_pod_whose_loopback_is_down_do_not_see_each_other(places: list[Place]) -> None:
    first = places[1]
    run(first, "ip", "link", "set", "lo", "down")
    assert any(
        p.startswith("node-1: its containers do not see each other on 127.0.0.1") for p in problems(prove(places, timeout=0.6))
    )
