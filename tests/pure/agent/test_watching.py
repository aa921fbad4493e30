from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netloom.agent.reaching import Reached
from netloom.agent.watching import KINDS, Written
from netloom.datastore import Datastore
from netloom.datastore.records import Record
from netloom.errors import DatastoreError, Unavailable
from netloom.model.addresses import Mac
from netloom.model.bgp_configuration import BGPConfiguration
from netloom.model.bgp_filter import BGPFilter
from netloom.model.bgp_peer import BGPPeer, BGPPeerSpec
from netloom.model.resources import (
    AnyResource,
    Endpoint,
    EndpointSpec,
    FelixConfiguration,
    IPBlockRequest,
    IPBlockRequestSpec,
    Metadata,
    Namespace,
)
from netloom.model.secret import Secret
from netloom.model.service import Service
from netloom.model.snapshot import Snapshot
from tests.pure.agent.following import Received, following
from tests.pure.datastore.places import LONG, MemoryPlace, Place, SqlitePlace, node
from tests.pure.ipam.making import block, claim, pool, reservation

EVERY: list[AnyResource] = [
    node("a", 1),
    pool("p", "10.0.0.0/16"),
    block("10.0.0.0/26", claim("10.0.0.0/26", "a")),
    IPBlockRequest(metadata=Metadata(name="a"), spec=IPBlockRequestSpec(node_id="1", pools={"p": 64})),
    reservation("r", "10.0.0.0/30"),
    Namespace(metadata=Metadata(name="shop", labels={"tier": "1"})),
    FelixConfiguration(metadata=Metadata(name="default")),
    BGPConfiguration(metadata=Metadata(name="default")),
    BGPPeer(metadata=Metadata(name="reflectors"), spec=BGPPeerSpec(peer_selector="has(reflector)")),
    BGPFilter(metadata=Metadata(name="in")),
    Secret(metadata=Metadata(name="fabric")),
    Service(metadata=Metadata(name="web", namespace="shop")),
]
HALF = b'{"kind":"Node","metadata":{"name":"a"'


