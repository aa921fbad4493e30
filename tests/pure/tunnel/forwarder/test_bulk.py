"""Cutting and merging, by numpy and by plain Python alike: what comes out is what the kernel's own code makes, and never anything else."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netloom.tunnel.forwarder import offload
from netloom.tunnel.forwarder.bulk import MOST_BYTES, MOST_SEGMENTS, Bulk
from netloom.tunnel.forwarder.bulk.plain import Plain
from netloom.tunnel.forwarder.bulk.vectorised import Vectorised
from netloom.tunnel.forwarder.offload import Super
from tests.pure.tunnel.forwarder.reference import TCP, UDP, Flow, cut, is_whole, ones, same_sum

BOTH = pytest.mark.parametrize("bulk", [Plain(), Vectorised()], ids=lambda bulk: bulk.name)
TIMESTAMPS = bytes((1, 1, 8, 10, 0, 1, 2, 3, 4, 5, 6, 7))


def payload(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def header(flow: Flow, size: int) -> bytes:
    kind = 5 if flow.protocol == UDP else 1 if flow.version == 4 else 4
    return struct.pack("=BBHHHH", 1, kind, flow.header, size, flow.l4, 16 if flow.protocol == TCP else 6)


def datagrams_of(bulk: Bulk, flow: Flow, size: int) -> list[bytes]:
    packet = memoryview(bytearray(flow.packet(unfinished=True)))
    many = offload.super_packet(header(flow, size), packet)
    assert many is not None
    found = []
    for piece, each in bulk.cut(packet, many):
        assert len(piece) <= MOST_BYTES
        assert -(-len(piece) // each) <= MOST_SEGMENTS
        found += [bytes(piece[at : at + each]) for at in range(0, len(piece), each)]
    return found


def merged(bulk: Bulk, packets: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    whole = memoryview(bytearray(b"".join(packets)))
    return [(bytes(head), bytes(packet)) for head, packet in bulk.merge(whole, len(packets[0]))]


def taken_apart(written: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
    """What the kernel makes of it: the reference cuts again what was given as one."""
    found = []
    for head, packet in written:
        if head == offload.PLAIN:
            found.append(packet)
            continue
        assert is_partial(packet, head)
        many = offload.super_packet(head, memoryview(packet))
        assert many is not None
        for piece, each in Plain().cut(memoryview(bytearray(packet)), many):
            found += [bytes(piece[at : at + each]) for at in range(0, len(piece), each)]
    return found


def is_partial(packet: bytes, head: bytes) -> bool:
    """Whether the checksum's field has the sum of the pseudo header, and the length is right."""
    l4, at = offload.unfinished(head)
    protocol, addresses = (packet[9], packet[12:20]) if packet[0] >> 4 == 4 else (packet[6], packet[8:40])
    pseudo = ones(addresses + struct.pack(">II", len(packet) - l4, protocol))
    return same_sum(pseudo, struct.unpack_from(">H", packet, at)[0])


