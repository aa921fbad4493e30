"""The watch: changes as etcd sends them, and the same place on another line when one is lost.

    Stream     one call on one line: a thread reads it, into a queue that `next` empties
    EtcdWatch  the place (a revision), and a stream that is made anew from there

A stream begins with the last change that was seen, not with the one after it, and drops that one: if etcd is compacted up to the
next change in this very moment it has to say so, and cannot leave out a deletion.  A stream that is quiet is asked whether it is
still there; its word proves that, and no more, for etcd before 3.4.25 says "you have all until 17" before it has sent the
changes.  What a watcher asked for itself (`progress_notify`) comes in order with them, and moves the place.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from queue import SimpleQueue
from typing import TYPE_CHECKING, NamedTuple

import grpc

from netloom.datastore import Event, Revision
from netloom.datastore.etcd import messages
from netloom.datastore.etcd.layout import Span
from netloom.datastore.etcd.line import Line, Lost
from netloom.datastore.etcd.messages import Change, Heard
from netloom.datastore.etcd.wire import NotAMessage
from netloom.datastore.records import event
from netloom.errors import Compacted, DatastoreError, Unavailable

if TYPE_CHECKING:
    from netloom.datastore.etcd.store import EtcdDatastore

_QUIET, _ANSWER = 4.0, 5.0
"""Seconds without a word until a stream is asked whether it is there, and until it is given up."""
_AGAIN = 0.2
"""Seconds from one stream to the next, where they are lost without a word."""
_WAITING = 10_000
"""Changes that nobody has taken yet, until etcd is left to wait."""


class Stream:
    """`failure`: why no more comes.  All that is public is guarded by `changed`."""

    def __init__(self, line: Line, span: Span, first: Revision) -> None:
        self.line, self.changed = line, threading.Condition()
        self.answers, self.last_word, self.spoke = deque[Heard](), time.monotonic(), False
        self.failure: DatastoreError | None = None
        self._asked: float | None = None
        self._ended, self._waiting = False, 0
        self._requests: SimpleQueue[bytes | None] = SimpleQueue()
        self._requests.put(messages.watching(span.first, span.end, first))
        self._call = line.watch(iter(self._requests.get, None))
        threading.Thread(target=self._read, name="etcd", daemon=True).start()

    def take(self) -> Sequence[Heard]:
        taken = tuple(self.answers)
        self.answers.clear()
        self._waiting = 0
        self.changed.notify_all()
        return taken

    def look(self) -> float:
        """Asks where nothing has been heard for long, and gives up where nothing is answered.  Seconds until the next look."""
        now = time.monotonic()
        if self._asked is None and now - self.last_word >= _QUIET:
            self._asked = now
            self._requests.put(messages.STILL_THERE)
        if self._asked is None:
            return _QUIET - (now - self.last_word)
        if now - self._asked >= _ANSWER:
            self.failure = self.failure or Lost(f"{self.line.server} has fallen silent in the middle of a watch")
        return max(_ANSWER - (now - self._asked), 0.0)

    def end(self) -> None:
        """`failure` is set soon, if it was not."""
        with self.changed:
            self._ended = True
            self.changed.notify_all()
        self._requests.put(None)
        self._call.cancel()

    def _read(self) -> None:
        failure: DatastoreError = Lost(f"{self.line.server} has ended a watch")
        try:
            for answer in self._call:
                self._put(messages.heard(answer))
        except grpc.RpcError as e:
            failure = self.line.refusal(e)
        except NotAMessage as e:
            failure = Unavailable(f"{self.line.server} gave an answer that cannot be read: {e}")
        finally:
            self._requests.put(None)  # gRPC's thread that waits for requests may go
            with self.changed:
                self.failure = self.failure or failure
                self.changed.notify_all()

    def _put(self, heard: Heard) -> None:
        with self.changed:
            while self._waiting > _WAITING and not self._ended:
                self.changed.wait()
            self.answers.append(heard)
            self._waiting += len(heard.changes)
            self.last_word, self._asked, self.spoke = time.monotonic(), None, True
            self.changed.notify_all()


class Seen(NamedTuple):
    """The last write that is known as of `revision`; `modified` 0: it took the key away."""

    key: bytes
    modified: Revision
    revision: Revision


class EtcdWatch:
    """`_last`: the change that the place comes after, if it is known.  `_end`: what `next` raises when all is given that came before it."""

    def __init__(self, store: EtcdDatastore, since: Revision) -> None:
        newest = store.newest
        self._store, self._place = store, since
        self._last = newest if newest is not None and newest.revision >= since else None  # else it may be another one by now
        self._parts: list[Change] = []
        self._ending = threading.Event()
        self._end: DatastoreError | None = None
        self._stream, self._began = store.stream(since), time.monotonic()

    def next(self, timeout: float | None) -> Sequence[Event]:
        deadline = float("inf") if timeout is None else time.monotonic() + timeout
        while not self._ending.is_set():
            stream = self._stream
            with stream.changed:
                while not (self._ending.is_set() or self._end or stream.answers or stream.failure):
                    remaining = deadline - time.monotonic()
                    if remaining <= 0:
                        return ()
                    stream.changed.wait(min(remaining, stream.look()))
                answers = stream.take()
            if self._ending.is_set():
                break
            self._store.require_open()
            if events := self._events(answers):
                return events
            if self._end is not None:
                raise self._end.with_traceback(None)
            if not answers and stream.failure is not None:
                self._go_on(stream.failure)
        return ()

    def close(self) -> None:
        self._ending.set()
        self._stream.end()

    def _go_on(self, failure: DatastoreError) -> None:
        """From the same place, by another line."""
        if not isinstance(failure, Lost):
            raise failure.with_traceback(None)
        if not self._stream.spoke:
            self._ending.wait(max(self._began + _AGAIN - time.monotonic(), 0))
        self._parts.clear()
        self._stream.end()
        self._store.lose(self._stream)
        self._stream, self._began = self._store.stream(self._place, self._last), time.monotonic()
        if self._ending.is_set():
            self._stream.end()

    def _events(self, answers: Sequence[Heard]) -> Sequence[Event]:
        events: list[Event] = []
        try:
            for heard in answers:
                self._take(heard, events)
        except DatastoreError as e:
            self._end = e
        return events

    def _take(self, heard: Heard, events: list[Event]) -> None:
        if heard.compacted:
            raise Compacted(f"etcd has forgotten what was before revision {heard.compacted}")
        if heard.canceled:
            raise self._stream.line.refused(heard.reason or "the watch was cancelled")
        self._parts += heard.changes
        if heard.part:
            return
        changes, self._parts = [c for c in self._parts if c.record.modified > self._place], []
        events += (event(self._store.changed(change)) for change in changes)
        if changes:
            deleted, record = changes[-1]
            self._last = Seen(record.key, 0 if deleted else record.modified, record.modified)
        self._place = max(self._place, changes[-1].record.modified if changes else heard.reached)
