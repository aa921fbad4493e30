"""Messages as etcd has them, made here as protobuf's own tools would make them, and bytes that are none."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netloom.datastore.etcd import messages
from netloom.datastore.etcd.layout import Layout
from netloom.datastore.etcd.wire import NotAMessage, chunk, fields, number

HEADER = number(1, 2**64 - 1) + number(2, 7) + number(3, 300) + number(4, 2)
RECORD = chunk(1, b"/a") + number(2, 3) + number(3, 9) + number(4, 1) + chunk(5, b"{}") + number(6, 1)


@given(st.lists(st.tuples(st.integers(1, 2**29 - 1), st.integers(0, 2**64 - 1) | st.binary(max_size=300)), max_size=8))
def test_what_is_packed_is_read_again(written: list[tuple[int, int | bytes]]) -> None:
    packed = b"".join(number(f, v) if isinstance(v, int) else chunk(f, v) for f, v in written)
    assert list(fields(packed)) == [(f, v, b"") if isinstance(v, int) else (f, 0, v) for f, v in written]


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(message: bytes) -> None:
    for read in (messages.found, messages.done, messages.heard, messages.token):
        with suppress(NotAMessage):
            read(message)


@pytest.mark.parametrize(
    "message", [b"\x08", b"\x08\x80", b"\x0a\x05abc", b"\x0b", b"\x09abc", b"\x08" + b"\xff" * 11, b"\x0d"]
)
def test_what_breaks_off_or_has_no_end_is_refused(message: bytes) -> None:
    with pytest.raises(NotAMessage):
        list(fields(message))


def test_fields_of_fixed_length_are_passed_over() -> None:
    assert list(fields(b"\x09" + bytes(8) + b"\x0d" + bytes(4) + number(2, 5))) == [(2, 5, b"")]


def test_a_request_is_as_protobuf_packs_it() -> None:
    assert messages.find(b"a", b"b", limit=300) == bytes.fromhex("0a0161 120162 18ac02 2000 4000")


def test_an_answer_is_read_with_what_it_has_beside_passed_over() -> None:
    found = messages.found(chunk(1, HEADER) + chunk(2, RECORD) + number(3, 1) + number(4, 12) + chunk(99, b"new"))
    assert found.header == (2**64 - 1, 300)
    assert [tuple(record) for record in found.records] == [(b"/a", 3, 9, b"{}")]
    assert found.more


def test_a_transaction_says_what_each_step_has_found() -> None:
    ranges = [chunk(3, chunk(1, chunk(1, HEADER) + chunk(2, RECORD))), chunk(3, chunk(1, chunk(1, HEADER)))]
    done = messages.done(chunk(1, HEADER) + b"".join(ranges))
    assert (done.succeeded, [len(each) for each in done.found]) == (False, [1, 0])


def test_a_word_that_was_asked_for_promises_nothing() -> None:
    assert messages.heard(chunk(1, HEADER) + number(2, 2**64 - 1)).reached == 0
    assert messages.heard(chunk(1, HEADER) + number(2, 0)).reached == 300
    assert messages.heard(chunk(1, HEADER) + number(3, 1)).reached == 0


def test_a_deletion_is_told_from_a_change() -> None:
    heard = messages.heard(chunk(1, HEADER) + chunk(11, number(1, 1) + chunk(2, RECORD)) + chunk(11, chunk(2, RECORD)))
    assert [change.deleted for change in heard.changes] == [True, False]


@given(st.binary(max_size=40))
def test_any_key_below_the_prefix_has_a_kind_and_a_key(name: bytes) -> None:
    kind, key = Layout("/netloom").read(b"/netloom/" + name)
    assert "/" not in kind
    assert (kind + key).isprintable() or name


def test_a_key_is_read_as_it_was_written() -> None:
    layout = Layout("/netloom")
    assert layout.read(layout.key("Endpoint", "default/web-0")) == ("Endpoint", "default/web-0")
    assert layout.kind("Node").first <= layout.key("Node", "\U0010ffff") < layout.kind("Node").end == b"/netloom/Node0"
