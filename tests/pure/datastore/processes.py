"""What other processes do in these tests.  Each function runs in a process of its own, and speaks through its pipe."""

from __future__ import annotations

import contextlib
import multiprocessing
import sqlite3
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Any

from netloom.datastore.sqlite import SqliteDatastore
from netloom.errors import Conflict
from tests.pure.datastore.contract import count_up
from tests.pure.datastore.places import POLL, node

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["pytest", __name__])


@contextlib.contextmanager
def process(target: Callable[..., None], *arguments: object) -> Iterator[tuple[Connection, ForkServerProcess]]:
    """A running process and our end of its pipe; killed on the way out."""
    ours, theirs = _context.Pipe()
    child = _context.Process(target=target, args=(theirs, *arguments))
    child.start()
    theirs.close()
    try:
        yield ours, child
    finally:
        child.kill()
        child.join()
        ours.close()


def hear(pipe: Connection) -> Any:  # Any: whatever the process says
    """What the process says next; it is a failure, not a hang, if it says nothing."""
    assert pipe.poll(60), "the other process says nothing"
    return pipe.recv()


def compete(pipe: Connection, path: str, rounds: int) -> None:
    """Races to create the same nodes as everybody, then counts one node up; tells which nodes it made."""
    store = SqliteDatastore(path, poll=POLL, patience=60)
    pipe.send("ready")
    pipe.recv()
    won = []
    for i in range(rounds):
        with contextlib.suppress(Conflict):
            store.create(node(f"n{i}"))
            won.append(i)
    for _ in range(rounds):
        count_up(store)
    pipe.send(won)
    store.close()


def write(pipe: Connection, path: str, name: str) -> None:
    """Creates, updates and deletes for ever; tells each revision after it was answered."""
    store = SqliteDatastore(path, poll=POLL, keep=50)
    i = 0
    while True:
        i += 1
        pipe.send(store.create(node(f"{name}.{i}")))
        pipe.send(store.update(node(f"{name}.{i}", 1), store.list().revision))
        if i % 3 == 0:
            pipe.send(store.delete("Node", f"{name}.{i - 1}"))


def follow(pipe: Connection, path: str) -> None:
    """Watches, and tells each key that comes."""
    store = SqliteDatastore(path, poll=POLL)
    watch = store.watch(store.list().revision)
    pipe.send("ready")
    while True:
        for event in watch.next(None):
            pipe.send(event.key)


def lock(pipe: Connection, path: str) -> None:
    """Holds the write lock until told to let go."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    pipe.send("ready")
    pipe.recv()
    db.execute("ROLLBACK")
    pipe.send("free")
