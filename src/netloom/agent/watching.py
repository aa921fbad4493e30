"""Watching: a thread that keeps one snapshot of the cluster, and hands each new one over.

List, then follow the watch; when the watch is too far behind (Compacted) or another store answers (identity), list again:
the next snapshot is compared with the kernel as a whole, so nothing depends on having seen every change.  When the datastore
is away the last snapshot stays, and `Connection` says since when.  A record that cannot be decoded keeps its last good form.

A datastore may jump: it was restored from an older copy, or begun anew.  It shows by its identity, by a revision that is lower than one
that was seen, or by an object that is older than it was (for others may have written so much since that the revision passed the old
one), or by what was written last, which its history does not have.  Each jump is counted in `Connection.jumps`; what is to be done
about it others know (`calc.brake`, `ipam.restoring`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import NamedTuple

from netloom.datastore import Datastore, Event, Listing, Watch
from netloom.errors import Compacted, DatastoreError, Replaced
from netloom.model.snapshot import Snapshot

log = logging.getLogger(__name__)

KINDS = (
    *("FelixConfiguration", "IPPool", "IPReservation", "Node", "Namespace", "IPBlock", "IPBlockRequest"),
    *("BGPConfiguration", "BGPPeer", "BGPFilter", "Secret", "Service"),
)
_RETRY = 0.05, 2.0  # seconds: first, longest
_HISTORY = 2.0  # seconds in which a store says again what was written last
_STEADY = 5.0  # seconds that a watch has to last before the next listing comes at once


class Written(NamedTuple):
    """An object, and the revision at which it was written or deleted; 0: nothing is known."""

    kind: str = ""
    key: str = ""
    revision: int = 0


NOTHING = Written()


@dataclass(frozen=True, slots=True)
class Connection:
    """How it stands with the datastore.  `since`: seconds of the epoch; `jumps`: how often it went back or was another one; `broken`:
    records that cannot be read, and why; `written`: the last write that was seen."""

    connected: bool = False
    since: float = 0.0
    error: str = ""
    identity: str = ""
    jumps: int = 0
    broken: tuple[tuple[str, str], ...] = ()
    written: Written = NOTHING


@dataclass(frozen=True, slots=True)
class _Seen:
    """The latest that was seen of a store: its revision, and the object that was written last."""

    revision: int
    kind: str = ""
    key: str = ""
    written: int = 0

    def after(self, events: Sequence[Event]) -> _Seen:
        last = events[-1]
        return _Seen(max(self.revision, last.revision), last.kind, last.key, last.revision)

    def contradicts(self, listed: _Seen, revisions: Mapping[tuple[str, str], int]) -> bool:
        """Whether a store that lists this was at another place before.  `revisions`: of the objects."""
        return listed.revision < self.revision or revisions.get((self.kind, self.key), self.written) < self.written


class Watcher:
    """`identity`: of the store that `last` is of, empty where that is not known; `written`: the last write in it.  `on_change(snapshot,
    connection)` is called from this thread; the receiver takes it to its own.  `on_loss`: the datastore gave no answer, and is to be
    opened anew."""

    def __init__(
        self,
        datastore: Datastore,
        last: Snapshot,
        on_change: Callable[[Snapshot, Connection], None],
        on_loss: Callable[[], None],
        identity: str = "",
        written: Written = NOTHING,
    ) -> None:
        self._datastore, self._on_change, self._on_loss = datastore, on_change, on_loss
        self._snapshot, self._connection = last, Connection(since=time.time(), identity=identity)
        self._seen, self._replaced = _Seen(last.revision, *written), False
        self._listed: dict[str, int] = {}
        self._broken: dict[str, str] = {}
        self._stopping = threading.Event()
        self._watch: Watch | None = None
        self._thread = threading.Thread(target=self._run, name="watching", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._watch is not None:
            self._watch.close()
        self._thread.join(5)

    def _run(self) -> None:
        delay = _RETRY[0]
        while not self._stopping.is_set():
            begun = time.monotonic()
            try:
                self._list()
                self._follow()
            except Compacted:
                log.info("watch is too far behind: listing again")
            except DatastoreError as e:
                self._replaced |= isinstance(e, Replaced)
                self._lost(str(e))
            except Exception as e:
                log.exception("a fault of our own, while watching")
                self._lost(f"a fault of our own: {type(e).__name__}: {e}")
            delay = _RETRY[0] if time.monotonic() - begun > _STEADY else min(delay * 2, _RETRY[1])
            self._stopping.wait(delay)

    def _lost(self, error: str) -> None:
        if not self._stopping.is_set():
            self._on_loss()
            self._say(connected=False, error=error)

    def _list(self) -> None:
        identity, snapshot, listed = self._datastore.identity, Snapshot(complete=True), {}
        self._replaced |= identity == self._connection.identity and self._has_another_history()
        broken: dict[str, str] = {}
        seen, revisions = _Seen(0), dict[tuple[str, str], int]()
        for kind in KINDS:
            listing = self._datastore.list(kind)
            if listing.revision < snapshot.revision:
                raise Compacted("the datastore went back while it was listed")
            listed[kind] = listing.revision
            seen = _latest(seen, kind, listing)
            if kind == self._seen.kind:
                revisions |= {(kind, s.resource.key): s.revision for s in listing.items if s.resource.key == self._seen.key}
            snapshot = snapshot.updated(listing.revision, ((kind, s.resource.key, s.resource) for s in listing.items))
            names = {name.removeprefix(f"{kind}/"): reason for name, reason in listing.broken}
            kept = ((kind, name, last) for name in names if (last := self._snapshot.get(kind, name)) is not None)
            snapshot = snapshot.updated(listing.revision, kept)
            broken |= {f"{kind} {name}": reason for name, reason in names.items()}
        if self._datastore.identity != identity:
            raise Compacted("the datastore became another one while it was listed")
        known = self._connection.identity
        jumped = known not in ("", identity) or self._replaced or self._seen.contradicts(seen, revisions)
        if jumped:
            log.warning(
                "the datastore %s", "is another one" if known not in ("", identity) else "went back to an earlier state"
            )
        self._listed, self._broken, self._seen, self._replaced = listed, broken, seen, False
        self._snapshot = snapshot
        self._say(connected=True, identity=identity, jumps=self._connection.jumps + jumped)

    def _has_another_history(self) -> bool:
        """Whether the store says that what we saw written last was not.  One that has forgotten as much says nothing."""
        last = self._seen
        if not last.written:
            return False
        try:
            with closing(self._datastore.watch(last.written - 1)) as watch:
                events = watch.next(timeout=_HISTORY)
        except Compacted:
            return False
        return bool(events) and (last.written, last.kind, last.key) not in {(e.revision, e.kind, e.key) for e in events}

    def _follow(self) -> None:
        self._watch = self._datastore.watch(min(self._listed.values()))
        try:
            while not self._stopping.is_set():
                if events := self._watch.next(timeout=10.0):
                    self._take(events)
        finally:
            self._watch.close()

    def _take(self, events: Sequence[Event]) -> None:
        """Each kind was listed at a revision of its own, the watch begins at the earliest of them."""
        fresh = [e for e in events if e.kind in KINDS and e.revision > self._listed[e.kind]]
        if not fresh:
            return
        for event in fresh:
            name = f"{event.kind} {event.key}"
            if event.error:
                self._broken[name] = event.error
            else:
                self._broken.pop(name, None)
        self._seen = self._seen.after(fresh)
        good = [(e.kind, e.key, e.resource) for e in fresh if not e.error]
        self._snapshot = self._snapshot.updated(max(self._snapshot.revision, fresh[-1].revision), good)
        self._say(connected=True)

    def _say(self, *, connected: bool, error: str = "", identity: str | None = None, jumps: int | None = None) -> None:
        before = self._connection
        since = before.since if before.connected == connected else time.time()
        self._connection = replace(
            before,
            connected=connected,
            since=since,
            error=error,
            identity=before.identity if identity is None else identity,
            jumps=before.jumps if jumps is None else jumps,
            broken=tuple(sorted(self._broken.items())),
            written=Written(self._seen.kind, self._seen.key, self._seen.written),
        )
        if before.connected != connected or before.error != error:
            log.log(
                logging.INFO if connected else logging.WARNING, "datastore %s%s", "connected" if connected else "away: ", error
            )
        self._on_change(self._snapshot, self._connection)


def _latest(seen: _Seen, kind: str, listing: Listing) -> _Seen:
    last = max(listing.items, key=lambda stored: stored.revision, default=None)
    if last is None or last.revision <= seen.written:
        return replace(seen, revision=listing.revision)
    return _Seen(listing.revision, kind, last.resource.key, last.revision)
