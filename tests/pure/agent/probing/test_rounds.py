"""Which node is asked when.  Nobody answers here: the prober has no sockets, so every question ends at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from netloom.agent.probing.prober import Echo, Peer, Prober
from netloom.agent.probing.rounds import Rounds, Sight
from netloom.agent.probing.ways import Way
from netloom.calc import desired
from netloom.model.resources import Encapsulation
from netloom.model.snapshot import Snapshot
from tests.pure.calc.test_desired import HOST, block, node, pool


class Noted(Prober):
    """Notes who is asked by which way, and how large."""

    def __init__(self) -> None:
        super().__init__("node1", "id1", 9478, lambda name: None)
        self.asked: list[tuple[str, str, int]] = []

    async def ask(
        self, peer: Peer, way: Way, size: int = 0, *, checksum: bool = True, patience: tuple[float, ...] = ()
    ) -> Echo:
        self.asked.append((peer.name, way.device, size))
        return await super().ask(peer, way, size, checksum=checksum)


def sight(encapsulation: Encapsulation, *others: int, pods: int = 0) -> Sight:
    snapshot = Snapshot.of(1, [pool(encapsulation), node(1), *map(node, others), *map(block, others)], complete=True)
    host = replace(HOST, mtu=1500)
    return Sight(snapshot, host, desired(snapshot, [], host), pods)


def during(work: Callable[[Noted, Rounds, list[Sight]], Awaitable[None]], first: Sight, interval: float = 0.05) -> None:
    async def run() -> None:
        prober, sights = Noted(), [first]
        rounds = Rounds(prober, interval, lambda: sights[-1], lambda: None)
        task = asyncio.create_task(rounds.run())
        try:
            await asyncio.wait_for(work(prober, rounds, sights), 20)
        finally:
            task.cancel()
            rounds.stop()

    asyncio.run(run())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def test_every_node_is_asked_and_this_one_never() -> None:
    async def work(prober: Noted, rounds: Rounds, sights: list[Sight]) -> None:
        await until(lambda: rounds.figures.asked == 3)
        assert {name for name, _, _ in prober.asked} == {"node2", "node3", "node4"}
        assert (rounds.figures.answered, rounds.figures.silent) == (0, ("node2", "node3", "node4"))
        assert rounds.words == (), "of who does not answer nothing is said"

    during(work, sight(Encapsulation.VXLAN, 2, 3, 4))


def test_a_node_that_leaves_is_forgotten_and_one_that_comes_is_asked() -> None:
    async def work(prober: Noted, rounds: Rounds, sights: list[Sight]) -> None:
        await until(lambda: rounds.figures.asked == 2)
        sights.append(sight(Encapsulation.VXLAN, 3, 5))
        await until(lambda: "node5" in rounds.figures.silent and "node2" not in rounds.figures.silent)
        assert rounds.figures.asked == 2

    during(work, sight(Encapsulation.VXLAN, 2, 3))


@pytest.mark.parametrize(
    ("encapsulation", "pods", "ways"),
    [
        (Encapsulation.VXLAN, 0, {("loom.vxlan", 1450), ("", 1500)}),
        (Encapsulation.VXLAN, 1400, {("loom.vxlan", 1400), ("", 1450)}),
        (Encapsulation.IPIP, 0, {("loom.ipip", 1480), ("", 1500)}),
        (Encapsulation.NONE, 0, {("", 1500)}),
        (Encapsulation.NONE, 1400, {("", 1400)}),
    ],
)
def test_each_way_that_a_route_uses_is_tried_at_the_size_that_pods_send(
    encapsulation: Encapsulation, pods: int, ways: set[tuple[str, int]]
) -> None:
    async def work(prober: Noted, rounds: Rounds, sights: list[Sight]) -> None:
        await until(lambda: rounds.figures.asked == 1)
        assert {(device, size) for _, device, size in prober.asked if size > 256} == ways

    during(work, sight(encapsulation, 2, pods=pods))
