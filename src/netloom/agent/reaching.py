"""Reaching the datastore: opened when it is first asked for something, and anew after it was lost.

So an agent starts, and serves its pods, while the datastore is away.  One that this node has known is never made anew here:
where its file is missing (a disk that is not mounted yet), an empty store in its place would say that there is no cluster.

Several threads ask.  Where nobody answers, an attempt may take seconds, and they would try one after the other; so one that failed
counts for as long as it took.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from netloom.datastore import Datastore, Listing, Revision, Stored, Watch, check_target, connect
from netloom.errors import Unavailable
from netloom.model.resources import AnyResource

_REST = 2.0  # seconds
_MOMENT = 0.2  # seconds; no lock is held for longer unless a store is being opened


class Reached:
    """A Datastore.  `known`: this node has seen it before.  Every call may raise Unavailable, and the next one tries again."""

    def __init__(self, target: str, *, known: bool) -> None:
        check_target(target)
        self._target, self._known = target, known
        self._opening = threading.Lock()
        self._store: Datastore | None = None
        self._refused: Unavailable | None = None
        self._until = 0.0
        """Monotonic time until which `_refused` counts."""
        self._closed = False

    def renew(self) -> None:
        """It was lost: the next call opens it anew.  Calls that are under way end with Unavailable."""
        if not self._opening.acquire(timeout=_MOMENT):  # somebody opens it just now
            return
        store, self._store = self._store, None
        self._opening.release()
        if store is not None:
            store.close()

    @property
    def identity(self) -> str:
        return self._opened().identity

    def get(self, kind: str, key: str) -> Stored | None:
        return self._opened().get(kind, key)

    def list(self, kind: str | None = None) -> Listing:
        return self._opened().list(kind)

    def keys(self, kind: str) -> Sequence[str]:
        return self._opened().keys(kind)

    def create(self, resource: AnyResource) -> Revision:
        return self._opened().create(resource)

    def update(self, resource: AnyResource, revision: Revision) -> Revision:
        return self._opened().update(resource, revision)

    def delete(self, kind: str, key: str, revision: Revision | None = None) -> Revision:
        return self._opened().delete(kind, key, revision)

    def watch(self, since: Revision) -> Watch:
        return self._opened().watch(since)

    def close(self) -> None:
        self._closed = True
        self.renew()

    def _opened(self) -> Datastore:
        with self._opening:
            if self._closed:
                raise Unavailable("the datastore is closed")
            if self._store is None:
                self._store = self._connected()
                self._known = True
            if self._closed:  # meanwhile; `close` did not wait
                self._store.close()
                raise Unavailable("the datastore is closed")
            return self._store

    def _connected(self) -> Datastore:
        begun = time.monotonic()
        if self._refused is not None and begun < self._until:
            raise Unavailable(str(self._refused), hint=self._refused.hint)
        try:
            return connect(self._target, create=not self._known)
        except Unavailable as e:
            now = time.monotonic()
            self._refused, self._until = e, now + min(now - begun, _REST)
            raise
