"""Giving a part away, step by step, with what comes in between."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path

import pytest

from netloom.datastore import Revision
from netloom.datastore.memory import Memory, MemoryDatastore
from netloom.errors import Conflict, Unavailable
from netloom.ipam.choosing import NeedBlock, Request
from netloom.ipam.claims import load
from netloom.model.resources import AnyResource, IPBlock
from netloom.model.snapshot import Snapshot
from tests.pure.ipam.making import claim, node, pool
from tests.pure.ipam.test_allocator import Agent

POOL = pool("p", "10.244.0.0/28", 28)
WHOLE, LOWER, UPPER = "10.244.0.0/28", "10.244.0.0/29", "10.244.0.8/29"
TO = claim(UPPER, "n2")


class Deaf(MemoryDatastore):
    """What is written does not arrive, or not yet: `late` is the write that is still on its way."""

    late: tuple[AnyResource, Revision] | None = None

    def update(self, resource: AnyResource, revision: Revision) -> Revision:
        self.late = resource, revision
        raise Unavailable("no answer")


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def owner(tmp_path: Path, memory: Memory) -> Iterator[Agent]:
    one = Agent(tmp_path, memory).sees(POOL)
    one.allocator.synchronise(one.store)
    one.add("pod")
    yield one
    one.journal.close()


def claimed(memory: Memory) -> dict[str, str]:
    blocks = [s.resource for s in MemoryDatastore(memory).list("IPBlock").items if isinstance(s.resource, IPBlock)]
    return {str(c.cidr): c.node for block in blocks for c in block.spec.claims}


def test_what_is_given_is_out_of_service_first_then_out_of_the_copy_then_anothers(owner: Agent, memory: Memory) -> None:
    gift = owner.allocator.sharing.part_with("p")
    assert gift is not None and str(gift.part) == UPPER
    assert (owner.blocks, claimed(memory)) == ([LOWER], {WHOLE: "n1"})
    assert owner.allocator.sharing.give(gift, TO, owner.store)
    copy = load(owner.path)
    assert copy is not None and [str(held.cidr) for held in copy.held] == [LOWER]
    assert claimed(memory) == {LOWER: "n1", UPPER: "n2"}


def test_what_was_taken_up_again_meanwhile_is_not_given(owner: Agent, memory: Memory) -> None:
    gift = owner.allocator.sharing.part_with("p")
    assert gift is not None
    owner.allocator.synchronise(owner.store)
    assert owner.blocks == [WHOLE]
    assert not owner.allocator.sharing.give(gift, TO, owner.store)
    assert claimed(memory) == {WHOLE: "n1"}


def test_what_is_taken_up_again_after_a_write_without_an_answer_cannot_be_given_by_it_later(
    owner: Agent, memory: Memory
) -> None:
    gift, deaf = owner.allocator.sharing.part_with("p"), Deaf(memory)
    assert gift is not None
    with pytest.raises(Unavailable):
        owner.allocator.sharing.give(gift, TO, deaf)
    owner.allocator.synchronise(owner.store)
    assert owner.blocks == [WHOLE]
    assert deaf.late is not None
    with pytest.raises(Conflict):
        owner.store.update(*deaf.late)
    assert claimed(memory) == {WHOLE: "n1"}


def test_killed_before_it_is_given_a_part_is_nobodys_and_can_be_claimed(owner: Agent, memory: Memory) -> None:
    gift, deaf = owner.allocator.sharing.part_with("p"), Deaf(memory)
    assert gift is not None
    with pytest.raises(Unavailable):
        owner.allocator.sharing.give(gift, TO, deaf)
    owner.restart()
    owner.sees(POOL)
    owner.allocator.synchronise(owner.store, anew=True)
    assert (owner.blocks, claimed(memory)) == ([LOWER], {LOWER: "n1"})


def test_a_store_that_went_back_to_before_a_gift_does_not_undo_it(owner: Agent, memory: Memory) -> None:
    before = dict(memory.records)
    gift = owner.allocator.sharing.part_with("p")
    assert gift is not None and owner.allocator.sharing.give(gift, TO, owner.store)
    memory.records.clear()
    memory.records.update(before)
    owner.allocator.synchronise(owner.store, anew=True)
    assert (owner.blocks, claimed(memory)) == ([LOWER], {LOWER: "n1"})


def test_what_was_claimed_before_it_was_asked_for_is_no_gift(owner: Agent, memory: Memory) -> None:
    """A store that went back may show what was this node's long ago."""
    gift = owner.allocator.sharing.part_with("p")
    assert gift is not None and owner.allocator.sharing.give(gift, TO, owner.store)
    asker = Agent(owner.directory.parent, memory, "n2").sees(POOL)
    revision = asker.store.list().revision
    assert not asker.allocator.sharing.take_up([gift.held.slot], revision, asker.store)
    assert asker.allocator.sharing.take_up([gift.held.slot], revision - 1, asker.store)
    assert asker.blocks == [UPPER]
    asker.journal.close()


def test_a_node_takes_its_own_address_out_of_any_part_and_waits_where_none_is_free(owner: Agent, memory: Memory) -> None:
    gift = owner.allocator.sharing.part_with("p")
    assert gift is not None and owner.allocator.sharing.give(gift, TO, owner.store)
    other = Agent(owner.directory.parent, memory, "n2").sees(POOL)
    assert other.allocator.sharing.take_up([gift.held.slot], 0, other.store)
    for name in "abcdefgh":
        other.add(name)
    assert isinstance(other.allocator.own_address(POOL), NeedBlock)
    other.delete("c")
    assert isinstance(other.allocator.own_address(POOL), NeedBlock), "it cools"
    other.now += 1000
    address = other.allocator.own_address(POOL)
    assert address == ipaddress.ip_address("10.244.0.10")
    assert isinstance(other.allocator.allocate(Request()), NeedBlock)
    other.journal.close()


def test_what_a_pod_has_got_of_the_nodes_own_stays_the_pods(owner: Agent, memory: Memory) -> None:
    """The agent was killed when the datastore had the address and its own copy did not say so, and the datastore was away then."""
    gift = owner.allocator.sharing.part_with("p")
    assert gift is not None and owner.allocator.sharing.give(gift, TO, owner.store)
    other = Agent(owner.directory.parent, memory, "n2").sees(POOL)
    assert other.allocator.sharing.take_up([gift.held.slot], 0, other.store)
    own = other.allocator.own_address(POOL)
    other.restart()
    other.sees(POOL)
    assert other.add("pod") == [f"{own}/32"]
    other.allocator.update(Snapshot.of(2, [node("n2", "n2-1", str(own)), POOL]))
    assert other.allocator.own_address(POOL) == ipaddress.ip_address("10.244.0.9")
    other.journal.close()
