"""Several nodes in a pool that is too small: whatever happens in whatever order, nobody's address is another's, and in the end every
address of the pool is some pod's.

Each step of a gift (asked, out of service, given, taken up) may be the last one of an agent's life, and every node sees the cluster
as it was when it last looked.
"""

from __future__ import annotations

import ipaddress
import shutil
import tempfile
from collections import Counter
from itertools import combinations
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netloom.datastore.memory import Memory, MemoryDatastore
from netloom.errors import NotFound, PoolExhausted
from netloom.ipam.allocator import Allocator
from netloom.ipam.choosing import NeedBlock, Request
from netloom.ipam.giving import open_requests, unknown_slots
from netloom.ipam.journal import Journal
from netloom.model.addresses import contains
from netloom.model.resources import Claim, IPBlock, IPBlockRequest, IPBlockRequestSpec, Metadata
from netloom.model.snapshot import Snapshot
from tests.pure.ipam.making import LONG, NETNS, attachment, key, node, pool

NAMES = ("n1", "n2", "n3")
POOL = pool("p", "10.0.0.0/28", 28)
TWO_SLOTS = pool("p", "fd00::/123", 124)
COOL_DOWN = 30.0


class One:
    def __init__(self, root: Path, memory: Memory, name: str) -> None:
        self.root, self.name, self.store = root / name, name, MemoryDatastore(memory)
        self.root.mkdir()
        self.journal = Journal.rebuild(str(self.root / "journal"), "boot", NETNS)
        self.seen = Snapshot()
        self.own: list[str] = []
        self.asked = 0


