"""Upkeep: what is looked after every few seconds, whether or not anything happens.

Each duty is for itself: one that fails does not stop the others, and is tried again the next time.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable

from netloom.agent import heap
from netloom.agent.asking import Asking
from netloom.agent.claiming import Claiming
from netloom.agent.firewalls import Firewalls
from netloom.agent.giving import Giving
from netloom.agent.growing import Growing
from netloom.agent.passing import AFTER_NEWS, Passes
from netloom.agent.remembering import Memory
from netloom.agent.troubles import Troubles
from netloom.agent.watching import Connection
from netloom.cni.collecting import Collector
from netloom.cni.operations import Operations
from netloom.cni.tombstones import Tombstones
from netloom.dataplane import clashes
from netloom.model.snapshot import Snapshot


class Upkeep:
    """For the loop.  `latest`: the cluster as it is known, and how the datastore is reached."""

    def __init__(
        self,
        operations: Operations,
        collector: Collector,
        tombstones: Tombstones,
        passes: Passes,
        firewalls: Firewalls,
        claiming: Claiming,
        asking: Asking,
        giving: Giving,
        growing: Growing,
        memory: Memory,
        troubles: Troubles,
        latest: Callable[[], tuple[Snapshot, Connection]],
    ) -> None:
        self._operations, self._collector, self._tombstones = operations, collector, tombstones
        self._passes, self._firewalls, self._claiming = passes, firewalls, claiming
        self._asking, self._giving, self._growing = asking, giving, growing
        self._memory, self._troubles, self._latest = memory, troubles, latest
        self._trimmed = 0

    async def round(self) -> None:
        duties = {
            "tombstones": self.look_after_tombstones,
            "dead sandboxes": self._bury,
            "remembering": self.remember,
            "other firewalls": self._pass_firewalls,
            "claims of blocks": self._say_again,
            "blocks": self._give_back,
            "requests for blocks": self._look_at_requests,
            "growth of pools": self._look_at_growth,
            "clashes": self._look_for_clashes,
            "memory": self._trim,
        }
        for what, duty in duties.items():
            with self._troubles.about(what):
                await duty()

    async def look_after_tombstones(self) -> None:
        if self._tombstones.waiting():
            await self._tombstones.take_up(self._operations.delete)

    async def _bury(self) -> None:
        await self._collector.bury(self._passes.missing)

    async def remember(self, *, at_once: bool = False) -> None:
        snapshot, connection = self._latest()
        keep = functools.partial(self._memory.keep, snapshot, connection.identity, connection.written, at_once=at_once)
        await asyncio.get_running_loop().run_in_executor(None, keep)

    async def _pass_firewalls(self) -> None:
        if self._latest()[0].complete:
            self._firewalls.look_after()

    async def _look_for_clashes(self) -> None:
        """Others may make such devices at any time, and only some of them stand in our way at once."""
        links = self._passes.desired.links
        found = await asyncio.get_running_loop().run_in_executor(None, clashes.look, links)
        self._troubles.report("tunnels", *found)

    async def _say_again(self) -> None:
        snapshot, connection = self._latest()
        if snapshot.complete and connection.connected:
            await self._claiming.say_again()

    async def _give_back(self) -> None:
        if self._latest()[1].connected and await self._claiming.give_back():
            self._passes.request(AFTER_NEWS)

    async def _look_at_requests(self) -> None:
        if self._latest()[1].connected:
            self._giving.look()
            await self._asking.look_after()

    async def _look_at_growth(self) -> None:
        snapshot, connection = self._latest()
        if connection.connected and (write := self._growing.look(snapshot)) is not None:
            await asyncio.get_running_loop().run_in_executor(None, write)

    async def _trim(self) -> None:
        """Passes need memory for a moment; what they leave free goes back."""
        if self._trimmed != self._passes.number:
            self._trimmed = self._passes.number
            await asyncio.get_running_loop().run_in_executor(None, heap.give_back)
