"""A node that finds no free block, and another that gives it a part of its own: agents' real parts, on a store in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from netloom.agent import asking
from netloom.agent.asking import Asking
from netloom.agent.background import Background
from netloom.agent.claiming import Claiming
from netloom.agent.giving import Giving
from netloom.agent.networks import Networks
from netloom.agent.troubles import Troubles
from netloom.datastore.memory import Memory, MemoryDatastore
from netloom.errors import PoolExhausted, Unavailable
from netloom.ipam.allocator import Allocator
from netloom.ipam.choosing import NeedBlock, Request
from netloom.ipam.journal import Journal
from netloom.model.resources import AnyResource, IPBlockRequest, IPBlockRequestSpec, Metadata
from netloom.model.snapshot import Snapshot
from tests.pure.ipam.making import BOOT, NETNS, attachment, key, node, pool

POOL = pool("p", "10.0.0.0/28", 28)


class OneNode:
    """`gives`: whether it looks for others that ask."""

    def __init__(self, folder: Path, memory: Memory, name: str, *, gives: bool = True) -> None:
        self.name, self.gives, self.store, self.count = name, gives, MemoryDatastore(memory), 0
        self.snapshot, self.thread = Snapshot(), ThreadPoolExecutor(1)
        self.journal = Journal.rebuild(str(folder / f"{name}.journal"), BOOT, NETNS)
        self.allocator = Allocator(self.journal, str(folder / f"{name}.json"), name, f"{name}-1", cool_down=0)
        places = self.allocator, self.store, self.thread
        self.asking = Asking(*places, name, f"{name}-1", lambda: self.snapshot, self.look)
        self.giving = Giving(*places, Background(Troubles()), name, lambda: self.snapshot, lambda: None)
        networks = Networks(name, self.store, self.thread, lambda: None)
        self.claiming = Claiming(*places, lambda addresses: 1450, networks, self.look, self.asking)

    def look(self) -> None:
        if self.gives:
            self.giving.look()

    def hear(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.allocator.update(snapshot)
        self.asking.heard(snapshot)
        self.look()

    async def add(self) -> str:
        while isinstance(found := self.allocator.allocate(Request()), NeedBlock):
            await self.claiming.claim(found)
        self.count += 1
        self.journal.intend(attachment(f"{self.name}-{self.count}", self.journal.next_sequence(), *found))
        return str(found[0])

    def delete(self, number: int) -> None:
        pod = key(f"{self.name}-{number}")
        self.journal.leave(pod)
        self.journal.done(pod, 0.0)

    @property
    def blocks(self) -> list[str]:
        return [str(held.cidr) for held in self.allocator.claims.held]


@asynccontextmanager
async def cluster(folder: Path, *names: str, dead: str = "") -> AsyncIterator[list[OneNode]]:
    """Each hears of everything a moment later."""
    memory = Memory()
    store, nodes = MemoryDatastore(memory), [OneNode(folder, memory, name, gives=name != dead) for name in names]

    def tell() -> None:
        listing = store.list()
        resources: list[AnyResource] = [POOL, *(node(name, f"{name}-1") for name in names)]
        snapshot = Snapshot.of(listing.revision, [*resources, *(s.resource for s in listing.items)])
        for one in nodes:
            if snapshot.revision != one.snapshot.revision or not one.snapshot.pools:
                one.hear(snapshot)

    async def watch() -> None:
        while True:
            tell()
            await asyncio.sleep(0.002)

    tell()
    watching = asyncio.create_task(watch())
    try:
        yield nodes
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        for one in nodes:
            one.thread.shutdown()
            one.journal.close()


def run(work: Coroutine[object, object, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 60))


async def eventually(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def test_who_asks_gets_a_half_and_its_pod_does_not_notice(tmp_path: Path) -> None:
    async def story() -> None:
        async with cluster(tmp_path, "a", "b") as (a, b):
            assert await a.add() == "10.0.0.2/32"
            assert await b.add() == "10.0.0.8/32"
            assert (a.blocks, b.blocks) == (["10.0.0.0/29"], ["10.0.0.8/29"])
            await eventually(lambda: not b.snapshot.requests)

    run(story())


def test_nodes_that_take_turns_use_all_addresses_and_then_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_PATIENCE", 5.0)

    async def story() -> None:
        async with cluster(tmp_path, "a", "b", "c") as nodes:
            found = [await nodes[turn % 3].add() for turn in range(16)]
            assert len(set(found)) == 16
            monkeypatch.setattr(asking, "_PATIENCE", 0.1)
            with pytest.raises(
                Unavailable,
                match=r"node b finds no free address .*: pool p .* the other nodes have been asked, and none has given",
            ):
                await nodes[1].add()
            monkeypatch.setattr(asking, "_HOPE", 0.0)
            with pytest.raises(PoolExhausted, match="none has had a free part of a block"):
                await nodes[1].add()
            monkeypatch.setattr(asking, "_PATIENCE", 5.0)
            nodes[0].delete(1)
            nodes[0].giving.look()
            assert await nodes[1].add() == found[0]

    run(story())


def test_a_dead_owner_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_PATIENCE", 5.0)

    async def story() -> None:
        async with cluster(tmp_path, "a", "b", "c", dead="a") as (a, b, c):
            await a.add()
            a.gives = True
            await b.add()
            a.gives = False
            assert await c.add() == "10.0.0.12/32"
            assert b.blocks == ["10.0.0.8/30"]

    run(story())


def test_alone_nobody_is_asked(tmp_path: Path) -> None:
    async def story() -> None:
        async with cluster(tmp_path, "a") as (a,):
            for _ in range(16):
                await a.add()
            with pytest.raises(PoolExhausted, match="node a finds no free address and no free block"):
                await a.add()
            assert a.store.list("IPBlockRequest").items == ()

    run(story())


def test_a_request_that_an_earlier_life_has_left_is_taken_away(tmp_path: Path) -> None:
    async def story() -> None:
        async with cluster(tmp_path, "a", "b") as (a, b):
            await a.add()
            spec = IPBlockRequestSpec(node_id="b-1", pools={"p": 0})
            b.store.create(IPBlockRequest(metadata=Metadata(name="b"), spec=spec))
            await eventually(lambda: b.snapshot.requests)
            await b.asking.look_after()
            await eventually(lambda: not b.snapshot.requests)

    run(story())


def test_a_request_is_answered_once_however_often_it_is_seen(tmp_path: Path) -> None:
    """The one who asked is dead, and does not take up what it gets."""

    async def story() -> None:
        async with cluster(tmp_path, "a", "b", dead="b") as (a, b):
            await a.add()
            spec = IPBlockRequestSpec(node_id="b-1", pools={"p": 0})
            b.store.create(IPBlockRequest(metadata=Metadata(name="b"), spec=spec))
            await eventually(lambda: a.blocks == ["10.0.0.0/29"])
            for number in range(5):
                b.store.create(pool(f"news-{number}", f"10.{number + 1}.0.0/16"))
                a.giving.look()
                await asyncio.sleep(0.05)
            assert a.blocks == ["10.0.0.0/29"]

    run(story())
