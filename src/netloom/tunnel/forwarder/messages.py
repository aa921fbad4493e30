"""What is said over a forwarder's control socket: JSON documents, each after its length in four bytes.

    {"do": "Replace", "tunnels": {"10.244.1.0/26": "192.0.2.12"}, "senders": ["192.0.2.12"], "mtu": 1472}     all there is to know
    {"do": "Change", "put": {"10.244.2.0/26": "192.0.2.13"}}                                                  a change of it
    {"do": "Ask"}                                                                                             how are you?

Each request has one answer.  Descriptors travel with the answer to `Succeed`, by which a newer forwarder asks for everything; when it
has said `Succeeded` on the same connection, the older one ends, and goes on if it has not.
"""

from __future__ import annotations

import ipaddress
from typing import TypeVar

import msgspec

from netloom.model.addresses import Address, Prefix, parse_address, parse_prefix

LIMIT = 64 << 20
"""Bytes of a document: prefixes of a hundred thousand nodes."""
LENGTH = 4


class Message(msgspec.Struct, frozen=True, tag_field="do", kw_only=True):
    """The shape is what two versions have in common when one follows the other: fields are added, with a default, and never renamed
    or taken away; a reader passes over those that it does not know."""


class Replace(Message, frozen=True, kw_only=True):
    """`mtu`: of the device.  `former`: those of `senders` that a node had before, and the address that it has now."""

    tunnels: dict[str, str]
    senders: list[str]
    mtu: int
    former: dict[str, str] = {}


class Change(Message, frozen=True, kw_only=True):
    """`mtu` 0: as it is.  `former`: of those in `believe`."""

    put: dict[str, str] = {}
    delete: list[str] = []
    believe: list[str] = []
    disbelieve: list[str] = []
    mtu: int = 0
    former: dict[str, str] = {}


class Ask(Message, frozen=True, kw_only=True):
    """`peers`: what went there and came from there, of each."""

    peers: bool = False


class Read(Message, frozen=True, kw_only=True):
    """The whole table."""


class Succeed(Message, frozen=True, kw_only=True):
    """`number`: of the table that the successor has read already."""

    number: int


class Succeeded(Message, frozen=True, kw_only=True):
    pass


class Stop(Message, frozen=True, kw_only=True):
    pass


class Done(Message, frozen=True, kw_only=True):
    """`number`: of the table, now."""

    number: int


class Refused(Message, frozen=True, kw_only=True):
    reason: str


class PeerCount(Message, frozen=True, kw_only=True):
    address: str
    sent: int
    sent_bytes: int
    received: int
    received_bytes: int


class State(Message, frozen=True, kw_only=True):
    """`version`: Netloom's.  `bulk`: by what many packets are handled.  `lost`: as counting.Lost.  `also`: other addresses of this node
    that it takes datagrams in by."""

    pid: int
    version: str
    device: str
    local: str
    port: int
    bulk: str
    number: int
    tunnels: int
    senders: int
    lost: dict[str, int]
    peers: list[PeerCount] = []
    also: list[str] = []


class Whole(Message, frozen=True, kw_only=True):
    tunnels: dict[str, str]
    senders: list[str]
    mtu: int
    number: int
    former: dict[str, str] = {}


class Succession(Message, frozen=True, kw_only=True):
    """With it travel the descriptors.  `table` only if it has changed since it was read."""

    device: str
    local: str
    port: int
    lost: dict[str, int]
    peers: list[PeerCount]
    table: Whole | None = None


Request = Replace | Change | Ask | Read | Succeed | Succeeded | Stop
Answer = Done | Refused | State | Whole | Succession

_requests = msgspec.json.Decoder(Request)
_answers = msgspec.json.Decoder(Answer)
M = TypeVar("M", bound=Message)


def frame(message: Message) -> bytes:
    document = msgspec.json.encode(message)
    return len(document).to_bytes(LENGTH, "big") + document


def taken(buffer: bytearray) -> bytes | None:
    """The first whole document, which is taken out of it; None while it is not there.  Raises ValueError."""
    if len(buffer) < LENGTH:
        return None
    size = int.from_bytes(buffer[:LENGTH], "big")
    if size > LIMIT:
        raise ValueError(f"a document of {size} bytes")
    if len(buffer) < LENGTH + size:
        return None
    document = bytes(buffer[LENGTH : LENGTH + size])
    del buffer[: LENGTH + size]
    return document


def request(document: bytes) -> Request:
    """Raises ValueError."""
    found: Request = _requests.decode(document)
    return found


def answer(document: bytes) -> Answer:
    """Raises ValueError."""
    found: Answer = _answers.decode(document)
    return found


def prefixes(texts: dict[str, str]) -> dict[Prefix, Address]:
    """Raises ValueError."""
    return {parse_prefix(prefix): parse_address(address) for prefix, address in texts.items()}


def addresses(texts: list[str]) -> list[Address]:
    """Raises ValueError."""
    return [ipaddress.ip_address(text) for text in texts]


def senders(texts: list[str], former: dict[str, str]) -> dict[Address, Address | None]:
    """Each with the address that it has now, if that is another.  Raises ValueError."""
    return {parse_address(text): parse_address(former[text]) if text in former else None for text in texts}
