"""Claiming: where ADD gets addresses from.  The allocator answers at once; what it lacks is claimed in the datastore's thread.

Those who wait for the same block wait together: one claim serves them all.

Mostly nobody waits: a moment after an address was given out, it is asked whether pods of that kind still have room, and if they have
little, a block is claimed in the background.  Where that fails, an ADD finds out when it has to.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Executor
from contextlib import suppress

from netloom.agent.asking import Asking
from netloom.agent.networks import Networks
from netloom.datastore import Datastore
from netloom.errors import ConfigError, NetloomError, PoolExhausted, Unavailable
from netloom.ipam.allocator import Allocator
from netloom.ipam.choosing import NeedBlock, Request
from netloom.ipam.networks import Declared
from netloom.model.addresses import Address, Interface
from netloom.model.resources import IPPool

_CLAIMS = 8  # blocks that one address of the node's own waits for at most
_SOON = 0.005  # seconds until it is asked how much room there is: pods that come together ask once
_REFUSED = 30.0  # seconds without claims ahead when one has failed


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
        asking: Asking | None = None,
    ) -> None:
        self._allocator, self._datastore, self._thread, self._mtu_of = allocator, datastore, thread, mtu_of
        self._networks, self._on_claim, self._asking = networks, claimed, asking
        self._under_way: dict[object, asyncio.Future[None]] = {}
        self._served: dict[object, Request] = {}
        """One request of each kind that has got addresses since it was asked how much room there is."""
        self._ahead_from = 0.0

    def allocate(self, request: Request) -> tuple[Interface, ...] | NeedBlock:
        found = self._allocator.allocate(request)
        if not isinstance(found, NeedBlock):
            self._look_ahead(request, _SOON)
        return found

    def mtu(self, addresses: Iterable[Interface]) -> int:
        return self._mtu_of(addresses)

    def pools_of(self, addresses: Iterable[Interface]) -> tuple[IPPool | None, ...]:
        return self._allocator.pools_of(addresses)

    async def declare(self, network: Declared, place: Callable[[], None]) -> None:
        await self._networks.declare(network, place)

    async def claim(self, need: NeedBlock) -> None:
        try:
            await asyncio.shield(self._begin(need))
        except PoolExhausted as e:
            if self._asking is None:
                raise
            await self._asking.squeeze(need, e)

    def _begin(self, need: NeedBlock) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        key = (tuple(pool.name for pool in need.pools), need.cidr, need.held)
        future = self._under_way.get(key)
        if future is None:
            future = loop.run_in_executor(self._thread, self._allocator.claim, need, self._datastore)
            self._under_way[key] = future
            future.add_done_callback(lambda done: self._claimed(key, done))
        return future

    def _claimed(self, key: object, done: asyncio.Future[None]) -> None:
        """Looks at the failure, too: whoever waited for it may have given up."""
        del self._under_way[key]
        if not done.cancelled() and done.exception() is None:
            self._on_claim()

    def _look_ahead(self, request: Request, after: float) -> None:
        if not self._served:
            asyncio.get_running_loop().call_later(after, self._claim_ahead)
        self._served[request.network, request.bridge, request.namespace] = request

    def _claim_ahead(self) -> None:
        served, self._served = self._served.values(), {}
        if asyncio.get_running_loop().time() < self._ahead_from:
            return
        for request in served:
            with suppress(ConfigError, Unavailable):  # pools have changed since
                if need := self._allocator.lacking(request):
                    self._begin(need).add_done_callback(functools.partial(self._claimed_ahead, request))

    def _claimed_ahead(self, request: Request, done: asyncio.Future[None]) -> None:
        loop = asyncio.get_running_loop()
        if done.cancelled() or done.exception():
            self._ahead_from = loop.time() + _REFUSED
        else:
            self._look_ahead(request, 0)  # the other family

    async def say_again(self) -> None:
        """What the datastore does not say any more, though this node has it."""
        if self._allocator.unsaid:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._allocator.settle, self._datastore)

    async def give_back(self) -> bool:
        """Whether there was a block that nobody needs any more."""
        retired = self._allocator.retire()
        if retired:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._thread, self._allocator.give_back, retired, self._datastore)
        return bool(retired)

    async def own_addresses(
        self, pools: Iterable[IPPool], present: Collection[Address]
    ) -> tuple[tuple[Address, ...], NetloomError | None]:
        """The node's own addresses in these pools, one per family where they have one; and why a family has found none.  `present`:
        those that it has now, which stay if they can, and where nothing else is found: peers route by them."""
        found: dict[int, Address] = {}
        lacking: dict[int, NetloomError] = {}
        for pool in sorted(pools, key=lambda pool: (not any(a in pool.spec.cidr for a in present), pool.name)):
            version = pool.spec.cidr.version
            if version not in found:
                try:
                    address = await self._own_address(pool)
                except (PoolExhausted, Unavailable) as e:
                    lacking.setdefault(version, e)
                else:
                    found |= {version: address} if address else {}
        unmet = {version: why for version, why in lacking.items() if version not in found}
        found |= {address.version: address for address in present if address.version in unmet}
        return tuple(found[version] for version in sorted(found)), next(iter(unmet.values()), None)

    async def _own_address(self, pool: IPPool) -> Address | None:
        for _ in range(_CLAIMS):
            address = self._allocator.own_address(pool)
            if not isinstance(address, NeedBlock):
                return address
            if pool.spec.disabled:
                return None
            await self.claim(address)
        raise Unavailable(f"blocks of pool {pool.name} are lost as fast as they are claimed")
