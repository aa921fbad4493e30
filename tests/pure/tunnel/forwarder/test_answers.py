"""ICMP errors as RFC 792, 1122, 1191 and 4443 have them: when there is one, what it says, and how many there are."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netloom.tunnel.forwarder.answers import Budget, is_answerable, too_big, unreachable
from tests.pure.tunnel.forwarder.reference import TCP, UDP, Flow, ones

V4, V6 = Flow(4, UDP, bytes(1400)), Flow(6, UDP, bytes(1400))


def packet(flow: Flow) -> memoryview:
    return memoryview(flow.packet())


def test_an_error_says_what_is_wrong_and_quotes_the_packet() -> None:
    said = unreachable(packet(V4))
    assert said is not None
    assert said[:2] == bytes((3, 0))
    assert ones(said) == 0xFFFF
    assert said[8:] == V4.packet()[: 576 - 28]
    assert (unreachable(packet(V4), node=True) or b"")[:2] == bytes((3, 1))
    narrow = too_big(packet(V4), 1372)
    assert narrow is not None
    assert struct.unpack_from(">BBHHH", narrow)[::4] == (3, 1372)
    assert ones(narrow) == 0xFFFF


def test_ipv6_has_its_own_and_the_kernel_sums_it_up() -> None:
    said = unreachable(packet(V6))
    assert said is not None
    assert said[:8] == bytes((1, 0, 0, 0, 0, 0, 0, 0))
    assert said[8:] == V6.packet()[: 1280 - 48]
    assert (unreachable(packet(V6), node=True) or b"")[:2] == bytes((1, 3))
    assert (too_big(packet(V6), 1300) or b"")[:8] == struct.pack(">BBHI", 2, 0, 0, 1300)


def of(protocol: int, body: bytes, version: int = 4, **header: object) -> memoryview:
    """A packet of any protocol, made out of a UDP one."""
    made = bytearray(replace(Flow(version, UDP, body), **header).packet())  # type: ignore[arg-type]  # names of its fields
    start = 20 if version == 4 else 40
    made[start:] = body
    made[9 if version == 4 else 6] = protocol
    return memoryview(bytes(made))


@pytest.mark.parametrize("kind", [3, 4, 5, 11, 12])
def test_nobody_answers_an_error(kind: int) -> None:
    assert not is_answerable(of(1, bytes((kind, 0)) + bytes(30)))
    assert is_answerable(of(1, bytes((8, 0)) + bytes(30)))


@pytest.mark.parametrize("kind", [1, 2, 3, 4, 100])
def test_nobody_answers_an_error_of_ipv6_behind_whatever_headers(kind: int) -> None:
    error, echo = bytes((kind, 0)) + bytes(30), bytes((128, 0)) + bytes(30)
    assert not is_answerable(of(58, error, 6))
    assert is_answerable(of(58, echo, 6))
    assert not is_answerable(of(0, bytes((60, 0)) + bytes(6) + bytes((58, 1)) + bytes(14) + error, 6))
    assert is_answerable(of(0, bytes((60, 0)) + bytes(6) + bytes((58, 1)) + bytes(14) + echo, 6))


def test_only_the_first_fragment_is_answered() -> None:
    first, second = bytearray(V4.packet()), bytearray(V4.packet())
    first[6:8], second[6:8] = b"\x20\0", b"\x20\x10"
    assert is_answerable(memoryview(first))
    assert not is_answerable(memoryview(second))
    assert is_answerable(of(44, bytes((17, 0, 0, 1)) + bytes(40), 6))
    assert not is_answerable(of(44, bytes((17, 0, 0, 9)) + bytes(40), 6))


@pytest.mark.parametrize(
    ("version", "ends"),
    [
        (4, ("0.0.0.0", "10.0.0.1")),
        (4, ("127.0.0.1", "10.0.0.1")),
        (4, ("224.0.0.1", "10.0.0.1")),
        (4, ("255.255.255.255", "10.0.0.1")),
        (4, ("10.0.0.1", "239.1.1.1")),
        (4, ("10.0.0.1", "255.255.255.255")),
        (6, ("::", "fd00::1")),
        (6, ("::1", "fd00::1")),
        (6, ("ff02::1", "fd00::1")),
        (6, ("fd00::1", "ff02::1")),
    ],
)
def test_who_is_not_one_host_is_not_answered(version: int, ends: tuple[str, str]) -> None:
    assert unreachable(packet(Flow(version, TCP, b"x", addresses=ends))) is None


@given(first=st.sampled_from([0x45, 0x4F, 0x60]), rest=st.binary(min_size=59, max_size=200))
def test_no_packet_does_harm(first: int, rest: bytes) -> None:
    unreachable(memoryview(bytes((first,)) + rest))


def test_errors_are_few_and_one_receiver_does_not_use_up_all() -> None:
    now = 0.0
    budget = Budget(rate=1000, burst=200, clock=lambda: now)
    assert sum(budget.allows(b"noisy") for _ in range(1000)) == 10
    assert budget.allows(b"other")
    now = 1.0
    assert sum(budget.allows(b"noisy") for _ in range(1000)) == 10
    assert sum(budget.allows(n.to_bytes(4, "big")) for n in range(1000)) == 190
    now = 100.0
    for n in range(10_000):
        now += 0.001
        budget.allows(n.to_bytes(4, "big"))
    assert len(budget._each) <= 4096