def equal(found: Sequence[bytes], expected: Sequence[bytes]) -> None:
    """But for checksums, which may be 0 here and 0xffff there: of those it is asked that they are right.  Nor does an identification
    say anything where DF is set."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert is_whole(one)
        assert what_counts(one) == what_counts(other)


def what_counts(packet: bytes) -> bytes:
    made = bytearray(packet)
    if packet[0] >> 4 == 4:
        made[10:12] = b"\0\0"
        if packet[6] & 0x40:
            made[4:6] = b"\0\0"
    l4, protocol = ((packet[0] & 15) * 4, packet[9]) if packet[0] >> 4 == 4 else (40, packet[6])
    at = l4 + (16 if protocol == TCP else 6)
    made[at : at + 2] = b"\0\0"
    return bytes(made)


flows = st.builds(
    Flow,
    version=st.sampled_from([4, 6]),
    protocol=st.sampled_from([TCP, UDP]),
    payload=st.builds(payload, st.integers(1, 9000), st.integers(0, 99)),
    sequence=st.integers(0, 2**32 - 1),
    flags=st.sampled_from([0x10, 0x18, 0x11, 0x90, 0xD8, 0x50]),
    options=st.sampled_from([b"", TIMESTAMPS, TIMESTAMPS * 3]),
    identification=st.integers(0, 65535),
    dont_fragment=st.booleans(),
    ip_options=st.sampled_from([b"", b"\x94\x04\0\0"]),
)


@BOTH
@given(flow=flows, size=st.integers(1, 3000))
@settings(max_examples=60, deadline=None)
def test_a_packet_is_cut_as_the_kernel_cuts_it(bulk: Bulk, flow: Flow, size: int) -> None:
    equal(datagrams_of(bulk, flow, size), cut(flow, size))


@BOTH
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("protocol", [TCP, UDP])
@pytest.mark.parametrize("size", [1, 7, 536, 1399, 1400, 1402])
def test_the_largest_packet_is_cut_into_however_many(bulk: Bulk, version: int, protocol: int, size: int) -> None:
    flow = Flow(version, protocol, payload(65480 if size > 7 else 5000), flags=0x99, options=TIMESTAMPS, dont_fragment=False)
    equal(datagrams_of(bulk, flow, size), cut(flow, size))


@BOTH
@given(flow=flows, size=st.integers(500, 1500))
@settings(max_examples=60, deadline=None)
def test_what_was_cut_is_merged_into_the_same(bulk: Bulk, flow: Flow, size: int) -> None:
    packets = cut(flow, size)
    written = merged(bulk, packets)
    equal(taken_apart(written), packets)
    fits = not (flow.ip_options and flow.version == 4)
    if fits and not (flow.protocol == TCP and flow.flags & 0x80):
        assert len(written) == 1


@BOTH
def test_dozens_of_datagrams_become_one_packet(bulk: Bulk) -> None:
    for version in (4, 6):
        for protocol in (TCP, UDP):
            packets = cut(Flow(version, protocol, payload(60000), flags=0x18, options=TIMESTAMPS), 1400)
            [(head, packet)] = merged(bulk, packets)
            assert head != offload.PLAIN
            assert len(packet) > 60000
            equal(taken_apart([(head, packet)]), packets)


@BOTH
@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_whatever_comes_together_leaves_in_order_and_unchanged(bulk: Bulk, data: st.DataObject) -> None:
    """Flows mixed, packets damaged, missing, twice: all of one size but the last."""
    size = data.draw(st.integers(60, 400))
    kinds = [Flow(v, p, flags=f, port=n) for v in (4, 6) for p in (TCP, UDP) for f in (0x10, 0x18, 0x02) for n in (1, 2)]
    last_of: dict[Flow, Flow] = {}
    packets = []
    for _ in range(data.draw(st.integers(2, 12))):
        kind = data.draw(st.sampled_from(kinds))
        before = last_of.get(kind, replace(kind, dont_fragment=data.draw(st.booleans())))
        step = data.draw(st.sampled_from([1, 1, 1, 0, 2]))
        flow = replace(
            before,
            payload=payload(size - kind.header, data.draw(st.integers(0, 9))),
            sequence=before.sequence + step * len(before.payload),
            identification=before.identification + step,
        )
        last_of[kind] = flow
        packet = bytearray(flow.packet())
        if data.draw(st.sampled_from([False] * 5 + [True])):
            packet[data.draw(st.integers(0, size - 1))] ^= data.draw(st.integers(1, 255))
        packets.append(bytes(packet))
    rest = data.draw(st.integers(1, size))
    packets.append(packets[-1][:rest] if data.draw(st.booleans()) else replace(flow, payload=b"x").packet()[:rest])
    written = merged(bulk, packets)
    for (head, packet), parts in zip(written, _parts(written, packets), strict=True):
        if head == offload.PLAIN:
            assert [packet] == parts
        else:
            assert all(is_whole(part) for part in parts)
            equal(taken_apart([(head, packet)]), parts)


def _parts(written: Sequence[tuple[bytes, bytes]], packets: list[bytes]) -> list[list[bytes]]:
    """Which of the packets each was made of."""
    left, found = list(packets), []
    for head, packet in written:
        count = 1 if head == offload.PLAIN else len(taken_apart([(head, packet)]))
        found.append([left.pop(0) for _ in range(count)])
    assert not left
    return found


@BOTH
@pytest.mark.parametrize(
    "change",
    [
        {"flags": 0x18},
        {"flags": 0x11},
        {"sequence": 1},
        {"port": 1},
        {"ttl": 9},
        {"flags": 0x02},
        {"flags": 0x04},
        {"flags": 0x30},
        {"flags": 0x90},
    ],
    ids=str,
)
def test_a_packet_that_differs_ends_a_run(bulk: Bulk, change: dict[str, int]) -> None:
    for version in (4, 6):
        flow = Flow(version, TCP, payload(4000))
        parts = [replace(flow, payload=flow.payload[at : at + 1000], sequence=1000 + at) for at in range(0, 4000, 1000)]
        parts[1] = replace(parts[1], **change)
        written = merged(bulk, [part.packet() for part in parts])
        assert len(written) > 1
        equal(taken_apart(written), [part.packet() for part in parts])


@BOTH
def test_fragments_and_numbers_that_do_not_count_on_stay_alone(bulk: Bulk) -> None:
    flow = Flow(4, UDP, payload(400), dont_fragment=False)
    assert len(merged(bulk, [replace(flow, identification=n).packet() for n in (1, 2, 3)])) == 1
    assert len(merged(bulk, [replace(flow, identification=n).packet() for n in (1, 3, 5)])) == 3
    fragments = [bytearray(replace(flow, identification=n).packet()) for n in (1, 2, 3)]
    for fragment in fragments:
        fragment[6] = 0x20
        fragment[10:12] = b"\0\0"
        fragment[10:12] = struct.pack(">H", 0xFFFF - ones(bytes(fragment[:20])))
    assert [packet for _, packet in merged(bulk, list(map(bytes, fragments)))] == list(map(bytes, fragments))


@BOTH
def test_a_wrong_checksum_is_not_made_right(bulk: Bulk) -> None:
    """Neither the packet's own, nor by what stands around it."""
    for version in (4, 6):
        for protocol in (TCP, UDP):
            packets = cut(Flow(version, protocol, payload(4000)), 1000)
            for at in (len(packets[2]) - 1, 41 if version == 6 else 21):
                broken = bytearray(packets[2])
                broken[at] ^= 1
                written = merged(bulk, [packets[0], packets[1], bytes(broken), packets[3]])
                assert (offload.PLAIN, bytes(broken)) in written


