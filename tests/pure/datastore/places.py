"""Where a store lives, for tests: what a suite needs of an engine beyond the Datastore protocol."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import Protocol

from netloom.datastore import Datastore
from netloom.datastore.memory import Memory, MemoryDatastore
from netloom.datastore.records import Record
from netloom.datastore.sqlite import SqliteDatastore
from netloom.model.resources import Metadata, Node

LONG = bool(os.environ.get("NETLOOM_TEST_LONG"))
POLL = 3600.0
"""Seconds between looks at the log that nobody rang for: whoever wakes earlier was woken."""


class Place(Protocol):
    """`open` gives one more client of the same store, which the place closes.  `compact` forgets every change but the last.
    `scribble` writes bytes that no client would write."""

    def open(self) -> Datastore: ...

    def compact(self) -> None: ...

    def scribble(self, kind: str, key: str, value: bytes) -> None: ...

    def close(self) -> None:
        """All clients; the store remains."""


def node(name: str, value: int = 0) -> Node:
    return Node(metadata=Metadata(name=name, labels={"value": str(value)}))


class MemoryPlace:
    def __init__(self) -> None:
        self.memory, self.clients = Memory(), list[MemoryDatastore]()

    def open(self) -> Datastore:
        self.clients.append(MemoryDatastore(self.memory))
        return self.clients[-1]

    def compact(self) -> None:
        while len(self.memory.log) > 1:
            self.memory.log.popleft()

    def scribble(self, kind: str, key: str, value: bytes) -> None:
        record = Record(self.memory.log[-1].revision + 1, kind, key, value)
        self.memory.records[kind, key] = record
        self.memory.log.append(record)

    def close(self) -> None:
        for client in self.clients:
            client.close()


class SqlitePlace:
    def __init__(self, path: str) -> None:
        self.path, self.clients = path, list[SqliteDatastore]()

    def open(self) -> Datastore:
        self.clients.append(SqliteDatastore(self.path, poll=POLL))
        return self.clients[-1]

    def compact(self) -> None:
        with closing(sqlite3.connect(self.path)) as db, db:
            db.execute("DELETE FROM log WHERE revision < (SELECT max(revision) FROM log)")

    def scribble(self, kind: str, key: str, value: bytes) -> None:
        with closing(sqlite3.connect(self.path)) as db, db:
            revision = db.execute("SELECT max(revision) + 1 FROM log").fetchone()[0]
            db.execute("REPLACE INTO records (revision, kind, key, value) VALUES (?, ?, ?, ?)", (revision, kind, key, value))
            db.execute("INSERT INTO log (revision, kind, key, value) VALUES (?, ?, ?, ?)", (revision, kind, key, value))

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.clients.clear()
