"""Networks as the agent knows them: asked for once, waited for until the watch tells, and never again."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from netloom.agent import networks
from netloom.agent.networks import Networks
from netloom.datastore import Listing
from netloom.datastore.memory import Memory, MemoryDatastore
from netloom.errors import ConfigError, Unavailable
from netloom.ipam.networks import Declared
from netloom.model.resources import IPPool
from netloom.model.snapshot import Snapshot

T = TypeVar("T")
BLUE = Declared("blue", "blue0", (ipaddress.ip_network("172.20.0.0/16"),))


class Store(MemoryDatastore):
    """Counts what it is asked, and tells `networks` like a watch, as far as `tells` is True."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(Memory())
        self.asked, self.tells, self.away = 0, True, False
        self.settled: list[tuple[str, ...]] = []
        self._loop, self._known = loop, Snapshot()
        self.networks = Networks("a", self, ThreadPoolExecutor(1), lambda: self.settled.append(tuple(self._known.pools)))

    def list(self, kind: str | None = None) -> Listing:
        self.asked += 1
        if self.away:
            raise Unavailable("it is away")
        return super().list(kind)

    def tell(self) -> None:
        listing = super().list("IPPool")
        pools = [s.resource for s in listing.items if isinstance(s.resource, IPPool)]
        self._known = Snapshot.of(listing.revision, pools)
        self.networks.heard(self._known)

    async def watch_and(self, work: Coroutine[object, object, T]) -> T:
        async def watch() -> None:
            while True:
                await asyncio.sleep(0.005)
                if self.tells:
                    self.tell()

        watching = asyncio.create_task(watch())
        try:
            return await work
        finally:
            watching.cancel()


def placed() -> None:
    """Nothing is in the way."""


def play(story: object) -> None:
    async def whole() -> None:
        await asyncio.wait_for(story(Store(asyncio.get_running_loop())), 30)  # type: ignore[operator]  # each test's own function

    asyncio.run(whole())


def test_the_add_that_makes_a_network_waits_until_the_watch_tells_and_the_rules_stand() -> None:
    async def story(store: Store) -> None:
        await store.watch_and(store.networks.declare(BLUE, placed))
        assert store.settled == [("blue",)]

    play(story)


def test_the_next_ones_ask_nobody() -> None:
    async def story(store: Store) -> None:
        await store.watch_and(store.networks.declare(BLUE, placed))
        asked, store.away = store.asked, True
        for _ in range(3):
            await store.networks.declare(BLUE, placed)
        assert store.asked == asked

    play(story)


def test_many_that_come_at_once_ask_once() -> None:
    async def story(store: Store) -> None:
        async def all_of_them() -> None:
            await asyncio.gather(*(store.networks.declare(BLUE, placed) for _ in range(20)))

        await store.watch_and(all_of_them())
        assert store.asked == 6  # kinds: before, and once more after it was made
        assert store.settled == [("blue",)]

    play(story)


def test_what_is_in_the_way_on_this_host_keeps_it_from_being_made() -> None:
    def occupied() -> None:
        raise ConfigError("subnet: in use here")

    async def story(store: Store) -> None:
        with pytest.raises(ConfigError, match="in use here"):
            await store.networks.declare(BLUE, occupied)
        assert store.asked == 0

    play(story)


def test_a_pool_that_changes_is_compared_anew() -> None:
    async def story(store: Store) -> None:
        await store.watch_and(store.networks.declare(BLUE, placed))
        store.delete("IPPool", "blue")
        store.tell()
        other = Declared("blue", "blue0", (ipaddress.ip_network("172.21.0.0/16"),))
        await store.watch_and(store.networks.declare(other, placed))
        with pytest.raises(ConfigError, match=r"172\.20\.0\.0/16 is asked for, and pool blue of network blue has 172\.21"):
            await store.networks.declare(BLUE, placed)

    play(story)


def test_a_datastore_that_is_away_makes_no_network_and_the_next_add_tries_again() -> None:
    async def story(store: Store) -> None:
        store.away = True
        with pytest.raises(Unavailable):
            await store.networks.declare(BLUE, placed)
        store.away = False
        await store.watch_and(store.networks.declare(BLUE, placed))

    play(story)


def test_a_watch_that_does_not_tell_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "_PATIENCE", 0.05)

    async def story(store: Store) -> None:
        store.tells = False
        with pytest.raises(Unavailable, match="watch does not tell"):
            await store.networks.declare(BLUE, placed)
        store.tell()
        await store.networks.declare(BLUE, placed)

    play(story)


def test_who_gives_up_leaves_the_others_waiting() -> None:
    async def story(store: Store) -> None:
        store.tells = False
        first, second = (asyncio.create_task(store.networks.declare(BLUE, placed)) for _ in range(2))
        await asyncio.sleep(0.05)
        first.cancel()
        await asyncio.sleep(0.01)
        store.tell()
        await second
        assert first.cancelled()

    play(story)
