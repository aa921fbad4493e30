"""Nodes ask each other whether packets come through: two kernels, a tunnel between them, and what goes wrong on the way."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TypeVar

import pytest

from netloom.agent.probing import SMALL, Echo, Failure, Peer, Prober, Way, prober
from netloom.dataplane import netns
from netloom.model.addresses import Address
from tests.kernel.iproute import run

PORT = 9478
HERE, THERE = Peer("a", "id-a"), Peer("b", "id-b")
_T = TypeVar("_T")
KNOWN = {HERE.name: HERE.node_id, THERE.name: THERE.node_id}
FAST = (0.2, 0.2)
PATIENT = (2.0, 2.0, 4.0)


def address(text: str) -> Address:
    return ipaddress.ip_address(text)


UNDERLAY4 = Way("", address("192.0.2.1"), address("192.0.2.2"))
UNDERLAY6 = Way("", address("fd00::1"), address("fd00::2"))
TUNNEL = Way("tun0", address("10.1.0.0"), address("10.1.1.0"))


@dataclass(frozen=True, slots=True)
class Two:
    """Nodes a and b, in namespaces, with an underlay of 1500 bytes between them and VXLAN of 1450."""

    a: int
    b: int

    def on_a(self, *commands: str) -> None:
        with netns.entered(self.a):
            for command in commands:
                run(command)

    def on_b(self, *commands: str) -> None:
        with netns.entered(self.b):
            for command in commands:
                run(command)

    def rule(self, text: str, hook: str = "postrouting") -> None:
        """An nft rule on a, for what leaves it."""
        with netns.entered(self.a):
            run("nft", f"table inet fault {{ chain c {{ type filter hook {hook} priority 0; {text}; }}; }}")


@pytest.fixture(scope="module")
def between() -> Iterator[Two]:
    with ExitStack() as stack:
        two = Two(netns.create(), netns.create())
        for fd in (two.a, two.b):
            stack.callback(os.close, fd)
            with netns.entered(fd), open("/proc/sys/net/ipv6/conf/default/accept_dad", "w", encoding="ascii") as file:
                file.write("0")
        two.on_a(f"ip link add eth0 type veth peer name eth0 netns /proc/{os.getpid()}/fd/{two.b}")
        for on, own, other in ((two.on_a, 1, 2), (two.on_b, 2, 1)):
            on(
                f"ip address add 192.0.2.{own}/24 dev eth0",
                f"ip -6 address add fd00::{own}/64 dev eth0 nodad",
                "ip link set lo up",
                "ip link set eth0 up",
                f"ip link add tun0 type vxlan id 5 dstport 4789 local 192.0.2.{own} dev eth0 nolearning",
                f"ip address add 10.1.{own - 1}.0/32 dev tun0",
                "ip link set tun0 up",
                f"ip link set tun0 address 02:00:00:00:01:0{own}",
                f"ip neighbour add 10.1.{other - 1}.0 lladdr 02:00:00:00:01:0{other} dev tun0 nud permanent",
                f"bridge fdb add 02:00:00:00:01:0{other} dev tun0 dst 192.0.2.{other} self permanent",
                f"ip route add 10.1.{other - 1}.0/32 via 10.1.{other - 1}.0 dev tun0 onlink",
            )
        yield two


@pytest.fixture
def two(between: Two) -> Iterator[Two]:
    yield between
    with netns.entered(between.a):
        run("nft flush ruleset")


def asked(two: Two, question: Callable[[Prober], Awaitable[_T]], *, there: Peer = THERE) -> _T:
    """Both probers are there while a asks."""

    async def inside() -> _T:
        b = Prober(there.name, there.node_id, PORT, KNOWN.get)
        with netns.entered(two.b):
            b.open((4, 6))
        with netns.entered(two.a):
            a = Prober(HERE.name, HERE.node_id, PORT, KNOWN.get)
            a.open((4, 6))
            try:
                return await question(a)
            finally:
                a.close()
                b.close()

    return asyncio.run(inside())


@pytest.mark.parametrize("way", [UNDERLAY4, UNDERLAY6, TUNNEL], ids=["IPv4", "IPv6", "VXLAN"])
@pytest.mark.parametrize("checksum", [True, False])
def test_a_question_comes_back_with_who_answers_whom_they_saw_and_how_far(two: Two, way: Way, checksum: bool) -> None:
    echo = asked(two, lambda a: a.ask(THERE, way, 1450, checksum=checksum, patience=PATIENT))
    assert echo == Echo(node="b", seen=way.source, hops=0)


def test_what_is_larger_than_the_device_is_not_sent(two: Two) -> None:
    echo = asked(two, lambda a: a.ask(THERE, TUNNEL, 1451, patience=PATIENT))
    assert (echo.failure, echo.reason) == (Failure.UNSENT, "Message too long")
    assert asked(two, lambda a: a.ask(THERE, UNDERLAY4, 1500, patience=PATIENT))
    assert asked(two, lambda a: a.ask(THERE, UNDERLAY4, 1501, patience=PATIENT)).failure is Failure.UNSENT


@pytest.mark.parametrize("way", [UNDERLAY4, UNDERLAY6, TUNNEL], ids=["IPv4", "IPv6", "VXLAN"])
def test_a_stream_comes_through(two: Two, way: Way) -> None:
    assert asked(two, lambda a: a.stream(THERE, way)).node == "b"


def test_what_is_lost_for_its_size_is_silent_and_small_packets_are_not(two: Two) -> None:
    two.rule("udp dport 4789 meta length > 1400 drop")
    assert asked(two, lambda a: a.ask(THERE, TUNNEL, 1450, patience=FAST)).failure is Failure.SILENT
    assert asked(two, lambda a: a.ask(THERE, TUNNEL, SMALL, patience=PATIENT))


def test_a_stream_whose_large_segments_are_lost_stalls(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prober, "_STREAM_SECONDS", 1.0)  # given more time it comes, a segment after the other
    two.rule("udp dport 4789 meta length > 1600 drop")
    assert asked(two, lambda a: a.ask(THERE, TUNNEL, 1450, patience=PATIENT))
    assert asked(two, lambda a: a.stream(THERE, TUNNEL)).failure is Failure.STALLED


def test_what_carries_no_checksum_passes_where_those_that_have_one_are_spoilt(two: Two) -> None:
    """As an interface does that computes them wrongly."""
    chain = "type filter hook egress device tun0 priority 0; udp checksum != 0 drop;"
    with netns.entered(two.a):
        run("nft", f"table netdev fault {{ chain c {{ {chain} }}; }}")
    assert asked(two, lambda a: a.ask(THERE, TUNNEL, SMALL, patience=FAST)).failure is Failure.SILENT
    assert asked(two, lambda a: a.ask(THERE, TUNNEL, SMALL, checksum=False, patience=PATIENT))


def test_an_answer_may_come_back_by_another_way(two: Two) -> None:
    """So who changes from one tunnel to another can ask by the new one, while the other side still sends by the old."""
    two.on_b("ip route replace 10.1.0.0/32 via 192.0.2.1 dev eth0")
    two.on_a("ip route replace 10.1.1.0/32 via 192.0.2.2 dev eth0")
    two.rule('oifname "eth0" ip daddr 10.1.1.0 drop')
    try:
        assert asked(two, lambda a: a.ask(THERE, TUNNEL, 1450, patience=PATIENT)).node == "b"
    finally:
        two.on_b("ip route replace 10.1.0.0/32 via 10.1.0.0 dev tun0 onlink")
        two.on_a("ip route replace 10.1.1.0/32 via 10.1.1.0 dev tun0 onlink")


def test_a_device_that_is_not_there_is_said(two: Two) -> None:
    way = Way("nowhere0", TUNNEL.source, TUNNEL.destination)
    assert asked(two, lambda a: a.ask(THERE, way)).failure is Failure.UNSENT
    assert asked(two, lambda a: a.stream(THERE, way)).failure is Failure.CLOSED


def test_another_node_at_that_address_says_who_it_is(two: Two) -> None:
    imposter = Peer("c", "id-c")
    KNOWN["c"] = "id-c"
    try:
        assert asked(two, lambda a: a.ask(THERE, UNDERLAY4, patience=PATIENT), there=imposter).node == "c"
    finally:
        del KNOWN["c"]


def test_a_translated_source_is_seen(two: Two) -> None:
    with netns.entered(two.a):
        run("ip address add 192.0.2.77/24 dev eth0")
        run("nft", "table ip fault { chain c { type nat hook postrouting priority 100; udp dport 9478 snat to 192.0.2.77; }; }")
    assert asked(two, lambda a: a.ask(THERE, UNDERLAY4, patience=PATIENT)).seen == address("192.0.2.77")


def test_strangers_get_no_answer(two: Two) -> None:
    assert asked(two, lambda a: a.ask(THERE, UNDERLAY4, patience=FAST), there=Peer("c", "id-c")).failure is Failure.SILENT

    async def guess(a: Prober) -> bytes | None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger, socket.socket() as stream:
            for one in (stranger, stream):
                one.setblocking(False)
            await loop.sock_connect(stream, ("192.0.2.2", PORT))
            await loop.sock_sendall(stream, bytes(3000))
            with suppress(ConnectionResetError):
                assert await loop.sock_recv(stream, 10) == b""
            for junk in (b"", b"x", bytes(1400), b"loom?1" + bytes(18), b"loom?1" + bytes(16) + b"\xff\xff" + bytes(1400)):
                stranger.sendto(junk, ("192.0.2.2", PORT))
            try:
                return await asyncio.wait_for(loop.sock_recv(stranger, 2048), 0.3)
            except TimeoutError:
                return None

    assert asked(two, guess) is None


async def _idle_on_a(two: Two, stack: ExitStack, *sources: str) -> list[socket.socket]:
    """Connections to b, one from each of these addresses, that say nothing."""
    found = []
    for source in sources:
        with netns.entered(two.a):
            sock = stack.enter_context(socket.socket())
        sock.setblocking(False)
        sock.bind((source, 0))
        await asyncio.get_running_loop().sock_connect(sock, ("192.0.2.2", PORT))
        found.append(sock)
    return found


def test_who_connects_and_says_nothing_is_sent_away_after_a_while(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prober, "_ASKED_SECONDS", 0.2)

    async def idle(a: Prober) -> Echo:
        with ExitStack() as stack:
            [stranger] = await _idle_on_a(two, stack, "192.0.2.1")
            assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(stranger, 10), 30) == b""
            monkeypatch.setattr(prober, "_ASKED_SECONDS", 60.0)
            return await a.stream(THERE, UNDERLAY4)

    assert asked(two, idle)


def test_idle_connections_from_elsewhere_take_nobodys_place(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as come from one address are one."""
    monkeypatch.setattr(prober, "_CONNECTIONS", 2)
    monkeypatch.setattr(prober, "_ASKED_SECONDS", 60.0)
    two.on_a("ip address replace 192.0.2.66/24 dev eth0")

    async def idle(a: Prober) -> Echo:
        with ExitStack() as stack:
            await _idle_on_a(two, stack, *["192.0.2.66"] * 20)
            return await a.stream(THERE, UNDERLAY4)

    assert asked(two, idle)


