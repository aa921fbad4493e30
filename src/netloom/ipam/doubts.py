"""Doubts: how far a node goes by what the datastore says of claims, after it was away or went back (see restoring.py).

    doubt        it is away, or jumped: nothing new until it was asked once more what is ours, however it answers by itself
    quarantine   it jumped: for half a minute nothing new, whatever it says, so that all owners have time to assert what is theirs

Raised in the agent's loop, looked at and ended in the thread that asks the datastore.
"""

from __future__ import annotations

from collections.abc import Callable

from netloom.errors import Unavailable
from netloom.ipam.restoring import QUARANTINE


class Doubts:
    """`clock`: seconds, of any beginning."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._quarantine_ends = float("-inf")
        self.raised = self._ended = 0
        """How often the datastore was lost, and how often it had been when it was last asked what is ours."""

    def quarantine(self) -> None:
        """The datastore went back, or is another one: nothing new is claimed before owners had time to assert what is theirs."""
        self._quarantine_ends = self._clock() + QUARANTINE

    @property
    def quarantined(self) -> bool:
        return self._clock() < self._quarantine_ends

    def arise(self) -> None:
        """The datastore is away, or jumped: what it says when it is there again may be old.  Until it was asked what is ours
        (`Allocator.synchronise`) nothing new is claimed or taken up; who waits for a block may come before the watch."""
        self.raised += 1

    @property
    def remain(self) -> bool:
        return self._ended != self.raised

    def end(self, raised: int) -> None:
        """It was asked, when this many had been raised."""
        self._ended = raised

    def require_none(self) -> None:
        if self.remain:
            raise Unavailable(
                "the datastore has not been asked since it was away what is this node's: no new block before that"
            )

    def require_no_quarantine(self) -> None:
        if self.quarantined:
            raise Unavailable(
                "the datastore went back or is another one: new blocks are claimed when their owners had time to come first"
            )
