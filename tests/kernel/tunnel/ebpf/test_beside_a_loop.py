"""One node's programs and a plain C loop (`bench/udp_loop.c`, in the manner of Flannel's `udp`) on one wire.  The wire is a veth with all
its offloads: it carries packets with unfinished checksums, and many as one, which a process that reads and writes cannot take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from netloom.dataplane import offloads
from netloom.dataplane.netlink import devices
from netloom.model.desired import Carrier, Desired, Finisher, Tunnel, finishers
from netloom.reconcile import Outcome
from tests.kernel.tunnel.ebpf.nodes import Agent, Way, agents, desired
from tests.kernel.tunnel.forwarder.carrying import answered, carried, send_segments, udp_pair
from tests.tunnel_pair import Node

WAY = Way(Carrier.UDP, 4)
ENTER, LEAVE = finishers(WAY.device)


def towards_processes(want: Desired) -> Desired:
    tunnel = want.links[WAY.device]
    assert isinstance(tunnel, Tunnel)
    ends = {ENTER: Finisher(LEAVE), LEAVE: Finisher(ENTER)}
    return replace(want, links={**want.links, WAY.device: replace(tunnel, finished=True), **ends})


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Agent, Node]]:
    folder: Path = tmp_path_factory.mktemp("bpf")
    with agents(WAY, folder) as (a, b):
        a.make(towards_processes(desired(WAY, a.node)))
        b.node.loop()
        yield a, b.node


@pytest.mark.parametrize("size", [0, 56, 1400, 4000])
def test_pings_of_every_size_pass(beside: tuple[Agent, Node], size: int) -> None:
    a, b = beside
    for sender, receiver in ((a.node, b), (b, a.node)):
        assert answered(sender, receiver.pod_addresses[0], size)


def test_streams_arrive_as_they_were_sent(beside: tuple[Agent, Node]) -> None:
    a, b = beside
    for sender, receiver in ((a.node, b), (b, a.node)):
        assert carried(sender, receiver, receiver.pod_addresses[0], 8 << 20)


def test_datagrams_that_are_handed_over_at_once_arrive_one_by_one(beside: tuple[Agent, Node]) -> None:
    a, b = beside
    with udp_pair(a.node, b, b.pod_addresses[0]) as (sender, receiver):
        data = bytes(range(250)) * 36 + b"the end"
        send_segments(sender, data, 1000)
        assert b"".join(receiver.recv(2000) for _ in range(10)) == data


def test_a_second_pass_and_a_new_agent_write_nothing(beside: tuple[Agent, Node]) -> None:
    a, _ = beside
    assert a.make(towards_processes(desired(WAY, a.node))) == {}
    a.restart()
    assert a.make(towards_processes(desired(WAY, a.node))) == {}


def test_offloads_that_somebody_turned_on_are_turned_off_again(beside: tuple[Agent, Node]) -> None:
    a, b = beside
    a.run(f"ip link set {ENTER} down")
    assert a.make(towards_processes(desired(WAY, a.node))) == {"links": Outcome(put=1)}
    a.run(f"ip link delete {LEAVE}")
    a.make(towards_processes(desired(WAY, a.node)))
    assert carried(a.node, b, b.pod_addresses[0], 1 << 20)


def test_where_nobody_needs_it_any_more_it_goes(tmp_path: Path) -> None:
    with agents(WAY, tmp_path / "bpf") as (a, b):
        for agent in (a, b):
            agent.make(desired(WAY, agent.node))
        target = b.node.pod_addresses[0]
        assert answered(a.node, target, 1400)
        a.make(towards_processes(desired(WAY, a.node)))
        assert carried(a.node, b.node, target, 1 << 20)
        assert a.make(desired(WAY, a.node))["links"] == Outcome(deleted=2)
        assert carried(a.node, b.node, target, 1 << 20)
        assert not {link.name for link in devices(a.kernel)} & {ENTER, LEAVE}


def test_a_cable_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    with agents(WAY, tmp_path / "bpf") as (a, _):
        a.run(f"ip link add {ENTER} type bridge")
        with pytest.raises(AssertionError, match="not ours to replace"):
            a.make(towards_processes(desired(WAY, a.node)))


def test_offloads_of_an_interface_that_is_not_there_cannot_be_asked() -> None:
    with pytest.raises(OSError, match="No such device"):
        offloads.does_checksums("loom.nobody")
