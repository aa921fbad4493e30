"""Removing host links: the kernel answers a DELLINK only after 16–20 ms (rcu_barrier), but tells everyone that the link is gone
after 1–2 ms.  So threads send the request and wait for its answer, and `gone`, called by whoever reads link events, says the good
news: a DEL is answered at the event.

Links that are asked for while a thread is busy go together: they are put into one group and the group is deleted, which costs
0.3 ms a link instead of 16.  Whatever is said by no event (an overrun of the event socket) is said by the request's own answer.
"""

from __future__ import annotations

import asyncio
import itertools
import queue
import threading
from collections.abc import Callable

from netloom.dataplane.netlink import Netlink, delete_group, delete_link, set_link
from netloom.errors import DataplaneError

_GROUPS = itertools.count(0x6C6F6F6D)  # "loom": groups of links that are on their way out
_GONE = 19  # ENODEV

Refusal = DataplaneError | OSError | None


class LinkRemover:
    """Threads, with a socket of `open_netlink` each; futures of the loop that made it."""

    def __init__(self, open_netlink: Callable[[], Netlink], threads: int = 12) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._queue: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        sockets = [open_netlink() for _ in range(threads)]
        self._threads = [threading.Thread(target=self._run, args=(one,), name="removing", daemon=True) for one in sockets]
        for thread in self._threads:
            thread.start()

    def remove(self, index: int) -> asyncio.Future[None]:
        """Done when the link is gone from the kernel's tables; DataplaneError if the kernel refuses."""
        future = self._waiting.get(index)
        if future is None:
            future = self._waiting[index] = self._loop.create_future()
            self._queue.put(index)
        return future

    def waiting(self) -> tuple[int, ...]:
        """Links that are on their way out."""
        return tuple(self._waiting)

    def gone(self, index: int) -> None:
        """A link event, or the request's answer, said so."""
        future = self._waiting.pop(index, None)
        if future is not None and not future.done():
            future.set_result(None)

    def stop(self) -> None:
        for _ in self._threads:
            self._queue.put(None)

    def _run(self, kernel: Netlink) -> None:
        while (index := self._queue.get()) is not None:
            indexes = [index]
            while not self._queue.empty() and len(indexes) < 256:
                try:
                    more = self._queue.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    self._queue.put(None)
                    break
                indexes.append(more)
            for index, error in _delete(kernel, indexes):
                self._loop.call_soon_threadsafe(self._answered, index, error)
        kernel.close()

    def _answered(self, index: int, error: Refusal) -> None:
        if error is None or error.errno == _GONE:
            self.gone(index)
            return
        future = self._waiting.pop(index, None)
        if future is not None and not future.done():
            future.set_exception(DataplaneError("links", f"index {index}", str(error), errno=error.errno or 0))


def _delete(kernel: Netlink, indexes: list[int]) -> list[tuple[int, Refusal]]:
    """Each index with the kernel's refusal, or None.  A group takes the whole batch; what it leaves is tried alone."""
    try:
        if len(indexes) == 1:
            kernel.transact(delete_link(indexes[0]))
            return [(indexes[0], None)]
        group = next(_GROUPS) & 0x7FFFFFFF
        refused = kernel.send_many([set_link(index, group=group) for index in indexes])
        kernel.transact(delete_group(group))
    except (DataplaneError, OSError) as e:
        return [(index, e) for index in indexes]
    return [(index, refused.get(i)) for i, index in enumerate(indexes)]
