"""An oracle that sees nothing proves nothing: whatever could be left over is planted, and has to be seen."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from netloom.dataplane import netns
from netloom.datastore import connect
from tests.agent_process import Machine, running_machine
from tests.cni_calls import NATIVE, call
from tests.crash.ptrace import Kill, Point, Tracer
from tests.residue import addresses_in_use, differences, quiet_residue, residue


@pytest.fixture(scope="module")
def stopped() -> Iterator[Machine]:
    """Its agent repairs nothing meanwhile."""
    with running_machine() as machine:
        quiet_residue(machine)
        machine.send(signal.SIGSTOP)
        yield machine


@pytest.mark.parametrize(
    "command",
    [
        "ip link add loomdeadbeef000 type veth peer name loomdeadbeef001",
        "ip address add 10.244.0.9/32 dev lo",
        "ip route add 10.244.0.9/32 dev eth0 proto 79",
        "ip route add blackhole 10.244.0.0/26 proto 79 metric 4294967040",
        "ip -6 route add fd00:244::9/128 dev eth0 proto 79",
        "ip neighbour add 10.244.0.9 dev eth0 lladdr 0a:58:0a:f4:00:09 nud permanent",
        "bridge fdb append 0a:58:0a:f4:00:09 dev loom.vxlan dst 192.168.77.2",
        "ip rule add from 10.244.0.9 lookup 200",
        "nft add element inet netloom pools4 { 10.9.0.0/24 }",
        "nft add table inet other",
        "tc qdisc add dev eth0 clsact",
    ],
)
def test_what_is_left_in_the_kernel_is_seen(stopped: Machine, command: str) -> None:
    before = residue(stopped)
    with netns.entered(stopped.netns):
        subprocess.run(command.split(), check=True)
    assert any(line.startswith("+") for line in differences(before, residue(stopped)))


@pytest.mark.parametrize("name", ["run/tombstones/1-1", "run/tombstones/.1-1", "state/claims.json.new", "run/journal.damaged"])
def test_a_file_that_is_left_is_seen(stopped: Machine, name: str) -> None:
    before = residue(stopped)
    Path(stopped.folder, name).touch()
    assert differences(before, residue(stopped)) == [f"+ file {name}"]


def test_a_block_that_was_given_back_is_missed(stopped: Machine) -> None:
    before = residue(stopped)
    datastore = connect(stopped.datastore)
    datastore.delete("IPBlock", next(s.resource.key for s in datastore.list("IPBlock").items))
    datastore.close()
    (seen,) = differences(before, residue(stopped))
    assert seen.startswith("- datastore IPBlock")


def test_an_address_in_two_namespaces_is_seen_twice() -> None:
    namespaces = [netns.create(), netns.create()]
    try:
        for namespace in namespaces:
            with netns.entered(namespace):
                subprocess.run(["ip", "address", "add", "10.244.0.9/32", "dev", "lo"], check=True)
        assert addresses_in_use(namespaces) == ["10.244.0.9"] * 2
    finally:
        for namespace in namespaces:
            os.close(namespace)


def test_a_tracer_cuts_where_it_is_told_and_nothing_after_that_happens() -> None:
    with running_machine() as machine, machine.sandbox() as sandbox:
        before, pid = quiet_residue(machine), machine.pid
        assert pid is not None
        with Tracer(pid, machine.folder) as tracer:
            tracer.arm(Kill(Point("netlink NEWLINK SETLINK")))
            answer = call(NATIVE, "ADD", machine.run_dir, sandbox.container_id, sandbox.path)
            tracer.settle()
            assert not answer.ok and tracer.ended
            assert tracer.points[-1] == "netlink NEWLINK SETLINK"
        (left,) = differences(before, residue(machine))
        assert left.startswith("+ journal") and "pending" in left