@pytest.fixture(params=["memory", "sqlite"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    made: Place = MemoryPlace() if request.param == "memory" else SqlitePlace(str(tmp_path / "store.db"))
    yield made
    made.close()


@pytest.fixture
def store(place: Place) -> Datastore:
    return place.open()


@pytest.fixture
def received(place: Place) -> Iterator[Received]:
    with following(place.open()) as got:
        yield got


def endpoint(name: str) -> Endpoint:
    spec = EndpointSpec(
        node="a", network="n", container_id=name, interface="eth0", host_interface="loom0", mac=Mac("0a:58:0a:00:00:02")
    )
    return Endpoint(metadata=Metadata(name=name, namespace="shop"), spec=spec)


def test_an_empty_store_has_said_that_this_is_all(received: Received) -> None:
    snapshot = received.wait(lambda s, c: c.connected)
    assert snapshot == Snapshot(complete=True)


def test_what_is_there_comes_with_the_first_listing(place: Place) -> None:
    store = place.open()
    for resource in EVERY:
        store.create(resource)
    with following(place.open()) as received:
        snapshot = received.wait(lambda s, c: c.connected)
    assert snapshot == Snapshot.of(store.list().revision, EVERY)


def test_what_comes_later_is_followed(store: Datastore, received: Received) -> None:
    for resource in EVERY:
        revision = store.create(resource)
    assert received.wait(lambda s, c: s.revision == revision) == Snapshot.of(revision, EVERY)
    revision = store.update(node("a", 2), store.list("Node").items[0].revision)
    assert received.wait(lambda s, c: s.revision == revision).nodes == {"a": node("a", 2)}
    revision = store.delete("Node", "a")
    assert received.wait(lambda s, c: s.revision == revision).nodes == {}


def test_pods_of_the_cluster_are_no_news(store: Datastore, received: Received) -> None:
    received.wait(lambda s, c: c.connected)
    for number in range(5):
        store.create(endpoint(f"e{number}"))
    revision = store.create(node("a"))
    received.wait(lambda s, c: s.revision == revision)
    assert len(received.history) == 2


def test_a_snapshot_never_changes_under_its_reader(store: Datastore, received: Received) -> None:
    first = received.wait(lambda s, c: c.connected)
    revision = store.create(node("a"))
    received.wait(lambda s, c: s.revision == revision)
    assert first.nodes == {}


def test_a_watch_that_is_too_far_behind_lists_again(place: Place, store: Datastore, received: Received) -> None:
    received.wait(lambda s, c: c.connected)
    store.create(node("a"))
    place.compact()
    store.create(node("b"))
    place.compact()
    revision = store.create(node("c"))
    assert received.wait(lambda s, c: s.revision >= revision).nodes.keys() == {"a", "b", "c"}
    assert received.connection.connected


def test_a_record_that_cannot_be_read_keeps_its_last_good_form(place: Place, store: Datastore, received: Received) -> None:
    revision = store.create(node("a", 1))
    received.wait(lambda s, c: s.revision == revision)
    place.scribble("Node", "a", HALF)
    revision = store.create(node("b", 1))
    assert received.wait(lambda s, c: s.revision == revision).nodes == {"a": node("a", 1), "b": node("b", 1)}
    [(name, reason)] = received.connection.broken
    assert name == "Node a"
    assert reason


def test_a_record_that_cannot_be_read_is_told_even_if_nothing_else_happens(
    place: Place, store: Datastore, received: Received
) -> None:
    revision = store.create(node("a", 1))
    received.wait(lambda s, c: s.revision == revision)
    place.scribble("Node", "a", HALF)
    place.open().create(endpoint("e"))  # rings
    received.wait(lambda s, c: c.broken)


def test_a_record_that_was_never_readable_is_told_and_left_out(place: Place, store: Datastore) -> None:
    store.create(node("b"))
    place.scribble("Node", "a", HALF)
    with following(place.open()) as received:
        assert received.wait(lambda s, c: c.connected).nodes.keys() == {"b"}
        assert [name for name, _ in received.connection.broken] == ["Node a"]
        store.delete("Node", "a")
        received.wait(lambda s, c: not c.broken)


def test_a_record_that_is_mended_is_no_longer_told(place: Place, store: Datastore, received: Received) -> None:
    place.scribble("Node", "a", HALF)
    store.create(node("b"))
    received.wait(lambda s, c: c.broken)
    store.delete("Node", "a")
    store.create(node("a", 3))
    assert received.wait(lambda s, c: not c.broken and "a" in s.nodes).nodes["a"] == node("a", 3)


def test_a_broken_record_keeps_its_last_good_form_over_a_new_listing(place: Place, store: Datastore) -> None:
    last = Snapshot.of(1, [node("a", 1), node("gone", 1)], complete=False)
    place.scribble("Node", "a", HALF)
    with following(place.open(), last) as received:
        assert received.wait(lambda s, c: c.connected).nodes == {"a": node("a", 1)}


def test_a_watcher_that_is_stopped_ends_at_once(place: Place) -> None:
    with following(place.open()) as received:
        received.wait(lambda s, c: c.connected)


# Away and back


def test_a_store_that_is_away_at_first_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    last = Snapshot.of(7, [node("a")], complete=False)
    reached = Reached(f"sqlite:{path}", known=True)
    with following(reached, last, reached.renew) as received:
        snapshot = received.wait(lambda s, c: c.error)
        assert snapshot == last
        assert not snapshot.complete
        assert "does not exist" in received.connection.error
        since = received.connection.since
        place = SqlitePlace(str(path))
        place.open().create(node("b"))
        assert received.wait(lambda s, c: c.connected).nodes.keys() == {"b"}
        assert received.connection.since >= since
        place.close()
    reached.close()


def test_a_store_that_goes_leaves_the_last_snapshot_and_the_time(tmp_path: Path) -> None:
    path = str(tmp_path / "store.db")
    place = SqlitePlace(path)
    place.open().create(node("a"))
    reached = Reached(f"sqlite:{path}", known=True)
    with following(reached, None, reached.renew) as received:
        received.wait(lambda s, c: c.connected)
        identity = received.connection.identity
        place.close()
        os.rename(path, f"{path}.away")
        snapshot = received.wait(lambda s, c: not c.connected)
        assert snapshot.nodes.keys() == {"a"}
        assert received.connection.since > 0
        assert received.connection.identity == identity
        os.rename(f"{path}.away", path)
        received.wait(lambda s, c: c.connected)
        assert received.connection.error == ""
    reached.close()


def test_another_store_has_another_identity(tmp_path: Path) -> None:
    path = str(tmp_path / "store.db")
    first = SqlitePlace(path)
    first.open().create(node("a"))
    reached = Reached(f"sqlite:{path}", known=True)
    with following(reached, None, reached.renew) as received:
        received.wait(lambda s, c: c.connected)
        identity = received.connection.identity
        first.close()
        os.rename(path, f"{path}.old")
        second = SqlitePlace(path)
        second.open().create(node("b"))
        assert received.wait(lambda s, c: c.connected and c.identity != identity).nodes.keys() == {"b"}
        second.close()
    reached.close()


class Faulty(MemoryPlace):
    """Its store has a fault of its own, at first."""

    def open(self) -> Datastore:
        store, faults = super().open(), iter([ZeroDivisionError("a fault"), DatastoreError("no")])
        listing = store.list

        def listed(kind: str | None = None) -> object:
            if fault := next(faults, None):
                raise fault
            return listing(kind)

        store.list = listed  # type: ignore[method-assign, assignment]
        return store


def test_a_fault_of_our_own_is_told_and_does_not_end_the_thread() -> None:
    place = Faulty()
    with following(place.open()) as received:
        received.wait(lambda s, c: "a fault of our own: ZeroDivisionError" in c.error)
        received.wait(lambda s, c: c.error == "no")
        received.wait(lambda s, c: c.connected)
        assert received.losses == 2


# Any history


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, str, int]]:
    acts = st.sampled_from(["put", "put", "put", "delete", "break", "compact", "relist"])
    return draw(st.lists(st.tuples(acts, st.sampled_from(["a", "b", "c"]), st.integers(0, 3)), max_size=25))


