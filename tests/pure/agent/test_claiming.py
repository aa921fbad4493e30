"""Where ADD and the node itself get addresses from, with a real allocator and a real store."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest

from netloom.agent.claiming import Claiming
from netloom.agent.networks import Networks
from netloom.datastore.memory import MemoryDatastore
from netloom.errors import NetloomError, PoolExhausted
from netloom.ipam.allocator import Allocator
from netloom.ipam.choosing import NeedBlock, Request
from netloom.ipam.journal import Journal
from netloom.model.resources import Encapsulation, IPPool
from netloom.model.snapshot import Snapshot
from tests.pure.ipam.making import BOOT, NETNS, attachment, node, pool

T = TypeVar("T")
ANY = Request()
V4 = pool("v4", "10.0.0.0/16", encapsulation=Encapsulation.VXLAN)
V6 = pool("v6", "fd00::/48", encapsulation=Encapsulation.VXLAN)


class Counted(ThreadPoolExecutor):
    begun = 0

    def submit(self, *work: Any, **more: Any) -> Any:  # Any: as in the base class
        self.begun += 1
        return super().submit(*work, **more)


class Bench:
    def __init__(self, folder: Path) -> None:
        self.store, self.thread = MemoryDatastore(), Counted(1)
        self.journal = (
            Journal.open(str(folder / "journal"), BOOT, NETNS)
            if (folder / "journal").exists()
            else Journal.rebuild(str(folder / "journal"), BOOT, NETNS)
        )
        self.allocator = Allocator(self.journal, str(folder / "claims.json"), "a", "a-1", cool_down=0)
        self.networks = Networks("a", self.store, self.thread, lambda: None)
        self.told: list[int] = []
        self.lacking: NetloomError | None = None
        """Why a family had no address when the node was last asked for its own."""
        self.claiming = Claiming(self.allocator, self.store, self.thread, lambda addresses: 1450, self.networks, self.tell)

    def tell(self) -> None:
        """How many blocks were in service when it was said that one had been claimed."""
        self.told.append(len(self.allocator.claims.held))

    def know(self, *pools: IPPool) -> None:
        self.allocator.update(Snapshot.of(1, [node("a", "a-1"), *pools]))

    @property
    def blocks(self) -> int:
        return len(self.store.list("IPBlock").items)

    def run(self, work: Callable[[], Coroutine[object, object, T]]) -> T:
        return asyncio.run(work())

    def own(self, *pools: IPPool, present: tuple[str, ...] = ()) -> list[str]:
        found, self.lacking = self.run(lambda: self.claiming.own_addresses(pools, [ipaddress.ip_address(p) for p in present]))
        return list(map(str, found))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.thread.shutdown()
    made.journal.close()


def test_the_node_gets_one_address_of_its_own_in_each_family(bench: Bench) -> None:
    bench.know(V4, V6)
    first = bench.own(V4, V6)
    assert [ipaddress.ip_address(a).version for a in first] == [4, 6]
    assert bench.own(V4, V6) == first
    assert bench.blocks == 2


def test_a_claim_is_told_when_its_block_is_in_service(bench: Bench) -> None:
    """A pass that follows the datastore's word alone may come before that."""
    bench.know(V4, V6)
    bench.own(V4, V6)
    assert bench.told == [1, 2]


def test_a_second_pool_of_a_family_costs_no_block(bench: Bench) -> None:
    other = pool("w4", "10.1.0.0/16", encapsulation=Encapsulation.VXLAN)
    bench.know(V4, other)
    assert len(bench.own(V4, other)) == 1
    assert bench.blocks == 1


def test_the_address_that_peers_know_stays_when_a_pool_comes_before_it(bench: Bench) -> None:
    bench.know(V4)
    [present] = bench.own(V4)
    earlier = pool("a4", "10.1.0.0/16", encapsulation=Encapsulation.VXLAN)
    bench.know(earlier, V4)
    assert bench.own(earlier, V4, present=(present,)) == [present]
    assert bench.blocks == 1


def test_blocks_without_an_address_for_nodes_give_none(bench: Bench) -> None:
    tiny = pool("tiny", "10.2.0.0/24", 30, encapsulation=Encapsulation.VXLAN)
    bench.know(tiny)
    assert bench.own(tiny) == []
    assert bench.blocks == 0


def test_no_block_is_claimed_in_a_disabled_pool(bench: Bench) -> None:
    disabled = pool("v4", "10.0.0.0/16", encapsulation=Encapsulation.VXLAN, disabled=True)
    bench.know(disabled)
    assert bench.own(disabled) == []
    assert bench.blocks == 0


