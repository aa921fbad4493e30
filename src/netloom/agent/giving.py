"""Giving: other nodes that find no free block get a part of ours (ipam.giving, decision 0014).

    a request is seen ─▶ is there anything to give? ─▶ a moment, for who has more ─▶ out of service ─▶ given in the datastore

All of it is done again with every news and every few seconds: what cannot be given now may be free then, and a request that was
answered meanwhile is not open any more.  Between "out of service" and "given" the agent may be killed, or the datastore go away: then
the part is still ours, and is taken up again.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from concurrent.futures import Executor

from netloom.agent.background import Background
from netloom.datastore import Datastore
from netloom.ipam.allocator import Allocator
from netloom.ipam.giving import Gift, open_requests, patience
from netloom.model.resources import Claim, IPBlockRequest
from netloom.model.snapshot import Snapshot

log = logging.getLogger(__name__)

_AT_ONCE = 8  # requests that are answered at a time; who is given something asks no more


class Giving:
    """For the agent's loop; what blocks is done in `thread`.  `gave` is called when something is out of service."""

    def __init__(
        self,
        allocator: Allocator,
        datastore: Datastore,
        thread: Executor,
        background: Background,
        node: str,
        latest: Callable[[], Snapshot],
        gave: Callable[[], None],
    ) -> None:
        self._allocator, self._datastore, self._thread, self._background = allocator, datastore, thread, background
        self._node, self._latest, self._gave = node, latest, gave
        self._waiting: set[str] = set()
        self._given: dict[str, IPBlockRequest] = {}
        """What was given is in the datastore before the watch tells of it.  Who wants more asks anew: that is another object."""

    def look(self) -> None:
        """Whether others ask, and what they could have."""
        snapshot = self._latest()
        if not snapshot.complete or not snapshot.requests or self._allocator.doubts.quarantined:
            return
        self._given = {name: request for name, request in self._given.items() if snapshot.requests.get(name) is request}
        gifts = functools.cache(self._allocator.sharing.gift)  # many may ask for the same pool
        for request in open_requests(snapshot, self._node):
            if request.name in self._waiting or request.name in self._given:
                continue
            if len(self._waiting) >= _AT_ONCE:
                return
            if (found := self._best(request, snapshot, gifts)) is not None:
                self._waiting.add(request.name)
                delay = patience(found[1].part, found[1].held.slot, self._node)
                asyncio.get_running_loop().call_later(delay, self._answer, request.name)

    def _best(
        self, request: IPBlockRequest, snapshot: Snapshot, gifts: Callable[[str], Gift | None]
    ) -> tuple[str, Gift] | None:
        """Nothing of a pool that this node asks for itself."""
        mine = snapshot.requests.get(self._node)
        pools = [pool for pool in request.spec.pools if mine is None or pool not in mine.spec.pools]
        found = [(pool, gift) for pool in pools if (gift := gifts(pool)) is not None]
        return min(found, key=lambda pair: pair[1].part.prefixlen, default=None)

    def _answer(self, name: str) -> None:
        """If it is still open, and what there is to give is still free."""
        self._waiting.discard(name)
        snapshot = self._latest()
        request = next((r for r in open_requests(snapshot, self._node) if r.name == name), None)
        best = self._best(request, snapshot, self._allocator.sharing.gift) if request is not None else None
        gift = self._allocator.sharing.part_with(best[0]) if best is not None else None
        if request is not None and gift is not None:
            self._waiting.add(name)
            self._gave()
            self._background.begin(f"a part of a block for node {name}", self._give(gift, request))

    async def _give(self, gift: Gift, request: IPBlockRequest) -> None:
        to = Claim(cidr=gift.part, node=request.name, node_id=request.spec.node_id)
        loop = asyncio.get_running_loop()
        try:
            given = await loop.run_in_executor(self._thread, self._allocator.sharing.give, gift, to, self._datastore)
            if given:
                self._given[request.name] = request
        finally:
            self._waiting.discard(request.name)
        if given:
            log.info("%s of block %s is node %s's now, which has no other", gift.part, gift.held.cidr, request.name)
