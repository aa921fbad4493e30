"""A loop whose clock goes on only when everybody waits, and then at once to the next one's time: hours of waiting take no time.

    run(main())

For what sleeps and sends no packets.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Selector(selectors.SelectSelector):
    """Where a real one would wait, this one says how long that would have been."""

    def __init__(self) -> None:
        super().__init__()
        self.waited = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if not found:
            assert timeout is not None, "everybody waits for something that will never happen"
            self.waited += timeout
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.waited


def run(main: Coroutine[Any, Any, T]) -> T:  # Any: what a coroutine yields is the loop's affair
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
