"""The datastore: what the whole cluster declares, with revisions, compare-and-swap and watch.

One Protocol, several engines that do not know each other; `connect` chooses by the setting's scheme.  What every engine
promises is written here and tested by one contract suite (tests/pure/datastore/contract.py):

* A revision is a number that grows with every write to the store.  `Stored.revision` is that of the object's last write.
* `create` fails with Conflict if the key exists; `update` and `delete` with a revision fail with Conflict if it is not the
  object's present one, and with NotFound if there is no such object.  Nothing is ever half written.
* `watch(since)` gives every change after `since`, in order, none twice, none missing; or raises Compacted, and then the
  caller lists again and compares.  So does a `since` that the store has not come to yet: it went back.
* A record that cannot be decoded stands in nobody's way: listings and events name it, others pass.  `get` of it is a
  DatastoreError, never None; `update` and `delete` repair it.
* `identity` is made when the store is made: another identity, or a revision that went back, is another store.

Calls block; each may be used from any thread.  `Unavailable` means: not now, nothing changed, what runs goes on.
After `close` every call raises it, and a `next` that waits is woken.
(A write that raised Unavailable may still have happened; compare-and-swap makes a repetition harmless.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from netloom.errors import ConfigError
from netloom.model.resources import AnyResource
from netloom.model.showing import shown

Revision = int


@dataclass(frozen=True, slots=True)
class Stored:
    resource: AnyResource
    revision: Revision


@dataclass(frozen=True, slots=True)
class Listing:
    """All objects as of `revision`: the place to watch from.  `broken` names records that cannot be decoded (`KIND/KEY`, and
    why); they are reported, never taken for deleted."""

    revision: Revision
    items: tuple[Stored, ...]
    broken: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Event:
    """`resource` None: the object is gone.  `error` set: the record exists but cannot be decoded; keep the last good one."""

    revision: Revision
    kind: str
    key: str
    resource: AnyResource | None
    error: str | None = None


class Watch(Protocol):
    def next(self, timeout: float | None) -> Sequence[Event]:
        """Waits for changes, at most `timeout` seconds; empty after that, or after `close`.  Raises Compacted, Unavailable."""

    def close(self) -> None:
        """Ends the watch, and wakes a `next` that waits in another thread."""


class Datastore(Protocol):
    @property
    def identity(self) -> str: ...

    def get(self, kind: str, key: str) -> Stored | None:
        """Raises Unreadable where the record cannot be decoded."""

    def list(self, kind: str | None = None) -> Listing:
        """All objects of one kind, or of all, as of one revision."""

    def keys(self, kind: str) -> Sequence[str]:
        """Of all objects of one kind, those included that cannot be decoded.  Much less work than `list`."""

    def create(self, resource: AnyResource) -> Revision: ...

    def update(self, resource: AnyResource, revision: Revision) -> Revision: ...

    def delete(self, kind: str, key: str, revision: Revision | None = None) -> Revision:
        """With `revision` None: whatever it is now."""

    def watch(self, since: Revision) -> Watch: ...

    def close(self) -> None: ...


def connect(target: str, *, create: bool = True) -> Datastore:
    """`sqlite:PATH`, `etcd:https://HOST:2379,…` (netloom.datastore.etcd.target), or `memory:`.  `create`: a store that does not
    exist yet is made."""
    scheme, rest = check_target(target)
    if scheme == "etcd":
        from netloom.datastore.etcd.store import EtcdDatastore

        return EtcdDatastore(rest, create=create)
    if scheme == "sqlite":
        from netloom.datastore.sqlite import SqliteDatastore

        return SqliteDatastore(rest, create=create)
    from netloom.datastore.memory import MemoryDatastore

    return MemoryDatastore()


def check_target(target: str) -> tuple[str, str]:
    """Scheme and the rest.  Raises ConfigError."""
    scheme, _, rest = target.partition(":")
    if scheme == "etcd":
        from netloom.datastore.etcd import target as etcd

        etcd.parse(rest)
        etcd.require_grpc()
        return scheme, rest
    if scheme == "memory" or (scheme == "sqlite" and rest):
        return scheme, rest
    raise ConfigError(
        f"{shown(target)} names no datastore",
        path="datastore",
        hint="write sqlite:/var/lib/netloom/datastore.db, or etcd:https://HOST:2379",
    )