def test_a_place_that_somebody_else_holds_is_no_fault_of_the_way(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod whose node's address it takes looks like that node."""
    monkeypatch.setattr(prober, "_ASKED_SECONDS", 60.0)

    async def idle(a: Prober) -> Echo:
        with ExitStack() as stack:
            await _idle_on_a(two, stack, "192.0.2.1")
            return await a.stream(THERE, UNDERLAY4)

    assert asked(two, idle).failure is Failure.CLOSED


def test_who_takes_all_and_never_answers_is_no_fault_of_the_way(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prober, "_STREAM_SECONDS", 0.5)

    async def inside() -> Echo:
        with ExitStack() as stack:
            with netns.entered(two.b):
                listener = stack.enter_context(socket.create_server(("192.0.2.2", PORT)))
            with netns.entered(two.a):
                a = Prober(HERE.name, HERE.node_id, PORT, KNOWN.get)
                echo = await a.stream(THERE, UNDERLAY4)
            listener.accept()[0].close()
            return echo

    assert asyncio.run(inside()).failure is Failure.CLOSED


def test_a_flood_is_left_alone_and_questions_are_answered_after_it(two: Two) -> None:
    async def flood(a: Prober) -> Echo:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.connect(("192.0.2.2", PORT))
            for _ in range(500):
                stranger.send(bytes(1400))
        return await a.ask(THERE, UNDERLAY4, patience=(0.2,) * 50)

    assert asked(two, flood)


def test_a_port_that_is_taken_is_said_with_what_to_do(two: Two) -> None:
    async def inside() -> None:
        with netns.entered(two.a), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("0.0.0.0", PORT))
            with pytest.raises(Exception, match=f"probePort: port {PORT}: Address already in use"):
                Prober("a", "id-a", PORT, KNOWN.get).open((4,))

    asyncio.run(inside())
