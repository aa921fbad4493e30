"""What a sender is told of packets that go no further, and what becomes of those that nobody should have sent."""

from __future__ import annotations

import errno
import random
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from netloom.dataplane import netns
from netloom.model.addresses import parse_address, parse_prefix
from netloom.tunnel.forwarder.client import Client
from tests.kernel.iproute import run
from tests.kernel.tunnel.forwarder.carrying import answered, carried, family_of, pings, udp_pair
from tests.kernel.tunnel.forwarder.conftest import Pair
from tests.pure.tunnel.forwarder.reference import TCP, UDP, Flow, cut
from tests.tunnel_pair import PATIENCE, PORT, Node, ip

_RECVERR = {socket.AF_INET: (0, 11), socket.AF_INET6: (41, 25)}
_HOPS = {socket.AF_INET: (0, 2), socket.AF_INET6: (41, 16)}


def wait(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def hop(node: Node, target: str, hops: int) -> str:
    """Who says that a packet's time was exceeded on its way from the node's pod."""
    family = family_of(target)
    with node.inside():
        probe = socket.socket(family, socket.SOCK_DGRAM)
    with probe:
        probe.setsockopt(*_RECVERR[family], 1)
        probe.setsockopt(*_HOPS[family], hops)
        probe.settimeout(PATIENCE)
        probe.connect((target, 33434))
        probe.send(b"who is there?")
        try:
            probe.recv(10)
        except OSError as e:
            assert e.errno in (errno.EHOSTUNREACH, errno.ECONNREFUSED), e
        _, ancillary, _, _ = probe.recvmsg(100, 512, socket.MSG_ERRQUEUE)
        offender = ancillary[0][2][16:]
    return socket.inet_ntop(family, offender[4:8] if family == socket.AF_INET else offender[8:24])


def test_a_path_shows_both_nodes_and_the_pod(forwarders: Pair) -> None:
    a, b = forwarders
    for which in (0, 1):
        target = b.pod_addresses[which]
        assert hop(a, target, 2) == b.tunnel_addresses[which]
        assert hop(a, target, 3) == target


@contextmanager
def uplink_mtu(node: Node, mtu: int) -> Iterator[None]:
    """What the kernel remembers of paths is forgotten afterwards."""
    with netns.entered(node.netns):
        ip(f"link set up0 mtu {mtu}")
    try:
        yield
    finally:
        with netns.entered(node.netns):
            ip("link set up0 mtu 1500")
        for space in (node.netns, node.pod):
            with netns.entered(space):
                for family in ("-4", "-6"):
                    run("ip", family, "route", "flush", "cache")


def test_a_path_that_became_narrower_is_told_to_the_sender(forwarders: Pair) -> None:
    a, b = forwarders
    with uplink_mtu(a, 1400):
        assert "mtu = 1372" in pings(a, b.pod_addresses[0], 1400, "-M", "do")
        assert "mtu=1372" in pings(a, b.pod_addresses[1], 1400, "-M", "do").replace(" ", "")
        for address in b.pod_addresses:
            assert carried(a, b, address)


def test_what_may_be_fragmented_passes_a_narrow_path(forwarders: Pair) -> None:
    a, b = forwarders
    with uplink_mtu(a, 1400), udp_pair(a, b, b.pod_addresses[0]) as (sender, receiver):
        sender.setsockopt(socket.IPPROTO_IP, 10, 0)  # IP_MTU_DISCOVER: no DF
        for size in (1372, 1410, 1444):
            sender.send(bytes(size))
            assert len(receiver.recv(2000)) == size


def test_ipv6_gets_its_least_mtu_through_any_path(forwarders: Pair) -> None:
    """RFC 2473, 7.1: below 1280 bytes the outer packet is fragmented."""
    a, b = forwarders
    with uplink_mtu(a, 1280), udp_pair(a, b, b.pod_addresses[1]) as (sender, receiver):
        sender.send(bytes(1280 - 48))
        assert len(receiver.recv(2000)) == 1280 - 48


def test_to_where_nobody_is_the_sender_is_told(forwarders: Pair) -> None:
    a, _ = forwarders
    with netns.entered(a.netns):
        ip("route add 10.244.77.0/24 dev loom.udp", "route add fd00:77::/64 dev loom.udp")
    said = pings(a, "10.244.77.5", 56)
    assert "Destination Net Unreachable" in said, said
    said = pings(a, "fd00:77::5", 56)
    assert "No route" in said or "unreachable" in said.lower(), said


def test_to_a_node_without_a_way_the_sender_is_told(forwarders: Pair) -> None:
    a, b = forwarders
    away = {parse_prefix("10.244.78.0/24"): parse_address("203.0.113.9")}
    with netns.entered(a.netns):
        ip("route add 10.244.78.0/24 dev loom.udp")
    with Client(a.control) as client:
        client.change(put=away)
        said = pings(a, "10.244.78.5", 56)
        assert "Destination Host Unreachable" in said, said
        client.change(delete=away.keys())
    assert answered(a, b.pod_addresses[0], 56)


def lost(node: Node, name: str) -> int:
    state = node.state()
    assert state is not None
    return state.lost[name]


def arrives(receiver: socket.socket, data: bytes) -> bool:
    receiver.settimeout(0.2)
    try:
        while receiver.recv(2000) != data:
            continue
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize("which", [0, 1])
def test_only_nodes_are_believed_and_each_only_for_its_own(forwarders: Pair, which: int) -> None:
    """What a stranger sends, and what a node sends in the name of another, is counted and goes nowhere."""
    a, b = forwarders
    with udp_pair(a, b, b.pod_addresses[which]) as (_, receiver), netns.entered(a.netns):
        ip("address replace 192.0.2.99/24 dev up0")

        def packet(source: str, data: bytes) -> bytes:
            ends = source, b.pod_addresses[which]
            return Flow(4 + 2 * which, UDP, data, target_port=receiver.getsockname()[1], addresses=ends).packet()

        def send(outer: str, data: bytes) -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.bind((outer, 0))
                sender.sendto(data, (b.address, PORT))

        strangers, liars = lost(b, "strangers"), lost(b, "liars")
        send("192.0.2.99", packet(a.pod_addresses[which], b"stranger"))
        wait(lambda: lost(b, "strangers") > strangers, "the stranger was not counted")
        send(a.address, packet(b.pod_addresses[which], b"liar"))
        wait(lambda: lost(b, "liars") == liars + 1, "the liar was not counted")
        send(a.address, packet(("198.51.100.7", "2001:db8:9::7")[which], b"from outside"))
        send(a.address, packet(a.pod_addresses[which], b"honest"))
        while (data := receiver.recv(2000)) != b"honest":
            assert data == b"from outside"  # IPv4's kernel drops it, for it has no way back
        assert lost(b, "liars") == liars + 1


def test_whatever_is_sent_to_its_port_does_no_harm(forwarders: Pair) -> None:
    """From a node that is believed: noise, packets cut short, headers that lie about lengths, and dozens of those at once."""
    a, b = forwarders
    some = random.Random(7)
    ends = a.pod_addresses[0], b.pod_addresses[0]
    with netns.entered(a.netns), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind((a.address, 0))
        honest = [
            Flow(version, protocol, some.randbytes(200), addresses=a_to_b).packet()
            for version, a_to_b in ((4, ends), (6, (a.pod_addresses[1], b.pod_addresses[1])))
            for protocol in (TCP, UDP)
        ]
        before = lost(b, "malformed")
        for _ in range(300):
            noise = bytearray(some.choice(honest))
            for _ in range(some.randrange(4)):
                noise[some.randrange(len(noise))] = some.randrange(256)
            sender.sendto(noise[: some.randrange(len(noise) + 1)], (b.address, PORT))
            sender.sendto(some.randbytes(some.randrange(100)), (b.address, PORT))
        for size in (40, 60, 228):
            many = b"".join(some.choice(honest)[:size].ljust(size, b"\0") for _ in range(20)) + some.randbytes(size // 2)
            sender.sendmsg([many], [(17, 103, struct.pack("=H", size))], 0, (b.address, PORT))
        parts = cut(Flow(4, TCP, some.randbytes(20000), addresses=ends), 1000)
        sender.sendmsg([b"".join(parts[:5] + parts[7:3:-1])], [(17, 103, struct.pack("=H", 1040))], 0, (b.address, PORT))
    wait(lambda: lost(b, "malformed") > before, "nothing malformed was counted")
    assert answered(a, b.pod_addresses[0], 56)


def test_whatever_a_pod_sends_raw_does_no_harm(forwarders: Pair) -> None:
    """With headers for many packets as one (PACKET_VNET_HDR), honest and not."""
    a, b = forwarders
    some = random.Random(8)
    with a.inside():
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    with raw:
        raw.setsockopt(263, 15, 1)  # SOL_PACKET, PACKET_VNET_HDR
        raw.bind(("eth0", 0))
        sent = refused = 0
        for _ in range(300):
            flow = Flow(4, some.choice([TCP, UDP]), some.randbytes(3000), addresses=(a.pod_addresses[0], b.pod_addresses[0]))
            kind, size = some.choice([0, 1, 4, 5, 0x81]), some.choice([1, 100, 1000, 1400, 60000])
            head = struct.pack("=BBHHHH", 1, kind, some.randrange(120), size, some.choice([34, 54, 20]), some.choice([16, 6]))
            frame = b"\xee" * 6 + b"\x02" * 6 + b"\x08\0" + flow.packet(unfinished=some.random() < 0.5)
            try:
                raw.send(head + frame[: some.randrange(30, len(frame) + 1)])
                sent += 1
            except OSError:
                refused += 1  # by the pod's own kernel
        assert sent > refused / 10
    assert answered(a, b.pod_addresses[0], 56)
    assert carried(a, b, b.pod_addresses[0])
