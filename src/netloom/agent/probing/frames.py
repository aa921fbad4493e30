"""Frames: what nodes ask each other, as bytes.

    0   6   magic: version, and whether it asks or answers
    6  16   tag: BLAKE2b of the body, keyed with the sender's incarnation
   22   2   length of the body
   24       body (MessagePack), then zeros up to the size that is tried

A node's incarnation is a random UUID that stands in the datastore only: every agent knows it, no pod does.  So a pod that gets at
the port, masqueraded as its node or not, asks in vain, and nobody can answer in a node's place.  Who repeats what was overheard gets
an answer that is no larger than the question, and learns nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Callable
from typing import Annotated, Final, TypeVar

import msgspec

SMALL: Final = 256
"""Bytes of an IP packet that passes everywhere.  Only a question with long names in it is larger."""

QUESTION, ANSWER = b"loom?1", b"loom!1"
_HEAD = struct.Struct("!6s16sH")
_TAG = 16  # bytes
HEAD: Final = _HEAD.size
LONGEST: Final = 2048  # bytes of head and body: two names are 253 each
MOST: Final = 1 << 18  # bytes that a question by TCP may announce

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
Known = Callable[[str], str | None]
"""Node name → its incarnation; None where there is no such node."""


class Question(msgspec.Struct, frozen=True, array_like=True):
    """`size`: bytes of all of it, zeros included."""

    nonce: Annotated[bytes, msgspec.Meta(min_length=8, max_length=8)]
    sender: Name
    target: Name
    size: Annotated[int, msgspec.Meta(ge=0, le=MOST)]


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """`seen`: the address that the question came from, as the answering node sees it.  `hops`: routers that it passed, -1 if that
    cannot be seen."""

    nonce: Annotated[bytes, msgspec.Meta(min_length=8, max_length=8)]
    sender: Name
    seen: Annotated[bytes, msgspec.Meta(min_length=4, max_length=16)]
    hops: Annotated[int, msgspec.Meta(ge=-1, le=255)]


_T = TypeVar("_T", Question, Answer)
_encoder = msgspec.msgpack.Encoder()
_questions, _answers = msgspec.msgpack.Decoder(Question), msgspec.msgpack.Decoder(Answer)


def encode(frame: Question | Answer, node_id: str) -> bytes:
    """`node_id`: the sender's incarnation.  A question is as long as it says, or a little longer where it needs to be."""
    body = _encoder.encode(frame)
    magic, size = (QUESTION, frame.size) if isinstance(frame, Question) else (ANSWER, 0)
    return (_HEAD.pack(magic, _tag(body, node_id), len(body)) + body).ljust(size, b"\0")


def question(data: bytes, known: Known) -> Question | None:
    """None where it is none, or not from a node of this cluster."""
    return _decoded(data, QUESTION, _questions, known)


def answer(data: bytes, known: Known) -> Answer | None:
    return _decoded(data, ANSWER, _answers, known)


def _decoded(data: bytes, magic: bytes, decoder: msgspec.msgpack.Decoder[_T], known: Known) -> _T | None:
    if len(data) < HEAD:
        return None
    found, tag, length = _HEAD.unpack_from(data)
    body = data[HEAD : HEAD + length]
    if found != magic or len(body) != length or length > LONGEST - HEAD:
        return None
    try:
        frame = decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    node_id = known(frame.sender)
    return frame if node_id and hmac.compare_digest(tag, _tag(body, node_id)) else None


def _tag(body: bytes, node_id: str) -> bytes:
    return hashlib.blake2b(body, digest_size=_TAG, key=hashlib.sha256(node_id.encode()).digest()).digest()
