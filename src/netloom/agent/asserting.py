"""Asserting: what is this node's, between its own claims and the datastore's word (ipam.restoring).

away, or it jumped              ─▶ doubts: nothing new is claimed
there again                     ─▶ it is asked what is ours, and told what it does not know; again until it has answered
it lacks something of ours      ─▶ it is told once more
another node claims it, too     ─▶ likewise, now and then: that one may have let go
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import Executor

from netloom.agent.background import Background
from netloom.agent.troubles import Troubles
from netloom.agent.watching import Connection
from netloom.datastore import Datastore
from netloom.ipam.allocator import Allocator
from netloom.model.snapshot import Snapshot

_RETRY = 1.0  # seconds until a datastore that gave no answer is asked again


class Asserting:
    """For the loop that made it; what blocks is done in `thread`.  `answered` is called after each question, also one in vain."""

    def __init__(
        self,
        allocator: Allocator,
        datastore: Datastore,
        thread: Executor,
        background: Background,
        troubles: Troubles,
        answered: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._allocator, self._datastore, self._thread = allocator, datastore, thread
        self._background, self._troubles, self._answered = background, troubles, answered
        self._connection = Connection()
        self.asked = False
        """Whether the datastore was asked since the agent started."""
        self._anew = True
        """Whether what the datastore says is ours may be older than what we know."""

    def connected(self, connection: Connection, *, jumped: bool) -> None:
        """How it stands with the datastore, before anything that it says counts."""
        self._connection = connection
        if jumped:
            self._allocator.doubts.quarantine()
            self._anew = True
        if jumped or not connection.connected:
            self._allocator.doubts.arise()

    def heard(self, snapshot: Snapshot) -> None:
        if self._allocator.update(snapshot) and self._connection.connected:
            self._background.begin("claims of blocks", self._settle())
        self._report()

    def ask(self) -> None:
        """The datastore is there again, or another one is."""
        self._background.begin("claims", self._synchronise())

    def look_after(self) -> None:
        """Another node may have let go of a block of ours."""
        if self._allocator.contested and self._connection.connected:
            self._background.begin("contested blocks", self._settle())

    async def _synchronise(self) -> None:
        jumps, anew = self._connection.jumps, self._anew
        try:
            work = functools.partial(self._allocator.synchronise, self._datastore, anew=anew)
            await self._loop.run_in_executor(self._thread, work)
            self._anew = jumps != self._connection.jumps
        finally:
            self._report()
            self.asked = True
            self._answered()
            if self._allocator.doubts.remain:
                self._loop.call_later(_RETRY, self._ask_again)

    def _ask_again(self) -> None:
        """It gave no answer.  While it is away nobody is asked: when it is back it is."""
        if self._allocator.doubts.remain and self._connection.connected:
            self.ask()

    async def _settle(self) -> None:
        await self._loop.run_in_executor(self._thread, self._allocator.settle, self._datastore)
        self._report()

    def _report(self) -> None:
        self._troubles.report("addresses", *self._allocator.alarms)
