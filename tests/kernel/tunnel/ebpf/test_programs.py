"""Each program on crafted packets, by BPF_PROG_TEST_RUN: what it makes of honest ones, byte for byte, in all four pairs of families, and
what becomes of the others."""

from __future__ import annotations

import ipaddress
import os
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from netloom.dataplane import netns
from netloom.dataplane.bpf import Loaded, Map, Run, load, prefix_key, run
from netloom.dataplane.bpf.assembler import DROP, NEXT, REDIRECT, XDP_DROP, XDP_PASS
from netloom.model.addresses import Mac, mac_bytes
from netloom.model.desired import Carrier
from netloom.tunnel.ebpf.arriving import arriving
from netloom.tunnel.ebpf.early import early
from netloom.tunnel.ebpf.programs import is_recent
from netloom.tunnel.ebpf.sending import sending
from netloom.tunnel.ebpf.wire import MARK as BEFORE_A_PACKET
from netloom.tunnel.ebpf.wire import SHAPES, TOKEN, Counters, Wire, pack
from tests.kernel import frames as f
from tests.kernel.iproute import run as iproute
from tests.kernel.tunnel.ebpf.nodes import WAYS, Way

PORT, DEVICE, LONGEST = 8285, 77, 1500
MAC, UPLINK_MAC, NEXT_MAC = Mac("66:00:00:00:00:01"), "0a:00:00:00:00:01", "0a:00:00:00:00:02"
TYPES = {4: f.IPV4, 6: f.IPV6}
OWN, PEER, THIRD, STRANGER = ({4: f"192.0.2.{n}", 6: f"2001:db8::{n}"} for n in (1, 2, 3, 66))
OWN_BEFORE, PEER_BEFORE = ({4: f"192.0.2.{n}", 6: f"2001:db8::{n}"} for n in (21, 22))
"""Addresses that they had, and still have."""
POD, FAR_POD, THIRD_POD, NO_POD = ({4: f"10.244.{n}.2", 6: f"fd00:{n}::2"} for n in (1, 2, 3, 9))
BEHIND = (
    (OWN, ("10.244.1.0/24", "fd00:1::/64")),
    (PEER, ("10.244.2.0/24", "fd00:2::/64")),
    (THIRD, ("10.244.3.0/24", "fd00:3::/64")),
)
MARK = f.udp(9, b"netloom-tunnel-test-mark")
ECT, CONGESTED = 2, 3


@dataclass
class World:
    """The two programs of one end, and their maps."""

    way: Way
    maps: dict[str, Map]
    out: Loaded
    into: Loaded
    early: Loaded | None

    def counters(self) -> dict[str, int]:
        """Of all peers together, those that are not zero."""
        sums = [Counters(*numbers) for _, numbers in self.maps["peers"].sums()]
        return {name: total for name in Counters._fields if (total := sum(getattr(one, name) for one in sums))}

    def counted(self, before: dict[str, int]) -> dict[str, int]:
        return {name: n for name, now in self.counters().items() if (n := now - before.get(name, 0))}

    def sends(self, packet: bytes) -> Run:
        return run(self.out, f.ethernet(MAC, MAC, TYPES[packet[0] >> 4], packet))

    def gets(self, packet: bytes) -> Run:
        return run(self.into, f.ethernet(NEXT_MAC, UPLINK_MAC, TYPES[self.way.version], packet))

    def hands_on(self, version: int) -> bool:
        """Whether congestion is: older kernels cannot be told that the family changes."""
        return is_recent() or version in (4, self.way.version)

    def gets_early(self, packet: bytes) -> Run:
        assert self.early is not None
        return run(self.early, f.ethernet(NEXT_MAC, UPLINK_MAC, TYPES[self.way.version], packet))

    def wrapped(self, packet: bytes, source: dict[int, str] = PEER, target: dict[int, str] = OWN, **more: int) -> bytes:
        """As a peer sends it.  `protocol`, `port`: other than honest ones."""
        port, version = more.pop("port", PORT), self.way.version
        protocol = f.IPV6_IN_IP if packet and packet[0] >> 4 == 6 else f.IPIP
        if self.way.carrier is Carrier.UDP:
            protocol, packet = f.UDP, f.udp(port, packet, PORT)
        protocol = more.pop("protocol", protocol)
        make = f.ipv4 if version == 4 else f.ipv6
        return make(source[version], target[version], protocol, packet, **more)


