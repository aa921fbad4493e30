"""Each encapsulation in a lab of three nodes, over uplinks that delay, lose and reorder."""

from __future__ import annotations

import ipaddress
import subprocess
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec
import pytest

from netloom.dataplane import netns
from netloom.lab.checks import Proof, prove
from netloom.lab.cluster import Lab
from netloom.lab.topology import Node, Pod, Router, Switch, Topology, one_switch
from netloom.model.forms import Form
from netloom.model.resources import Encapsulation
from tests.crossing import digests, ping
from tests.lab.conftest import Raise
from tests.lab.test_live_change import changing, form

PATIENCE = 90.0
SIZE = 1 << 18  # bytes; some four of its packets get lost


class Turn(NamedTuple):
    """An encapsulation, and the forms that nodes have when all are in it."""

    encapsulation: Encapsulation
    forms: tuple[Form, ...]


ALIKE = [Turn(Encapsulation(name), (form(name),)) for name in ("VXLAN", "None", "IPIP", "UDP")]
ACROSS = [Turn(Encapsulation(f"{name}CrossSubnet"), (form("None"), form(name))) for name in ("VXLAN", "IPIP", "UDP")]
HARSH = ("netem", "limit", "10000", "delay", "10ms", "5ms", "loss", "2%", "reorder", "10%", "50%")


def test_what_pods_send_each_other_arrives_whole_over_a_harsh_underlay(bring_up: Raise) -> None:
    lab = bring_up(one_switch(nodes=3, pods=3, encapsulation=ALIKE[0].encapsulation))
    for _ in each(lab, ALIKE):
        assert_carried(lab, "pod-0", "pod-1")


def test_neighbours_and_nodes_behind_a_router_get_it_whole_too(bring_up: Raise) -> None:
    lab = bring_up(racks(ACROSS[0].encapsulation))
    for _ in each(lab, ACROSS):
        assert_carried(lab, "pod-0", "pod-1")
        assert_carried(lab, "pod-0", "pod-2")


@pytest.mark.long
@pytest.mark.parametrize("turn", ALIKE + ACROSS, ids=lambda turn: turn.encapsulation.value)
def test_a_lab_that_begins_with_it_carries_it_whole_too(bring_up: Raise, turn: Turn) -> None:
    lab = bring_up(
        racks(turn.encapsulation) if turn in ACROSS else one_switch(nodes=3, pods=3, encapsulation=turn.encapsulation)
    )
    assert_proven(lab)
    make_harsh(lab)
    for other in ("pod-1", "pod-2"):
        assert_carried(lab, "pod-0", other)


def each(lab: Lab, turns: Sequence[Turn]) -> Iterator[Turn]:
    """The lab goes from one encapsulation to the next, which costs less than another lab: agents take long to start here.  Each is
    proven over the underlay as it is; then it becomes harsh."""
    with changing(lab) as change:
        for number, turn in enumerate(turns):
            if number:
                make_gentle(lab)
                change.encapsulation(turn.encapsulation)
                change.wait_until_all_send(*turn.forms)
            assert_proven(lab)
            make_harsh(lab)
            yield turn


def racks(encapsulation: Encapsulation) -> Topology:
    """node-0 and node-1 on one switch, node-2 on another, and a router between."""
    flat = one_switch(nodes=3, pods=3, encapsulation=encapsulation)
    return msgspec.structs.replace(
        flat,
        switches=(
            Switch(name="rack-a", subnets=tuple(map(ipaddress.ip_network, ("10.1.0.0/24", "fd01::/64")))),
            Switch(name="rack-b", subnets=tuple(map(ipaddress.ip_network, ("10.2.0.0/24", "fd02::/64")))),
        ),
        routers=(Router(name="router", switches=("rack-a", "rack-b")),),
        nodes=tuple(Node(name=f"node-{i}", switch=rack) for i, rack in enumerate(("rack-a", "rack-a", "rack-b"))),
        pods=tuple(Pod(name=f"pod-{i}", node=f"node-{i}") for i in range(3)),
    )


def make_harsh(lab: Lab) -> None:
    for node in lab.topology.nodes:
        with lab.namespace(node.name) as namespace, netns.entered(namespace):
            subprocess.run(["tc", "qdisc", "add", "dev", "eth0", "root", *HARSH], check=True)


def make_gentle(lab: Lab) -> None:
    for node in lab.topology.nodes:
        with lab.namespace(node.name) as namespace, netns.entered(namespace):
            subprocess.run(["tc", "qdisc", "del", "dev", "eth0", "root"], check=True)


def assert_proven(lab: Lab) -> None:
    proof = settled(lab)
    assert list(proof.problems()) == []
    assert proof.results


def settled(lab: Lab) -> Proof:
    deadline = time.monotonic() + PATIENCE
    while True:
        with lab.places() as places:
            proof = prove(places, timeout=10.0)
        if proof or time.monotonic() > deadline:
            return proof


def assert_carried(lab: Lab, source: str, target: str) -> None:
    """Fragments and streams, both ways, both families."""
    with lab.namespace(source) as here, lab.namespace(target) as there:
        for here_address, there_address in zip(
            *(lab.record.sandboxes[name].addresses for name in (source, target)), strict=True
        ):
            ping(here, there_address.ip)
            ping(there, here_address.ip)
            for sent, received in (digests(here, there, there_address.ip, SIZE), digests(there, here, here_address.ip, SIZE)):
                assert received == sent