@settings(max_examples=400 if LONG else 25, deadline=None)
@given(before=histories(), after=histories())
def test_any_history_ends_in_what_a_fresh_listing_says(
    before: list[tuple[str, str, int]], after: list[tuple[str, str, int]]
) -> None:
    place = MemoryPlace()
    store, good = place.open(), dict[str, list[AnyResource]]()
    play(place, store, before, good)
    with following(place.open()) as received:
        received.wait(lambda s, c: c.connected)
        play(place, store, after, good)
        revision = store.create(Namespace(metadata=Metadata(name="last")))
        snapshot = received.wait(lambda s, c: s.revision >= revision)
    fresh = store.list()
    assert {k: v for k, v in snapshot.nodes.items() if k not in broken(fresh.broken)} == {
        s.resource.key: s.resource for s in fresh.items if s.resource.kind == "Node"
    }
    for name in broken(fresh.broken) & snapshot.nodes.keys():
        assert snapshot.nodes[name] in good[name]
    assert {name for name, _ in received.connection.broken} == {f"Node {name}" for name in broken(fresh.broken)}
    place.close()


def play(place: MemoryPlace, store: Datastore, acts: list[tuple[str, str, int]], good: dict[str, list[AnyResource]]) -> None:
    for act, name, value in acts:
        match act:
            case "put":
                good.setdefault(name, []).append(node(name, value))
                try:
                    present = store.get("Node", name)
                except DatastoreError:
                    store.delete("Node", name)
                    present = None
                if present is None:
                    store.create(node(name, value))
                else:
                    store.update(node(name, value), present.revision)
            case "delete":
                if ("Node", name) in place.memory.records:
                    store.delete("Node", name)
            case "break":
                place.scribble("Node", name, HALF)
            case "compact":
                with place.memory.changed:
                    place.compact()
            case _:
                store.list()


def broken(names: tuple[tuple[str, str], ...]) -> set[str]:
    return {name.partition("/")[2] for name, _ in names}


def test_the_kinds_that_are_watched_are_those_that_a_snapshot_holds() -> None:
    assert all(Snapshot.of(1, [r]).get(r.kind, r.key) == r for r in EVERY)
    assert {r.kind for r in EVERY} == set(KINDS)


# A datastore that jumps


def jumps(received: Received) -> int:
    return received.connection.jumps


def test_a_store_that_only_goes_on_never_jumps(place: Place, store: Datastore, received: Received) -> None:
    for name in "abc":
        store.create(node(name))
    store.delete("Node", "c")
    place.compact()
    revision = store.create(node("d"))
    received.wait(lambda s, c: s.revision >= revision)
    place.compact()
    revision = store.create(node("e"))
    received.wait(lambda s, c: s.revision >= revision)
    assert jumps(received) == 0


