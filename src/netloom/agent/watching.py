"""Watching: a thread that keeps one snapshot of the cluster, and hands each new one over.

List, then follow the watch; when the watch is too far behind (Compacted) or another store answers (identity), list again:
the next snapshot is compared with the kernel as a whole, so nothing depends on having seen every change.  When the datastore
is away the last snapshot stays, and `Connection` says since when.  A record that cannot be decoded keeps its last good form.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from netloom.datastore import Datastore, Event, Watch
from netloom.errors import Compacted, DatastoreError
from netloom.model.snapshot import Snapshot

log = logging.getLogger(__name__)

KINDS = (
    *("FelixConfiguration", "IPPool", "IPReservation", "Node", "Namespace", "IPBlock", "IPBlockRequest"),
    *("BGPConfiguration", "BGPPeer", "BGPFilter", "Secret", "Service"),
)
_RETRY = 0.05, 2.0  # seconds: first, longest
_STEADY = 5.0  # seconds that a watch has to last before the next listing comes at once


@dataclass(frozen=True, slots=True)
class Connection:
    """How it stands with the datastore.  `since`: seconds of the epoch; `broken`: records that cannot be read, and why."""

    connected: bool = False
    since: float = 0.0
    error: str = ""
    identity: str = ""
    broken: tuple[tuple[str, str], ...] = ()


class Watcher:
    """`on_change(snapshot, connection)` is called from this thread; the receiver takes it to its own.  `on_loss`: the datastore
    gave no answer, and is to be opened anew."""

    def __init__(
        self,
        datastore: Datastore,
        last: Snapshot,
        on_change: Callable[[Snapshot, Connection], None],
        on_loss: Callable[[], None],
    ) -> None:
        self._datastore, self._on_change, self._on_loss = datastore, on_change, on_loss
        self._snapshot, self._connection = last, Connection(since=time.time())
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
        broken: dict[str, str] = {}
        for kind in KINDS:
            listing = self._datastore.list(kind)
            listed[kind] = listing.revision
            snapshot = snapshot.updated(listing.revision, ((kind, s.resource.key, s.resource) for s in listing.items))
            names = {name.removeprefix(f"{kind}/"): reason for name, reason in listing.broken}
            kept = ((kind, name, last) for name in names if (last := self._snapshot.get(kind, name)) is not None)
            snapshot = snapshot.updated(listing.revision, kept)
            broken |= {f"{kind} {name}": reason for name, reason in names.items()}
        self._listed, self._broken = listed, broken
        self._snapshot = snapshot
        self._say(connected=True, identity=identity)

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
        good = [(e.kind, e.key, e.resource) for e in fresh if not e.error]
        self._snapshot = self._snapshot.updated(max(self._snapshot.revision, fresh[-1].revision), good)
        self._say(connected=True)

    def _say(self, *, connected: bool, error: str = "", identity: str | None = None) -> None:
        before = self._connection
        since = before.since if before.connected == connected else time.time()
        self._connection = replace(
            before,
            connected=connected,
            since=since,
            error=error,
            identity=before.identity if identity is None else identity,
            broken=tuple(sorted(self._broken.items())),
        )
        if before.connected != connected or before.error != error:
            log.log(
                logging.INFO if connected else logging.WARNING, "datastore %s%s", "connected" if connected else "away: ", error
            )
        self._on_change(self._snapshot, self._connection)
