"""Records: what engines keep (bytes under kind, key and revision), and what callers get for them (resources).

Engines that keep bytes share their rules here, so that they cannot differ: what is written, when a compare-and-swap is refused, and
that bytes which are no resource become a report about this one record and nothing else.
"""

from __future__ import annotations

import abc
import enum
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from netloom.datastore import Event, Listing, Revision, Stored
from netloom.errors import Conflict, NotFound, Unreadable
from netloom.model.resources import AnyResource, decode, encode

KEEP = 10_000
"""How many changes an engine remembers for its watchers: 14 s of the fastest writing that a disk allows."""


class Record(NamedTuple):
    """`value` None: the object was deleted at this revision."""

    revision: Revision
    kind: str
    key: str
    value: bytes | None


BEGINNING = Record(0, "", "", None)
"""The first entry of every log, before any change: a watcher's place is an entry that is still there."""


class Expect(enum.Enum):
    """What a write wants to find, where it is not one particular revision."""

    NOTHING = enum.auto()
    ANYTHING = enum.auto()


def check(kind: str, key: str, present: Revision | None, expected: Revision | Expect) -> None:
    """Compare of compare-and-swap.  `present`: revision of the object that is there."""
    if expected is Expect.NOTHING:
        if present is not None:
            raise Conflict(f"{kind} {key} exists already, at revision {present}")
    elif present is None:
        raise NotFound(f"{kind} {key} does not exist")
    elif expected not in (Expect.ANYTHING, present):
        raise Conflict(f"{kind} {key} is at revision {present}, not {expected}")


class Writer(abc.ABC):
    """The three writes of an engine as one compare-and-swap."""

    @abc.abstractmethod
    def _write(self, kind: str, key: str, value: bytes | None, expected: Revision | Expect) -> Revision:
        """`value` None: deletes it.  Raises Conflict, NotFound, Unavailable."""

    def create(self, resource: AnyResource) -> Revision:
        return self._write(resource.kind, resource.key, encode(resource), Expect.NOTHING)

    def update(self, resource: AnyResource, revision: Revision) -> Revision:
        return self._write(resource.kind, resource.key, encode(resource), revision)

    def delete(self, kind: str, key: str, revision: Revision | None = None) -> Revision:
        return self._write(kind, key, None, Expect.ANYTHING if revision is None else revision)


def event(record: Record) -> Event:
    revision, kind, key, value = record
    if value is None:
        return Event(revision, kind, key, None)
    try:
        resource = decode(value)
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as e:
        return Event(revision, kind, key, None, error=str(e))
    if (resource.kind, resource.key) != (kind, key):
        return Event(revision, kind, key, None, error=f"holds {resource.kind} {resource.key}")
    return Event(revision, kind, key, resource)


def stored(record: Record) -> Stored:
    """Raises Unreadable if the record is broken."""
    found = event(record)
    if found.resource is None:
        raise Unreadable(
            f"{found.kind} {found.key} cannot be read: {found.error}", hint=f"netloom apply the {found.kind} again"
        )
    return Stored(found.resource, found.revision)


def listing(revision: Revision, records: Iterable[Record]) -> Listing:
    items: list[Stored] = []
    broken: list[tuple[str, str]] = []
    for found in map(event, records):
        if found.resource is not None:
            items.append(Stored(found.resource, found.revision))
        elif found.error is not None:
            broken.append((f"{found.kind}/{found.key}", found.error))
    return Listing(revision, tuple(items), tuple(broken))