class Cluster:
    def __init__(self, root: Path, its_pool: object) -> None:
        self.memory, self.pool, self.now, self.count = Memory(), its_pool, 1000.0, 0
        self.store = MemoryDatastore(self.memory)
        self.nodes = {name: One(root, self.memory, name) for name in NAMES}
        self.pods: dict[str, str] = {}
        for one in self.nodes.values():
            self.start(one)

    def start(self, one: One) -> None:
        path = str(one.root / "claims.json")
        one.allocator = Allocator(
            one.journal, path, one.name, f"{one.name}-1", cool_down=COOL_DOWN, grace=60.0, clock=lambda: self.now
        )
        self.look(one)
        one.allocator.synchronise(one.store, anew=True)

    def look(self, one: One) -> None:
        """It sees the cluster as it is."""
        nodes = [node(name, f"{name}-1", *self.nodes[name].own) for name in NAMES] if hasattr(self, "nodes") else []
        records = [s.resource for s in self.store.list().items]
        one.seen = Snapshot.of(self.store.list().revision, [*nodes, self.pool, *records])
        one.allocator.update(one.seen)

    # what happens

    def add(self, one: One) -> bool:
        """As far as it comes by itself; else it asks."""
        for _ in range(20):
            answer = one.allocator.allocate(Request())
            if not isinstance(answer, NeedBlock):
                self.count += 1
                name = f"pod{self.count}"
                one.journal.intend(attachment(name, one.journal.next_sequence(), *answer))
                self.pods[name] = one.name
                return True
            try:
                one.allocator.claim(answer, one.store)
            except PoolExhausted:
                if not one.allocator.sharing.thicken(answer) and not one.allocator.sharing.claim_gap(answer, one.store):
                    self.ask(one)
                    return False
        raise AssertionError("it goes round in circles")

    def ask(self, one: One) -> None:
        held = sum(h.cidr.num_addresses for h in one.allocator.claims.held)
        spec = IPBlockRequestSpec(node_id=f"{one.name}-1", pools={"p": held})
        self.withdraw(one)
        one.asked = one.store.create(IPBlockRequest(metadata=Metadata(name=one.name), spec=spec))

    def withdraw(self, one: One) -> None:
        try:
            one.store.delete("IPBlockRequest", one.name)
        except NotFound:
            return

    def delete(self, one: One) -> None:
        mine = sorted(pod for pod, name in self.pods.items() if name == one.name)
        if mine:
            one.journal.leave(key(mine[0]))
            one.journal.done(key(mine[0]), self.now)
            del self.pods[mine[0]]

    def give(self, one: One, *, killed: bool = False) -> None:
        for request in open_requests(one.seen, one.name):
            found = one.allocator.sharing.part_with("p")
            if killed:
                self.restart(one)
            elif found is not None:
                to = Claim(cidr=found.part, node=request.name, node_id=request.spec.node_id)
                one.allocator.sharing.give(found, to, one.store)

    def take_up(self, one: One) -> None:
        claims = one.allocator.claims
        if slots := unknown_slots(one.seen, claims.owns, claims.cidrs):
            one.allocator.sharing.take_up(slots, one.asked, one.store)
            self.withdraw(one)

    def restart(self, one: One) -> None:
        one.journal.close()
        one.journal = Journal.open(str(one.root / "journal"), "boot", NETNS)
        self.start(one)

    def give_back(self, one: One) -> None:
        one.allocator.give_back(one.allocator.retire(), one.store)

    def take_for_itself(self, one: One) -> None:
        """The address of its tunnel device."""
        address = one.allocator.own_address(self.pool)
        if not isinstance(address, NeedBlock) and address is not None and not one.own:
            one.own.append(str(address))

    def wait(self, one: One) -> None:
        self.now += COOL_DOWN + 61.0

    # what has to be so

    def check(self) -> None:
        users = Counter(i.ip for one in self.nodes.values() for a in one.journal.attachments.values() for i in a.addresses)
        users.update(ipaddress.ip_address(own) for one in self.nodes.values() for own in one.own)
        assert not [a for a, times in users.items() if times > 1]
        claims = [
            c for s in self.store.list("IPBlock").items if isinstance(s.resource, IPBlock) for c in s.resource.spec.claims
        ]
        assert not any(a.cidr.overlaps(b.cidr) for a, b in combinations(claims, 2))
        for one in self.nodes.values():
            for held in one.allocator.claims.held:
                assert not held.contested
                assert any(c.node == one.name and contains(c.cidr, held.cidr) for c in claims)
            for a in one.journal.attachments.values():
                assert any(i.ip in h.cidr for i in a.addresses for h in one.allocator.claims.held)

    def fill(self) -> int:
        """Pods come until nobody finds an address any more; every one looks at everything."""
        self.now += COOL_DOWN + 1
        for _ in range(8):
            for one in self.nodes.values():
                while self.add(one):
                    self.check()
                for other in self.nodes.values():
                    self.look(other)
                    if other is not one:
                        self.give(other)
                self.look(one)
                self.take_up(one)
                self.add(one)
        return sum(len(a.addresses) for one in self.nodes.values() for a in one.journal.attachments.values())


STEPS = (
    "add",
    "add",
    "add",
    "add",
    "delete",
    "look",
    "look",
    "give",
    "kill",
    "take_up",
    "restart",
    "give_back",
    "wait",
    "take_for_itself",
)


@given(st.sampled_from([POOL, TWO_SLOTS]), st.lists(st.tuples(st.sampled_from(STEPS), st.sampled_from(NAMES)), max_size=80))
@settings(max_examples=500 if LONG else 120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_nobody_has_anothers_address_and_in_the_end_all_are_used(its_pool: object, steps: list[tuple[str, str]]) -> None:
    root = Path(tempfile.mkdtemp(dir="/dev/shm"))
    cluster = Cluster(root, its_pool)
    try:
        for step, name in steps:
            one = cluster.nodes[name]
            if step == "kill":
                cluster.give(one, killed=True)
            else:
                getattr(cluster, step)(one)
            cluster.check()
        pods, own = cluster.fill(), sum(len(one.own) for one in cluster.nodes.values())
        assert pods + own == its_pool.spec.cidr.num_addresses
    finally:
        for one in cluster.nodes.values():
            one.journal.close()
        shutil.rmtree(root)
