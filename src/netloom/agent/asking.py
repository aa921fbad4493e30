"""Asking: a node that finds no free block gets an address all the same, if there is one anywhere (decision 0014).

    no free block ─▶ of its own whole blocks, what is kept ─▶ parts of slots that nobody has ─▶ the others are asked
                                                                                                     │ IPBlockRequest
                         taken up, and the ADD goes on ◀── a claim in our name, in a slot's record ◀─┘

The request stands until it is answered, or nobody has needed it for a minute: an ADD waits a second for the answer, and a runtime that
gave it up comes again.  What is given later than that is found by the next claim, or at the next start.  A request that an earlier
life of the agent has left is taken away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from typing import TypeVar

from netloom.datastore import Datastore, Revision
from netloom.errors import Conflict, NotFound, PoolExhausted, Unavailable
from netloom.ipam.allocator import Allocator
from netloom.ipam.choosing import NeedBlock
from netloom.ipam.giving import unknown_slots
from netloom.model.addresses import Prefix, contains
from netloom.model.resources import IPBlockRequest, IPBlockRequestSpec, IPPool, Metadata
from netloom.model.snapshot import Snapshot

T = TypeVar("T")
KIND = "IPBlockRequest"
_PATIENCE = 1.0  # seconds that an ADD waits for others; its runtime waits for two
_HOPE = 10.0  # seconds after the first question in which the answer is "try again": a runtime may repeat at once
_STANDS = 60.0  # seconds after the last ADD that needed it
_ATTEMPTS = 5


class Asking:
    """For the agent's loop; what blocks is done in `thread`."""

    def __init__(
        self,
        allocator: Allocator,
        datastore: Datastore,
        thread: Executor,
        name: str,
        node_id: str,
        latest: Callable[[], Snapshot],
        came: Callable[[], None],
    ) -> None:
        self._allocator, self._datastore, self._thread = allocator, datastore, thread
        self._name, self._id, self._latest, self._came = name, node_id, latest, came
        self._request: IPBlockRequest | None = None
        self._needed = self._since = float("-inf")
        self._revision: Revision = 0
        """Of the request: what is given is written after it."""
        self._answer: asyncio.Future[None] | None = None
        self._taking: asyncio.Task[None] | None = None

    async def squeeze(self, need: NeedBlock, why: PoolExhausted) -> None:
        """Returns when the node has more than it had.  Raises PoolExhausted: nobody has anything to give; Unavailable: not yet."""
        if need.whole or need.cidr is not None:
            raise why
        if self._allocator.sharing.thicken(need):
            return
        if await self._in_thread(lambda: self._allocator.sharing.claim_gap(need, self._datastore)):
            self._came()
            return
        if not self._others(need.pools):
            raise why
        before = self._allocator.claims.serving
        await self._ask(need.pools)
        await self._wait()
        if self._allocator.claims.serving == before:
            if asyncio.get_running_loop().time() - self._since > _HOPE:
                answer = f"the other nodes have been asked for more than {_HOPE:.0f} s, and none has had a free part of a block"
                raise PoolExhausted(f"{why}; {answer}", hint=why.hint)
            answer = "the other nodes have been asked, and none has given a part of a block yet"
            raise Unavailable(f"{why}; {answer}", hint=why.hint)

    def heard(self, snapshot: Snapshot) -> None:
        """Whether others have given something."""
        if (
            self._taking is not None
            or self._allocator.doubts.quarantined
            or asyncio.get_running_loop().time() - self._needed > _STANDS
        ):
            return
        claims = self._allocator.claims
        if slots := unknown_slots(snapshot, claims.owns, claims.cidrs):
            self._taking = asyncio.create_task(self._take(slots))
            self._taking.add_done_callback(self._taken)

    async def look_after(self) -> None:
        """Takes the request away when nobody needs it any more."""
        stands = self._request is not None or self._name in self._latest().requests
        if stands and asyncio.get_running_loop().time() - self._needed > _STANDS:
            self._request = None
            await self._in_thread(self._withdraw)

    def _others(self, pools: tuple[IPPool, ...]) -> bool:
        """Whether other nodes have anything in these pools."""
        blocks = self._latest().blocks.values()
        inside = (b for b in blocks if any(contains(pool.spec.cidr, b.spec.cidr) for pool in pools))
        return any(claim.node != self._name for block in inside for claim in block.spec.claims)

    async def _ask(self, pools: tuple[IPPool, ...]) -> None:
        now = asyncio.get_running_loop().time()
        if self._request is None:
            self._since = now
        self._needed = now
        held = self._allocator.claims.held
        has = {p.name: sum(h.cidr.num_addresses for h in held if contains(p.spec.cidr, h.cidr)) for p in pools}
        spec = IPBlockRequestSpec(node_id=self._id, pools=has)
        request = IPBlockRequest(metadata=Metadata(name=self._name), spec=spec)
        if request != self._request or self._name not in self._latest().requests:
            self._request = request
            self._revision = await self._in_thread(lambda: self._put(request))

    async def _wait(self) -> None:
        self.heard(self._latest())
        if self._answer is None:
            self._answer = asyncio.get_running_loop().create_future()
        await asyncio.wait([self._answer], timeout=_PATIENCE)

    async def _take(self, slots: Sequence[Prefix]) -> None:
        if (
            await self._in_thread(lambda: self._allocator.sharing.take_up(slots, self._revision, self._datastore))
            and self._request is not None
        ):
            self._request = None
            await self._in_thread(self._withdraw)  # who needs still more asks anew

    def _taken(self, task: asyncio.Task[None]) -> None:
        """Failed or not: whoever waits looks for itself, and the next news is looked at again."""
        self._taking = None
        if not task.cancelled() and task.exception() is None:
            if self._answer is not None:
                self._answer.set_result(None)
                self._answer = None
            self._came()

    def _put(self, request: IPBlockRequest) -> Revision:
        for _ in range(_ATTEMPTS):
            stored = self._datastore.get(KIND, self._name)
            try:
                return self._datastore.create(request) if stored is None else self._datastore.update(request, stored.revision)
            except (Conflict, NotFound):
                continue
        raise Conflict(f"{KIND} {self._name} was changed by others {_ATTEMPTS} times in a row")

    def _withdraw(self) -> None:
        with suppress(NotFound):
            self._datastore.delete(KIND, self._name)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
