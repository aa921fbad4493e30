"""A store in this process's memory: for tests, trials and labs whose nodes are threads.

`Memory` is what a disk is to other engines: it outlives its clients.  Each `MemoryDatastore` is one client of it.  Records
are kept as bytes, so nobody shares mutable values through the store, and a record can be as broken here as anywhere.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Sequence
from itertools import islice
from threading import Condition

from netloom.datastore import Event, Listing, Revision, Stored, Watch
from netloom.datastore.records import BEGINNING, KEEP, Expect, Record, Writer, check, event, listing, stored
from netloom.errors import Compacted, Unavailable


class Memory:
    """Records, the last `keep` changes, and the one lock that guards both and wakes watchers."""

    def __init__(self, *, keep: int = KEEP) -> None:
        self.identity = str(uuid.uuid4())
        self.changed = Condition()
        self.records: dict[tuple[str, str], Record] = {}
        self.log: deque[Record] = deque([BEGINNING], maxlen=keep)

    def write(self, kind: str, key: str, value: bytes | None, expected: Revision | Expect) -> Revision:
        with self.changed:
            present = self.records.get((kind, key))
            check(kind, key, present and present.revision, expected)
            record = Record(self.log[-1].revision + 1, kind, key, value)
            if value is None:
                del self.records[kind, key]
            else:
                self.records[kind, key] = record
            self.log.append(record)
            self.changed.notify_all()
            return record.revision

    def changes(self, since: Revision) -> list[Record]:
        """Revisions are dense, so the place in the log is a subtraction."""
        place = since - self.log[0].revision
        if not 0 <= place < len(self.log):
            raise Compacted(f"the log holds revisions {self.log[0].revision} to {self.log[-1].revision}, not {since}")
        return list(islice(self.log, place + 1, None))


class MemoryDatastore(Writer):
    def __init__(self, memory: Memory | None = None) -> None:
        self._memory = memory or Memory()
        self._closed = False

    @property
    def identity(self) -> str:
        return self._opened().identity

    def get(self, kind: str, key: str) -> Stored | None:
        record = self._opened().records.get((kind, key))
        return stored(record) if record else None

    def list(self, kind: str | None = None) -> Listing:
        memory = self._opened()
        with memory.changed:
            revision = memory.log[-1].revision
            records = [r for r in memory.records.values() if kind in (None, r.kind)]
        return listing(revision, sorted(records, key=lambda r: (r.kind, r.key)))

    def keys(self, kind: str) -> Sequence[str]:
        memory = self._opened()
        with memory.changed:
            return sorted(key for of, key in memory.records if of == kind)

    def _write(self, kind: str, key: str, value: bytes | None, expected: Revision | Expect) -> Revision:
        return self._opened().write(kind, key, value, expected)

    def watch(self, since: Revision) -> Watch:
        memory = self._opened()
        with memory.changed:
            memory.changes(since)
        return _Watch(self, since)

    def close(self) -> None:
        with self._memory.changed:
            self._closed = True
            self._memory.changed.notify_all()

    def _opened(self) -> Memory:
        if self._closed:
            raise Unavailable("the datastore is closed")
        return self._memory


class _Watch:
    def __init__(self, datastore: MemoryDatastore, since: Revision) -> None:
        self._datastore, self._since = datastore, since
        self._changed = datastore._opened().changed
        self._closed = False

    def next(self, timeout: float | None) -> Sequence[Event]:
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while not self._closed:
                if records := self._datastore._opened().changes(self._since):
                    break
                remaining = None if deadline is None else deadline - time.monotonic()
                if remaining is not None and remaining <= 0:
                    return ()
                self._changed.wait(remaining)
            else:
                return ()
            self._since = records[-1].revision
        return [event(record) for record in records]

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
