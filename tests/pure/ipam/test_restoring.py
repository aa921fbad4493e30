"""A datastore that was restored from an older copy: each owner makes it say what it holds, and no address is given twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netloom.datastore import Listing
from netloom.datastore.memory import Memory, MemoryDatastore
from netloom.errors import NetloomError, PoolExhausted, Unavailable
from netloom.ipam.choosing import NeedBlock
from netloom.ipam.claims import load
from netloom.ipam.restoring import QUARANTINE
from netloom.model.addresses import Address
from netloom.model.resources import IPBlock, IPPool
from netloom.model.snapshot import Snapshot
from tests.pure.ipam.making import LONG, node, pool
from tests.pure.ipam.test_allocator import ANY, Agent

POOL = pool("p", "10.0.0.0/28", 29)
"""Two blocks: whoever gives one back sees it taken soon."""


class Cluster:
    """Nodes with one store, of which copies can be put back."""

    def __init__(self, folder: Path, names: Iterable[str] = ("a", "b", "c"), declared: IPPool = POOL) -> None:
        self.memory, self.pool = Memory(), declared
        self.agents = {name: Agent(folder, self.memory, name) for name in names}
        self.see()
        for agent in self.agents.values():
            agent.allocator.synchronise(agent.store, anew=True)

    def see(self) -> None:
        blocks = [s.resource for s in next(iter(self.agents.values())).store.list("IPBlock").items]
        nodes = [node(name, f"{name}-1") for name in self.agents]
        for agent in self.agents.values():
            agent.sees(self.pool, *nodes, *blocks)

    def copy(self) -> Callable[[], None]:
        """Gives what puts the store back as it is now."""
        records, log = dict(self.memory.records), list(self.memory.log)

        def restore() -> None:
            self.memory.records.clear()
            self.memory.records.update(records)
            self.memory.log.clear()
            self.memory.log.extend(log)

        return restore

    def noticed(self, name: str) -> None:
        """This agent sees that the store has jumped."""
        self.agents[name].allocator.doubts.quarantine()
        self.agents[name].allocator.synchronise(self.agents[name].store, anew=True)

    @property
    def addresses(self) -> list[Address]:
        """Of all pods."""
        return [i.ip for agent in self.agents.values() for a in agent.journal.attachments.values() for i in a.addresses]

    def close(self) -> None:
        for agent in self.agents.values():
            agent.journal.close()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    yield made
    made.close()


def give_up_all(agent: Agent) -> None:
    """Its pods go, and then its blocks, down to the last one: their pool is not for it any more."""
    for one in list(agent.journal.attachments):
        agent.journal.done(one, agent.now)
    agent.now += 1000.0
    agent.sees(pool("q", "10.9.0.0/16"))
    agent.allocator.give_back(agent.allocator.retire(), agent.store)


def test_nobody_claims_anything_new_for_a_while_and_pods_go_on_in_what_there_is(cluster: Cluster) -> None:
    a = cluster.agents["a"]
    a.add("first")
    cluster.noticed("a")
    for number in range(4):
        a.add(f"more-{number}")
    with pytest.raises(Unavailable, match="new blocks are claimed when their owners had time"):
        a.add("too many")
    a.now += QUARANTINE
    assert a.add("too many")


def test_what_was_claimed_since_the_copy_is_its_owners_whoever_comes_first(cluster: Cluster) -> None:
    restore = cluster.copy()
    a, b = cluster.agents["a"], cluster.agents["b"]
    a.add("pod")
    restore()
    cluster.noticed("b")
    with pytest.raises(Unavailable):
        b.add("pod")
    cluster.noticed("a")
    b.now += QUARANTINE
    cluster.see()
    b.add("pod")
    assert len(set(cluster.addresses)) == 2
    assert not a.allocator.alarms and not b.allocator.alarms


def test_what_was_given_back_since_the_copy_is_withdrawn_and_another_ones(cluster: Cluster) -> None:
    """Else its addresses, which pods of the new owner have by now, would be given out by the old one again."""
    small = pool("p", "10.0.0.0/29", 29)
    cluster.pool = small
    cluster.see()
    a, b = cluster.agents["a"], cluster.agents["b"]
    a.add("pod")
    restore = cluster.copy()
    give_up_all(a)
    cluster.see()
    b.add("pod")
    taken = b.blocks
    restore()
    cluster.noticed("b")
    assert b.allocator.contested, "until the other one has taken it out"
    cluster.noticed("a")
    b.allocator.settle(b.store)
    assert b.blocks == taken and not b.allocator.contested
    assert a.blocks == []


def test_a_node_that_has_claimed_before_it_asked_withdraws_as_well(cluster: Cluster) -> None:
    """It had no copy of its own at its start, and the datastore gave no answer then; but whoever claims has read all there is."""
    cluster.pool = pool("p", "10.0.0.0/29", 29)
    a, b = cluster.agents["a"], cluster.agents["b"]
    a.restart()
    cluster.see()
    a.add("pod")
    restore = cluster.copy()
    give_up_all(a)
    cluster.see()
    b.add("pod")
    restore()
    cluster.noticed("b")
    cluster.noticed("a")
    b.allocator.settle(b.store)
    cluster.see()
    assert a.blocks == [] and not a.allocator.alarms and not b.allocator.alarms


def test_who_could_not_claim_while_it_was_away_does_not_take_up_what_a_copy_says(cluster: Cluster) -> None:
    """A pod waits for a block, and is tried again as soon as the store is there: before anybody has seen that it went back."""
    cluster.pool = pool("p", "10.0.0.0/29", 29)
    cluster.see()
    a, b = cluster.agents["a"], cluster.agents["b"]
    a.add("pod")
    restore = cluster.copy()
    give_up_all(a)
    cluster.see()
    b.add("pod")
    a.allocator.doubts.arise()
    away = MemoryDatastore(cluster.memory)
    away.close()
    need = a.allocator.allocate(ANY)
    assert isinstance(need, NeedBlock)
    for ask in (a.allocator.claim, a.allocator.sharing.claim_gap):
        with pytest.raises(Unavailable):
            ask(need, away)
    restore()
    for ask in (a.allocator.claim, a.allocator.sharing.claim_gap):
        with pytest.raises(Unavailable, match="has not been asked since it was away"):
            ask(need, a.store)
    assert not a.allocator.sharing.take_up([POOL.spec.cidr], 0, a.store)
    assert a.blocks == []
    cluster.noticed("a")
    cluster.noticed("b")
    a.now += QUARANTINE
    with pytest.raises(PoolExhausted):
        a.add("again")
    assert len(set(cluster.addresses)) == len(cluster.addresses) == 1


def test_a_doubt_that_comes_while_the_store_is_asked_stands(cluster: Cluster) -> None:
    a = cluster.agents["a"]
    a.allocator.doubts.arise()
    listing = a.store.list

    def lost(kind: str | None = None) -> Listing:
        a.allocator.doubts.arise()
        return listing(kind)

    a.store.list = lost  # type: ignore[method-assign]  # that moment
    a.allocator.synchronise(a.store)
    assert a.allocator.doubts.remain
    a.store.list = listing  # type: ignore[method-assign]  # and no other
    a.allocator.synchronise(a.store)
    assert not a.allocator.doubts.remain
    assert a.add("pod")


def test_what_somebody_took_out_of_the_store_is_missed_and_said_again(cluster: Cluster) -> None:
    a = cluster.agents["a"]
    a.add("pod")
    cluster.see()
    assert not a.allocator.unsaid
    [(kind, key)] = cluster.memory.records.keys()
    before = a.store.list(kind).items[0].resource
    a.store.delete(kind, key)
    nodes = [POOL, node("a", "a-1")]
    assert a.allocator.update(Snapshot.of(8, nodes)) and a.allocator.unsaid
    assert not a.allocator.update(Snapshot.of(9, nodes)) and a.allocator.unsaid, "it is news once"
    a.allocator.settle(a.store)
    assert a.store.list(kind).items[0].resource == before
    cluster.see()
    assert not a.allocator.unsaid
    assert not a.allocator.update(Snapshot.of(10, [POOL])) and not a.allocator.unsaid, (
        "its Node was deleted, and its blocks go with it"
    )


def test_an_agent_that_was_down_withdraws_at_its_start_what_it_does_not_hold(cluster: Cluster) -> None:
    a = cluster.agents["a"]
    a.add("pod")
    cluster.copy()
    claims = load(a.path)
    assert claims
    a.allocator.inventory.keep(claims.without(h.cidr for h in claims.held))
    a.delete("pod")
    a.restart()
    cluster.see()
    a.allocator.synchronise(a.store, anew=True)
    assert a.blocks == [] and a.store.list("IPBlock").items == ()


def test_a_node_whose_own_copy_is_lost_takes_up_what_the_store_says(cluster: Cluster) -> None:
    a = cluster.agents["a"]
    a.add("pod")
    before = a.blocks
    Path(a.path).write_bytes(b"damaged")
    a.restart()
    cluster.see()
    a.allocator.synchronise(a.store, anew=True)
    assert a.blocks == before


def test_a_block_that_pods_use_is_kept_whatever_the_own_copy_says(cluster: Cluster) -> None:
    a = cluster.agents["a"]
    a.add("pod")
    before, claims = a.blocks, load(a.path)
    assert claims
    a.allocator.inventory.keep(claims.without(h.cidr for h in claims.held))  # the disk of this machine was restored
    a.restart()
    cluster.see()
    a.allocator.synchronise(a.store, anew=True)
    assert a.blocks == before


def both_in_one_block(cluster: Cluster) -> tuple[Agent, Agent]:
    """Whose it was before the datastore went back, and who has claimed it since."""
    cluster.pool = pool("p", "10.0.0.0/29", 29)
    cluster.see()
    restore = cluster.copy()
    a, late = cluster.agents["a"], cluster.agents["b"]
    a.add("pod")
    restore()
    cluster.see()
    late.add("pod")
    cluster.noticed("a")
    return a, late


def test_a_claim_that_came_later_gives_out_no_more_and_goes_back_to_who_has_pods_there(cluster: Cluster) -> None:
    """A node that has never seen the store before knows of no jump."""
    a, late = both_in_one_block(cluster)
    assert a.allocator.alarms == (
        "block 10.0.0.0/29 is claimed by another node: it gives out no more addresses (netloom ipam check)",
    )
    cluster.see()
    [alarm] = late.allocator.alarms
    assert alarm.startswith("node a had block 10.0.0.0/29 before the datastore went back, and has pods in it: it gives out no")
    for agent in (a, late):
        agent.now += QUARANTINE
        with pytest.raises(NetloomError):
            agent.add("more")
    late.delete("pod")
    late.now += 1000.0
    late.allocator.give_back(late.allocator.retire(), late.store)
    a.allocator.settle(a.store)
    cluster.see()
    assert not a.allocator.alarms and not late.allocator.alarms
    assert a.add("more")
    [stored] = a.store.list("IPBlock").items
    assert isinstance(stored.resource, IPBlock) and not stored.resource.spec.disputed


def test_who_has_no_pods_there_any_more_concedes(cluster: Cluster) -> None:
    a, late = both_in_one_block(cluster)
    cluster.see()
    assert late.allocator.disputed
    a.delete("pod")
    a.now += 1000.0
    a.allocator.give_back(a.allocator.retire(), a.store)
    cluster.see()
    assert not late.allocator.alarms and not a.allocator.alarms and a.blocks == []
    assert late.add("more")


def test_one_that_is_no_node_any_more_has_no_say(cluster: Cluster) -> None:
    restore = cluster.copy()
    a, late = cluster.agents["a"], cluster.agents["b"]
    cluster.pool = pool("p", "10.0.0.0/29", 29)
    cluster.see()
    a.add("pod")
    restore()
    late.add("pod")
    cluster.noticed("a")
    cluster.see()
    assert late.allocator.disputed
    blocks = [s.resource for s in late.store.list("IPBlock").items]
    late.sees(cluster.pool, *blocks)
    assert not late.allocator.disputed


@settings(max_examples=300 if LONG else 40, deadline=None)
@given(st.data())
def test_no_address_is_given_twice_whatever_copy_is_put_back_and_whoever_notices_first(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    names, numbers = st.sampled_from(sorted(cluster.agents)), iter(range(1000))

    def try_to_add(name: str) -> None:
        try:
            cluster.agents[name].add(f"{name}-{next(numbers)}")
        except NetloomError:  # no block, or not now
            return

    def live() -> None:
        for _ in range(data.draw(st.integers(0, 5))):
            name = data.draw(names)
            match data.draw(st.sampled_from(("add", "add", "give up", "restart"))):
                case "add":
                    try_to_add(name)
                case "give up":
                    give_up_all(cluster.agents[name])
                case "restart":
                    cluster.agents[name].restart()
            cluster.see()

    def notice() -> None:
        for name in data.draw(st.permutations(sorted(cluster.agents))):
            cluster.noticed(name)
            if data.draw(st.booleans()):
                try_to_add(name)
        for agent in cluster.agents.values():
            agent.allocator.settle(agent.store)
            agent.now += QUARANTINE
        cluster.see()

    for _ in range(data.draw(st.integers(1, 3))):
        live()
        restore = cluster.copy()
        live()
        restore()
        notice()
        assert not [alarm for agent in cluster.agents.values() for alarm in agent.allocator.alarms]
        live()
        assert len(set(cluster.addresses)) == len(cluster.addresses)
    cluster.close()
