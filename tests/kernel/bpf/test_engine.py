"""The engine in this kernel: maps, what the verifier says, a run on a crafted packet, attaching, and pins."""

from __future__ import annotations

import ipaddress
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from netloom.dataplane.bpf import (
    BpfError,
    Map,
    Means,
    Shape,
    Way,
    attach,
    attached,
    best,
    detach,
    load,
    maps,
    pins,
    prefix_key,
    program_info,
    run,
)
from netloom.dataplane.bpf import assembler as a
from netloom.dataplane.bpf.assembler import FP, R0, R1, R2, R3, R6, Program, at, step
from netloom.dataplane.netlink import Netlink
from netloom.errors import DataplaneError
from tests.kernel import frames as f
from tests.kernel.iproute import run as iproute

TRIE = Shape(maps.Kind.LPM_TRIE, key=8, value=4, room=16)
HASH = Shape(maps.Kind.HASH, key=4, value=8, room=16)
COUNTERS = Shape(maps.Kind.COUNTERS, key=4, value=16, room=16)
FRAME = f.ethernet("0a:00:00:00:00:01", "0a:00:00:00:00:02", f.IPV4, f.ipv4("10.0.0.1", "10.0.0.2", f.UDP, f.udp(9, b"")))
MEANS = list(dict.fromkeys((Means.CLSACT, best())))


def verdict(number: int, name: str = "loom_v") -> Program:
    return Program(name, a.Kind.CLASSIFIER, (step("always", a.mov(R0, number), a.leave()),))


COUNT = Program(
    "loom_c",
    a.Kind.CLASSIFIER,
    (
        step("where the packet is", a.load(R2, a.U32, R1, a.PACKET), a.load(R3, a.U32, R1, a.PACKET_END)),
        step("its length", a.load(R6, a.U32, R1, a.SKB_LENGTH)),
        step("room for Ethernet and IPv4", a.mov(a.R4, R2), a.add(a.R4, 34), a.jump_if(a.R4, ">", R3, "short")),
        step("whose it is", a.load(R2, a.U32, R2, 26), a.store(a.U32, FP, -4, R2)),
        step("counted?", a.map_into(R1, "seen"), a.mov(R2, FP), a.add(R2, -4), a.call(a.Helper.MAP_LOOKUP)),
        step("no", a.jump_if(R0, "==", 0, "unknown")),
        step("one more", a.load(R1, a.U64, R0), a.add(R1, 1), a.store(a.U64, R0, 0, R1)),
        step("and its bytes", a.load(R1, a.U64, R0, 8), a.add(R1, R6), a.store(a.U64, R0, 8, R1)),
        step("on", a.mov(R0, a.GO_ON), a.leave()),
        at("short", "nothing to be seen", a.mov(R0, a.NEXT), a.leave()),
        at("unknown", "a stranger", a.mov(R0, a.DROP), a.leave()),
    ),
)


@pytest.fixture
def kernel(node: int) -> Iterator[Netlink]:
    iproute("ip link set lo up")
    iproute("ip link add up0 type veth peer name far0")
    with Netlink() as kernel:
        yield kernel


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "bpf"
    pins.mount(path)
    yield path
    pins.unmount(path)


def test_the_longest_prefix_of_a_trie_counts() -> None:
    trie = Map.create("routes", TRIE)
    trie[prefix_key(ipaddress.ip_network("10.0.0.0/8"))] = b"wide"
    trie[prefix_key(ipaddress.ip_network("10.1.0.0/16"))] = b"slim"
    assert trie[prefix_key(ipaddress.ip_network("10.1.2.3"))] == b"slim"
    assert trie[prefix_key(ipaddress.ip_network("10.2.2.3"))] == b"wide"
    with pytest.raises(KeyError):
        trie[prefix_key(ipaddress.ip_network("11.0.0.0"))]
    assert len(dict(trie.items())) == 2
    trie.close()


def test_a_map_gives_back_what_it_holds_and_is_full_at_its_room() -> None:
    table = Map.create("table", HASH)
    for number in range(16):
        table[number.to_bytes(4, "little")] = number.to_bytes(8, "little")
    assert {int.from_bytes(k, "little"): int.from_bytes(v, "little") for k, v in table.items()} == {n: n for n in range(16)}
    with pytest.raises(BpfError, match="bpf map table: Argument list too long"):
        table[b"more"] = bytes(8)
    del table[bytes(4)]
    del table[bytes(4)]
    assert len(list(table.keys())) == 15
    table.close()


@pytest.mark.parametrize("shape", [TRIE, HASH, COUNTERS], ids=lambda shape: shape.kind.name)
def test_a_large_map_is_read_whole(shape: Shape) -> None:
    """More than fits into one answer."""
    large = Map.create("large", replace(shape, room=5000))
    keys = {prefix_key(ipaddress.ip_network((n, 32)))[-shape.key :] for n in range(3000)}
    for key in keys:
        large[key] = b"\1"
    assert {key for key, value in large.items() if value[0] == 1} == keys == set(large.keys())
    large.close()


def test_a_program_sees_a_packet_decides_and_counts() -> None:
    seen = Map.create("seen", COUNTERS)
    with load(COUNT, {"seen": seen}) as program:
        assert run(program, FRAME).verdict == a.DROP
        seen[ipaddress.ip_address("10.0.0.1").packed] = b""
        assert [run(program, FRAME).verdict for _ in range(3)] == [a.GO_ON] * 3
        assert run(program, FRAME[:12] + b"\x08\x06" + bytes(6)).verdict == a.NEXT
        assert run(program, FRAME).packet == FRAME
    assert dict(seen.sums()) == {ipaddress.ip_address("10.0.0.1").packed: (4, 4 * len(FRAME))}
    seen.close()


