"""Remembering: the last snapshot, kept in STATE_DIR/snapshot so that a node starts and serves pods with the datastore away.

One resource as JSON per line, after a line with the revision and the identity of the datastore, and the last write that was seen there.
It is read once, at the start, as a snapshot that is not complete: pods are served from it and nothing is removed by it.  Written at
most every few seconds, in a large cluster less often, atomically; what cannot be read is passed over, for the datastore is the truth.
"""

from __future__ import annotations

import logging
import threading
import time

import msgspec

from netloom.agent.watching import NOTHING, Written
from netloom.durable import write_durably
from netloom.model.resources import AnyResource, decode, encode
from netloom.model.snapshot import Snapshot

log = logging.getLogger(__name__)

_INTERVAL = 5.0  # seconds
_REST = 1000.0  # times the processor time of a writing until the next one: of thousands of nodes some change all the time


class Memory:
    def __init__(self, state_dir: str) -> None:
        self._path = f"{state_dir}/snapshot"
        self._rests_until = float("-inf")
        self._kept: Snapshot | None = None
        self.identity = ""
        """Of the datastore that the recalled snapshot, and then the last one kept, is of."""
        self.written = NOTHING
        """As far as that one knew."""
        self._writing = threading.Lock()

    def recall(self) -> Snapshot:
        try:
            with open(self._path, "rb") as file:
                first, *lines = file.read().splitlines()
            revision, _, rest = first.partition(b" ")
            identity, _, written = rest.partition(b" ")
            snapshot = Snapshot.of(int(revision), _resources(lines), complete=False)
            self.identity = identity.decode("ascii")
            if written:
                self.written = Written(*msgspec.json.decode(written, type=tuple[str, str, int]))
        except FileNotFoundError:
            return Snapshot()
        except (OSError, ValueError, msgspec.MsgspecError) as e:
            log.warning("%s cannot be read, starting without: %s", self._path, e)
            return Snapshot()
        return snapshot

    def keep(
        self,
        snapshot: Snapshot,
        identity: str = "",
        written: Written = NOTHING,
        *,
        at_once: bool = False,
    ) -> None:
        """Writes it down if it is new, and not more often than every few seconds."""
        with self._writing:
            self._keep(snapshot, identity, written, at_once=at_once)

    def _keep(self, snapshot: Snapshot, identity: str, written: Written, *, at_once: bool) -> None:
        now, begun = time.monotonic(), time.thread_time()
        same = snapshot is self._kept and identity == self.identity
        if same or not snapshot.complete or (now < self._rests_until and not at_once):
            return
        last = b" " + msgspec.json.encode(written) if written.revision else b""
        lines = bytearray(b"%d %s%s\n" % (snapshot.revision, identity.encode("ascii", "replace"), last))
        for resource in snapshot.resources():
            lines += encode(resource) + b"\n"
        write_durably(self._path, lines)
        self._kept, self.identity = snapshot, identity
        self._rests_until = now + max(_INTERVAL, _REST * (time.thread_time() - begun))


def _resources(lines: list[bytes]) -> list[AnyResource]:
    found = []
    for line in lines:
        try:
            found.append(decode(line))
        except msgspec.MsgspecError as e:
            log.warning("a remembered resource cannot be read: %s", e)
    return found