def test_a_pool_that_is_used_up_holds_neither_the_other_family_nor_another_pool_up(bench: Bench, tmp_path: Path) -> None:
    small = pool("small", "10.3.0.0/26", encapsulation=Encapsulation.VXLAN)
    bench.know(small, V4, V6)
    theirs = Allocator(bench.journal, f"{tmp_path}/theirs.json", "b", "b-1", cool_down=0)
    theirs.update(Snapshot.of(1, [node("b", "b-1"), small]))
    need = theirs.own_address(small)
    assert isinstance(need, NeedBlock)
    theirs.claim(need, bench.store)
    assert bench.own(small) == []
    assert isinstance(bench.lacking, PoolExhausted)
    assert [ipaddress.ip_address(a).version for a in bench.own(small, V6)] == [6]
    assert isinstance(bench.lacking, PoolExhausted)
    assert bench.own(small, present=("10.3.0.0",)) == ["10.3.0.0"]
    assert [ipaddress.ip_address(a).version for a in bench.own(small, V4, V6)] == [4, 6]
    assert bench.lacking is None


def test_those_who_wait_for_the_same_block_wait_together(bench: Bench) -> None:
    bench.know(V4)

    async def work() -> None:
        need = bench.claiming.allocate(Request(namespace="shop"))
        assert isinstance(need, NeedBlock)
        await asyncio.gather(*(bench.claiming.claim(need) for _ in range(20)))

    bench.run(work)
    assert bench.blocks == 1


def test_who_gives_up_takes_the_claim_from_nobody(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.know(V4)

    async def work() -> None:
        need = bench.claiming.allocate(Request(namespace="shop"))
        assert isinstance(need, NeedBlock)
        patient = asyncio.create_task(bench.claiming.claim(need))
        hasty = asyncio.create_task(bench.claiming.claim(need))
        await asyncio.sleep(0)
        hasty.cancel()
        await patient
        assert not isinstance(bench.claiming.allocate(Request(namespace="shop")), NeedBlock)

    bench.run(work)
    assert caplog.messages == []


def test_a_claim_that_fails_when_nobody_waits_any_more_makes_no_noise(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.know(V4)
    bench.store.close()

    async def work() -> None:
        need = bench.claiming.allocate(Request(namespace="shop"))
        assert isinstance(need, NeedBlock)
        hasty = asyncio.create_task(bench.claiming.claim(need))
        await asyncio.sleep(0)
        hasty.cancel()
        await asyncio.sleep(0.05)

    bench.run(work)
    assert caplog.messages == []


# ahead of need


def hold(bench: Bench, numbers: range, request: Request = ANY) -> None:
    """Pods come, as operations have it: between choosing and the journal the loop is not left."""
    for number in numbers:
        found = bench.claiming.allocate(request)
        assert not isinstance(found, NeedBlock)
        bench.journal.intend(attachment(str(number), bench.journal.next_sequence(), *found))


async def first(bench: Bench, request: Request = ANY) -> None:
    while isinstance(need := bench.claiming.allocate(request), NeedBlock):
        await bench.claiming.claim(need)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.005)


def test_the_next_blocks_are_there_before_the_last_ones_are_full(bench: Bench) -> None:
    bench.know(V4, V6)

    async def work() -> None:
        await first(bench)
        hold(bench, range(1, 41))
        await asyncio.sleep(0.05)
        assert bench.blocks == 2, "there is room"
        hold(bench, range(41, 50))
        await until(lambda: bench.blocks == 4)
        await until(lambda: len(bench.told) == 4)
        hold(bench, range(50, 100))  # nobody waits: `allocate` never asks for a block
        await asyncio.sleep(0.05)
        assert bench.blocks == 4, "one of each family is enough"

    bench.run(work)


def test_an_add_that_comes_too_soon_waits_for_the_claim_that_is_under_way(bench: Bench) -> None:
    bench.know(V4)

    async def work() -> None:
        await first(bench)
        hold(bench, range(1, 62))
        bench.claiming._claim_ahead()
        need = bench.claiming.allocate(ANY)
        assert isinstance(need, NeedBlock)
        await bench.claiming.claim(need)
        hold(bench, range(62, 70))

    bench.run(work)
    assert bench.blocks == 2


def test_a_claim_ahead_that_fails_is_nobodys_trouble_and_not_repeated_at_each_add(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.know(V4)

    async def work() -> None:
        await first(bench)
        bench.store.close()
        before = bench.thread.begun
        hold(bench, range(1, 50))
        await until(lambda: bench.thread.begun > before)
        await asyncio.sleep(0.05)
        for number in range(50, 60):
            hold(bench, range(number, number + 1))
            await asyncio.sleep(0.01)
        assert bench.thread.begun == before + 1

    bench.run(work)
    assert caplog.messages == []
