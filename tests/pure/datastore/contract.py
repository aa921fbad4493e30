"""What every datastore promises (netloom.datastore), as tests.  An engine's test module subclasses `Contract` and gives a `place`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import pytest

from netloom.datastore import Datastore, Event, Revision, Watch
from netloom.errors import Compacted, Conflict, NotFound, Unavailable, Unreadable
from netloom.model.resources import Metadata, Namespace, Node
from tests.pure.datastore.places import LONG, Place, node

SOON = 30.0
"""Seconds that a test waits for what should come at once, before it calls it missing."""


T = TypeVar("T")


def in_background(call: Callable[[], T]) -> Future[T]:
    """The call runs in a thread that a test does not wait for: one that nobody wakes is a failure, not a hang."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except Exception as e:
            future.set_exception(e)

    threading.Thread(target=run, daemon=True).start()
    return future


def drain(watch: Watch, until: Revision) -> list[Event]:
    """What the watch gives until the change at `until` has come, and what it has beyond that already.  From across a network a
    change takes its time."""
    events: list[Event] = []
    while not events or events[-1].revision < until:
        more = watch.next(SOON)
        assert more, f"{until} has not come, only {events}"
        events += more
    return events + list(watch.next(0))


def all_or_compacted(watch: Watch, until: Revision) -> list[Event] | None:
    """The same; None: the watch says that it cannot.  It has to be one of both, whatever was compacted meanwhile."""
    try:
        return drain(watch, until)
    except Compacted:
        return None


def names(events: Sequence[Event]) -> list[str]:
    return [("-" if event.resource is None else "+") + event.key for event in events]


