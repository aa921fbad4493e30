"""What goes missing: a few nodes at a time go, most of the cluster at once does not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import permutations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netloom.calc import brake
from netloom.calc.brake import Brake
from netloom.calc.claimants import Claimants
from netloom.model.bgp_configuration import BGPConfiguration
from netloom.model.resources import AnyResource, Claim, FelixConfiguration, IPBlock, Metadata, Namespace, Node
from netloom.model.snapshot import Snapshot
from tests.pure.ipam.making import LONG, block, claim, node, pool, reservation

OWN = "own"
POOL = pool("p", "10.0.0.0/8")
CONFIGURATION = FelixConfiguration(metadata=Metadata(name="default"))


def slot(number: int, part: int = 0) -> str:
    return f"10.{number}.{part}.0/26"


def one(name: str, number: int, blocks: int = 1) -> Iterator[AnyResource]:
    """A node, and what it claims."""
    yield node(name, f"{name}-1")
    yield from (block(slot(number, part), claim(slot(number, part), name)) for part in range(blocks))


def cluster(numbers: Iterable[int], *more: AnyResource, revision: int = 1) -> Snapshot:
    return Snapshot.of(revision, [POOL, *one(OWN, 250), *more, *(r for n in numbers for r in one(f"n{n}", n))])


def led_to(snapshot: Snapshot) -> set[str]:
    return brake._reached(snapshot, OWN, Claimants())


def numbered(numbers: Iterable[int]) -> set[str]:
    return {f"n{number}" for number in numbers}


def without(snapshot: Snapshot, kind: str, *keys: str) -> Snapshot:
    return snapshot.updated(snapshot.revision + 1, ((kind, key, None) for key in keys))


def after(*snapshots: Snapshot, seconds: float = 1.0, jumped: bool = False) -> tuple[Brake, Snapshot]:
    """One after the other; `jumped`: at the last."""
    held, counts = Brake(), snapshots[0]
    for number, now in enumerate(snapshots[1:], 1):
        at_last = number == len(snapshots) - 1
        held, counts = brake.step(held, counts, now, OWN, number * seconds, jumped=jumped and at_last)
    return held, counts


ALL = cluster(range(40))


def test_a_cluster_that_misses_nothing_counts_as_it_is() -> None:
    grown = cluster(range(41))
    held, counts = after(ALL, grown)
    assert counts is grown and not held.holds


@pytest.mark.parametrize(("size", "most"), [(2, 3), (5, 3), (19, 4), (40, 8), (100, 20)])
def test_a_fifth_of_the_nodes_and_always_three_may_go_at_once(size: int, most: int) -> None:
    every = cluster(range(size))
    for leaving in range(size + 1):
        held, counts = after(every, cluster(range(leaving, size)))
        assert bool(held.nodes) is (leaving > most)
        assert led_to(counts) == numbered(range(size) if leaving > most else range(leaving, size))


@pytest.mark.parametrize("what", ["Node", "IPBlock", "IPPool"])
def test_it_makes_no_difference_what_of_a_node_is_gone(what: str) -> None:
    gone = Snapshot.of(2, [r for r in ALL.resources() if r.kind != what or r.key in (OWN, "10-250-0-0-26")])
    assert led_to(gone) == set()
    held, counts = after(ALL, gone)
    assert led_to(counts) == led_to(ALL)
    assert held.nodes.keys() == led_to(ALL)
    assert counts.nodes == ALL.nodes and counts.pools == ALL.pools and counts.blocks == ALL.blocks


def test_departures_add_up_for_ten_seconds() -> None:
    steps = [cluster(range(2 * number, 40)) for number in range(8)]
    held, counts = after(*steps)
    assert led_to(counts) == numbered(range(8, 40)), "the first eight went one by one, and the next ones stay"
    assert held.nodes.keys() == numbered(range(8, 14))
    held, counts = after(*steps, seconds=11.0)
    assert counts is steps[-1] and not held.holds


def test_while_something_is_held_nobody_goes() -> None:
    held, counts = after(ALL, cluster(range(20, 40)), cluster(range(21, 40)), seconds=100.0)
    assert led_to(counts) == led_to(ALL)
    assert held.nodes.keys() == numbered(range(21))


SPEAKING = BGPConfiguration(metadata=Metadata(name="default"))


def test_how_nodes_are_reached_goes_with_nodes_that_are_held_and_by_itself_when_none_is() -> None:
    every = ALL.updated(1, [("BGPConfiguration", "default", SPEAKING)])
    alone = without(every, "BGPConfiguration", "default")
    assert after(every, alone)[1] is alone, "somebody has deleted it"
    few = cluster(range(20)).updated(2, [("BGPConfiguration", "default", SPEAKING)])
    for steps in ((every, few, without(few, "BGPConfiguration", "default")), (every, cluster(range(20)))):
        held, counts = after(*steps)
        assert held.others == {("BGPConfiguration", "default")} and counts.bgp_configurations == every.bgp_configurations
        assert after(*steps, every)[1] == every, "it is back, and so are the nodes"


@pytest.mark.parametrize("kinds", list(permutations(("Node", "IPBlock", "IPPool"))))
def test_a_datastore_that_forgets_one_kind_after_the_other_takes_nothing_away(kinds: tuple[str, ...]) -> None:
    steps = [ALL]
    for kind in kinds:
        steps.append(without(steps[-1], kind, *(r.key for r in ALL.resources() if r.kind == kind and r.key != OWN)))
    held, counts = after(*steps, seconds=60.0)
    assert led_to(counts) == numbered(range(40))
    held, counts = brake.step(held, counts, ALL, OWN, 1000.0)
    assert not held.holds and led_to(counts) == numbered(range(40))


def test_it_ends_by_itself_when_the_nodes_come_back() -> None:
    held, counts = after(ALL, cluster(range(20, 40)), cluster(range(1, 40)))
    assert held.nodes.keys() == {"n0"} and led_to(counts) == led_to(ALL)
    again = cluster(range(40))
    held, counts = after(ALL, cluster(range(20, 40)), cluster(range(1, 40)), again)
    assert counts is again and not held.holds


def test_new_and_changed_nodes_go_on_meanwhile() -> None:
    moved = node("n30", "n30-1", "10.30.0.0", rack="r2")
    few = cluster(range(20, 40), *one("new", 200)).updated(2, [("Node", "n30", moved)])
    _, counts = after(ALL, few)
    assert counts.nodes["n30"] == moved
    assert led_to(counts) == led_to(ALL) | {"new"}


def test_a_block_that_is_anothers_by_now_is_not_held_back() -> None:
    taken = block(slot(0), claim(slot(0), "n39"))
    held, counts = after(ALL, cluster(range(20, 40), taken))
    assert counts.blocks[taken.name] == taken
    assert "n0" not in held.nodes and "n1" in held.nodes
    held, counts = after(ALL, cluster(range(20, 40)), cluster(range(20, 40), taken))
    assert counts.blocks[taken.name] == taken and "n0" not in led_to(counts)


def test_parts_of_a_slot_that_are_anothers_stand_beside_those_that_are_held() -> None:
    shared = block(slot(0), claim("10.0.0.0/27", "n0"), claim("10.0.0.32/27", "n39"))
    every = cluster(range(1, 40), node("n0", "n0-1"), shared)
    rest = block(slot(0), claim("10.0.0.32/27", "n39"))
    _, counts = after(every, cluster(range(20, 40), rest))
    assert counts.blocks[shared.name] == shared


def test_a_node_that_was_made_anew_has_nothing_of_the_one_before() -> None:
    held, counts = after(ALL, cluster(range(20, 40), node("n0", "n0-2")))
    assert "n0" not in held.nodes and counts.nodes["n0"].spec.id == "n0-2" and "n0" not in led_to(counts)


def test_a_node_that_people_have_prepared_is_not_there_yet() -> None:
    held, counts = after(ALL, cluster(range(20, 40), *(node(f"n{n}", rack="r1") for n in range(20))))
    assert led_to(counts) == led_to(ALL)
    assert held.nodes["n0"] and counts.nodes["n0"].metadata.labels == {"rack": "r1"}


def test_a_node_that_came_back_has_half_a_minute_to_claim_its_blocks() -> None:
    held, counts = after(ALL, cluster(range(20, 40)))
    back = cluster(range(20, 40), *(node(f"n{n}", f"n{n}-1") for n in range(20)))
    held, counts = brake.step(held, counts, back, OWN, 100.0)
    assert led_to(counts) == led_to(ALL)
    held, counts = brake.step(held, counts, back, OWN, 100.0 + brake.RETURN - 1)
    assert led_to(counts) == led_to(ALL)
    held, counts = brake.step(held, counts, back, OWN, 100.0 + brake.RETURN)
    assert counts is back and not held.holds


def test_a_person_may_say_that_they_are_gone_for_good_all_or_some() -> None:
    few = cluster(range(20, 40))
    held, counts = after(ALL, few)
    some = held.without(["n0", "n1"])
    assert led_to(brake.held(some, counts, few, OWN)) == numbered(range(2, 40))
    assert brake.held(held.without(), counts, few, OWN) is few


def test_the_node_itself_and_its_claims_are_never_held() -> None:
    bare = without(without(cluster(range(1)), "Node", OWN), "IPBlock", "10-250-0-0-26")
    for jumped in (False, True):
        _, counts = after(ALL, bare, jumped=jumped)
        assert OWN not in counts.nodes
        assert not [c for b in counts.blocks.values() for c in b.spec.claims if c.node == OWN]


# A datastore that went back, or is another one


def test_after_a_jump_whatever_is_missing_is_held_be_it_one_node() -> None:
    held, counts = after(ALL, cluster(range(1, 40)), jumped=True)
    assert led_to(counts) == led_to(ALL) and held.nodes == {"n0": True}
    held, counts = brake.step(held, counts, cluster(range(40)), OWN, 9.0)
    assert not held.holds


def test_after_a_jump_a_single_block_is_held_until_its_owner_claims_it_again() -> None:
    every = cluster(range(1, 40), *one("n0", 0, blocks=3))
    older = cluster(range(40))
    held, counts = after(every, older, jumped=True)
    assert counts.blocks == every.blocks and held.nodes == {"n0": False}
    held, counts = brake.step(held, counts, older, OWN, 500.0)
    assert counts.blocks == every.blocks, "that its Node is there proves nothing: it was there all the time"
    held, counts = brake.step(held, counts, every, OWN, 501.0)
    assert counts is every


def test_an_empty_datastore_changes_nothing_but_this_node() -> None:
    every = cluster(range(40), CONFIGURATION, reservation("r", "10.1.0.0/30"), Namespace(metadata=Metadata(name="shop")))
    held, counts = after(every, Snapshot(complete=True), jumped=True)
    assert led_to(counts) == led_to(every)
    assert counts.pools == every.pools and counts.configurations == every.configurations
    assert counts.reservations == every.reservations and counts.namespaces == every.namespaces
    words = list(brake.in_words(held))
    assert words == [
        "nodes n0, n1, n10 and 37 more are not in the datastore any more: the ways there are held",
        "FelixConfiguration default, IPPool p, IPReservation r and 1 more are not in the datastore any more, and held",
    ]


def test_a_pool_that_was_declared_anew_takes_the_place_of_the_one_that_is_held() -> None:
    _, counts = after(ALL, Snapshot.of(2, [pool("q", "10.0.0.0/8")]), jumped=True)
    assert counts.pools.keys() == {"q"}
    assert led_to(counts) == led_to(ALL)


def test_what_was_held_is_held_again_after_a_restart() -> None:
    few = cluster(range(20, 40))
    held, counts = after(ALL, few, jumped=True)
    again = Brake.recalled(held.nodes, held.others)
    remembered = replace(counts, complete=False)
    _, found = brake.step(again, remembered, few, OWN, 0.0)
    assert led_to(found) == led_to(ALL)


def test_a_feed_that_jumps_back_and_forth_takes_nothing_away() -> None:
    held, counts = Brake(), ALL
    for number in range(50):
        now = cluster(range(number % 3 * 15, 40))
        held, counts = brake.step(held, counts, now, OWN, number * 7.0, jumped=number % 2 == 0)
        assert led_to(counts) == led_to(ALL)


def test_records_under_wrong_names_and_of_other_slots_stop_nobody() -> None:
    misnamed = msgspec.structs.replace(block(slot(0), claim(slot(0), "n0")), metadata=Metadata(name="nobodys"))
    swapped = msgspec.structs.replace(block(slot(7)), metadata=Metadata(name=block(slot(1)).name))
    every = cluster(range(1, 40), node("n0", "n0-1"), misnamed)
    for now in (cluster(range(30, 40)), cluster(range(30, 40), swapped), Snapshot(complete=True)):
        held, counts = after(every, now, jumped=True)
        assert led_to(counts) >= numbered(range(2, 40)) and brake.held(held, counts, now, OWN) == counts


# Any history

nodes = st.frozensets(st.integers(0, 29))
histories = st.lists(st.tuples(nodes, st.floats(0, 8), st.booleans()), min_size=1, max_size=8)


@settings(max_examples=400 if LONG else 60, deadline=None)
@given(histories)
def test_within_ten_seconds_no_more_than_a_fifth_goes_and_what_is_said_counts(
    history: list[tuple[frozenset[int], float, bool]],
) -> None:
    at, held, counts, claimants = 0.0, Brake(), cluster(range(30)), Claimants()
    went: list[tuple[float, str]] = []
    for numbers, pause, jumped in history:
        at += pause
        now = cluster(numbers)
        known = brake.step(held, counts, now, OWN, at, jumped=jumped, claimants=claimants)
        before, (held, counts) = led_to(counts), brake.step(held, counts, now, OWN, at, jumped=jumped)
        assert known == (held, counts)
        assert led_to(now) <= led_to(counts)
        assert all(counts.nodes[name] == node for name, node in now.nodes.items())
        assert all(claim in counts.blocks[name].spec.claims for name, b in now.blocks.items() for claim in b.spec.claims)
        assert led_to(counts) - led_to(now) == held.nodes.keys()
        went = [(when, name) for when, name in went if name not in led_to(counts)]
        went += [(at, name) for name in before - led_to(counts)]
        assert len({name for when, name in went if at - when < brake.WINDOW}) <= max(3, 31 // 5)


@settings(max_examples=300 if LONG else 30, deadline=None)
@given(st.data())
def test_no_address_ever_leads_to_two_nodes(data: st.DataObject) -> None:
    """Whoever claims what, and whatever goes missing."""
    names = [f"n{number}" for number in range(6)]

    def any_cluster() -> Snapshot:
        found: dict[str, AnyResource] = {"p": POOL}
        for name in data.draw(st.frozensets(st.sampled_from(names))):
            found[name] = node(name, data.draw(st.sampled_from(("", f"{name}-1", f"{name}-2"))))
        for number in range(6):
            owners = data.draw(st.lists(st.sampled_from((*names, None)), min_size=2, max_size=2))
            halves = [f"10.{number}.0.0/27", f"10.{number}.0.32/27"]
            claims = tuple(claim(half, owner) for half, owner in zip(halves, owners, strict=True) if owner)
            found[slot(number)] = block(slot(number), *claims)
        return Snapshot.of(1, found.values())

    held, counts, claimants = Brake(), any_cluster(), Claimants()
    for turn in range(data.draw(st.integers(1, 5))):
        now = any_cluster()
        jumped = data.draw(st.booleans())
        known = brake.step(held, counts, now, OWN, turn, jumped=jumped, claimants=claimants)
        held, counts = brake.step(held, counts, now, OWN, turn, jumped=jumped)
        assert known == (held, counts)
        for name, record in now.blocks.items():
            taken: Mapping[Claim, None] = dict.fromkeys(counts.blocks[name].spec.claims)
            assert all(c in taken for c in record.spec.claims)
            msgspec.structs.replace(counts.blocks[name].spec)  # overlapping claims are refused
        assert brake.held(held.without(), counts, now, OWN) is now
        assert isinstance(counts.blocks.get(slot(0), block(slot(0))), IPBlock) and isinstance(counts.nodes, Mapping)
        assert all(isinstance(n, Node) for n in counts.nodes.values())
