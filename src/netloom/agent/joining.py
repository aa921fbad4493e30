"""Joining: the datastore is made to say what this node is (registering), once that is known and whenever it changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from netloom.agent.background import Background
from netloom.agent.passing import AFTER_NEWS, Passes
from netloom.agent.registering import Registration
from netloom.agent.watching import Connection
from netloom.model.host import Host
from netloom.model.snapshot import Snapshot

_RETRY = 1.0  # seconds until a registration that failed is tried again


class Joining:
    """For the loop that made it.  `latest`: the cluster as it counts, and how the datastore is reached."""

    def __init__(
        self,
        registration: Registration,
        passes: Passes,
        background: Background,
        latest: Callable[[], tuple[Snapshot, Connection]],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._registration, self._passes, self._background, self._latest = registration, passes, background, latest
        self._under_way = False

    def look(self) -> None:
        """Begins a registration where one is due."""
        (snapshot, connection), host = self._latest(), self._passes.host
        if host is None or self._under_way or not connection.connected or self._moves_in(host):
            return
        if self._registration.due(snapshot, host):
            self._under_way = True
            self._background.begin("registration", self._write(snapshot, host))

    def _moves_in(self, host: Host) -> bool:
        """Whether it has another address that it does not take packets in by yet: others would send them there at once."""
        last = self._passes.last
        return host.source not in (None, *host.addresses) and last is not None and bool(last.failures)

    async def _write(self, snapshot: Snapshot, host: Host) -> None:
        delay = _RETRY
        try:
            await self._registration.register(snapshot, host)
            delay = 0.0
        finally:
            self._loop.call_later(delay, self._written)

    def _written(self) -> None:
        """Or not: then it is still due, and the pass will see to it."""
        self._under_way = False
        self._passes.request(AFTER_NEWS)
