"""Splitting a slot: whatever is taken, the pieces that are left are free, aligned, as large as can be, and all there is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from netloom.ipam.parts import gaps, rest, unused
from netloom.model.addresses import Prefix
from tests.pure.ipam.making import prefix

SLOTS = st.sampled_from([prefix("10.0.0.16/28"), prefix("fd00::20/123")])


@st.composite
def slots_with_claims(draw: st.DrawFn) -> tuple[Prefix, list[Prefix]]:
    slot, claimed = draw(SLOTS), list[Prefix]()
    for _ in range(draw(st.integers(0, 6))):
        free = list(gaps(slot, claimed))
        if free:
            piece = draw(st.sampled_from(free))
            length = draw(st.integers(piece.prefixlen, slot.max_prefixlen))
            claimed.append(draw(st.sampled_from(list(piece.subnets(new_prefix=length)))))
    return slot, claimed


def numbers(*prefixes: Prefix) -> set[int]:
    return {int(address) for cidr in prefixes for address in cidr}


def are_as_large_as_can_be(pieces: list[Prefix], slot: Prefix) -> bool:
    """No two of them are the halves of one."""
    return all(
        piece == slot or piece.supernet() not in {o.supernet() for o in pieces if o != piece and o != slot} for piece in pieces
    )


@given(slots_with_claims())
def test_gaps_are_all_that_nobody_has(given_: tuple[Prefix, list[Prefix]]) -> None:
    slot, claimed = given_
    found = list(gaps(slot, claimed))
    assert numbers(*found) == numbers(slot) - numbers(*claimed)
    assert sum(piece.num_addresses for piece in found) == len(numbers(*found))
    assert are_as_large_as_can_be(found, slot)


@given(SLOTS, st.data())
def test_what_no_single_address_is_taken_of_is_free(slot: Prefix, data: st.DataObject) -> None:
    taken = data.draw(st.sets(st.sampled_from(sorted(numbers(slot)))))
    found = list(unused(slot, taken))
    assert numbers(*found) == numbers(slot) - taken
    assert are_as_large_as_can_be(found, slot)


@given(slots_with_claims())
def test_what_is_left_and_the_part_are_the_whole(given_: tuple[Prefix, list[Prefix]]) -> None:
    slot, claimed = given_
    for part in claimed:
        left = list(rest(slot, part))
        assert numbers(*left) == numbers(slot) - numbers(part)
        assert are_as_large_as_can_be(left, slot)
