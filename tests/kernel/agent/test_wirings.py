"""Pods that are routed and pods on bridges on one node, out of one pool: each reaches each other, and the node all of them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from netloom.dataplane import netns
from tests.agent_process import running_machine
from tests.cni_calls import CONFIG
from tests.kernel.agent.conftest import BRIDGED, Place, place_of

WIRINGS = {
    "routed": CONFIG,
    "routed-too": CONFIG,
    "bridged": BRIDGED,
    "bridged-too": BRIDGED,
    "elsewhere": {**BRIDGED, "name": "elsewhere", "bridge": "br-b"},
}


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with running_machine() as machine, place_of(machine) as here:
        for name, config in WIRINGS.items():
            answer = here.add(name, config)
            assert answer.ok, answer.stdout
        yield here


def reaches(namespace: int, address: str) -> bool:
    with netns.entered(namespace):
        return subprocess.run(["ping", "-c1", "-W10", address], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("sender", [*WIRINGS, "the node"])
@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
def test_every_pod_is_reached_whatever_its_wiring(place: Place, sender: str, family: int) -> None:
    namespace = place.machine.netns if sender == "the node" else place.pods[sender].netns
    missed = [name for name in WIRINGS if name != sender and not reaches(namespace, place.addresses[name][family])]
    assert missed == []


def test_no_block_is_on_two_links(place: Place) -> None:
    """Each link its own /26: two connected routes for one block would hide each other."""
    connected = [line.split()[0] for line in place.run("ip route show proto kernel").splitlines() if line.startswith("10.244.")]
    assert len(connected) == len(set(connected)) == 2
