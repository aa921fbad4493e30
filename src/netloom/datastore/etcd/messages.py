"""What is said between etcd and us: requests → bytes, bytes → answers.  Eight messages of some sixty, and of them the fields we use.

Fields that an answer has beside these are passed over, as protobuf wants it; those that it lacks are 0 or empty.

Source: api/etcdserverpb/rpc.proto and api/mvccpb/kv.proto of etcd 3.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from netloom.datastore.etcd.wire import chunk, fields, number

RANGE = "/etcdserverpb.KV/Range"
TXN = "/etcdserverpb.KV/Txn"
WATCH = "/etcdserverpb.Watch/Watch"
AUTHENTICATE = "/etcdserverpb.Auth/Authenticate"


class Header(NamedTuple):
    """Before every answer: of which cluster, and its revision."""

    cluster: int = 0
    revision: int = 0


class KeyValue(NamedTuple):
    """`created`, `modified`: the revisions of its first write and of its last one."""

    key: bytes
    created: int
    modified: int
    value: bytes


class Found(NamedTuple):
    """Answer to `find`.  `more`: there are some beyond the limit."""

    header: Header
    records: Sequence[KeyValue]
    more: bool


class Done(NamedTuple):
    """Answer to `transaction`.  `found`: of each step, what a `find` has found; nothing of others."""

    header: Header
    succeeded: bool
    found: Sequence[Sequence[KeyValue]]


class Change(NamedTuple):
    deleted: bool
    record: KeyValue


class Heard(NamedTuple):
    """One answer of a watch.  `reached`: all changes until that revision have come, as far as it says so; `compacted`: the earliest
    revision that it can begin at; `part`: more of this answer follows."""

    reached: int
    canceled: bool
    compacted: int
    reason: str
    part: bool
    changes: Sequence[Change]


# Requests


def find(key: bytes, end: bytes = b"", *, limit: int = 0, revision: int = 0, keys_only: bool = False) -> bytes:
    """`end`: the first key that is not meant; b"": `key` alone.  `revision` 0: as it is now."""
    until = chunk(2, end) if end else b""  # an empty end that is there means that there is none
    return chunk(1, key) + until + number(3, limit) + number(4, revision) + number(8, keys_only)


_CREATED, _MODIFIED, _VALUE = 1, 2, 3  # Compare.CompareTarget; what is compared stands in the fields 5, 6 and 7
_EQUAL, _GREATER = 0, 1  # Compare.CompareResult


def was_created_at(key: bytes, revision: int) -> bytes:
    """A condition.  Revision 0: there is no such key."""
    return number(1, _EQUAL) + number(2, _CREATED) + chunk(3, key) + number(5, revision)


def exists(key: bytes) -> bytes:
    return number(1, _GREATER) + number(2, _CREATED) + chunk(3, key) + number(5, 0)


def was_modified_at(key: bytes, revision: int) -> bytes:
    return number(1, _EQUAL) + number(2, _MODIFIED) + chunk(3, key) + number(6, revision)


def holds(key: bytes, value: bytes) -> bytes:
    return number(1, _EQUAL) + number(2, _VALUE) + chunk(3, key) + chunk(7, value)


def finding(key: bytes) -> bytes:
    """A step."""
    return chunk(1, find(key))


def putting(key: bytes, value: bytes) -> bytes:
    return chunk(2, chunk(1, key) + chunk(2, value))


def deleting(key: bytes) -> bytes:
    return chunk(3, chunk(1, key))


def transaction(conditions: Sequence[bytes], then: Sequence[bytes], otherwise: Sequence[bytes]) -> bytes:
    parts = [chunk(field, one) for field, several in enumerate((conditions, then, otherwise), 1) for one in several]
    return b"".join(parts)


def watching(key: bytes, end: bytes, first: int) -> bytes:
    """Changes from revision `first` on; now and then a word where there are none, and large answers in parts."""
    return chunk(1, chunk(1, key) + chunk(2, end) + number(3, first) + number(4, True) + number(8, True))


_NOBODYS = (1 << 64) - 1  # -1, as protobuf has it
STILL_THERE = chunk(3, b"")
"""To a watch: say something."""


def credentials(user: str, password: str) -> bytes:
    return chunk(1, user.encode()) + chunk(2, password.encode())


# Answers.  Each may raise NotAMessage.


def found(message: bytes) -> Found:
    header, records, more = Header(), list[KeyValue](), False
    for field, value, data in fields(message):
        if field == 2:
            records.append(_record(data))
        elif field == 1:
            header = _header(data)
        elif field == 3:
            more = bool(value)
    return Found(header, records, more)


def done(message: bytes) -> Done:
    header, succeeded, answers = Header(), False, list[Sequence[KeyValue]]()
    for field, value, data in fields(message):
        if field == 1:
            header = _header(data)
        elif field == 2:
            succeeded = bool(value)
        elif field == 3:
            answers.append([record for which, _, answer in fields(data) if which == 1 for record in found(answer).records])
    return Done(header, succeeded, answers)


def heard(message: bytes) -> Heard:
    revision = compacted = watch = 0
    created = canceled = part = False
    reason, changes = "", list[Change]()
    for field, value, data in fields(message):
        if field == 11:
            changes.append(_change(data))
        elif field == 1:
            revision = _header(data).revision
        elif field == 2:
            watch = value
        elif field == 3:
            created = bool(value)
        elif field == 4:
            canceled = bool(value)
        elif field == 5:
            compacted = value
        elif field == 6:
            reason = data.decode(errors="replace")
        elif field == 7:
            part = bool(value)
    # A word that was asked for by STILL_THERE is nobody's (watch -1), and promises nothing: see netloom.datastore.etcd.watch.
    progress = not (changes or created or canceled or compacted or part) and watch != _NOBODYS
    return Heard(revision if progress else 0, canceled, compacted, reason, part, changes)


def token(message: bytes) -> str:
    return next((data.decode(errors="replace") for field, _, data in fields(message) if field == 2), "")


def _header(message: bytes) -> Header:
    cluster = revision = 0
    for field, value, _ in fields(message):
        if field == 1:
            cluster = value
        elif field == 3:
            revision = value
    return Header(cluster, revision)


def _record(message: bytes) -> KeyValue:
    key = content = b""
    created = modified = 0
    for field, value, data in fields(message):
        if field == 1:
            key = data
        elif field == 2:
            created = value
        elif field == 3:
            modified = value
        elif field == 5:
            content = data
    return KeyValue(key, created, modified, content)


def _change(message: bytes) -> Change:
    deleted, record = False, KeyValue(b"", 0, 0, b"")
    for field, value, data in fields(message):
        if field == 1:
            deleted = value == 1  # Event.EventType
        elif field == 2:
            record = _record(data)
    return Change(deleted, record)
