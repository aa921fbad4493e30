from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netloom.agent.probing import frames
from netloom.agent.probing.frames import Answer, Question

NONCE = b"12345678"
KNOWN = {"a": "id-a", "b": "id-b"}.get
ASKED = Question(NONCE, "a", "b", 1000)
ANSWERED = Answer(NONCE, "b", b"\xc0\0\2\1", 0)


def test_a_frame_is_what_it_was_and_a_question_as_long_as_it_says() -> None:
    data = frames.encode(ASKED, "id-a")
    assert (len(data), frames.question(data, KNOWN)) == (1000, ASKED)
    assert frames.answer(frames.encode(ANSWERED, "id-b"), KNOWN) == ANSWERED


def test_an_answer_is_never_longer_than_the_smallest_question() -> None:
    longest = "n" * 253
    question = frames.encode(Question(NONCE, longest, longest, 0), "x")
    assert len(frames.encode(Answer(NONCE, longest, bytes(16), 255), "x")) < len(question) < frames.LONGEST


@pytest.mark.parametrize("key", ["id-b", "", "id-a "])
def test_who_does_not_know_the_senders_incarnation_is_no_node(key: str) -> None:
    assert frames.question(frames.encode(ASKED, key), KNOWN) is None


def test_a_node_that_is_not_known_or_has_no_incarnation_is_none() -> None:
    data = frames.encode(ASKED, "id-a")
    assert frames.question(data, {}.get) is None
    assert frames.question(frames.encode(ASKED, ""), {"a": ""}.get) is None


def test_a_question_is_no_answer_and_an_answer_no_question() -> None:
    assert frames.answer(frames.encode(ASKED, "id-a"), KNOWN) is None
    assert frames.question(frames.encode(ANSWERED, "id-b"), KNOWN) is None


@pytest.mark.parametrize(
    "body", [[b"short", "a", "b", 0], [NONCE, "", "b", 0], [NONCE, "a", "b", -1], [NONCE, "a", "b", 1 << 30], {}]
)
def test_what_is_signed_and_makes_no_sense_is_none(body: object) -> None:
    packed = msgspec.msgpack.encode(body)
    data = frames.encode(ASKED, "id-a")
    head = frames._HEAD.pack(frames.QUESTION, frames._tag(packed, "id-a"), len(packed))
    assert len(data) and frames.question(head + packed, KNOWN) is None


@given(st.binary(max_size=200), st.sampled_from([b"", frames.QUESTION, frames.ANSWER]))
def test_noise_is_none(noise: bytes, start: bytes) -> None:
    assert frames.question(start + noise, KNOWN) is None
    assert frames.answer(start + noise, KNOWN) is None


@given(st.integers(0, 999), st.integers(1, 255))
def test_a_changed_byte_is_noticed_or_was_padding(position: int, by: int) -> None:
    data = bytearray(frames.encode(ASKED, "id-a"))
    data[position] ^= by
    assert frames.question(bytes(data), KNOWN) in (None, ASKED)
