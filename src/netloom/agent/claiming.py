"""Claiming: where ADD gets addresses from.  The allocator answers at once; what it lacks is claimed in the datastore's thread.

Those who wait for the same block wait together: one claim serves them all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import Executor

from netloom.datastore import Datastore
from netloom.ipam.allocator import Allocator
from netloom.ipam.choosing import NeedBlock, Request
from netloom.model.addresses import Address, Interface
from netloom.model.resources import IPPool


class Claiming:
    """`cni.operations.Addresses`; `mtu_of` knows what fits through the pools' encapsulations."""

    def __init__(
        self, allocator: Allocator, datastore: Datastore, thread: Executor, mtu_of: Callable[[Iterable[Interface]], int]
    ) -> None:
        self._allocator, self._datastore, self._thread, self._mtu_of = allocator, datastore, thread, mtu_of
        self._under_way: dict[object, asyncio.Future[None]] = {}

    def allocate(self, request: Request) -> tuple[Interface, ...] | NeedBlock:
        return self._allocator.allocate(request)

    def mtu(self, addresses: Iterable[Interface]) -> int:
        return self._mtu_of(addresses)

    async def claim(self, need: NeedBlock) -> None:
        loop = asyncio.get_running_loop()
        key = (tuple(pool.name for pool in need.pools), need.cidr, need.held)
        future = self._under_way.get(key)
        if future is None:
            future = loop.run_in_executor(self._thread, self._allocator.claim, need, self._datastore)
            self._under_way[key] = future
            future.add_done_callback(lambda _: self._under_way.pop(key, None))
        await asyncio.shield(future)

    async def own_addresses(self, pools: Iterable[IPPool]) -> tuple[Address, ...]:
        """The node's own address in each of these pools, at most one per family."""
        found: dict[int, Address] = {}
        for pool in pools:
            address = self._allocator.own_address(pool)
            while isinstance(address, NeedBlock):
                await self.claim(address)
                address = self._allocator.own_address(pool)
            if address is not None:
                found.setdefault(address.version, address)
        return tuple(found[version] for version in sorted(found))