@given(
    head=st.binary(min_size=10, max_size=10),
    packet=st.binary(min_size=20, max_size=200),
    bulk=st.sampled_from([Plain(), Vectorised()]),
)
@settings(max_examples=150, deadline=None)
def test_no_header_that_a_pod_thinks_up_does_harm(head: bytes, packet: bytes, bulk: Bulk) -> None:
    many = offload.super_packet(head, memoryview(packet))
    if many is not None:
        for piece, _ in bulk.cut(memoryview(bytearray(packet)), many):
            assert piece


@given(
    kind=st.sampled_from([1, 4, 5, 0x81, 0x84]),
    size=st.integers(1, 65535),
    l4=st.integers(0, 120),
    packet=st.binary(min_size=40, max_size=400),
    first=st.sampled_from([0x45, 0x46, 0x4F, 0x60]),
)
@settings(max_examples=150, deadline=None)
def test_a_header_that_is_almost_right_does_no_harm_either(kind: int, size: int, l4: int, packet: bytes, first: int) -> None:
    packet = bytes((first,)) + packet[1:]
    many = offload.super_packet(struct.pack("=BBHHHH", 1, kind, 0, size, l4, 0), memoryview(packet))
    if many is not None:
        one, other = (
            [bytes(piece) for piece, _ in bulk.cut(memoryview(bytearray(packet)), many)] for bulk in (Plain(), Vectorised())
        )
        assert b"".join(one) == b"".join(other)


@BOTH
@given(data=st.binary(min_size=1, max_size=3000), size=st.integers(1, 600))
@settings(max_examples=100, deadline=None)
def test_no_datagrams_do_harm(bulk: Bulk, data: bytes, size: int) -> None:
    written = list(bulk.merge(memoryview(bytearray(data)), min(size, len(data))))
    assert b"".join(bytes(packet) for _, packet in written) == data


def test_only_what_a_kernel_gives_is_many() -> None:
    flow = Flow(4, TCP, payload(3000))
    packet = memoryview(flow.packet(unfinished=True))
    assert offload.super_packet(header(flow, 1000), packet) == Super(TCP, 20, 1000)
    assert offload.super_packet(b"\0" + header(flow, 1000)[1:], packet) is None
    assert offload.super_packet(header(flow, 0), packet) is None
    assert offload.super_packet(header(replace(flow, ip_options=bytes(4)), 1000), packet) is None
