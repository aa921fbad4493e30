"""Prefixes as intervals, against brute force over a small space of addresses."""

from __future__ import annotations

import ipaddress
import itertools
import random

from hypothesis import given
from hypothesis import strategies as st

from netloom.dataplane.nft.intervals import disjoint, points
from netloom.model.addresses import Prefix

# all prefixes inside 10.0.0.0/26 and the last 64 addresses of each family
_BASES = {
    4: (ipaddress.ip_address("10.0.0.0"), ipaddress.ip_address("255.255.255.192")),
    6: (ipaddress.ip_address(2**128 - 64),),
}


def _prefixes(version: int) -> st.SearchStrategy[Prefix]:
    bits = 32 if version == 4 else 128
    return st.builds(
        lambda base, offset, length: ipaddress.ip_network(
            (int(base) + offset if version == 4 else base + offset, length), strict=False
        ),
        st.sampled_from(_BASES[version]),
        st.integers(0, 63),
        st.integers(bits - 6, bits),
    )


families = st.sampled_from((4, 6)).flatmap(lambda version: st.lists(_prefixes(version), max_size=8))


@given(families)
def test_ranges_cover_exactly_the_addresses_of_the_prefixes(prefixes: list[Prefix]) -> None:
    wanted = {int(address) for prefix in prefixes for address in prefix}
    covered = [number for first, after in disjoint(prefixes) for number in range(first, after)]
    assert sorted(wanted) == covered


@given(families)
def test_ranges_neither_overlap_nor_adjoin(prefixes: list[Prefix]) -> None:
    ranges = disjoint(prefixes)
    assert all(first < after for first, after in ranges)
    assert all(after < following for (_, after), (following, _) in itertools.pairwise(ranges))


@given(families, st.randoms(use_true_random=False))
def test_how_prefixes_are_written_does_not_matter(prefixes: list[Prefix], order: random.Random) -> None:
    again = [half for prefix in prefixes for half in (prefix.subnets() if prefix.num_addresses > 1 else [prefix])]
    order.shuffle(again)
    assert disjoint(again) == disjoint(prefixes)


def test_a_range_up_to_the_last_address_has_no_end() -> None:
    assert points([ipaddress.ip_network("255.0.0.0/8")], 4) == {b"\xff\0\0\0\0"}
    assert points([ipaddress.ip_network("::/0")], 6) == {bytes(17)}


def test_each_family_has_its_own_points() -> None:
    pools = [ipaddress.ip_network("10.244.0.0/16"), ipaddress.ip_network("fd00::/112")]
    assert points(pools, 4) == {bytes((10, 244, 0, 0, 0)), bytes((10, 245, 0, 0, 1))}
    assert {len(point) for point in points(pools, 6)} == {17}
