from __future__ import annotations

from collections.abc import Callable

import pytest

from netloom.datastore import Datastore, Stored
from netloom.datastore.memory import Memory, MemoryDatastore
from netloom.datastore.records import Record
from netloom.errors import Unavailable
from netloom.ipam.blocks import slots_in_order
from netloom.ipam.claiming import (
    Records,
    assert_claims,
    claim_exactly,
    claim_free,
    dropping,
    release,
    swap,
    taking,
)
from netloom.ipam.claims import Claims, Held
from netloom.model.resources import AnyResource, IPBlock, block_name
from tests.pure.ipam.making import block, claim, pool, prefix

POOL = pool("p", "10.244.0.0/24", 26)
SLOT = prefix("10.244.0.64/26")


def node(name: str, *held: str) -> Claims:
    return Claims(node=name, node_id=f"{name}-1").having(Held(cidr=prefix(h), slot=slot_around(h)) for h in held)


def slot_around(cidr: str) -> object:
    network = prefix(cidr)
    return network if network.prefixlen <= 26 else network.supernet(new_prefix=26)


def said(store: Datastore) -> dict[str, list[str]]:
    """What the datastore says: slot → `CIDR NODE`."""
    blocks = [s.resource for s in store.list("IPBlock").items if isinstance(s.resource, IPBlock)]
    return {str(b.spec.cidr): [f"{c.cidr} {c.node_id}" for c in b.spec.claims] for b in blocks}


class Flaky(MemoryDatastore):
    """A store whose next write times out, `before` or `after` it has happened."""

    def __init__(self, memory: Memory, when: str) -> None:
        super().__init__(memory)
        self.when = when

    def create(self, resource: AnyResource) -> int:
        return self._once(lambda: super(Flaky, self).create(resource))

    def update(self, resource: AnyResource, revision: int) -> int:
        return self._once(lambda: super(Flaky, self).update(resource, revision))

    def delete(self, kind: str, key: str, revision: int | None = None) -> int:
        return self._once(lambda: super(Flaky, self).delete(kind, key, revision))

    def get(self, kind: str, key: str) -> Stored | None:
        if self.when == "gone":
            raise Unavailable("no answer")
        return super().get(kind, key)

    def _once(self, write: Callable[[], int]) -> int:
        when, self.when = self.when, ""
        if when == "before":
            raise Unavailable("timed out")
        revision = write()
        if when in ("after", "after, and then gone"):
            self.when = "gone" if "gone" in when else ""
            raise Unavailable("timed out")
        return revision


# one slot


def test_a_slot_is_whole_or_split_among_owners() -> None:
    store = MemoryDatastore()
    assert swap(store, SLOT, taking(node("n1"), prefix("10.244.0.70/32")))
    assert swap(store, SLOT, taking(node("n2"), prefix("10.244.0.71/32")))
    assert not swap(store, SLOT, taking(node("n2"), prefix("10.244.0.70/32")))
    assert not swap(store, SLOT, taking(node("n1"), SLOT))
    assert said(store) == {"10.244.0.64/26": ["10.244.0.70/32 n1-1", "10.244.0.71/32 n2-1"]}


def test_nobody_gets_an_address_of_a_whole_slot() -> None:
    store = MemoryDatastore()
    assert swap(store, SLOT, taking(node("n1"), SLOT))
    assert not swap(store, SLOT, taking(node("n2"), prefix("10.244.0.70/32")))
    assert swap(store, SLOT, taking(node("n1"), prefix("10.244.0.70/32"))), "it is its own already"
    assert said(store) == {"10.244.0.64/26": ["10.244.0.64/26 n1-1"]}


def test_a_node_that_has_all_claims_of_a_slot_may_take_the_whole() -> None:
    store = MemoryDatastore()
    swap(store, SLOT, taking(node("n1"), prefix("10.244.0.70/32")))
    assert swap(store, SLOT, taking(node("n1"), SLOT))
    assert said(store) == {"10.244.0.64/26": ["10.244.0.64/26 n1-1"]}


def test_the_same_name_in_another_incarnation_is_another_node() -> None:
    store = MemoryDatastore()
    swap(store, SLOT, taking(node("n1"), SLOT))
    assert not swap(store, SLOT, taking(Claims(node="n1", node_id="n1-2"), SLOT))
    assert swap(store, SLOT, taking(Claims(node="n1", node_id="n1-2", former=("n1-1",)), SLOT))
    assert said(store) == {"10.244.0.64/26": ["10.244.0.64/26 n1-2"]}


def test_the_last_claim_takes_the_record_with_it() -> None:
    store = MemoryDatastore()
    swap(store, SLOT, taking(node("n1"), SLOT))
    assert swap(store, SLOT, dropping(node("n2"), SLOT)), "of another's claim nothing is dropped"
    assert said(store) == {"10.244.0.64/26": ["10.244.0.64/26 n1-1"]}
    release(store, node("n1"), [Held(cidr=SLOT, slot=SLOT)])
    assert said(store) == {}