def test_the_verifier_is_quoted_at_the_step_that_it_is_about() -> None:
    careless = (
        step("where the packet is", a.load(R2, a.U32, R1, a.PACKET)),
        step("read beyond its end", a.load(R0, a.U32, R2, 26), a.leave()),
    )
    with pytest.raises(BpfError) as refused:
        load(Program("loom_x", a.Kind.CLASSIFIER, careless))
    assert str(refused.value) == (
        "bpf program loom_x: Permission denied; the verifier says: invalid access to packet, off=26 size=4, "
        "R2(id=0,off=26,r=0) (instruction 1, in the step “read beyond its end”)"
    )


def names(kernel: Netlink, index: int, way: Way) -> list[str]:
    return [info.name for info in attached(kernel, index, way)]


@pytest.mark.parametrize("means", MEANS)
@pytest.mark.parametrize("way", Way)
def test_a_program_stays_attached_and_the_next_of_its_name_takes_its_place(kernel: Netlink, means: Means, way: Way) -> None:
    index = socket.if_nametoindex("up0")
    for number in (a.GO_ON, a.NEXT, a.NEXT):
        with load(verdict(number)) as program:
            attach(kernel, index, way, program, by=means)
            attach(kernel, index, way, program, by=means)
            [found] = attached(kernel, index, way)
            assert found == program_info(program.fd)
    other = Way.LEAVING if way is Way.ARRIVING else Way.ARRIVING
    assert names(kernel, index, other) == []
    detach(kernel, index, way, "loom_v")
    detach(kernel, index, way, "loom_v")
    assert names(kernel, index, way) == []


def test_programs_differ_by_instructions_and_by_maps() -> None:
    maps_ = [Map.create("seen", COUNTERS) for _ in range(2)]
    programs = [load(COUNT, {"seen": one}) for one in (maps_[0], maps_[0], maps_[1])]
    first, again, other = (program_info(program.fd) for program in programs)
    assert first.is_same(again) and not first.is_same(other)
    assert first.maps == {maps_[0].id} and first.tag == other.tag
    for opened in (*maps_, *programs):
        opened.close()


@pytest.mark.parametrize("means", MEANS)
def test_what_is_attached_sees_packets(kernel: Netlink, means: Means) -> None:
    for name in ("up0", "far0"):
        iproute(f"ip link set {name} up")
    seen = Map.create("seen", COUNTERS)
    sender_address = ipaddress.ip_address("10.0.0.1").packed
    seen[sender_address] = b""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind(("up0", 0))
        with load(COUNT, {"seen": seen}) as program:
            attach(kernel, socket.if_nametoindex("far0"), Way.ARRIVING, program, by=means)
        deadline = time.monotonic() + 30
        while not (count := dict(seen.sums())[sender_address])[0]:
            assert time.monotonic() < deadline
            sender.send(FRAME)  # what is sent before the kernel has seen that the link is up goes nowhere
            time.sleep(0.01)
    assert count[1] == count[0] * len(FRAME)
    seen.close()


def test_tc_shows_a_filter_by_its_name(kernel: Netlink) -> None:
    with load(verdict(a.GO_ON)) as program:
        attach(kernel, socket.if_nametoindex("up0"), Way.LEAVING, program, by=Means.CLSACT)
    assert program.name in iproute("tc filter show dev up0 egress")


def test_an_interface_that_is_not_there_is_named(kernel: Netlink) -> None:
    with load(verdict(a.GO_ON)) as program, pytest.raises(DataplaneError, match="No such device"):
        attach(kernel, 999, Way.ARRIVING, program)


@pytest.mark.parametrize("means", MEANS)
def test_programs_of_several_names_stand_side_by_side(kernel: Netlink, means: Means) -> None:
    index = socket.if_nametoindex("up0")
    for name in ("loom_v", "other", "loom_v"):
        with load(verdict(a.NEXT, name)) as program:
            attach(kernel, index, Way.ARRIVING, program, by=means)
    assert sorted(names(kernel, index, Way.ARRIVING)) == ["loom_v", "other"]
    detach(kernel, index, Way.ARRIVING, "loom_v")
    assert names(kernel, index, Way.ARRIVING) == ["other"]


def test_a_pinned_map_is_found_again_with_what_it_held(folder: Path) -> None:
    first = pins.pinned(folder / "node-0", "table", HASH)
    first[b"abcd"] = b"efghijkl"
    number = first.id
    first.close()
    again = pins.pinned(folder / "node-0", "table", HASH)
    assert (again.id, again[b"abcd"]) == (number, b"efghijkl")
    again.close()


def test_a_pinned_map_of_another_shape_is_another_editions(folder: Path) -> None:
    pins.pinned(folder / "node-0", "table", HASH).close()
    table = pins.pinned(folder / "node-0", "table", COUNTERS)
    assert list(table.keys()) == []
    assert maps.map_info(table.fd, "table")[1] == COUNTERS
    table.close()
    pins.unpin(folder / "node-0")
    pins.unpin(folder / "node-0")
    assert not (folder / "node-0").exists()


def test_without_a_bpffs_a_pin_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataplaneError, match=r"bpf pin .*/table: "):
        pins.pinned(tmp_path / "plain", "table", HASH)


def test_nothing_stays_open(kernel: Netlink) -> None:
    index = socket.if_nametoindex("up0")
    before = len(os.listdir("/proc/self/fd"))
    for number in (a.GO_ON, a.NEXT):
        with load(verdict(number)) as program:
            attach(kernel, index, Way.ARRIVING, program, by=best())
        attached(kernel, index, Way.ARRIVING)
    detach(kernel, index, Way.ARRIVING, "loom_v")
    assert len(os.listdir("/proc/self/fd")) == before
