"""Nodes whose tunnel is a process: their agents start it, find it again, tell it what changed, and end it when nobody wants it."""

from __future__ import annotations

import ipaddress
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import pytest

from netloom.dataplane import netns
from netloom.datastore import connect
from netloom.errors import DataplaneError
from netloom.model.resources import Encapsulation, IPPool, IPPoolSpec
from netloom.tunnel.forwarder.client import Client, path
from tests.agent_process import Machine, neighbour, running_machine
from tests.cni_calls import NATIVE, call
from tests.kernel.agent.test_engines import WITHOUT_BPF
from tests.kernel.tunnel.forwarder.carrying import answered, carried
from tests.waiting import eventually

POOLS = {
    name: IPPoolSpec(cidr=ipaddress.ip_network(cidr), encapsulation=Encapsulation.UDP)
    for name, cidr in (("v4", "10.244.0.0/16"), ("v6", "fd00:244::/48"))
}


class Pod:
    """What `carrying` asks of a node: its pod."""

    def __init__(self, machine: Machine, stack: ExitStack) -> None:
        self.machine, self.sandbox = machine, stack.enter_context(machine.sandbox())
        answer = call(NATIVE, "ADD", machine.run_dir, self.sandbox.container_id, self.sandbox.path)
        assert answer.ok, answer
        self.addresses = [text.partition("/")[0] for text in answer.addresses]

    @contextmanager
    def inside(self) -> Iterator[None]:
        with netns.entered(self.sandbox.netns):
            yield

    def reaches(self, other: Pod) -> bool:
        command = ("ping", "-n", "-c", "1", "-W", "1")
        with self.inside():
            done = [subprocess.run([*command, a], capture_output=True, check=False).returncode for a in other.addresses]
        return not any(done)


@contextmanager
def cluster(one: str, other: str, *command: Sequence[str]) -> Iterator[tuple[Pod, Pod]]:
    with ExitStack() as stack:
        here = stack.enter_context(running_machine(POOLS, *command, tunnelEngine=one))
        there = stack.enter_context(neighbour(here, tunnelEngine=other))
        pods = Pod(here, stack), Pod(there, stack)
        eventually(lambda: pods[0].reaches(pods[1]))
        yield pods


def forwarder(machine: Machine) -> int | None:
    """Its process."""
    try:
        with Client(path(machine.run_dir, "loom.udp")) as client:
            return client.state().pid
    except DataplaneError:
        return None


def links(machine: Machine) -> str:
    with netns.entered(machine.netns):
        return subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def pods() -> Iterator[tuple[Pod, Pod]]:
    with cluster("forwarder", "forwarder") as made:
        yield made


def test_pods_of_two_nodes_reach_each_other(pods: tuple[Pod, Pod]) -> None:
    a, b = pods
    for sender, receiver in ((a, b), (b, a)):
        assert len(receiver.addresses) == 2
        for address in receiver.addresses:
            assert answered(sender, address, 1400)
            assert answered(sender, address, 4000)
            assert carried(sender, receiver, address)
    eventually(lambda: a.machine.state().problems == ())
    _, udp = a.machine.state().engines
    assert (udp.engine, udp.because, udp.used) == ("forwarder", "as tunnelEngine says", True)
    assert udp.process == forwarder(a.machine)


def test_the_forwarder_outlives_the_agent_and_is_found_again(pods: tuple[Pod, Pod]) -> None:
    a, b = pods
    pid = forwarder(a.machine)
    assert pid is not None
    a.machine.end(signal.SIGKILL)
    assert answered(a, b.addresses[0], 56)
    a.machine.start()
    eventually(lambda: a.machine.state().in_sync_since is not None)
    assert forwarder(a.machine) == pid
    assert answered(a, b.addresses[1], 56)


def test_one_that_was_killed_is_started_again(pods: tuple[Pod, Pod]) -> None:
    a, b = pods
    for _ in range(2):
        pid = forwarder(a.machine)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        eventually(lambda before=pid: forwarder(a.machine) not in (None, before))
        eventually(lambda: a.reaches(b))
    eventually(lambda: a.machine.state().problems == ())


@pytest.mark.long
def test_one_that_hangs_is_ended_and_another_started(pods: tuple[Pod, Pod]) -> None:
    a, b = pods
    pid = forwarder(a.machine)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    a.machine.restart(signal.SIGKILL)  # whoever comes next has to find out
    eventually(lambda: a.reaches(b), 60)
    assert forwarder(a.machine) not in (None, pid)


def test_a_device_that_was_taken_away_is_made_again_and_the_forwarder_with_it(pods: tuple[Pod, Pod]) -> None:
    a, b = pods
    with netns.entered(a.machine.netns):
        subprocess.run(["ip", "link", "delete", "loom.udp"], check=True)
    eventually(lambda: a.reaches(b))


def test_it_ends_when_no_pool_wants_it(pods: tuple[Pod, Pod]) -> None:
    a, b = pods
    pid = forwarder(a.machine)
    store = connect(a.machine.datastore)
    try:
        for stored in store.list("IPPool").items:
            pool = stored.resource
            assert isinstance(pool, IPPool)
            plain = IPPoolSpec(cidr=pool.spec.cidr, encapsulation=Encapsulation.NONE)
            store.update(IPPool(metadata=pool.metadata, spec=plain), stored.revision)
    finally:
        store.close()
    eventually(lambda: forwarder(a.machine) is None)
    eventually(lambda: not os.path.exists(f"/proc/{pid}"))
    eventually(lambda: a.reaches(b))
    eventually(lambda: "loom.udp" not in links(a.machine))


def test_where_programs_are_not_allowed_a_process_does_it_and_says_why() -> None:
    with cluster("auto", "auto", WITHOUT_BPF) as (a, b):
        _, udp = a.machine.state().engines
        assert udp.engine == "forwarder"
        assert "no ebpf: Operation not permitted" in udp.because
        assert udp.process == forwarder(a.machine)
        assert carried(a, b, b.addresses[0])


def test_beside_a_node_whose_kernel_carries_it() -> None:
    """The same wire, over a veth that leaves checksums and segments unfinished."""
    with cluster("forwarder", "ebpf") as (a, b):
        for sender, receiver in ((a, b), (b, a)):
            for address in receiver.addresses:
                for size in (0, 56, 500, 1400, 4000):
                    assert answered(sender, address, size)
                assert carried(sender, receiver, address)