@pytest.mark.parametrize("when", ["before", "after", "after, and then gone"])
@pytest.mark.parametrize("present", ["", "10.244.0.70/32"])
def test_a_write_that_timed_out_is_read_back(when: str, present: str) -> None:
    memory = Memory()
    if present:
        swap(MemoryDatastore(memory), SLOT, taking(node("n1"), prefix(present)))
    store = Flaky(memory, when)
    if when == "after":
        assert swap(store, SLOT, taking(node("n1"), SLOT))
    else:
        with pytest.raises(Unavailable):
            swap(store, SLOT, taking(node("n1"), SLOT))
    assert swap(MemoryDatastore(memory), SLOT, taking(node("n1"), SLOT)), "and a repetition does no harm"
    assert said(MemoryDatastore(memory)) == {"10.244.0.64/26": ["10.244.0.64/26 n1-1"]}


class Overtaken(MemoryDatastore):
    """Each time that a slot was read, somebody else writes to it, for `times` times."""

    def __init__(self, memory: Memory, times: int) -> None:
        super().__init__(memory)
        self.memory, self.times = memory, times

    def get(self, kind: str, key: str) -> Stored | None:
        stored = super().get(kind, key)
        if self.times:
            self.times -= 1
            swap(MemoryDatastore(self.memory), SLOT, taking(node("n2"), prefix(f"10.244.0.{70 + self.times}/32")))
        return stored


@pytest.mark.parametrize("times", [1, 2, 5])
def test_who_is_overtaken_reads_again_and_decides_again(times: int) -> None:
    memory = Memory()
    assert swap(Overtaken(memory, times), SLOT, taking(node("n1"), prefix("10.244.0.66/32")))
    assert "10.244.0.66/32 n1-1" in said(MemoryDatastore(memory))[str(SLOT)]
    assert len(said(MemoryDatastore(memory))[str(SLOT)]) == times + 1
    assert not swap(Overtaken(memory, times), SLOT, taking(node("n1"), SLOT))


def test_a_record_is_not_removed_under_somebody_who_comes_into_it() -> None:
    memory = Memory()
    swap(MemoryDatastore(memory), SLOT, taking(node("n1"), prefix("10.244.0.66/32")))
    assert swap(Overtaken(memory, 1), SLOT, dropping(node("n1"), prefix("10.244.0.66/32")))
    assert said(MemoryDatastore(memory)) == {str(SLOT): ["10.244.0.70/32 n2-1"]}


def test_who_is_overtaken_by_its_own_removal_is_content() -> None:
    class Removed(MemoryDatastore):
        def delete(self, kind: str, key: str, revision: int | None = None) -> int:
            super().delete(kind, key)
            return super().delete(kind, key, revision)

    store = Removed(Memory())
    swap(store, SLOT, taking(node("n1"), SLOT))
    assert swap(store, SLOT, dropping(node("n1"), SLOT))


# a pool


def test_nodes_claim_until_the_pool_is_full() -> None:
    store = MemoryDatastore()
    claimed = [claim_free(store, node(f"n{n}"), POOL, Records.of(store.list("IPBlock"))) for n in range(5)]
    assert claimed[4] is None
    assert len({held.cidr for held in claimed if held}) == 4


def test_a_stale_listing_costs_another_round_and_nothing_else() -> None:
    store = MemoryDatastore()
    stale = Records.of(store.list("IPBlock"))
    claimed = [claim_free(store, node(f"n{n}"), POOL, stale) for n in range(5)]
    assert claimed[4] is None
    assert len({held.cidr for held in claimed if held}) == 4


def test_split_slots_are_left_to_their_owners_but_our_own_singles_are_taken_in() -> None:
    store = MemoryDatastore()
    for number, slot in enumerate(slots_in_order(POOL, "n1")):
        owner = "n1" if number == 3 else "n2"
        swap(store, slot, taking(node(owner), prefix(f"{slot.network_address + 5}/32")))
    last = list(slots_in_order(POOL, "n1"))[3]
    held = claim_free(store, node("n1", f"{last.network_address + 5}/32"), POOL, Records.of(store.list("IPBlock")))
    assert held == Held(cidr=last, slot=last)
    assert said(store)[str(last)] == [f"{last} n1-1"]


def test_a_record_that_cannot_be_read_is_nobodys_slot() -> None:
    memory = Memory()
    store = MemoryDatastore(memory)
    for slot in list(slots_in_order(POOL, "n1"))[:3]:
        name = block_name(slot)
        memory.records["IPBlock", name] = Record(1, "IPBlock", name, b"{")
    held = claim_free(store, node("n1"), POOL, Records.of(store.list("IPBlock")))
    assert held
    assert held.cidr == list(slots_in_order(POOL, "n1"))[3]
    assert claim_free(store, node("n1", str(held.cidr)), POOL, Records.of(store.list("IPBlock"))) is None


