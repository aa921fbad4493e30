"""Announcing: when the publisher is told which Endpoints are wanted.

After a short pause: attachments that come and go together are one announcement, and writing them does not hold up the ADDs
that follow (threads share one interpreter).  In a stream without pauses a longer wait has an end, too: a burst of a hundred is over by then.
"""

from __future__ import annotations

import asyncio

from netloom.agent.publishing import Publisher, endpoint
from netloom.ipam.journal import Journal
from netloom.model.attachments import State
from netloom.model.resources import Endpoint

_PAUSE, _LONGEST = 0.02, 0.5  # seconds without a change; seconds since the first one


class Announcing:
    """For the loop that made it."""

    def __init__(self, journal: Journal, publisher: Publisher, node: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._journal, self._publisher, self._node = journal, publisher, node
        self._endpoints: dict[int, Endpoint] = {}
        self._first: float | None = None
        """When the first change came that is not announced yet."""
        self._last = 0.0

    def attachments_changed(self) -> None:
        self._last = self._loop.time()
        if self._first is None:
            self._first = self._last
            self._loop.call_later(_PAUSE, self._announce)

    def _announce(self) -> None:
        assert self._first is not None  # only a change calls for this
        due = min(self._last + _PAUSE, self._first + _LONGEST)
        if due > self._loop.time():
            self._loop.call_at(due, self._announce)
            return
        self._first, known = None, self._endpoints
        ready = (a for a in self._journal.attachments.values() if a.state is State.READY)
        self._endpoints = {a.sequence: known.get(a.sequence) or endpoint(a, self._node) for a in ready}
        self._publisher.want({e.key: e for e in self._endpoints.values()})
