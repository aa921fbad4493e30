"""Background: work that the loop has begun and nobody waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

from netloom.agent.troubles import Troubles


class Background:
    """For the loop that made it.  How each work goes is told to `troubles`."""

    def __init__(self, troubles: Troubles) -> None:
        self._loop, self._troubles = asyncio.get_running_loop(), troubles
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, what: str, work: Coroutine[object, object, None]) -> None:
        async def guarded() -> None:
            with self._troubles.about(what):
                await work

        task = self._loop.create_task(guarded())
        self._tasks.add(task)  # the loop itself would let it be collected
        task.add_done_callback(self._tasks.discard)