@pytest.fixture(scope="module", params=WAYS, ids=str)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """In a namespace with an interface towards the peers."""
    way: Way = request.param
    own = ipaddress.ip_address(OWN[way.version])
    also = (ipaddress.ip_address(OWN_BEFORE[way.version]),)
    wire = Wire(DEVICE, MAC, way.carrier, own, PORT if way.carrier is Carrier.UDP else 0, also)
    space = netns.create()
    with netns.entered(space):
        for command in ("link set lo up", "link add up0 type veth peer name far0", "link set up0 up", "link set far0 up"):
            iproute(f"ip {command}")
        iproute(f"ip address add {OWN[4]}/24 dev up0")
        iproute(f"ip address add {OWN[6]}/64 dev up0 nodad")
        Path(f"/proc/sys/net/ipv{way.version}/conf/lo/forwarding").write_text("1")
        maps = {name: Map.create(name, shape) for name, shape in SHAPES.items()}
        for peer, prefixes in BEHIND:
            outer = pack(ipaddress.ip_address(peer[way.version]))
            if peer is not OWN:
                maps["peers"][outer] = b""
            for prefix in map(ipaddress.ip_network, prefixes):
                maps[f"prefixes{prefix.version}"][prefix_key(prefix)] = outer
        before, now = (pack(ipaddress.ip_address(peer[way.version])) for peer in (PEER_BEFORE, PEER))
        maps["peers"][before], maps["formers"][before] = b"", now
        programs = [load(sending("out", wire), maps), load(arriving("in", wire, recent=is_recent()), maps)]
        programs += [load(early("early", wire), maps)] if wire.port else []
        yield World(way, maps, programs[0], programs[1], programs[2] if wire.port else None)
    for opened in (*programs, *maps.values()):
        opened.close()
    os.close(space)


def inner(version: int, source: dict[int, str], target: dict[int, str], payload: bytes = MARK, **more: bytes) -> bytes:
    make = f.ipv4 if version == 4 else f.ipv6
    return make(source[version], target[version], f.UDP, payload, **more)


def classed(packet: bytes, value: int) -> bytes:
    """With another type of service or traffic class."""
    if packet[0] >> 4 == 6:
        return struct.pack(">H", 0x6000 | value << 4) + packet[2:]
    fixed = bytearray(packet)
    fixed[1], fixed[10:12] = value, b"\0\0"
    fixed[10:12] = struct.pack(">H", 0xFFFF - summed(bytes(fixed[: (fixed[0] & 15) * 4])))
    return bytes(fixed)


