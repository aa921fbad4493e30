"""Claiming: where ADD gets addresses from.  The allocator answers at once; what it lacks is claimed in the datastore's thread.

Those who wait for the same block wait together: one claim serves them all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Executor

from netloom.agent.networks import Networks
from netloom.datastore import Datastore
from netloom.errors import Unavailable
from netloom.ipam.allocator import Allocator
from netloom.ipam.choosing import NeedBlock, Request
from netloom.ipam.networks import Declared
from netloom.model.addresses import Address, Interface
from netloom.model.resources import IPPool

_CLAIMS = 8  # blocks that one address of the node's own waits for at most


class Claiming:
    """`cni.operations.Addresses`; `mtu_of` knows what fits through the pools' encapsulations, `networks` which pools networks have
    declared.  `claimed` is called after each claim: the datastore may have told of the block before it was in service, and what a pass
    wants for it was not wanted yet."""

    def __init__(
        self,
        allocator: Allocator,
        datastore: Datastore,
        thread: Executor,
        mtu_of: Callable[[Iterable[Interface]], int],
        networks: Networks,
        claimed: Callable[[], None],
    ) -> None:
        self._allocator, self._datastore, self._thread, self._mtu_of = allocator, datastore, thread, mtu_of
        self._networks, self._on_claim = networks, claimed
        self._under_way: dict[object, asyncio.Future[None]] = {}

    def allocate(self, request: Request) -> tuple[Interface, ...] | NeedBlock:
        return self._allocator.allocate(request)

    def mtu(self, addresses: Iterable[Interface]) -> int:
        return self._mtu_of(addresses)

    def pools_of(self, addresses: Iterable[Interface]) -> tuple[IPPool | None, ...]:
        return self._allocator.pools_of(addresses)

    async def declare(self, network: Declared, place: Callable[[], None]) -> None:
        await self._networks.declare(network, place)

    async def claim(self, need: NeedBlock) -> None:
        loop = asyncio.get_running_loop()
        key = (tuple(pool.name for pool in need.pools), need.cidr, need.held)
        future = self._under_way.get(key)
        if future is None:
            future = loop.run_in_executor(self._thread, self._allocator.claim, need, self._datastore)
            self._under_way[key] = future
            future.add_done_callback(lambda done: self._claimed(key, done))
        await asyncio.shield(future)

    def _claimed(self, key: object, done: asyncio.Future[None]) -> None:
        """Looks at the failure, too: whoever waited for it may have given up."""
        del self._under_way[key]
        if not done.cancelled() and done.exception() is None:
            self._on_claim()

    async def give_back(self) -> bool:
        """Whether there was a block that nobody needs any more."""
        retired = self._allocator.retire()
        if retired:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._thread, self._allocator.give_back, retired, self._datastore)
        return bool(retired)

    async def own_addresses(self, pools: Iterable[IPPool], present: Collection[Address]) -> tuple[Address, ...]:
        """The node's own addresses in these pools, one per family where they have one.  `present`: those that it has now, which
        stay if they can: peers route by them."""
        found: dict[int, Address] = {}
        for pool in sorted(pools, key=lambda pool: (not any(a in pool.spec.cidr for a in present), pool.name)):
            if pool.spec.cidr.version not in found and (address := await self._own_address(pool)):
                found[address.version] = address
        return tuple(found[version] for version in sorted(found))

    async def _own_address(self, pool: IPPool) -> Address | None:
        for _ in range(_CLAIMS):
            address = self._allocator.own_address(pool)
            if not isinstance(address, NeedBlock):
                return address
            if pool.spec.disabled:
                return None
            await self.claim(address)
        raise Unavailable(f"blocks of pool {pool.name} are lost as fast as they are claimed")
