"""Packets of all sizes, TCP and UDP, both ways, in both families inside and outside, between forwarders and beside the plain C loop."""

from __future__ import annotations

import ctypes
import fcntl
import random
import socket
import struct

import pytest

from netloom.dataplane import netns
from tests.kernel.tunnel.forwarder.carrying import answered, carried, one_processor, send_segments, udp_pair
from tests.kernel.tunnel.forwarder.conftest import Pair
from tests.pure.tunnel.forwarder.reference import UDP, Flow
from tests.tunnel_pair import PORT

SIZES = (0, 56, 500, 1400, 4000)


def test_pings_of_every_size_pass(forwarders: Pair) -> None:
    a, b = forwarders
    for sender, target in ((a, b), (b, a)):
        for address in target.pod_addresses:
            for size in SIZES:
                assert answered(sender, address, size)


def test_nodes_and_pods_see_each_other_by_the_tunnels_address(forwarders: Pair) -> None:
    a, b = forwarders
    for address in b.tunnel_addresses:
        assert answered(a, address, 56)


def test_streams_arrive_as_they_were_sent(forwarders: Pair) -> None:
    a, b = forwarders
    for address in b.pod_addresses:
        assert carried(a, b, address, 16 << 20)
    for address in a.pod_addresses:
        assert carried(b, a, address, 16 << 20)
    for state in (a.state(peers=True), b.state(peers=True)):
        assert state is not None
        [peer] = state.peers
        assert peer.sent > 100
        assert peer.received_bytes > 16 << 20
        assert {name: count for name, count in state.lost.items() if count and name != "unknown"} == {}


def test_over_ipv6_both_families_pass(over_ipv6: Pair) -> None:
    a, b = over_ipv6
    for sender, receiver in ((a, b), (b, a)):
        for address in receiver.pod_addresses:
            assert answered(sender, address, 4000)
            assert carried(sender, receiver, address)


def test_beside_the_plain_c_loop(beside_c: Pair) -> None:
    a, b = beside_c
    for sender, receiver in ((a, b), (b, a)):
        for size in SIZES:
            assert answered(sender, receiver.pod_addresses[0], size)
        assert carried(sender, receiver, receiver.pod_addresses[0])


def test_udp_datagrams_stay_what_they_were(forwarders: Pair) -> None:
    """One by one, of odd sizes, fragmented, and many by one call."""
    a, b = forwarders
    some = random.Random(5)
    for address in b.pod_addresses:
        with udp_pair(a, b, address) as (sender, receiver):
            for size in (0, 1, 2, 3, 63, 64, 999, 1424, 1444, 3001, 9001):
                data = some.randbytes(size)
                sender.send(data)
                assert receiver.recv(1 << 16) == data
            for size in (1, 333, 1000, 1411):
                data = some.randbytes(size * 40 + size // 2)
                send_segments(sender, data, size)
                for at in range(0, len(data), size):
                    assert receiver.recv(1 << 16) == data[at : at + size]


def test_a_burst_of_small_datagrams_arrives_in_order(forwarders: Pair) -> None:
    a, b = forwarders
    with one_processor(a, b), udp_pair(a, b, b.pod_addresses[0]) as (sender, receiver):
        for number in range(400):
            sender.send(number.to_bytes(2, "big") + bytes(62 if number % 7 else 30))
        assert [int.from_bytes(receiver.recv(100)[:2], "big") for _ in range(400)] == list(range(400))


def test_where_the_interface_cannot_do_checksums_datagrams_go_one_by_one(over_ipv6: Pair) -> None:
    a, b = over_ipv6
    with netns.entered(a.netns):
        _checksums_off("up0")
    assert carried(a, b, b.pod_addresses[1])
    assert carried(b, a, a.pod_addresses[0])


def _checksums_off(interface: str) -> None:
    """ethtool -K INTERFACE tx off"""
    value = ctypes.create_string_buffer(struct.pack("=II", 0x17, 0))  # ETHTOOL_STXCSUM
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, 0x8946, struct.pack("=16sQ16x", interface.encode(), ctypes.addressof(value)))


@pytest.mark.parametrize("version", [4, 6])
def test_a_checksum_that_the_peer_left_unfinished_is_finished(forwarders: Pair, version: int) -> None:
    """As it is where programs in the peer's kernel put the outer header around, and no network card lies between."""
    a, b = forwarders
    which = 0 if version == 4 else 1
    with udp_pair(a, b, b.pod_addresses[which]) as (_, receiver), netns.entered(a.netns):
        ends = a.pod_addresses[which], b.pod_addresses[which]
        flow = Flow(version, UDP, b"unfinished" * 5, target_port=receiver.getsockname()[1], addresses=ends)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind((a.address, 0))
            for _ in range(20):  # of a peer that has always finished them, some are looked at
                sender.sendto(flow.packet(unfinished=True), (b.address, PORT))
        assert receiver.recv(100) == b"unfinished" * 5
