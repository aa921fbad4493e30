"""Networks whose configuration declares pools of their own: made once, and from then on known without asking anybody.

    ADD ─▶ declare ─┬─ known to agree: nothing to do
                    ├─ the snapshot has the pools: compared, and from then on known
                    └─ no pool yet: may it be here? ─▶ made in the datastore ─▶ the watch tells ─▶ a pass ─▶ go on

The pool is served from the snapshot like any other, so the ADD that made it waits until the watch has brought it; by then the
rules around it stand, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Executor

from netloom.datastore import Datastore
from netloom.errors import ConfigError, Unavailable
from netloom.ipam.networks import Declared, difference, establish, missing
from netloom.model.resources import IPPool
from netloom.model.snapshot import Snapshot

_PATIENCE = 10.0  # seconds that the watch may take to tell of a pool
_LOOK = "netloom get pools -o wide"


class Networks:
    """For the agent's loop; what blocks is done in `thread`.  `settle` makes the kernel agree with the snapshot."""

    def __init__(self, node: str, datastore: Datastore, thread: Executor, settle: Callable[[], None]) -> None:
        self._node, self._datastore, self._thread, self._settle = node, datastore, thread, settle
        self._pools: Mapping[str, IPPool] = {}
        self._agreeing: set[Declared] = set()
        self._making: dict[Declared, asyncio.Task[None]] = {}
        self._news = asyncio.Event()

    def heard(self, snapshot: Snapshot) -> None:
        if snapshot.pools is not self._pools:
            self._pools = snapshot.pools
            self._agreeing.clear()
            self._news.set()
            self._news = asyncio.Event()

    async def declare(self, network: Declared, place: Callable[[], None]) -> None:
        """Makes sure that the network has its pools.  `place` is called before they are made, and may refuse.  Raises ConfigError: it
        cannot have them; Conflict, Unavailable: not now."""
        if network in self._agreeing:
            return
        if not self._is_there(network):
            place()
            making = self._making.get(network)
            if making is None:
                making = self._making[network] = asyncio.create_task(self._make(network))
                making.add_done_callback(lambda done: self._made(network, done))
            await asyncio.shield(making)
        self._agreeing.add(network)

    def _is_there(self, network: Declared) -> bool:
        """Whether its pools are known.  Raises ConfigError where they say something else."""
        if reason := difference(network, self._pools.values(), self._node):
            raise ConfigError(reason, hint=_LOOK)
        return not missing(network, self._pools.values(), self._node)

    async def _make(self, network: Declared) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, establish, self._datastore, network, self._node)
        deadline = loop.time() + _PATIENCE
        while not self._is_there(network):
            try:
                await asyncio.wait_for(self._news.wait(), deadline - loop.time())
            except TimeoutError:
                raise Unavailable(
                    f"the pools of network {network.name} were made, and the datastore's watch does not tell of them"
                ) from None
        self._settle()

    def _made(self, network: Declared, done: asyncio.Task[None]) -> None:
        """Looks at the failure, too: whoever waited for it may have given up."""
        del self._making[network]
        if not done.cancelled():
            done.exception()