def summed(header: bytes) -> int:
    total = sum(struct.unpack(f">{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


FAMILIES = pytest.mark.parametrize("version", [4, 6])


@FAMILIES
@pytest.mark.parametrize("mark", [0, ECT, 0xB8 | CONGESTED])
def test_what_leaves_is_wrapped(world: World, version: int, mark: int) -> None:
    way, before = world.way, world.counters()
    packet = classed(inner(version, POD, FAR_POD), mark)
    sent = world.sends(packet)
    assert sent.verdict == REDIRECT
    header, rest = sent.packet[14 : 14 + (1500 - way.mtu)], sent.packet[14 + 1500 - way.mtu :]
    assert rest == packet
    protocol = f.UDP if way.carrier is Carrier.UDP else {4: f.IPIP, 6: f.IPV6_IN_IP}[version]
    source, target = (ipaddress.ip_address(one[way.version]).packed for one in (OWN, PEER))
    length = len(header) + len(packet)
    if way.version == 4:
        assert summed(header[:20]) == 0xFFFF
        assert header[:10] == struct.pack(">BBHHHBB", 0x45, mark, length, 0, 0x4000, 64, protocol)
        assert header[12:20] == source + target
    else:
        assert header[:40] == struct.pack(">IHBB", 6 << 28 | mark << 20, length - 40, protocol, 64) + source + target
    if way.carrier is Carrier.UDP:
        assert header[-8:] == struct.pack(">HHHH", PORT, PORT, 8 + len(packet), 0)
    assert world.counted(before) == {"sent": 1, "sent_bytes": len(packet)}


@FAMILIES
def test_what_nobody_has_is_not_sent(world: World, version: int) -> None:
    before = world.counters()
    assert world.sends(inner(version, POD, NO_POD)).verdict == DROP
    assert world.counted(before) == {}


def test_what_is_no_packet_of_a_pod_is_not_sent(world: World) -> None:
    arp = f.ethernet(MAC, f.BROADCAST, f.ARP, f.arp(1, MAC, POD[4], MAC, FAR_POD[4]))
    assert run(world.out, arp).verdict == DROP


@FAMILIES
def test_what_is_too_long_for_the_way_is_lost_and_counted(world: World, version: int) -> None:
    """The device's MTU lets nothing so long in; the way to one peer may be narrower than to others."""
    before = world.counters()
    assert world.sends(inner(version, POD, FAR_POD, bytes(LONGEST))).verdict == DROP
    assert world.counted(before)["lost"] == 1


@FAMILIES
@pytest.mark.parametrize("size", [8, 9, 1000, 1300])
def test_what_arrives_is_unpacked(world: World, version: int, size: int) -> None:
    before = world.counters()
    packet = inner(version, FAR_POD, POD, f.udp(9, random.randbytes(size - 8)))
    got = world.gets(world.wrapped(packet))
    assert got.verdict == REDIRECT
    assert got.packet[:14] == mac_bytes(MAC) * 2 + struct.pack(">H", TYPES[version])
    assert got.packet[14:].rstrip(b"\0") == packet.rstrip(b"\0")  # short frames are padded
    assert world.counted(before) == {"received": 1, "received_bytes": len(packet)}


def test_options_of_the_inner_packet_are_its_own(world: World) -> None:
    packet = inner(4, FAR_POD, POD, options=bytes(8))
    got = world.gets(world.wrapped(packet))
    assert (got.verdict, got.packet[14:]) == (REDIRECT, packet)


@FAMILIES
@pytest.mark.parametrize(
    ("outer_mark", "inner_mark", "then"), [(0, 0, 0), (0, 1, 1), (3, 1, 3), (3, 2, 3), (3, 3, 3), (1, 3, 3)]
)
def test_congestion_on_the_way_is_handed_on(world: World, version: int, outer_mark: int, inner_mark: int, then: int) -> None:
    packet = inner(version, FAR_POD, POD)
    got = world.gets(classed(world.wrapped(classed(packet, 0x20 | inner_mark)), outer_mark))
    then = then if world.hands_on(version) else inner_mark
    assert (got.verdict, got.packet[14:]) == (REDIRECT, classed(packet, 0x20 | then))


@FAMILIES
def test_congestion_that_cannot_be_handed_on_is_a_loss(world: World, version: int) -> None:
    before = world.counters()
    verdict = world.gets(classed(world.wrapped(inner(version, FAR_POD, POD)), CONGESTED)).verdict
    assert verdict == (DROP if world.hands_on(version) else REDIRECT)
    assert ("refused" in world.counted(before)) is (verdict == DROP)


Craft = Callable[[World, bytes], bytes]


def with_length(world: World, packet: bytes, by: int) -> bytes:
    """The inner packet claims another length."""
    at = 2 if packet[0] >> 4 == 4 else 4
    (length,) = struct.unpack_from(">H", packet, at)
    return world.wrapped(packet[:at] + struct.pack(">H", length + by) + packet[at + 2 :])


NOT_OURS: dict[str, Craft] = {
    "from a stranger": lambda w, p: w.wrapped(p, source=STRANGER),
    "to somebody else": lambda w, p: w.wrapped(p, target=THIRD),
    "of another protocol": lambda w, p: w.wrapped(p, protocol=f.GRE),
}
NOT_OURS_4: dict[str, Craft] = {
    "a first fragment": lambda w, p: w.wrapped(p, fragment=0x2000),
    "a later fragment": lambda w, p: w.wrapped(p, fragment=0x0001),
    "with options": lambda w, p: w.wrapped(p, options=bytes(4)),
}
REFUSED: dict[str, Craft] = {
    "another node's pod": lambda w, p: w.wrapped(p, source=THIRD),
    "a longer packet": lambda w, p: with_length(w, p, 1),
    "a shorter packet": lambda w, p: with_length(w, p, -1),
    "no packet": lambda w, p: w.wrapped(b""),
    "a piece of a header": lambda w, p: w.wrapped(p[:19]),
    "no version": lambda w, p: w.wrapped(b"\x55" + p[1:]),
    "nothing but a version": lambda w, p: w.wrapped(p[:1]),
}


@FAMILIES
@pytest.mark.parametrize("what", NOT_OURS)
def test_what_is_none_of_ours_goes_on_untouched(world: World, version: int, what: str) -> None:
    before = world.counters()
    packet = NOT_OURS[what](world, inner(version, FAR_POD, POD))
    got = world.gets(packet)
    assert (got.verdict, got.packet[14:]) == (NEXT, packet)
    assert world.counted(before) == {}


@FAMILIES
@pytest.mark.parametrize("what", NOT_OURS_4)
def test_fragments_and_options_go_on_to_the_stack(world: World, version: int, what: str) -> None:
    if world.way.version == 6:
        pieces = f.fragment_header(f.IPV6_IN_IP, 0, more=True) + inner(version, FAR_POD, POD)
        packet = f.ipv6(PEER[6], OWN[6], f.FRAGMENT, pieces)
    else:
        packet = NOT_OURS_4[what](world, inner(version, FAR_POD, POD))
    assert world.gets(packet).verdict == NEXT


@FAMILIES
@pytest.mark.parametrize("what", REFUSED)
def test_what_a_peer_should_not_send_is_refused_and_counted(world: World, version: int, what: str) -> None:
    before = world.counters()
    assert world.gets(REFUSED[what](world, inner(version, FAR_POD, POD))).verdict == DROP
    assert world.counted(before) == {"refused": 1}


@FAMILIES
@pytest.mark.parametrize("source", [NO_POD, STRANGER], ids=["nobody's pod", "a stranger"])
def test_a_node_passes_on_what_comes_from_outside_the_cluster(world: World, version: int, source: dict[int, str]) -> None:
    before = world.counters()
    packet = inner(version, source, POD)
    got = world.gets(world.wrapped(packet))
    assert (got.verdict, got.packet[14:].rstrip(b"\0")) == (REDIRECT, packet.rstrip(b"\0"))
    assert world.counted(before) == {"received": 1, "received_bytes": len(packet)}


@FAMILIES
@pytest.mark.parametrize("source", [POD, THIRD_POD], ids=["our pod", "third's pod"])
def test_no_node_sends_in_anothers_name(world: World, version: int, source: dict[int, str]) -> None:
    before = world.counters()
    assert world.gets(world.wrapped(inner(version, source, POD))).verdict == DROP
    assert world.counted(before) == {"refused": 1}


@FAMILIES
@pytest.mark.parametrize(("source", "target"), [(PEER_BEFORE, OWN), (PEER, OWN_BEFORE), (PEER_BEFORE, OWN_BEFORE)])
def test_nodes_that_change_their_addresses_are_known_by_both(
    world: World, version: int, source: dict[int, str], target: dict[int, str]
) -> None:
    packet = inner(version, FAR_POD, POD)
    found = world.gets(world.wrapped(packet, source, target))
    assert (found.verdict, found.packet[14:]) == (REDIRECT, packet)
    if world.early is not None:
        assert world.gets_early(world.wrapped(packet, source, target)).packet[BEFORE_A_PACKET + 14 :] == packet
    assert world.gets(world.wrapped(inner(version, THIRD_POD, POD), source, target)).verdict == DROP


def test_a_datagram_that_claims_another_length_is_refused(world: World) -> None:
    if world.way.carrier is Carrier.IPIP:
        packet = world.wrapped(inner(6, FAR_POD, POD), protocol=f.IPIP)  # says IPv4, and is not
    else:
        packet = bytearray(world.wrapped(inner(4, FAR_POD, POD)))
        packet[1500 - world.way.mtu - 3] += 1
    before = world.counters()
    assert world.gets(bytes(packet)).verdict == DROP
    assert world.counted(before) == {"refused": 1}


def test_a_datagram_to_another_port_is_somebody_elses(world: World) -> None:
    packet = world.wrapped(
        inner(4, FAR_POD, POD), **({"port": PORT + 1} if world.way.carrier is Carrier.UDP else {"protocol": f.UDP})
    )
    assert world.gets(packet).verdict == NEXT


of_udp = pytest.mark.parametrize("world", [way for way in WAYS if way.carrier is Carrier.UDP], indirect=True, ids=str)


@of_udp
@FAMILIES
@pytest.mark.parametrize("size", [8, 9, 1000, 1300])
def test_a_driver_unpacks_what_arrives(world: World, version: int, size: int) -> None:
    before = world.counters()
    packet = inner(version, FAR_POD, POD, f.udp(9, random.randbytes(size - 8)))
    got = world.gets_early(world.wrapped(packet))
    assert got.verdict == XDP_PASS
    mark, frame = got.packet[:BEFORE_A_PACKET], got.packet[BEFORE_A_PACKET:]
    assert mark[:TOKEN] != bytes(TOKEN)
    assert mark[TOKEN:] == pack(ipaddress.ip_address(PEER[world.way.version]))
    assert frame[:14] == bytes.fromhex((UPLINK_MAC + NEXT_MAC).replace(":", "")) + struct.pack(">H", TYPES[version])
    assert frame[14:].rstrip(b"\0") == packet.rstrip(b"\0")
    assert world.counted(before) == {}  # that is done where several have been put together


@of_udp
@FAMILIES
@pytest.mark.parametrize("what", [*NOT_OURS, "congestion"])
def test_a_driver_leaves_what_it_does_not_know(world: World, version: int, what: str) -> None:
    before = world.counters()
    honest = inner(version, FAR_POD, POD)
    packet = NOT_OURS[what](world, honest) if what in NOT_OURS else classed(world.wrapped(classed(honest, ECT)), CONGESTED)
    got = world.gets_early(packet)
    assert (got.verdict, got.packet[14:]) == (XDP_PASS, packet)
    assert world.counted(before) == {}


@of_udp
@FAMILIES
@pytest.mark.parametrize("what", REFUSED)
def test_a_driver_refuses_what_a_peer_should_not_send(world: World, version: int, what: str) -> None:
    before = world.counters()
    assert world.gets_early(REFUSED[what](world, inner(version, FAR_POD, POD))).verdict == XDP_DROP
    assert world.counted(before) == {"refused": 1}


@of_udp
@FAMILIES
@pytest.mark.parametrize("source", [PEER, STRANGER], ids=["a peer", "a stranger"])
def test_a_driver_unpacks_what_is_from_outside_the_cluster_from_peers_alone(
    world: World, version: int, source: dict[int, str]
) -> None:
    packet = inner(version, NO_POD, POD)
    wrapped = world.wrapped(packet, source=source)
    got = world.gets_early(wrapped)
    expected = packet if source is PEER else wrapped
    assert (got.verdict, got.packet[-len(expected) :]) == (XDP_PASS, expected)
    assert len(got.packet) == 14 + len(expected) + (BEFORE_A_PACKET if source is PEER else 0)


def test_noise_never_arrives(world: World) -> None:
    """Whatever bytes stand where, what is let in is a whole packet, and from no prefix of another node."""
    noise = random.Random(4)
    honest = [world.wrapped(inner(version, FAR_POD, POD)) for version in (4, 6)]
    header = 20 if world.way.version == 4 else 40
    for number in range(2000):
        packet = bytearray(honest[number % 2])
        for _ in range(noise.randint(1, 4)):
            packet[noise.randrange(header, len(packet))] = noise.randrange(256)
        packet = packet[: noise.randint(header, len(packet))]
        got = world.gets(bytes(packet))
        if got.verdict == REDIRECT:
            version = got.packet[14] >> 4
            where = slice(26, 30) if version == 4 else slice(22, 38)
            source = ipaddress.ip_address(got.packet[where])
            others = [prefixes[version == 6] for peer, prefixes in BEHIND if peer is not PEER]
            assert not any(source in ipaddress.ip_network(prefix) for prefix in others)
        else:
            assert got.verdict in (DROP, NEXT)
