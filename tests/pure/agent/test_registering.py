from __future__ import annotations

import asyncio
import dataclasses
import ipaddress
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netloom.agent.claiming import Claiming
from netloom.agent.registering import Membership, Registration, register
from netloom.datastore.memory import MemoryDatastore
from netloom.errors import Conflict, DatastoreError, NetloomError, PoolExhausted
from netloom.model.addresses import Address, Mac
from netloom.model.bgp_node import NodeBGP
from netloom.model.host import Host
from netloom.model.resources import AnyResource, Encapsulation, IPPool, Metadata, Node, NodeSpec
from netloom.model.snapshot import Snapshot
from tests.pure.datastore.places import MemoryPlace
from tests.pure.ipam.making import pool

SPEC = NodeSpec(id="mine", addresses=(ipaddress.ip_interface("192.0.2.1/24"),), mtu=1500)
TUNNEL = ipaddress.ip_address("10.0.0.0")
HOST = Host("a", "mine", addresses=SPEC.addresses, vtep_mac=Mac("66:00:00:00:00:01"), mtu=1500)
POOL = pool("p", "10.0.0.0/16", encapsulation=Encapsulation.VXLAN)


def a(spec: NodeSpec = SPEC, **labels: str) -> Node:
    return Node(metadata=Metadata(name="a", labels=labels), spec=spec)


def stored(store: MemoryDatastore) -> Node:
    found = store.get("Node", "a")
    assert found is not None and isinstance(found.resource, Node)
    return found.resource


# One write


def test_a_node_that_is_not_there_is_made_at_the_start() -> None:
    store = MemoryDatastore()
    assert register(store, "a", SPEC, create=True)[0] is Membership.MEMBER
    assert stored(store) == a()


def test_a_node_that_is_not_there_any_more_is_not_made_again() -> None:
    store = MemoryDatastore()
    assert register(store, "a", SPEC, create=False)[0] is Membership.DELETED
    assert store.get("Node", "a") is None


def test_what_people_wrote_stays_when_the_node_writes() -> None:
    store = MemoryDatastore()
    store.create(a(msgspec.structs.replace(SPEC, mtu=9000), rack="r1"))
    assert register(store, "a", SPEC, create=False)[0] is Membership.MEMBER
    assert stored(store) == a(rack="r1")


def test_what_people_say_of_bgp_and_draining_stays_when_the_node_writes() -> None:
    store, bgp = MemoryDatastore(), NodeBGP(as_number=65001, route_reflector_cluster_id="244.0.0.1")
    said = NodeSpec(bgp=bgp, draining=True)
    store.create(a(said, rack="r1"))
    assert register(store, "a", SPEC, create=True)[0] is Membership.MEMBER
    assert stored(store) == a(SPEC.of_people(said), rack="r1")
    assert register(store, "a", msgspec.structs.replace(SPEC, mtu=9000), create=False)[0] is Membership.MEMBER
    assert (stored(store).spec.mtu, stored(store).spec.bgp, stored(store).spec.draining) == (9000, bgp, True)


def test_a_node_that_the_datastore_has_lost_comes_back_with_what_people_said() -> None:
    store, said = MemoryDatastore(), a(NodeSpec(id="mine", mtu=1, bgp=NodeBGP(as_number=65001)), rack="r1")
    assert register(store, "a", SPEC, create=True, seen=said)[0] is Membership.MEMBER
    assert stored(store) == a(SPEC.of_people(said.spec), rack="r1")


def test_a_node_that_people_prepared_is_taken() -> None:
    store = MemoryDatastore()
    store.create(a(NodeSpec(), rack="r1"))
    assert register(store, "a", SPEC, create=True)[0] is Membership.MEMBER
    assert stored(store) == a(rack="r1")


def test_another_incarnation_is_left_alone() -> None:
    store = MemoryDatastore()
    theirs = a(msgspec.structs.replace(SPEC, id="theirs"))
    store.create(theirs)
    assert register(store, "a", SPEC, create=True)[0] is Membership.TAKEN
    assert stored(store) == theirs


def test_a_node_that_is_as_it_should_be_is_not_written() -> None:
    store = MemoryDatastore()
    register(store, "a", SPEC, create=True)
    before = store.list().revision
    assert register(store, "a", SPEC, create=False)[0] is Membership.MEMBER
    assert store.list().revision == before