class Contract:
    @pytest.fixture
    def store(self, place: Place) -> Datastore:
        return place.open()

    # Objects

    def test_what_was_created_is_found_at_its_revision(self, store: Datastore) -> None:
        revision = store.create(node("a"))
        found = store.get("Node", "a")
        assert found is not None
        assert (found.resource, found.revision) == (node("a"), revision)

    def test_what_was_never_created_is_none(self, store: Datastore) -> None:
        assert store.get("Node", "a") is None
        assert store.get("NoSuchKind", "a") is None

    def test_create_refuses_an_existing_key(self, store: Datastore) -> None:
        store.create(node("a", 1))
        with pytest.raises(Conflict, match="Node a"):
            store.create(node("a", 2))
        assert store.list().items[0].resource == node("a", 1)

    def test_objects_of_two_kinds_may_have_one_name(self, store: Datastore) -> None:
        store.create(node("a"))
        store.create(Namespace(metadata=Metadata(name="a")))
        assert [s.resource.kind for s in store.list().items] == ["Namespace", "Node"]
        assert [s.resource.kind for s in store.list("Node").items] == ["Node"]

    def test_update_with_the_present_revision_succeeds_once(self, store: Datastore) -> None:
        first = store.create(node("a", 1))
        second = store.update(node("a", 2), first)
        assert second > first
        with pytest.raises(Conflict):
            store.update(node("a", 3), first)
        assert store.list().items[0].resource == node("a", 2)

    def test_update_of_nothing_is_not_found(self, store: Datastore) -> None:
        with pytest.raises(NotFound, match="Node a"):
            store.update(node("a"), 1)
        with pytest.raises(NotFound):
            store.update(node("a"), 0)

    def test_delete_with_an_old_revision_leaves_the_object(self, store: Datastore) -> None:
        first = store.create(node("a"))
        store.update(node("a", 2), first)
        with pytest.raises(Conflict):
            store.delete("Node", "a", first)
        assert store.get("Node", "a") is not None

    def test_delete_without_a_revision_takes_whatever_is_there(self, store: Datastore) -> None:
        first = store.create(node("a"))
        assert store.delete("Node", "a") > first
        assert store.get("Node", "a") is None

    def test_delete_twice_is_not_found(self, store: Datastore) -> None:
        store.create(node("a"))
        store.delete("Node", "a")
        with pytest.raises(NotFound):
            store.delete("Node", "a")

    def test_an_object_made_again_has_another_revision_than_the_one_before(self, store: Datastore) -> None:
        first = store.create(node("a"))
        store.delete("Node", "a")
        store.create(node("a"))
        with pytest.raises(Conflict):
            store.update(node("a", 2), first)

    def test_a_refused_write_leaves_no_event(self, store: Datastore) -> None:
        watch = store.watch(store.create(node("a")))
        with pytest.raises(Conflict):
            store.create(node("a"))
        with pytest.raises(NotFound):
            store.delete("Node", "b")
        assert names(drain(watch, store.create(node("c")))) == ["+c"]

    def test_a_list_is_as_of_the_last_write(self, store: Datastore) -> None:
        before = store.list()
        assert before.items == ()
        for name in ("c", "a", "b"):
            last = store.create(node(name))
        assert store.list().revision == last > before.revision
        assert [s.resource.name for s in store.list("Node").items] == ["a", "b", "c"]

    def test_keys_are_those_of_a_list(self, store: Datastore) -> None:
        for name in ("c", "a", "b"):
            store.create(node(name))
        store.create(Namespace(metadata=Metadata(name="other")))
        store.delete("Node", "a")
        assert list(store.keys("Node")) == ["b", "c"]
        assert list(store.keys("IPPool")) == []

    # Watching

    def test_a_watch_gives_every_change_in_order(self, store: Datastore) -> None:
        watch = store.watch(store.list().revision)
        revisions = [store.create(node("a", 1))]
        revisions.append(store.update(node("a", 2), revisions[0]))
        revisions.append(store.create(node("b")))
        revisions.append(store.delete("Node", "a"))
        events = drain(watch, revisions[-1])
        assert [e.revision for e in events] == revisions == sorted(revisions)
        assert [e.resource for e in events] == [node("a", 1), node("a", 2), node("b"), None]
        assert [(e.kind, e.key) for e in events] == [("Node", "a"), ("Node", "a"), ("Node", "b"), ("Node", "a")]

    def test_a_watch_from_any_revision_gives_what_came_after_it(self, store: Datastore) -> None:
        revisions = [store.list().revision] + [store.create(node(f"n{i}")) for i in range(8)]
        for i, since in enumerate(revisions[:-1]):
            assert [e.revision for e in drain(store.watch(since), revisions[-1])] == revisions[i + 1 :]

    def test_a_list_and_a_watch_from_it_leave_no_gap(self, store: Datastore) -> None:
        store.create(node("a"))
        listing = store.list()
        last = store.create(node("b"))
        assert names(drain(store.watch(listing.revision), last)) == ["+b"]

    def test_next_is_empty_after_its_timeout(self, store: Datastore) -> None:
        assert list(store.watch(store.list().revision).next(0.01)) == []

    def test_a_write_wakes_a_watcher_of_another_client(self, place: Place) -> None:
        writer, watch = place.open(), place.open().watch(place.open().list().revision)
        waiting = in_background(lambda: watch.next(None))
        writer.create(node("a"))
        assert names(waiting.result(SOON)) == ["+a"]

    def test_close_of_a_watch_wakes_next(self, store: Datastore) -> None:
        for _ in range(20):
            watch = store.watch(store.list().revision)
            waiting = in_background(lambda watch=watch: watch.next(None))
            watch.close()
            assert list(waiting.result(SOON)) == []

    def test_close_of_a_watch_leaves_others_waiting(self, store: Datastore) -> None:
        closed, waits = store.watch(store.list().revision), store.watch(store.list().revision)
        waiting = in_background(lambda: waits.next(None))
        closed.close()
        store.create(node("a"))
        assert names(waiting.result(SOON)) == ["+a"]

    def test_close_of_the_store_wakes_next(self, store: Datastore) -> None:
        watch = store.watch(store.list().revision)
        waiting = in_background(lambda: watch.next(None))
        store.close()
        with pytest.raises(Unavailable):
            waiting.result(SOON)

    def test_every_call_after_close_is_unavailable(self, store: Datastore) -> None:
        store.close()
        store.close()
        calls: list[Callable[[], object]] = [
            lambda: store.identity,
            lambda: store.get("Node", "a"),
            store.list,
            lambda: store.create(node("a")),
            lambda: store.update(node("a"), 1),
            lambda: store.delete("Node", "a"),
            lambda: store.watch(0),
        ]
        for call in calls:
            with pytest.raises(Unavailable):
                call()

    # Compaction, restart

    def test_a_watch_from_before_the_compaction_is_refused(self, place: Place, store: Datastore) -> None:
        since = store.list().revision
        late = store.watch(since)
        store.create(node("a"))
        last = store.create(node("b"))
        place.compact()
        with pytest.raises(Compacted):
            store.watch(since).next(0)
        assert names(all_or_compacted(late, last) or ()) in ([], ["+a", "+b"])
        watch = store.watch(last)
        assert names(drain(watch, store.create(node("c")))) == ["+c"]
        assert len(store.list().items) == 3

    def test_a_watcher_who_has_read_everything_loses_nothing_by_compaction(self, place: Place, store: Datastore) -> None:
        watch = store.watch(store.list().revision)
        for i in range(5):
            assert names(drain(watch, store.create(node(f"n{i}")))) == [f"+n{i}"]
            place.compact()

    def test_a_watch_from_a_revision_that_never_was_is_refused(self, store: Datastore) -> None:
        with pytest.raises(Compacted):
            store.watch(store.create(node("a")) + 1).next(0)

    def test_a_store_keeps_everything_over_a_restart(self, place: Place) -> None:
        before = place.open()
        start = before.list().revision
        before.create(node("a", 1))
        identity, listing = before.identity, before.list()
        place.close()
        after = place.open()
        assert after.identity == identity
        assert after.list() == listing
        assert names(drain(after.watch(start), listing.revision)) == ["+a"]
        assert after.update(node("a", 2), listing.revision) > listing.revision

    def test_clients_of_one_store_agree_on_its_identity(self, place: Place) -> None:
        assert place.open().identity == place.open().identity != ""

    # Broken records

    @pytest.mark.parametrize(
        "value",
        [
            b"",
            b"{",
            b"\xff\xfe",
            b"[1]",
            b"null",
            b"[" * 100_000,
            b'{"kind": "Comet", "apiVersion": "netloom.io/v1", "metadata": {"name": "bad"}}',
            b'{"kind": "Node", "apiVersion": "netloom.io/v9", "metadata": {"name": "bad"}}',
            b'{"kind": "Node", "apiVersion": "netloom.io/v1", "metadata": {"name": "bad"}, "orbit": 1}',
            b'{"kind": "Node", "apiVersion": "netloom.io/v1", "metadata": {"name": "good"}}',
            b'{"kind": "Namespace", "apiVersion": "netloom.io/v1", "metadata": {"name": "bad"}}',
        ],
        ids=lambda value: repr(value[:60]),
    )
    def test_a_broken_record_is_named_and_blocks_no_other(self, place: Place, store: Datastore, value: bytes) -> None:
        watch = store.watch(store.list().revision)
        place.scribble("Node", "bad", value)
        last = store.create(node("good"))
        listing = store.list("Node")
        assert [s.resource for s in listing.items] == [node("good")]
        assert [name for name, _ in listing.broken] == ["Node/bad"]
        assert list(store.keys("Node")) == ["bad", "good"]
        bad, good = drain(watch, last)
        assert (bad.key, bad.resource, bool(bad.error)) == ("bad", None, True)
        assert (good.key, good.resource, good.error) == ("good", node("good"), None)
        with pytest.raises(Unreadable, match="Node bad"):
            store.get("Node", "bad")

    def test_a_record_of_an_unknown_kind_is_named(self, place: Place, store: Datastore) -> None:
        place.scribble("Comet", "halley", b'{"kind": "Comet", "apiVersion": "netloom.io/v1", "metadata": {"name": "halley"}}')
        assert store.list("Node").broken == ()
        assert [name for name, _ in store.list().broken] == ["Comet/halley"]

    def test_a_broken_record_can_be_deleted(self, place: Place, store: Datastore) -> None:
        place.scribble("Node", "bad", b"{")
        with pytest.raises(Conflict):
            store.create(node("bad"))
        store.delete("Node", "bad")
        store.create(node("bad"))
        assert store.list().broken == ()

    # Many at once

    def test_of_racing_creators_exactly_one_wins(self, place: Place) -> None:
        stores = [place.open() for _ in range(4)]
        start = threading.Barrier(8, timeout=SOON)

        def race(store: Datastore) -> list[int]:
            won = []
            for i in range(20):
                start.wait()
                try:
                    store.create(node(f"n{i}"))
                    won.append(i)
                except Conflict:
                    continue
            return won

        with ThreadPoolExecutor(8) as pool:
            won = [i for wins in pool.map(race, stores * 2) for i in wins]
        assert sorted(won) == list(range(20))

    def test_no_update_is_lost_between_threads(self, place: Place) -> None:
        stores = [place.open() for _ in range(2)]
        rounds = 200 if LONG else 25
        stores[0].create(node("counter", 0))
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda store: [count_up(store) for _ in range(rounds)], stores * 2))
        assert stores[0].list().items[0].resource == node("counter", 4 * rounds)

    def test_watchers_see_every_change_of_concurrent_writers_once(self, place: Place) -> None:
        watches = [place.open().watch(place.open().list().revision) for _ in range(3)]
        stores = [place.open() for _ in range(4)]
        rounds = 100 if LONG else 25

        def follow(watch: Watch) -> list[int]:
            revisions: list[int] = []
            while len(revisions) < len(stores) * rounds and (events := watch.next(SOON)):
                revisions += (event.revision for event in events)
            return revisions

        def write(number: int) -> list[int]:
            return [stores[number].create(node(f"w{number}.{i}")) for i in range(rounds)]

        with ThreadPoolExecutor(7) as pool:
            following = [pool.submit(follow, watch) for watch in watches]
            written = sorted(revision for revisions in pool.map(write, range(len(stores))) for revision in revisions)
            assert [f.result() for f in following] == [written] * 3


def count_up(store: Datastore) -> None:
    """One more on the node `counter`, however often others come between."""
    while True:
        found = store.get("Node", "counter")
        assert found is not None and isinstance(found.resource, Node)
        try:
            store.update(node("counter", int(found.resource.metadata.labels["value"]) + 1), found.revision)
        except Conflict:
            continue
        return
