"""The agent may end and come back in any way: packets go on, and the kernel is not touched."""

from __future__ import annotations

import ipaddress
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from netloom.dataplane import netns
from netloom.model.resources import Node
from tests.agent_process import Machine, running_machine
from tests.cni_calls import NATIVE, call
from tests.kernel.agent.conftest import BRIDGED, Place, place_of, remote_node
from tests.kernel.agent.flows import Flow
from tests.kernel.iproute import run
from tests.kernel.monitors import watched
from tests.residue import differences
from tests.waiting import eventually

LONG = bool(os.environ.get("NETLOOM_TEST_LONG"))
REMOTE_POD = "10.244.7.5"


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    """Four pods, and a remote node whose end of the tunnel is really there."""
    with running_machine() as machine, place_of(machine) as made:
        remote_node(made.store, 2, "10.244.7.0/26")
        for name in ("a", "b"):
            assert made.add(name).ok
            assert made.add(f"bridged-{name}", BRIDGED).ok
        tunnel_end(made)
        eventually(lambda: "10.244.7.0/26" in made.run("ip route"))
        yield made


def tunnel_end(place: Place) -> None:
    """The other node, outside: its VXLAN device, and a pod's address."""
    state, stored = place.machine.state(), place.store.get("Node", "node-0")
    assert stored is not None and isinstance(stored.resource, Node)
    mac = stored.resource.spec.vtep_mac
    own = next(b.cidr for b in state.blocks if ipaddress.ip_address(place.addresses["a"][0]) in b.cidr)
    with netns.entered(place.machine.outside):
        run("ip link add vx address 66:00:00:00:00:02 type vxlan id 4096 dstport 4789 local 192.168.77.2 dev eth0 nolearning")
        run("ip link set vx up")
        run("ip link set lo up")
        run(f"ip address add {REMOTE_POD}/32 dev lo")
        run("ip address add 10.244.7.0/32 dev vx")
        run(f"ip route add {own} via {own[0]} dev vx onlink src {REMOTE_POD}")
        run(f"ip neighbour add {own[0]} lladdr {mac} dev vx nud permanent")
        run(f"bridge fdb add {mac} dev vx dst 192.168.77.1 self permanent")


def flows(place: Place, stack: ExitStack) -> list[Flow]:
    """Between pods of the node in both wirings and families, and to the remote node's pod."""
    a, b = place.pods["a"].netns, place.pods["b"].netns
    targets = [(a, b, address) for address in place.addresses["b"]]
    targets.append((place.pods["bridged-a"].netns, place.pods["bridged-b"].netns, place.addresses["bridged-b"][0]))
    targets.append((a, place.machine.outside, REMOTE_POD))
    return [stack.enter_context(Flow(*target)) for target in targets]


def terminated(machine: Machine) -> None:
    machine.restart(signal.SIGTERM)


def killed(machine: Machine) -> None:
    machine.restart(signal.SIGKILL)


def killed_while_it_starts(machine: Machine) -> None:
    machine.end(signal.SIGKILL)
    for delay in (0.15, 0.25, 0.35):
        with processes_started(machine):
            time.sleep(delay)
    machine.start()


@contextmanager
def processes_started(machine: Machine) -> Iterator[None]:
    """An agent that is killed at the end of the block, ready or not."""
    with netns.entered(machine.netns), open(f"{machine.folder}/agent.log", "ab") as log:
        process = subprocess.Popen([*machine.command, f"{machine.folder}/agent.yaml"], stdout=log, stderr=log)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def stopped(machine: Machine) -> None:
    machine.send(signal.SIGSTOP)
    time.sleep(60 if LONG else 0.5)
    machine.send(signal.SIGCONT)


@pytest.mark.parametrize("what", [terminated, killed, killed_while_it_starts, stopped])
def test_packets_go_on(place: Place, what: Callable[[Machine], None]) -> None:
    with ExitStack() as stack:
        running = flows(place, stack)
        for flow in running:
            flow.go_on(10)
        what(place.machine)
        for flow in running:
            flow.go_on()
    assert [fault for flow in running for fault in flow.faults] == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_changes_nothing_in_the_kernel(place: Place, tmp_path: Path, number: signal.Signals) -> None:
    before = place.quiet_residue()
    with watched(place.machine.netns, tmp_path) as told:
        place.machine.restart(number)
        assert differences(before, place.quiet_residue()) == []
    assert told == [], "\n".join([*told, place.machine.log()[-2000:]])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_writes_nothing_to_the_datastore(place: Place, number: signal.Signals) -> None:
    place.quiet_residue()
    before = place.store.list().revision
    place.machine.restart(number)
    place.quiet_residue()
    assert place.store.list().revision == before


@pytest.mark.parametrize("attempt", range(8 if LONG else 2))
def test_who_says_it_is_ready_serves(attempt: int) -> None:
    """Also the first time, when the datastore has to hear of the node before the node may claim anything."""
    with running_machine() as machine, machine.sandbox() as sandbox:
        answer = call(NATIVE, "ADD", machine.run_dir, sandbox.container_id, sandbox.path)
        assert answer.ok, answer.stdout
