"""Trials of a new form, in a cluster of thousands, by a clock that does not wait: passes as long as those of an agent with so many nodes, and
nodes that answer, that are away, and to which the new form does not come."""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from netloom.agent.probing import Echo, Failure, Peer, Prober, Sight
from netloom.agent.probing.ways import Way
from netloom.agent.trying import Trials
from netloom.model.addresses import Mac
from netloom.model.desired import Desired
from netloom.model.forms import Form, Use, parse_form
from netloom.model.host import Host, Uplink
from netloom.model.host import Moving as Facts
from netloom.model.resources import Encapsulation, IPPool, IPPoolSpec, Metadata, Node, NodeSpec
from netloom.model.snapshot import Snapshot
from tests.virtual_time import run

OLD, NEW = parse_form("VXLAN:4096:4789"), parse_form("IPIP")
OWN = ipaddress.ip_interface("192.0.2.1/24")
HOST = Host(
    "own",
    "id-own",
    addresses=(OWN,),
    uplinks={"eth0": Uplink("eth0", 1500, (OWN,), default=True)},
    vtep_mac=Mac("66:00:00:00:00:01"),
    tunnel_addresses=(ipaddress.ip_address("10.0.0.0"),),
    mtu=1500,
    moving=Facts({"loom.vxlan": OLD, "loom.ipip": NEW}),
)
ROUND_TRIP, PASS = 0.001, 3.0  # seconds; the rest that an agent of 5 000 nodes takes after each pass is most of the latter


def cluster(nodes: int) -> Snapshot:
    spec = IPPoolSpec(cidr=ipaddress.ip_network("10.0.0.0/8"), encapsulation=Encapsulation.IPIP)
    said = (str(NEW), str(OLD))
    own = NodeSpec(id="id-own", addresses=(OWN,), tunnel_addresses=HOST.tunnel_addresses, receives=said, sends=said)
    others = [
        Node(
            metadata=Metadata(name=f"node-{n}"),
            spec=NodeSpec(
                id=f"id-{n}",
                addresses=(ipaddress.ip_interface((int(ipaddress.ip_address("172.16.0.0")) + n, 12)),),
                tunnel_addresses=(ipaddress.ip_address(int(ipaddress.ip_address("10.1.0.0")) + n),),
                receives=said,
            ),
        )
        for n in range(nodes)
    ]
    pool = IPPool(metadata=Metadata(name="default"), spec=spec)
    return Snapshot.of(1, [pool, Node(metadata=Metadata(name="own"), spec=own), *others])


@dataclass
class Others:
    """A prober, as far as trials use it.  `away`: answer nobody; `closed`: nothing comes there by the new form."""

    away: frozenset[str] = frozenset()
    closed: frozenset[str] = frozenset()
    asked: Counter[int] = field(default_factory=Counter)

    async def ask(self, peer: Peer, way: Way, size: int, patience: tuple[float, ...] = ()) -> Echo:
        self.asked[int(asyncio.get_running_loop().time())] += 1
        if peer.name in self.away or (peer.name in self.closed and way.device == "loom.ipip"):
            await asyncio.sleep(sum(patience))
            return Echo(Failure.SILENT)
        await asyncio.sleep(ROUND_TRIP)
        return Echo(node=peer.name)


@dataclass
class Move:
    """Of one node: passes, and the trials between them."""

    snapshot: Snapshot
    others: Others
    uses: Mapping[tuple[str, str], Use] = field(default_factory=dict)
    wished: bool = False
    problems: list[str] = field(default_factory=list)

    def make_pass(self, trials: Trials) -> None:
        self.wished = False
        old = self.uses or {(name, "default"): Use(OLD, OLD) for name in self.snapshot.nodes if name != "own"}
        untried = trials.untried(self.snapshot, HOST, old)
        self.uses = {pair: self.use(pair[0], untried) for pair in old}
        trials.begin(self.snapshot, HOST, self.uses)

    def use(self, name: str, untried: frozenset[tuple[str, Form]]) -> Use:
        return Use(OLD, NEW) if (name, NEW) in untried else Use(NEW, NEW)

    @property
    def left(self) -> set[str]:
        return {name for (name, _), use in self.uses.items() if use.form != NEW}

    async def until(self, seconds: float, *, all_but: int = 0) -> float:
        """How long it took until no more than so many nodes were sent the old form, at most `seconds`."""
        loop = asyncio.get_running_loop()
        trials = Trials(lambda: Sight(self.snapshot, HOST, Desired(), 1450), self.wish)
        trials.prober = cast(Prober, self.others)  # it asks as one does
        self.make_pass(trials)
        while len(self.left) > all_but and loop.time() < seconds:
            await asyncio.sleep(PASS)
            if self.wished:
                self.make_pass(trials)
        ended = loop.time()
        await asyncio.sleep(10)  # the last ones have been asked three times
        self.problems = list(trials.problems)
        trials.stop()
        return ended

    def wish(self) -> None:
        self.wished = True


def test_a_large_cluster_goes_over_within_a_minute() -> None:
    move = Move(cluster(5000), Others())
    assert run(move.until(600.0)) < 60
    assert max(move.others.asked.values()) < 300  # and nobody is flooded


def test_nodes_that_are_away_hold_up_nobody() -> None:
    away = frozenset(f"node-{n}" for n in range(0, 2000, 4))
    move = Move(cluster(2000), Others(away=away))
    assert run(move.until(600.0)) < 60  # nothing speaks against sending to them
    assert not move.left


def test_nodes_that_it_does_not_come_to_hold_up_nobody() -> None:
    closed = frozenset(f"node-{n}" for n in range(100))
    move = Move(cluster(2000), Others(closed=closed))
    assert run(move.until(600.0, all_but=100)) < 60
    assert move.left == closed
    [problem] = move.problems
    assert problem.startswith("packets in IPIP do not come to node-0, node-1, node-10 and 97 more: ")


def test_a_small_cluster_goes_over_with_the_first_trials() -> None:
    move = Move(cluster(3), Others())
    assert run(move.until(600.0)) <= PASS
