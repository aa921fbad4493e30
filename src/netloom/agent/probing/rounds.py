"""Rounds: which node is asked when, and what stands of what was found.

Each pair is looked at about once in `interval`, from both sides; where there are many nodes, more seldom: a node asks one other node
every two seconds at most.  New nodes come first, and then in an order of each node's own, so that not all ask the same one.

A fault counts when a second look, a little later, finds it as well; then that node is looked at more often, until it is over.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from netloom.agent.probing.faults import Fault, faults
from netloom.agent.probing.measuring import measure
from netloom.agent.probing.prober import Peer, Prober
from netloom.agent.probing.ways import Way, tunnel, underlay
from netloom.calc.metrics import node_metric
from netloom.model.desired import Desired, RouteKind
from netloom.model.host import Host
from netloom.model.resources import Node
from netloom.model.snapshot import Snapshot

log = logging.getLogger(__name__)

_LEAST_GAP = 2.0  # seconds between two nodes
_SECOND_LOOK = 1.0  # seconds after the first, as part of `interval` where that is shorter
_NAMED = 20  # nodes that do not answer
_AT_ONCE = 4  # nodes: one that does not answer takes some seconds


@dataclass(frozen=True, slots=True)
class Sight:
    """What this node knows of the cluster and wants of its kernel.  `pods`: the MTU of pods, in bytes; 0: not known."""

    snapshot: Snapshot
    host: Host
    desired: Desired
    pods: int


@dataclass(frozen=True, slots=True)
class Figures:
    """Nodes that were asked; those of them that answered the last time; some of the others."""

    asked: int = 0
    answered: int = 0
    silent: tuple[str, ...] = ()


class Rounds:
    """For the running loop.  `changed` is called when what stands changes.  `faults` by node; they stand until a look finds them no
    more."""

    def __init__(self, prober: Prober, interval: float, sight: Callable[[], Sight | None], changed: Callable[[], None]) -> None:
        self._prober, self._interval, self._sight, self._changed = prober, interval, sight, changed
        self._order: deque[str] = deque()
        self._members: Mapping[str, Node] = {}
        self._again: dict[str, float] = {}
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._silent: set[str] = set()
        self._asked: set[str] = set()
        self._used: tuple[Desired, Mapping[int, frozenset[str]]] = (Desired(), {})
        self.faults: dict[str, tuple[Fault, ...]] = {}

    @property
    def words(self) -> tuple[str, ...]:
        """One way may be at fault in both families."""
        return tuple(dict.fromkeys(fault.words for _, found in sorted(self.faults.items()) for fault in found))

    @property
    def far(self) -> dict[str, str]:
        """Nodes that are no neighbours, and why."""
        return {name: fault.far for name, found in self.faults.items() for fault in found if fault.far}

    @property
    def figures(self) -> Figures:
        return Figures(len(self._asked), len(self._asked) - len(self._silent), tuple(sorted(self._silent)[:_NAMED]))

    async def run(self) -> None:
        while True:
            sight = self._sight()
            if sight is not None:
                self._heard(sight)
                if (name := self._next()) is not None:
                    self._under_way[name] = asyncio.create_task(self._look(name))
            await asyncio.sleep(self._gap())

    def stop(self) -> None:
        for task in self._under_way.values():
            task.cancel()

    def _gap(self) -> float:
        return max(self._interval / max(1, len(self._order)), min(_LEAST_GAP, self._interval / 4))

    def _heard(self, sight: Sight) -> None:
        nodes = sight.snapshot.nodes
        if nodes is self._members:
            return
        known = self._members.keys()
        new = [name for name in nodes.keys() - known if name != sight.host.node]
        random.shuffle(new)
        if gone := known - nodes.keys():
            self._order = deque(name for name in self._order if name not in gone)
            for name in gone:
                self._forget(name)
        self._order.extendleft(new)
        self._members = nodes

    def _forget(self, name: str) -> None:
        self._again.pop(name, None)
        self._silent.discard(name)
        self._asked.discard(name)
        if self.faults.pop(name, None):
            self._changed()

    def _next(self) -> str | None:
        """One whose second look or fault is due, else the next in order."""
        if len(self._under_way) >= _AT_ONCE:
            return None
        now = asyncio.get_running_loop().time()
        due = [name for name, when in self._again.items() if when <= now and name not in self._under_way]
        if due:
            return due[0]
        for _ in range(len(self._order)):
            name = self._order[0]
            self._order.rotate(-1)
            if name not in self._under_way:
                return name
        return None

    async def _look(self, name: str) -> None:
        try:
            await self._examine(name)
        except Exception:
            log.exception("a fault of our own, while node %s was probed", name)
        finally:
            self._under_way.pop(name, None)

    async def _examine(self, name: str) -> None:
        standing = self.faults.get(name, ())
        found = await self._found(name, standing)
        if found and {fault.what for fault in found} - {fault.what for fault in standing}:
            await asyncio.sleep(min(_SECOND_LOOK, self._interval / 4))
            first = {fault.what for fault in found}
            found = [fault for fault in await self._found(name, found) or () if fault.what in first]
        if found is None or name not in self._members:
            self._forget(name)
            return
        self._note(name, tuple(found))

    def _note(self, name: str, found: tuple[Fault, ...]) -> None:
        before = self.faults.pop(name, ())
        if found:
            self.faults[name] = found
            self._again[name] = asyncio.get_running_loop().time() + self._interval / 4
        else:
            self._again.pop(name, None)
        if before != found:
            self._changed()

    async def _found(self, name: str, before: Iterable[Fault]) -> list[Fault] | None:
        """None where there is nobody to ask, or no way that leads there."""
        sight = self._sight()
        node = sight.snapshot.nodes.get(name) if sight else None
        if sight is None or node is None or not node.spec.id or name == sight.host.node:
            return None
        peer, last = Peer(name, node.spec.id), {fault.way: fault.largest for fault in before}
        looks = (measure(self._prober, peer, way, full, last=last.get(way, 0)) for way, full in self._ways(sight, node))
        measured = await asyncio.gather(*looks)
        if not measured:
            return None
        self._asked.add(name)
        (self._silent.discard if any(one.largest for one in measured) else self._silent.add)(name)
        return faults(name, sight.host, measured)

    def _ways(self, sight: Sight, node: Node) -> Iterable[tuple[Way, int]]:
        """Each with the largest packet that should pass: what pods send, and what becomes of it."""
        host, links = sight.host, sight.desired.links
        devices = self._devices(sight.desired).get(node_metric(node.name), frozenset())
        most = 0
        for device in sorted(devices & links.keys()):
            size = min(links[device].mtu, sight.pods or links[device].mtu)
            most = max(most, size + max(0, host.mtu - links[device].mtu))
            if (way := tunnel(host, node.spec, device)) is not None:
                yield way, size
        if devices - links.keys():
            most = max(most, min(host.mtu, sight.pods or host.mtu))
        if most:
            yield from ((way, most) for way in underlay(host, node.spec))

    def _devices(self, desired: Desired) -> Mapping[int, frozenset[str]]:
        """By which devices routes lead to nodes, by the node's metric."""
        if self._used[0] is not desired:
            found: dict[int, set[str]] = {}
            for key, route in desired.routes.items():
                if route.gateway is not None and route.kind is RouteKind.UNICAST:
                    found.setdefault(key.metric, set()).add(route.device)
            self._used = desired, {metric: frozenset(devices) for metric, devices in found.items()}
        return self._used[1]