class Racing(MemoryDatastore):
    """Somebody writes the labels of the same Node just before, so many times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def update(self, resource: AnyResource, revision: int) -> int:
        if self.times:
            self.times -= 1
            super().update(a(NodeSpec(id="mine"), turn=str(self.times)), revision)
        return super().update(resource, revision)


def test_another_writer_is_heard_and_then_overruled() -> None:
    store = Racing(3)
    store.create(a(NodeSpec(id="mine")))
    assert register(store, "a", SPEC, create=False)[0] is Membership.MEMBER
    assert stored(store) == a(turn="0")


def test_another_writer_without_end_is_an_error() -> None:
    store = Racing(1000)
    store.create(a(NodeSpec(id="mine")))
    with pytest.raises(Conflict, match="times in a row"):
        register(store, "a", SPEC, create=False)


def test_a_record_that_cannot_be_read_is_not_written_over() -> None:
    place = MemoryPlace()
    place.scribble("Node", "a", b"{")
    with pytest.raises(DatastoreError, match="cannot be read"):
        register(place.open(), "a", SPEC, create=True)


# The registration as it goes on


class Addresses:
    """In place of claiming, which has tests of its own: one address, or none left."""

    def __init__(self) -> None:
        self.exhausted = False
        self.asked: list[tuple[str, ...]] = []

    async def own_addresses(
        self, pools: Iterable[IPPool], present: Collection[Address]
    ) -> tuple[tuple[Address, ...], NetloomError | None]:
        names = tuple(p.name for p in pools)
        self.asked.append(names)
        if self.exhausted:
            return tuple(present), PoolExhausted("none left")
        return (TUNNEL,) if names else (), None


class Bench:
    """A registration, its store, and the snapshot that would come of it."""

    def __init__(self, *resources: AnyResource) -> None:
        self.store, self.addresses = MemoryDatastore(), Addresses()
        for resource in resources:
            self.store.create(resource)
        self.thread = ThreadPoolExecutor(1)
        self.registration = Registration(self.store, self.thread, cast(Claiming, self.addresses), "a", "mine")

    @property
    def snapshot(self) -> Snapshot:
        listing = self.store.list()
        return Snapshot.of(listing.revision, [s.resource for s in listing.items])

    def run(self, host: Host = HOST) -> None:
        asyncio.run(self.registration.register(self.snapshot, host))

    def settle(self, host: Host = HOST) -> int:
        """Registers for as long as it is due; how many times that was."""
        for times in range(5):
            self.registration.heard(self.snapshot)
            if not self.registration.due(self.snapshot, host):
                return times
            self.run(host)
        raise AssertionError("it never ends")


def test_it_is_due_when_the_cluster_and_the_nodes_address_are_known() -> None:
    bench = Bench(POOL)
    assert not bench.registration.due(Snapshot(), HOST)
    assert not bench.registration.due(bench.snapshot, Host("a", "mine"))
    assert bench.registration.due(bench.snapshot, HOST)


def test_a_node_is_published_with_its_own_address_in_the_tunnels() -> None:
    bench = Bench(POOL)
    bench.settle()
    assert bench.registration.membership is Membership.MEMBER
    assert bench.registration.tunnel_addresses == (TUNNEL,)
    assert stored(bench.store).spec == msgspec.structs.replace(
        SPEC, vtep_mac=Mac("66:00:00:00:00:01"), tunnel_addresses=(TUNNEL,)
    )


def test_it_is_due_again_when_addresses_mtu_or_tunnels_change_and_then_not_any_more() -> None:
    bench = Bench(POOL)
    bench.settle()
    for host in (
        dataclasses.replace(HOST, mtu=1400),
        dataclasses.replace(HOST, mtu=1400, addresses=(ipaddress.ip_interface("192.0.2.9/24"),)),
    ):
        assert bench.registration.due(bench.snapshot, host)
        bench.settle(host)
        assert stored(bench.store).spec.mtu == 1400
        assert stored(bench.store).spec.addresses == host.addresses
    bench.store.create(pool("q", "10.1.0.0/16", encapsulation=Encapsulation.VXLAN_CROSS_SUBNET))
    bench.settle(host)
    assert bench.addresses.asked[-1] == ("p", "q")


def test_what_other_nodes_do_is_no_reason() -> None:
    bench = Bench(POOL)
    bench.settle()
    bench.store.create(Node(metadata=Metadata(name="b"), spec=NodeSpec(id="b")))
    assert not bench.registration.due(bench.snapshot, HOST)


@pytest.mark.parametrize("how", ["deleted", "taken"])
def test_a_node_that_is_out_does_not_ask_again_until_something_changes(how: str) -> None:
    bench = Bench(POOL)
    bench.settle()
    bench.store.delete("Node", "a")
    if how == "taken":
        bench.store.create(a(msgspec.structs.replace(SPEC, id="theirs")))
    assert bench.settle() == 1
    assert bench.registration.membership is (Membership.DELETED if how == "deleted" else Membership.TAKEN)
    assert not bench.registration.due(bench.snapshot, HOST)
    if how == "taken":
        bench.store.delete("Node", "a")
    bench.store.create(a(NodeSpec()))
    bench.settle()
    assert cast(object, bench.registration.membership) is Membership.MEMBER


def test_a_store_that_is_another_one_gets_the_node_again() -> None:
    bench = Bench(POOL)
    bench.settle()
    bench.store.delete("Node", "a")
    bench.registration.forget()
    bench.settle()
    assert stored(bench.store).spec.id == "mine"


def test_tunnel_addresses_that_are_published_are_not_published_away_at_a_start() -> None:
    bench = Bench(POOL, a(msgspec.structs.replace(SPEC, tunnel_addresses=(TUNNEL,))))
    bench.addresses.exhausted = True
    bench.registration.heard(bench.snapshot)
    assert bench.registration.tunnel_addresses == (TUNNEL,)
    with pytest.raises(PoolExhausted):
        bench.run()
    assert stored(bench.store).spec.tunnel_addresses == (TUNNEL,)
    assert bench.registration.due(bench.snapshot, HOST)


def test_a_node_without_an_address_in_the_tunnels_is_registered_and_due_until_it_has_one() -> None:
    bench = Bench(POOL)
    bench.addresses.exhausted = True
    with pytest.raises(PoolExhausted):
        bench.run()
    assert stored(bench.store).spec.addresses == HOST.addresses
    bench.addresses.exhausted = False
    assert bench.settle() == 1
    assert stored(bench.store).spec.tunnel_addresses == (TUNNEL,)


def test_a_node_without_tunnels_has_no_addresses_there() -> None:
    bench = Bench(pool("p", "10.0.0.0/16"))
    bench.settle()
    assert stored(bench.store).spec.tunnel_addresses == ()


def test_a_node_that_is_deleted_between_the_answer_and_the_news_is_noticed() -> None:
    bench = Bench(POOL)
    before = bench.snapshot
    bench.run()
    bench.store.delete("Node", "a")
    assert bench.registration.due(before, HOST)
    bench.settle()
    assert bench.registration.membership is Membership.DELETED


# Copies of a machine


def beside(bench: Bench, name: str, machine: str) -> Bench:
    """Another agent with the same identity, on the same store."""
    other = Bench()
    other.store = bench.store
    other.registration = Registration(bench.store, other.thread, cast(Claiming, other.addresses), name, "mine", machine)
    return other


def test_of_two_machines_with_one_name_and_identity_neither_serves_for_long() -> None:
    one = beside(Bench(POOL), "a", "boot-1")
    two = beside(one, "a", "boot-2")
    for _ in range(20):
        for bench in (one, two):
            bench.registration.heard(bench.snapshot)
            if bench.registration.due(bench.snapshot, HOST):
                bench.run()
    assert one.registration.membership is two.registration.membership is Membership.CLONED
    assert one.settle() == two.settle() == 0
    again = beside(one, "a", "boot-1")
    again.settle()
    assert again.registration.membership.serves and not two.registration.membership.serves


def test_a_machine_that_has_booted_again_is_no_copy() -> None:
    bench = Bench(POOL)
    for boot in range(10):
        bench = beside(bench, "a", f"boot-{boot}")
        before = bench.snapshot
        bench.run()
        bench.registration.heard(before)  # a snapshot that is a little behind
        assert bench.registration.due(before, HOST)
        bench.settle()
        assert bench.registration.membership is Membership.MEMBER


def test_a_node_whose_identity_another_node_has_is_not_made() -> None:
    one = beside(Bench(POOL), "a", "boot-1")
    one.settle()
    two = beside(one, "b", "boot-2")
    assert two.settle() == 1
    assert two.registration.membership is Membership.DOUBLE and not two.registration.membership.serves
    assert one.store.get("Node", "b") is None and one.settle() == 0
    one.store.delete("Node", "a")
    two.settle()
    assert cast(object, two.registration.membership) is Membership.MEMBER


some = st.dictionaries(st.sampled_from("abcd"), st.sampled_from(["mine", "another"]), max_size=2)


@given(st.lists(st.tuples(some, st.sets(st.sampled_from("abcd"))), min_size=1, max_size=8))
def test_another_node_with_this_identity_is_seen_whenever_it_is_there(steps: list[tuple[dict[str, str], set[str]]]) -> None:
    with ThreadPoolExecutor(1) as thread:
        registration = Registration(MemoryDatastore(), thread, cast(Claiming, None), "a", "mine")
        snapshot = Snapshot()
        for put, gone in steps:
            nodes = {name: Node(metadata=Metadata(name=name), spec=NodeSpec(id=identity)) for name, identity in put.items()}
            changes = [*((name, None) for name in gone - put.keys()), *nodes.items()]
            snapshot = snapshot.updated(snapshot.revision + 1, (("Node", name, node) for name, node in changes))
            registration.heard(snapshot)
            doubles = {name for name, node in snapshot.nodes.items() if node.spec.id == "mine" and name != "a"}
            assert registration._double in (doubles or {None})
