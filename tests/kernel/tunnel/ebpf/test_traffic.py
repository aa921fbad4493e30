"""Pods on two nodes talk through a tunnel of ours: both carriers, all four pairs of families, whatever their size."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from netloom.dataplane import netns
from netloom.dataplane.netlink import devices
from netloom.model.addresses import mac_bytes
from tests.kernel.tunnel.ebpf.nodes import WAYS, Agent, Way, agents, desired
from tests.kernel.tunnel.forwarder.carrying import answered, carried, pings, send_segments, udp_pair
from tests.tunnel_pair import PATIENCE

SIZES = (0, 1, 56, 500, 1400, 4000)

World = tuple[Way, Agent, Agent]


@pytest.fixture(scope="module", params=WAYS, ids=str)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    way: Way = request.param
    with agents(way, tmp_path_factory.mktemp("bpf")) as (a, b):
        for agent in (a, b):
            agent.make(desired(way, agent.node))
        yield way, a, b


def test_a_second_pass_writes_nothing(world: World) -> None:
    way, *both = world
    for agent in both:
        assert agent.make(desired(way, agent.node)) == {}


def test_pings_of_every_size_pass(world: World) -> None:
    _, a, b = world
    for sender, receiver in ((a, b), (b, a)):
        for address in receiver.node.pod_addresses:
            for size in SIZES:
                assert answered(sender.node, address, size)


def test_streams_arrive_as_they_were_sent_and_are_counted(world: World) -> None:
    way, a, b = world
    before = b.counters(way)
    for address in b.node.pod_addresses:
        assert carried(a.node, b.node, address, 8 << 20)
    for address in a.node.pod_addresses:
        assert carried(b.node, a.node, address, 8 << 20)
    sent, after = a.counters(way), b.counters(way)
    assert after.received_bytes - before.received_bytes > 16 << 20
    assert after.received > 2 * 8 * (1 << 20) / way.mtu  # as they are on the wire
    assert (sent.refused, sent.lost, after.refused, after.lost) == (0, 0, 0, 0)


def test_datagrams_that_are_handed_over_at_once_arrive_one_by_one(world: World) -> None:
    _, a, b = world
    for address in b.node.pod_addresses:
        with udp_pair(a.node, b.node, address) as (sender, receiver):
            data = random.randbytes(9 * 1000 + 10)
            send_segments(sender, data, 1000)
            assert b"".join(receiver.recv(2000) for _ in range(10)) == data


def test_whoever_ends_a_packet_is_heard(world: World) -> None:
    """The node at the other end sends Time Exceeded through the tunnel, by its own address in it."""
    _, a, b = world
    for address, node in zip(b.node.pod_addresses, b.node.tunnel_addresses, strict=True):
        assert f"From {node}" in pings(a.node, address, 56, "-t", "2")


def test_a_packet_waits_until_it_is_known_who_is_next_on_the_way(world: World) -> None:
    """It reaches the very host that was asked for, not just whoever listens on the cable."""
    _, a, b = world
    mac = next(link for link in devices(b.kernel) if link.name == "up0").mac
    with netns.entered(b.node.netns), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as cable:
        cable.bind(("up0", 3))
        cable.settimeout(PATIENCE)
        a.run("ip neigh flush dev up0")
        assert answered(a.node, b.node.pod_addresses[0], 999)
        while len(frame := cable.recv(2000)) < 999:
            continue
    assert frame[:6] == mac_bytes(mac)


def test_ip_route_shows_the_device(world: World) -> None:
    way, a, b = world
    [line] = a.run(f"ip route get {b.node.pod_addresses[0]}").splitlines()[:1]
    assert f"dev {way.device} src {a.node.tunnel_addresses[0]}" in line
    assert "NOARP" in a.run(f"ip link show {way.device}")
    assert f"mtu {way.mtu}" in a.run(f"ip link show {way.device}")


def test_who_sends_too_much_is_told(tmp_path: Path) -> None:
    """The route has a device, and that has an MTU: the stack itself answers, before a program sees anything."""
    way = WAYS[0]
    with agents(way, tmp_path / "bpf", pods_mtu=1500) as (a, b):
        for agent in (a, b):
            agent.make(desired(way, agent.node))
        v4, v6 = b.node.pod_addresses
        assert f"mtu={way.mtu}" in pings(a.node, v6, 1452).replace(" ", "")
        assert "mtu=" in pings(a.node, v4, 1472, "-M", "do").replace(" ", "")
        assert answered(a.node, v4, 1472)  # it may be cut, and is
        assert carried(a.node, b.node, v4, 1 << 20)
        assert carried(a.node, b.node, v6, 1 << 20)
