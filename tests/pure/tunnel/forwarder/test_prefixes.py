from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from netloom.model.addresses import Prefix
from netloom.tunnel.forwarder.prefixes import Prefixes

V4 = st.tuples(st.integers(0, 255), st.integers(0, 32)).map(
    lambda p: ipaddress.ip_network((p[0] << 24 | p[0], p[1]), strict=False)
)
V6 = st.tuples(st.integers(0, 255), st.integers(0, 128)).map(
    lambda p: ipaddress.ip_network((p[0] << 120 | p[0], p[1]), strict=False)
)
PREFIXES = V4 | V6


@given(
    steps=st.lists(st.tuples(PREFIXES, st.none() | st.integers(0, 9)), max_size=30),
    asked=st.lists(PREFIXES.map(lambda p: p.network_address), min_size=1, max_size=10),
)
def test_the_longest_prefix_wins_whatever_came_and_went(steps: list[tuple[Prefix, int | None]], asked: list[object]) -> None:
    found: Prefixes[int] = Prefixes()
    expected: dict[Prefix, int] = {}
    for prefix, value in steps:
        if value is None:
            found.delete(prefix)
            expected.pop(prefix, None)
        else:
            found.put(prefix, value)
            expected[prefix] = value
        for address in map(ipaddress.ip_address, map(str, asked)):
            fitting = [p for p in expected if p.version == address.version and address in p]
            best = max(fitting, key=lambda p: p.prefixlen, default=None)
            assert found.find(address.packed) == (None if best is None else expected[best])


def test_a_look_up_costs_the_same_among_ten_peers_and_among_ten_thousand() -> None:
    """Not by the clock, but by what is asked: one mapping for what was asked before, else one per length of prefix."""
    few, many = Prefixes[int](), Prefixes[int]()
    for n in range(10_000):
        prefix = ipaddress.ip_network((10 << 24 | n << 8, 24))
        many.put(prefix, n)
        if n < 10:
            few.put(prefix, n)
    for table in (few, many):
        assert len(table._lengths[4]) == 1
        assert table.find(bytes((10, 0, 5, 77))) == 5


def test_a_scan_of_a_pool_does_not_take_all_memory() -> None:
    table = Prefixes[int]()
    table.put(ipaddress.ip_network("10.0.0.0/8"), 1)
    for n in range(1 << 17):
        assert table.find((10 << 24 | n).to_bytes(4, "big")) == 1
        if n % 1024 == 0:
            assert len(table._found) <= 1 << 16
