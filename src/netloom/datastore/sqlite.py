"""A store in one SQLite file, shared by all agents of one machine, each a process of its own.

Two tables: `records` holds what is, `log` what changed, one row per revision without gaps, the last `keep` of them.  A write
puts both down in one transaction, commits it to the disk, and rings the doorbell beside the file (FILE-bell).  A watcher is a
place in the log: it reads what comes after its row, and if that row is gone it was compacted away, or the store went back.

Readers never wait for writers (WAL), not even inside this process: reading and writing have a connection each.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack, closing

from netloom.datastore import Event, Listing, Revision, Stored, Watch
from netloom.datastore.doorbell import Doorbell
from netloom.datastore.records import KEEP, Expect, Record, Writer, check, event, listing, stored
from netloom.datastore.sqlite_file import SqliteFile, prepare
from netloom.errors import Compacted, Unavailable

_BATCH = 1000
"""Events that one `next` gives at most; the next `next` gives the rest without waiting."""

_LAST = "SELECT max(revision) FROM log"
_SINCE = "SELECT revision, kind, key, value FROM log WHERE revision >= ? ORDER BY revision LIMIT ?"
_ONE = "SELECT revision, kind, key, value FROM records WHERE kind = ? AND key = ?"
_KIND = "SELECT revision, kind, key, value FROM records WHERE kind = ? ORDER BY key"
_KEYS = "SELECT key FROM records WHERE kind = ? ORDER BY key"
_ALL = "SELECT revision, kind, key, value FROM records ORDER BY kind, key"
_PUT = "REPLACE INTO records (revision, kind, key, value) VALUES (?, ?, ?, ?)"
_DELETE = "DELETE FROM records WHERE kind = ? AND key = ?"
_LOG = "INSERT INTO log (revision, kind, key, value) VALUES (?, ?, ?, ?)"
_FORGET = "DELETE FROM log WHERE revision <= ?"


class SqliteDatastore(Writer):
    """`patience`: seconds to wait for other processes' locks.  `poll`: seconds between looks at the log when nobody rings.
    `keep`: changes that the log remembers.  `create`: make the file if there is none.  Raises Unavailable."""

    def __init__(self, path: str, *, create: bool = True, patience: float = 5.0, poll: float = 1.0, keep: int = KEEP) -> None:
        path = os.path.abspath(path)
        prepare(path, create=create)
        self._poll, self._keep, self._closed = poll, keep, False
        with ExitStack() as undo:
            self._writing = undo.enter_context(closing(SqliteFile(path, patience=patience)))
            self._writing.take_into_use()
            self._reading = undo.enter_context(closing(SqliteFile(path, patience=patience)))
            self._identity = _identity(self._reading)
            self._bell = undo.enter_context(closing(_doorbell(path + "-bell")))
            self._held = undo.pop_all()

    @property
    def identity(self) -> str:
        self._require_open()
        return self._identity

    def get(self, kind: str, key: str) -> Stored | None:
        self._require_open()
        with self._reading.transaction("DEFERRED") as db:
            row = db.execute(_ONE, (kind, key)).fetchone()
        return stored(Record(*row)) if row else None

    def list(self, kind: str | None = None) -> Listing:
        self._require_open()
        with self._reading.transaction("DEFERRED") as db:
            revision = _last(self._reading, db)
            rows = deque(db.execute(_ALL) if kind is None else db.execute(_KIND, (kind,)))
        return listing(revision, (Record._make(rows.popleft()) for _ in range(len(rows))))  # each goes when it is decoded

    def keys(self, kind: str) -> Sequence[str]:
        self._require_open()
        with self._reading.transaction("DEFERRED") as db:
            return [key for (key,) in db.execute(_KEYS, (kind,))]

    def watch(self, since: Revision) -> Watch:
        self._changes(since)
        return _Watch(self, since)

    def close(self) -> None:
        self._closed = True
        self._held.close()

    def _write(self, kind: str, key: str, value: bytes | None, expected: Revision | Expect) -> Revision:
        self._require_open()
        with self._writing.transaction("IMMEDIATE") as db:
            present = db.execute(_ONE, (kind, key)).fetchone()
            check(kind, key, present and present[0], expected)
            revision = _last(self._writing, db) + 1
            if value is None:
                db.execute(_DELETE, (kind, key))
            else:
                db.execute(_PUT, (revision, kind, key, value))
            db.execute(_LOG, (revision, kind, key, value))
            db.execute(_FORGET, (revision - self._keep,))
        self._bell.ring()
        return revision

    def _changes(self, since: Revision) -> Sequence[Record]:
        """What came after `since`, whose own row proves that nothing is missing in between."""
        self._require_open()
        with self._reading.transaction("DEFERRED") as db:
            rows = db.execute(_SINCE, (since, _BATCH + 1)).fetchall()
        if not rows or rows[0][0] != since:
            raise Compacted(f"the log does not hold revision {since} any more, or not yet")
        return [Record._make(row) for row in rows[1:]]

    def _require_open(self) -> None:
        if self._closed:
            raise Unavailable("the datastore is closed")


def _identity(file: SqliteFile) -> str:
    with file.transaction("DEFERRED") as db:
        row = db.execute("SELECT identity FROM meta").fetchone()
    if row is None:
        raise file.damaged("it has lost its identity")
    return str(row[0])


def _last(file: SqliteFile, db: sqlite3.Connection) -> Revision:
    revision: Revision | None = db.execute(_LAST).fetchone()[0]
    if revision is None:
        raise file.damaged("its log is empty")
    return revision


def _doorbell(path: str) -> Doorbell:
    try:
        return Doorbell(path)
    except OSError as e:
        raise Unavailable(f"{path} cannot be used: {e.strerror}", hint=f"see how it is mounted: findmnt -T {path}") from e


class _Watch:
    def __init__(self, datastore: SqliteDatastore, since: Revision) -> None:
        self._datastore, self._since, self._closed = datastore, since, False

    def next(self, timeout: float | None) -> Sequence[Event]:
        deadline = float("inf") if timeout is None else time.monotonic() + timeout
        bell = self._datastore._bell
        while True:
            word = bell.word()  # before the look at the log: see doorbell
            if self._closed:
                return ()
            if records := self._datastore._changes(self._since):
                self._since = records[-1].revision
                return [event(record) for record in records]
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return ()
            bell.wait(word, min(remaining, self._datastore._poll))

    def close(self) -> None:
        self._closed = True
        self._datastore._bell.ring()