def test_slots_of_another_size_are_not_overlapped() -> None:
    store = MemoryDatastore()
    store.create(block("10.244.0.0/25", claim("10.244.0.0/25", "n2")))
    first, second = (claim_free(store, node("n1"), POOL, Records.of(store.list("IPBlock"))) for _ in range(2))
    assert first
    assert second
    assert {str(first.cidr), str(second.cidr)} <= {"10.244.0.128/26", "10.244.0.192/26"}
    assert not claim_exactly(store, node("n1"), prefix("10.244.0.0/26"), prefix("10.244.0.7/32"))
    assert "10.244.0.0/26" not in said(store), "what was written before the look was taken back"


def test_of_two_that_cut_the_pool_differently_at_once_not_both_succeed() -> None:
    class Interrupted(MemoryDatastore):
        def create(self, resource: AnyResource) -> int:
            revision = super().create(resource)
            if resource.key == block_name(SLOT):
                assert not claim_exactly(MemoryDatastore(memory), node("n2"), prefix("10.244.0.0/25"), prefix("10.244.0.0/25"))
            return revision

    memory = Memory()
    assert claim_exactly(Interrupted(memory), node("n1"), SLOT, SLOT)
    assert said(MemoryDatastore(memory)) == {"10.244.0.64/26": ["10.244.0.64/26 n1-1"]}


# asserting


def asserted(store: Datastore, claims: Claims) -> Claims:
    return assert_claims(store, claims, Records.of(store.list("IPBlock")))


def test_claims_that_the_datastore_lost_are_written_again() -> None:
    store = MemoryDatastore()
    mine = node("n1", "10.244.0.0/26", "10.244.0.70/32")
    assert asserted(store, mine) == mine
    assert said(store) == {"10.244.0.0/26": ["10.244.0.0/26 n1-1"], "10.244.0.64/26": ["10.244.0.70/32 n1-1"]}
    revision = store.list().revision
    assert asserted(store, mine) == mine
    assert store.list().revision == revision, "and if all is there, nothing is"


def test_what_another_node_has_by_now_is_contested_and_becomes_ours_when_it_lets_go() -> None:
    store = MemoryDatastore()
    store.create(block("10.244.0.0/26", claim("10.244.0.9/32", "n2")))
    mine = asserted(store, node("n1", "10.244.0.0/26", "10.244.0.64/26"))
    assert [(str(h.cidr), h.contested) for h in mine.held] == [("10.244.0.0/26", True), ("10.244.0.64/26", False)]
    assert said(store)["10.244.0.0/26"] == ["10.244.0.9/32 n2-1"]

    release(store, node("n2"), [Held(cidr=prefix("10.244.0.9/32"), slot=prefix("10.244.0.0/26"))])
    assert not any(h.contested for h in asserted(store, mine).held)


def test_claims_that_only_the_datastore_knows_are_taken_up() -> None:
    store = MemoryDatastore()
    store.create(block("10.244.0.0/26", claim("10.244.0.0/26", "n1")))
    store.create(block("10.244.0.64/26", claim("10.244.0.70/32", "n1"), claim("10.244.0.71/32", "n2")))
    assert asserted(store, node("n1")) == node("n1", "10.244.0.0/26", "10.244.0.70/32")


def test_a_slot_taken_whole_swallows_the_single_that_the_node_remembers() -> None:
    store = MemoryDatastore()
    store.create(block("10.244.0.64/26", claim("10.244.0.64/26", "n1")))
    assert asserted(store, node("n1", "10.244.0.70/32")) == node("n1", "10.244.0.64/26")


def test_a_node_made_anew_takes_its_former_claims_over() -> None:
    store = MemoryDatastore()
    store.create(block("10.244.0.0/26", claim("10.244.0.0/26", "n1")))
    reborn = asserted(store, node("n1", "10.244.0.0/26").reborn("n1", "n1-2"))
    assert reborn == Claims(node="n1", node_id="n1-2", held=node("n1", "10.244.0.0/26").held)
    assert said(store) == {"10.244.0.0/26": ["10.244.0.0/26 n1-2"]}


def test_a_former_claim_in_a_record_that_cannot_be_read_is_ours_when_it_can_be_again() -> None:
    memory = Memory()
    store = MemoryDatastore(memory)
    store.create(block("10.244.0.0/26", claim("10.244.0.0/26", "n1")))
    good = memory.records.pop(("IPBlock", "10-244-0-0-26"))
    memory.records["IPBlock", "10-244-0-0-26"] = good._replace(value=b"{")
    reborn = asserted(store, node("n1", "10.244.0.0/26").reborn("n1", "n1-2"))
    assert [h.contested for h in reborn.held] == [True], "it gives out nothing meanwhile"
    memory.records["IPBlock", "10-244-0-0-26"] = good
    assert [h.contested for h in asserted(store, reborn).held] == [False]


def test_one_record_that_cannot_be_read_does_not_stop_the_others() -> None:
    memory = Memory()
    store = MemoryDatastore(memory)
    memory.records["IPBlock", "10-244-0-0-26"] = Record(1, "IPBlock", "10-244-0-0-26", b"{")
    mine = node("n1", "10.244.0.0/26", "10.244.0.64/26")
    assert asserted(store, mine) == mine
    assert "10.244.0.64/26" in said(store)