def restored(place: MemoryPlace, copy: tuple[dict[tuple[str, str], Record], list[Record]]) -> None:
    """The store is as it was, and the watch has to begin anew."""
    with place.memory.changed:
        place.memory.records = dict(copy[0])
        place.memory.log.clear()
        place.memory.log.extend(copy[1])
        place.memory.changed.notify_all()


def copied(place: MemoryPlace) -> tuple[dict[tuple[str, str], Record], list[Record]]:
    return dict(place.memory.records), list(place.memory.log)


def lose_once(place: MemoryPlace) -> None:
    """Who watches gets no answer."""
    changes, faults = place.memory.changes, iter([Unavailable("lost")])

    def lossy(since: int) -> list[Record]:
        if fault := next(faults, None):
            raise fault
        return changes(since)

    place.memory.changes = lossy  # type: ignore[method-assign]  # that moment


def test_a_lower_revision_is_a_jump() -> None:
    place = MemoryPlace()
    store = place.open()
    store.create(node("a"))
    copy = copied(place)
    revision = store.create(node("b"))
    with following(place.open()) as received:
        received.wait(lambda s, c: s.revision == revision)
        restored(place, copy)
        assert received.wait(lambda s, c: c.jumps == 1).nodes.keys() == {"a"}
        for name in "cdef":
            revision = store.create(node(name))
        received.wait(lambda s, c: s.revision == revision)
        assert jumps(received) == 1


def test_a_store_that_went_back_and_was_written_to_since_has_jumped_too() -> None:
    """Its revision is a higher one; but what was written last is not there as it was."""
    place = MemoryPlace()
    store = place.open()
    store.create(node("a"))
    copy = copied(place)
    revision = store.update(node("a", 1), store.list("Node").items[0].revision)
    with following(place.open()) as received:
        received.wait(lambda s, c: s.revision == revision)
        with place.memory.changed:  # all of it before the watcher looks again
            restored(place, copy)
            for name in "bcdef":
                store.create(node(name))
            place.compact()
        received.wait(lambda s, c: c.jumps == 1)


def test_a_store_in_whose_history_there_is_something_else_instead_of_what_was_written_last_has_jumped() -> None:
    """What was written last is not there at all, as if somebody had deleted it since."""
    place = MemoryPlace()
    store = place.open()
    store.create(node("a"))
    copy = copied(place)
    revision = store.create(node("b"))
    with following(place.open()) as received:
        received.wait(lambda s, c: s.revision == revision)
        with place.memory.changed:
            restored(place, copy)
            for name in "cdefg":
                revision = store.create(node(name))
            lose_once(place)
        assert "b" not in received.wait(lambda s, c: s.revision == revision).nodes
        assert jumps(received) == 1


def test_who_starts_knows_a_history_by_what_was_written_last() -> None:
    """Since then the store has gone on, in this history or in another one."""
    place = MemoryPlace()
    store = place.open()
    first, second = store.create(node("a")), store.create(node("b"))
    for _ in range(3):
        store.update(node("a"), store.list("Node").items[0].revision)
    for written, expected in (
        (Written("Node", "a", first), 0),
        (Written("Node", "b", second), 0),
        (Written("Node", "b", first), 1),
        (Written("Node", "gone", second), 1),
        (Written("IPPool", "a", first), 1),
    ):
        with following(place.open(), Snapshot(second), identity=place.memory.identity, written=written) as received:
            received.wait(lambda s, c: c.connected)
            assert jumps(received) == expected, written


def test_who_starts_knows_a_jump_by_what_was_remembered() -> None:
    place = MemoryPlace()
    place.open().create(node("a"))
    for last, identity, expected in (
        (Snapshot(), "", 0),
        (Snapshot(1), "", 0),
        (Snapshot(1), place.memory.identity, 0),
        (Snapshot(2), "", 1),
        (Snapshot(2), place.memory.identity, 1),
        (Snapshot(1), "another one", 1),
    ):
        with following(place.open(), last, identity=identity) as received:
            received.wait(lambda s, c: c.connected)
            assert jumps(received) == expected, (last, identity)
