from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netloom.datastore.records import Expect, Record, check, event, listing
from netloom.errors import Conflict, NotFound
from netloom.model.resources import KINDS, encode
from tests.pure.datastore.places import node

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "cidr", "labels", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.binary(max_size=64) | st.text(max_size=64).map(str.encode))
def test_any_bytes_are_a_broken_record_and_no_more(value: bytes) -> None:
    assert event(Record(1, "Node", "a", value)).error


@given(st.sampled_from(sorted(KINDS)), st.dictionaries(st.sampled_from(["metadata", "spec", "apiVersion"]), json_values))
def test_any_object_of_a_known_kind_is_read_or_named_broken(kind: str, fields: dict[str, object]) -> None:
    value = msgspec.json.encode({"kind": kind, **fields})
    found = event(Record(1, kind, "a", value))
    assert (found.resource is None) == (found.error is not None)


def test_a_deletion_is_neither_resource_nor_error() -> None:
    gone = event(Record(7, "Node", "a", None))
    assert (gone.revision, gone.kind, gone.key, gone.resource, gone.error) == (7, "Node", "a", None, None)


def test_a_listing_parts_good_from_broken() -> None:
    found = listing(9, [Record(3, "Node", "a", encode(node("a"))), Record(4, "Node", "b", encode(node("a")))])
    assert [s.resource for s in found.items] == [node("a")]
    assert found.broken == (("Node/b", "holds Node a"),)


@pytest.mark.parametrize(
    ("present", "expected", "refusal"),
    [
        (None, Expect.NOTHING, None),
        (3, Expect.NOTHING, Conflict),
        (3, 3, None),
        (3, 2, Conflict),
        (3, Expect.ANYTHING, None),
        (None, Expect.ANYTHING, NotFound),
        (None, 3, NotFound),
    ],
)
def test_compare_and_swap(present: int | None, expected: int | Expect, refusal: type[Exception] | None) -> None:
    if refusal is None:
        check("Node", "a", present, expected)
    else:
        with pytest.raises(refusal, match="Node a"):
            check("Node", "a", present, expected)
