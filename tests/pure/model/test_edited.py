"""What an edited mapping knows of the one that it was made of."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from netloom.model.edited import Edited, alike, differing

mappings = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 3).map(lambda number: f"value {number}"))


@given(mappings, mappings, st.sets(st.sampled_from("abcdef")))
def test_it_is_what_it_was_made_of_with_the_changes_in_it(before: dict[str, str], put: dict[str, str], gone: set[str]) -> None:
    assert Edited.of(before, put, gone) == {key: before[key] for key in before if key not in gone} | put
    assert Edited.of(before, {}) == before


@given(mappings, mappings, st.sets(st.sampled_from("abcdef")))
def test_it_tells_every_key_that_differs_from_the_one_before(
    before: dict[str, str], put: dict[str, str], gone: set[str]
) -> None:
    first = Edited.of(before, {})
    second = Edited.of(first, put, gone)
    touched = second.since(first)
    assert touched is not None
    assert {key for key in {*first, *second} if first.get(key) != second.get(key)} <= {*touched}


def test_of_any_other_one_it_knows_nothing() -> None:
    first = Edited.of({"a": 1}, {})
    second = Edited.of(first, {"b": 2})
    third = Edited.of(second, {"c": 3})
    assert third.since(first) is None
    assert first.since(third) is None
    assert third.since({"a": 1, "b": 2}) is None


@given(mappings, mappings)
def test_two_mappings_of_whatever_origin_differ_where_they_hold_different_objects(
    before: dict[str, str], now: dict[str, str]
) -> None:
    different = {key for key in {*before, *now} if before.get(key) is not now.get(key)}
    assert {*differing(now, before)} == different
    assert {*differing(Edited.of(now, {}), before)} == different


@given(
    st.dictionaries(st.integers(0, 5), st.integers(0, 30)),
    st.dictionaries(st.integers(0, 5), st.integers(0, 30)),
    st.booleans(),
)
def test_mappings_are_alike_where_the_part_is_the_same_under_the_same_keys(
    before: dict[int, int], now: dict[int, int], edited: bool
) -> None:
    parts = [{key: value // 10 for key, value in each.items()} for each in (before, now)]
    if edited:
        first = Edited.of(before, {})
        assert alike(Edited.of(first, now, before.keys() - now.keys()), first, lambda value: value // 10) is (
            parts[0] == parts[1]
        )
    assert alike(now, before, lambda value: value // 10) is (parts[0] == parts[1])
