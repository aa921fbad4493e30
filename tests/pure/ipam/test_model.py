"""Several nodes, one datastore, and everything that happens to them, against a model that knows who uses which address.

The model is what a person would say: an address is used from the moment that a pod was promised it until the kernel has let go
of it, and then it rests.  No address is ever used twice, and none that rests is given out unasked.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from itertools import combinations
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from netloom.datastore.memory import Memory, MemoryDatastore
from netloom.errors import ConfigError, NetloomError, PoolExhausted, Unavailable
from netloom.ipam.allocator import Allocator
from netloom.ipam.blocks import kept, slot_of
from netloom.ipam.choosing import NeedBlock, Request
from netloom.ipam.claiming import swap
from netloom.ipam.journal import Journal
from netloom.model.addresses import Address
from netloom.model.attachments import State
from netloom.model.resources import AnyResource, IPBlock
from netloom.model.snapshot import Snapshot
from tests.pure.ipam.making import LONG, NETNS, attachment, key, node, pool, prefix, reservation

NAMES = ("n1", "n2", "n3")
COOL_DOWN, GRACE = 30.0, 60.0
POOLS = {p.name: p for p in (pool("v4", "10.0.0.0/26", 29), pool("v6", "fd00::/122", 125), pool("more", "10.1.0.0/28", 29))}
ADDRESSES = [a for p in POOLS.values() for a in p.spec.cidr]


class NodeUnderTest:
    def __init__(self, root: Path, memory: Memory, name: str, life: int) -> None:
        self.root, self.name, self.life = root / f"{name}.{life}", name, life
        self.root.mkdir()
        self.memory, self.store = memory, MemoryDatastore(memory)
        self.boot, self.path, self.copy = 1, str(self.root / "journal"), str(self.root / "claims.json")
        self.journal = Journal.rebuild(self.path, "boot 1", NETNS, compact_at=2000)

    @property
    def incarnation(self) -> str:
        return f"{self.name}-{self.life}"


class Cluster(RuleBasedStateMachine):
    pods = Bundle("pods")

    def __init__(self) -> None:
        super().__init__()
        shared = "/dev/shm" if os.path.isdir("/dev/shm") else None
        self.root = Path(tempfile.mkdtemp(dir=shared))
        self.memory, self.now, self.count = Memory(), 1000.0, 0
        self.pools, self.reserved = dict(POOLS), list[str]()
        self.seen: dict[str, list[IPBlock]] = {}
        self.nodes: dict[str, NodeUnderTest] = {}
        self.users: dict[str, tuple[str, tuple[Address, ...]]] = {}
        self.rested: dict[Address, float] = {}

    def teardown(self) -> None:
        for one in self.nodes.values():
            one.journal.close()
        shutil.rmtree(self.root)

    @initialize()
    def three_nodes_come_up(self) -> None:
        for name in NAMES:
            self.nodes[name] = NodeUnderTest(self.root, self.memory, name, life=1)
            self.start(self.nodes[name])

    def start(self, one: NodeUnderTest) -> None:
        one.allocator = Allocator(
            one.journal, one.copy, one.name, one.incarnation, cool_down=COOL_DOWN, grace=GRACE, clock=lambda: self.now
        )
        self.show(one)
        with suppress(Unavailable):
            one.allocator.synchronise(one.store)

    def show(self, one: NodeUnderTest) -> None:
        resources: list[AnyResource] = [node(one.name, one.incarnation), *self.pools.values(), *self.seen.get(one.name, ())]
        if self.reserved:
            resources.append(reservation("r", *self.reserved))
        one.allocator.update(Snapshot.of(1, resources))

    # pods

    @rule(target=pods, name=st.sampled_from(NAMES))
    def a_pod_comes(self, name: str) -> str:
        return self.attach(self.nodes[name], Request())

    @rule(target=pods, name=st.sampled_from(NAMES), address=st.sampled_from(ADDRESSES))
    def a_pod_comes_and_asks_for_an_address(self, name: str, address: Address) -> str:
        return self.attach(self.nodes[name], Request(addresses=(address,)))

    def attach(self, one: NodeUnderTest, request: Request) -> str:
        self.count += 1
        name = f"p{self.count}"
        try:
            while isinstance(answer := one.allocator.allocate(request), NeedBlock):
                one.allocator.claim(answer, one.store)
        except PoolExhausted as e:
            assert one.name in str(e)
            return name
        except (ConfigError, Unavailable):
            return name
        self.check_choice(one, request, tuple(i.ip for i in answer))
        one.journal.intend(attachment(name, one.journal.next_sequence(), *answer))
        self.users[name] = (one.name, tuple(i.ip for i in answer))
        return name

    def check_choice(self, one: NodeUnderTest, request: Request, addresses: tuple[Address, ...]) -> None:
        in_use = {a for _, addresses in self.users.values() for a in addresses}
        assert {a.version for a in addresses} == {p.spec.cidr.version for p in self.pools.values() if not p.spec.disabled}
        for address in addresses:
            home = next(p for p in self.pools.values() if address in p.spec.cidr)
            assert not home.spec.disabled
            assert address not in in_use
            assert address not in kept(slot_of(home, address))
            if address not in request.addresses:
                assert self.rested.get(address, 0.0) <= self.now - COOL_DOWN
                assert not any(address.version == prefix(r).version and address in prefix(r) for r in self.reserved)

    @rule(pod=pods)
    def its_add_ends_well(self, pod: str) -> None:
        if pod in self.users:
            journal = self.nodes[self.users[pod][0]].journal
            if journal.attachments[key(pod)].state is State.PENDING:
                journal.commit(key(pod))

    @rule(pod=pods)
    def its_del_begins(self, pod: str) -> None:
        for one in self.nodes.values():
            found = one.journal.leave(key(pod))
            assert (found is not None) == (pod in self.users and self.users[pod][0] == one.name)

    @rule(pod=pods)
    def its_del_ends(self, pod: str) -> None:
        for one in self.nodes.values():
            one.journal.done(key(pod), self.now)
        self.rest(pod)

    def rest(self, pod: str) -> None:
        _, addresses = self.users.pop(pod, ("", ()))
        self.rested.update(dict.fromkeys(addresses, self.now))

    # time, edits, the datastore

    @rule(seconds=st.sampled_from([1.0, 29.0, 31.0, 100.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(name=st.sampled_from(sorted(POOLS)), disabled=st.booleans())
    def a_pool_is_edited(self, name: str, disabled: bool) -> None:
        old = POOLS[name].spec
        self.pools[name] = pool(name, str(old.cidr), old.block_size, disabled=disabled)
        self.everybody_sees_it()

    @rule(reserved=st.lists(st.sampled_from(["10.0.0.0/28", "10.0.0.20/32", "fd00::/123", "10.1.0.0/29"]), max_size=2))
    def addresses_are_reserved(self, reserved: list[str]) -> None:
        self.reserved = reserved
        self.everybody_sees_it()

    @rule(name=st.sampled_from(NAMES))
    def the_watch_tells_a_node_of_blocks(self, name: str) -> None:
        """That is what it knows from now on, whatever happens to them."""
        self.seen[name] = self.blocks()
        self.show(self.nodes[name])

    @rule(name=st.sampled_from(NAMES))
    def a_block_is_claimed_ahead(self, name: str) -> None:
        one = self.nodes[name]
        with suppress(ConfigError, PoolExhausted, Unavailable):
            if need := one.allocator.lacking(Request()):
                one.allocator.claim(need, one.store)

    def everybody_sees_it(self) -> None:
        for one in self.nodes.values():
            self.show(one)

    @rule(name=st.sampled_from(NAMES), away=st.booleans())
    def the_datastore_goes_away_or_comes_back(self, name: str, away: bool) -> None:
        one = self.nodes[name]
        one.store = MemoryDatastore(self.memory)
        if away:
            one.store.close()

    @rule()
    def the_datastore_loses_every_block_and_all_nodes_notice(self) -> None:
        for block in self.blocks():
            MemoryDatastore(self.memory).delete("IPBlock", block.key)
        for one in self.nodes.values():
            one.store = MemoryDatastore(self.memory)
            one.allocator.synchronise(one.store)

    @rule(name=st.sampled_from(NAMES), answers=st.booleans())
    def blocks_are_given_back(self, name: str, answers: bool) -> None:
        one = self.nodes[name]
        store = MemoryDatastore(self.memory)
        if not answers:
            store.close()
        with suppress(Unavailable):
            one.allocator.give_back(one.allocator.retire(), store)

    @rule(name=st.sampled_from(NAMES))
    def the_agent_is_killed_between_a_claim_and_its_own_copy(self, name: str) -> None:
        one = self.nodes[name]
        Path(f"{one.copy}.new").mkdir()
        with suppress(NetloomError):
            answer = one.allocator.allocate(Request())
            if isinstance(answer, NeedBlock):
                one.allocator.claim(answer, one.store)
        Path(f"{one.copy}.new").rmdir()
        self.restart(one)

    # agents and machines

    @rule(name=st.sampled_from(NAMES), torn=st.binary(max_size=200))
    def an_agent_is_killed_while_it_writes(self, name: str, torn: bytes) -> None:
        one = self.nodes[name]
        with open(one.path, "ab") as file:
            file.write(torn.replace(b"\n", b""))
        self.restart(one)

    def restart(self, one: NodeUnderTest) -> None:
        """As agents do, the new one ends what the old one had begun."""
        one.journal.close()
        one.journal = Journal.open(one.path, f"boot {one.boot}", NETNS, compact_at=2000)
        for found in one.journal.attachments.values():
            if found.state is not State.READY:
                one.journal.done(found.key, self.now)
                self.rest(found.key.container_id)
        self.start(one)

    @rule(name=st.sampled_from(NAMES))
    def the_journal_is_lost_and_rebuilt_from_the_kernel(self, name: str) -> None:
        one = self.nodes[name]
        shown = one.journal.attachments.values()
        before = one.journal.next_sequence()
        one.journal.close()
        os.unlink(one.path)
        one.journal = Journal.rebuild(one.path, f"boot {one.boot}", NETNS, shown, compact_at=2000)
        assert one.journal.next_sequence() >= before
        self.rested.clear()
        self.start(one)

    @rule(name=st.sampled_from(NAMES))
    def its_own_copy_of_the_claims_is_damaged(self, name: str) -> None:
        one = self.nodes[name]
        with open(one.copy, "ab") as file:
            file.write(b"}")
        self.restart(one)

    @rule(name=st.sampled_from(NAMES))
    def a_node_reboots(self, name: str) -> None:
        one = self.nodes[name]
        one.boot += 1
        self.forget_pods_of(name)
        self.restart(one)
        assert one.journal.attachments == {}

    @rule(name=st.sampled_from(NAMES))
    def a_node_is_lost_and_another_takes_its_name(self, name: str) -> None:
        one = self.nodes[name]
        self.forget_pods_of(name)
        one.journal.close()
        for block in self.blocks():
            swap(MemoryDatastore(self.memory), block.spec.cidr, lambda present: tuple(c for c in present if c.node != name))
        self.nodes[name] = NodeUnderTest(self.root, self.memory, name, one.life + 1)
        self.start(self.nodes[name])

    def forget_pods_of(self, name: str) -> None:
        for pod, (where, _) in list(self.users.items()):
            if where == name:
                self.rest(pod)
        self.rested.clear()

    # what always holds

    @invariant()
    def no_address_is_used_twice(self) -> None:
        used = [a for _, addresses in self.users.values() for a in addresses]
        assert len(used) == len(set(used))

    @invariant()
    def each_journal_says_what_the_model_says(self) -> None:
        for one in self.nodes.values():
            held = {a.key.container_id: tuple(i.ip for i in a.addresses) for a in one.journal.attachments.values()}
            assert held == {pod: addresses for pod, (where, addresses) in self.users.items() if where == one.name}

    @invariant()
    def every_address_in_use_lies_in_a_block_that_its_node_has_in_the_datastore(self) -> None:
        owners = {c.cidr: c.node for b in self.blocks() for c in b.spec.claims}
        for where, addresses in self.users.values():
            for address in addresses:
                assert [node for cidr, node in owners.items() if address.version == cidr.version and address in cidr] == [where]

    @invariant()
    def claims_do_not_overlap_and_no_node_believes_in_more_than_it_has(self) -> None:
        claims = [c for b in self.blocks() for c in b.spec.claims]
        for a, b in combinations(claims, 2):
            assert a.cidr.version != b.cidr.version or not a.cidr.overlaps(b.cidr)
        for one in self.nodes.values():
            assert one.allocator.claims.serving <= {c.cidr for c in claims if c.node_id == one.incarnation}
            assert not one.allocator.alarms

    def blocks(self) -> list[IPBlock]:
        stored = MemoryDatastore(self.memory).list("IPBlock").items
        return [s.resource for s in stored if isinstance(s.resource, IPBlock)]


TestCluster = Cluster.TestCase
TestCluster.settings = settings(
    max_examples=700 if LONG else 60,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
