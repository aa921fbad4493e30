"""What an edited mapping knows of the one that it was made of."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from netloom.model.edited import Edited, alike, differing

mappings = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 3).map(lambda number: f"value {number}"))


@given(mappings, mappings, st.sets(st.sampled_from("abcdef")))
def test_it_is_what_it_was_made_of_with_the_changes_in_it(before: dict[str, str], put: dict[str, str], gone: set[str]) -> None:
    assert Edited.of(before, put, gone) == {key: before[key] for key in before if key not in gone} | put
    assert Edited.of(before, {}) == before


steps = st.lists(st.tuples(mappings, st.sets(st.sampled_from("abcdef")), st.booleans()), max_size=30)


@given(mappings, st.integers(0, 60), steps)
def test_any_number_of_changes_one_after_another_is_the_same_as_each_made_in_a_dict(
    start: dict[str, str], more: int, changes: list[tuple[dict[str, str], set[str], bool]]
) -> None:
    """Also where few are changed among many; those before are as they were; and whether anybody walks over one tells nobody."""
    dicts = [start | {f"other {number}": "same" for number in range(more)}]
    made: list[Mapping[str, str]] = [Edited.of(dicts[0], {})]
    for put, gone, walking in changes:
        made.append(Edited.of(made[-1], put, gone))
        dicts.append({key: value for key, value in dicts[-1].items() if key not in gone} | put)
        if walking:
            assert {**made[-1]} == dicts[-1]
    for edited, expected in zip(made, dicts, strict=True):
        assert len(edited) == len(expected)
        assert [edited.get(key) for key in "abcdefg"] == [expected.get(key) for key in "abcdefg"]
        assert [key in edited for key in "abcdefg"] == [key in expected for key in "abcdefg"]
        assert all(edited[key] == value for key, value in expected.items())
        assert edited == expected == edited
        assert {*edited.items()} == {*expected.items()}
        assert sorted(edited.values()) == sorted(expected.values())
        assert {*edited} == edited.keys() == expected.keys()


def test_who_reads_while_another_thread_puts_it_together_reads_the_same() -> None:
    many = {number: number for number in range(2000)}
    for _ in range(50):
        edited = Edited.of(Edited.of(many, {}), {0: -1, 5000: 1}, [1])
        thread = threading.Thread(target=lambda one=edited: list(one))
        thread.start()
        while True:
            alive = thread.is_alive()
            later = Edited.of(edited, {2: -2})
            assert (edited[0], edited[5000], edited.get(1), 1 in edited, edited[2], len(edited)) == (
                -1,
                1,
                None,
                False,
                2,
                2000,
            )
            assert (later[0], later[5000], later.get(1), later[2]) == (-1, 1, None, -2)
            if not alive:
                break
        thread.join()


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
