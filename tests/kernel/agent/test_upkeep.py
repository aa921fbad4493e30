"""What the agent looks after by itself: sandboxes that nobody deletes, blocks that nobody needs."""

from __future__ import annotations

import ipaddress
import subprocess
import time
from collections.abc import Iterator

import pytest

from netloom.dataplane import netns
from netloom.model.resources import Encapsulation, IPBlock, IPPoolSpec
from tests.agent_process import HASTY, running_machine
from tests.cni_calls import CONFIG, NATIVE, call
from tests.kernel.agent.conftest import Place, place_of
from tests.waiting import eventually

SMALL = {
    "plain": IPPoolSpec(cidr=ipaddress.ip_network("10.60.0.0/24"), block_size=30),
    "tunnel": IPPoolSpec(cidr=ipaddress.ip_network("fd00:60::/112"), block_size=125, encapsulation=Encapsulation.VXLAN),
}


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with running_machine(SMALL, HASTY) as machine, place_of(machine) as made:
        yield made


def attached(place: Place) -> set[str]:
    return {a.container_id for a in place.machine.state().attachments}


def end_of(place: Place, name: str) -> None:
    """The sandbox goes as by `ip netns del`, and nobody tells."""
    place.machine.remove_sandbox(place.pods.pop(name))


def test_a_sandbox_that_dies_without_a_delete_is_collected_and_its_address_is_free(place: Place) -> None:
    assert place.add("dying", mortal=True).ok
    used = place.machine.state().blocks[0].used
    end_of(place, "dying")
    eventually(lambda: "dying" not in attached(place))
    assert place.machine.state().blocks[0].used == used - 1
    assert "eth0 of dying is gone with its sandbox" in place.machine.log()
    eventually(lambda: all("dying" not in s.resource.name for s in place.store.list("Endpoint").items))
    assert not place.run("ip route show " + place.addresses["dying"][0])


def test_a_sandbox_that_lives_is_kept_though_its_link_is_gone(place: Place) -> None:
    assert place.add("living").ok
    place.run(f"ip link del {place.links['living']}")
    eventually(lambda: any("is gone, its sandbox is not" in p.message for p in place.machine.state().problems))
    time.sleep(0.8)
    assert "living" in attached(place)
    assert place.delete("living").ok
    eventually(lambda: "living" not in attached(place))


def test_a_sandbox_that_is_held_by_a_process_alone_is_alive(place: Place) -> None:
    """Its mount is gone, as after `ip netns del` under a running process."""
    assert place.add("held", mortal=True).ok
    netns.take_name(place.pods["held"].path)
    with netns.entered(place.pods["held"].netns):
        process = subprocess.Popen(["sleep", "60"])
    place.run(f"ip link del {place.links['held']}")
    time.sleep(0.8)
    assert "held" in attached(place)
    process.kill()
    process.wait()
    eventually(lambda: "held" not in attached(place))


def test_collecting_garbage_keeps_what_lives(place: Place) -> None:
    assert place.add("kept").ok
    gc = {**CONFIG, "cni.dev/valid-attachments": []}
    assert call(NATIVE, "GC", place.machine.run_dir, "", "", gc).ok
    assert "kept" in attached(place)
    assert place.delete("kept").ok


def test_blocks_are_given_back_but_the_last_and_that_of_the_node_itself(place: Place) -> None:
    names = [f"many-{number}" for number in range(9)]
    for name in names:
        assert place.add(name).ok
    before = blocks(place)
    assert len([b for b in before if b.version == 4]) >= 3
    for name in names:
        assert place.delete(name).ok
    eventually(lambda: len([b for b in blocks(place) if b.version == 4]) == 1)
    eventually(lambda: len([b for b in blocks(place) if b.version == 6]) == 1)
    [tunnel] = [b for b in blocks(place) if b.version == 6]
    assert f"{tunnel[0]}/128" in place.run("ip -6 address show dev loom.vxlan")
    eventually(lambda: {b.cidr for b in place.machine.state().blocks} == blocks(place))
    eventually(lambda: place.run("ip route show type blackhole").count("blackhole") == 1)  # the pass that follows


def blocks(place: Place) -> set[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """The node's, by the datastore."""
    found = [s.resource for s in place.store.list("IPBlock").items]
    return {c.cidr for b in found if isinstance(b, IPBlock) for c in b.spec.claims}
