"""Outer packets have the class of what is in them, and congestion that was met on the way is told to whoever is at the end of it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from netloom.dataplane import netns
from tests.kernel.tunnel.forwarder.carrying import family_of, one_processor, send_segments, udp_pair
from tests.kernel.tunnel.forwarder.conftest import Pair
from tests.pure.tunnel.forwarder.reference import UDP, Flow
from tests.tunnel_pair import PATIENCE, PORT, Node
from tests.waiting import eventually

EXPEDITED, ECT, CE = 0xB8, 2, 3
SET = {socket.AF_INET: (socket.IPPROTO_IP, socket.IP_TOS), socket.AF_INET6: (socket.IPPROTO_IPV6, socket.IPV6_TCLASS)}
HEARD = {socket.AF_INET: (socket.IPPROTO_IP, 13), socket.AF_INET6: (socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS)}


@contextmanager
def cable(node: Node) -> Iterator[socket.socket]:
    """All that arrives on a node's uplink."""
    with netns.entered(node.netns), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as heard:
        heard.bind(("up0", 3))
        heard.settimeout(PATIENCE)
        yield heard


def outer_class(heard: socket.socket, content: bytes) -> int:
    """Of the packet that has it."""
    while content not in (frame := heard.recv(1 << 16)):
        continue
    return frame[15] if frame[12:14] == b"\x08\x00" else (frame[14] & 15) << 4 | frame[15] >> 4


@pytest.mark.parametrize("pair", ["forwarders", "over_ipv6"])
def test_the_outer_class_is_that_of_the_inner_packet(pair: str, request: pytest.FixtureRequest) -> None:
    a, b = request.getfixturevalue(pair)
    for address in b.pod_addresses:
        with udp_pair(a, b, address) as (sender, receiver), cable(b) as heard:
            for kind in (0, EXPEDITED, EXPEDITED | ECT):
                sender.setsockopt(*SET[family_of(address)], kind)
                for content in (b"one by itself " + bytes([kind]), b"many together " * 100 + bytes([kind])):
                    send_segments(sender, content, 900)
                    assert outer_class(heard, content[-15:]) == kind
                    while not receiver.recv(2000).endswith(content[-15:]):
                        continue


def test_packets_of_several_classes_arrive_in_order(forwarders: Pair) -> None:
    a, b = forwarders
    with one_processor(a, b), udp_pair(a, b, b.pod_addresses[0]) as (sender, receiver):
        for number in range(100):
            sender.setsockopt(*SET[socket.AF_INET], EXPEDITED if number % 3 else 0)
            sender.send(number.to_bytes(2, "big") + bytes(62))
        assert [int.from_bytes(receiver.recv(100)[:2], "big") for _ in range(100)] == list(range(100))


@pytest.mark.parametrize("pair", ["forwarders", "over_ipv6"])
@pytest.mark.parametrize("version", [4, 6])
def test_congestion_is_handed_on_to_who_can_bear_it(pair: str, version: int, request: pytest.FixtureRequest) -> None:
    a, b = request.getfixturevalue(pair)
    which = 0 if version == 4 else 1
    address = b.pod_addresses[which]
    with udp_pair(a, b, address) as (_, receiver), netns.entered(a.netns):
        receiver.setsockopt(*HEARD[family_of(address)], 1)
        ends = a.pod_addresses[which], address
        port = receiver.getsockname()[1]
        outer = family_of(a.address)
        with socket.socket(outer, socket.SOCK_DGRAM) as sender:
            sender.bind((a.address, 0))
            sender.setsockopt(*SET[outer], CE)
            before = lost(b)
            for inner, content in ((0, b"cannot"), (ECT, b"can"), (CE, b"has")):
                flow = Flow(version, UDP, content, target_port=port, addresses=ends, traffic_class=inner)
                sender.sendto(flow.packet(), (b.address, PORT))
        for content in (b"can", b"has"):
            data, ancillary, _, _ = receiver.recvmsg(100, 64)
            assert (data, ancillary[0][2][0] & 3) == (content, CE)
        eventually(lambda: lost(b) == before + 1)


def lost(node: Node) -> int:
    state = node.state()
    assert state is not None
    return state.lost["congested"]
