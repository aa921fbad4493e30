"""A watcher under test, and what it has handed over."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from netloom.agent.watching import NOTHING, Connection, Watcher, Written
from netloom.datastore import Datastore
from netloom.model.snapshot import Snapshot

SOON = 30.0  # seconds


class Received:
    """`losses`: how often the watcher asked for the datastore to be opened anew."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.history: list[tuple[Snapshot, Connection]] = []
        self.losses = 0

    def take(self, snapshot: Snapshot, connection: Connection) -> None:
        with self._changed:
            self.history.append((snapshot, connection))
            self._changed.notify_all()

    def lose(self) -> None:
        self.losses += 1

    @property
    def snapshot(self) -> Snapshot:
        return self.history[-1][0]

    @property
    def connection(self) -> Connection:
        return self.history[-1][1]

    def wait(self, condition: Callable[[Snapshot, Connection], object]) -> Snapshot:
        """Until the last thing handed over fits."""
        with self._changed:
            fits = self._changed.wait_for(lambda: bool(self.history) and bool(condition(*self.history[-1])), SOON)
            assert fits, self.history[-1:]
            return self.snapshot


@contextmanager
def following(
    datastore: Datastore,
    last: Snapshot | None = None,
    on_loss: Callable[[], None] | None = None,
    identity: str = "",
    written: Written = NOTHING,
) -> Iterator[Received]:
    received = Received()

    def lose() -> None:
        received.lose()
        if on_loss:
            on_loss()

    watcher = Watcher(datastore, last or Snapshot(), received.take, lose, identity, written)
    watcher.start()
    try:
        yield received
    finally:
        watcher.stop()
