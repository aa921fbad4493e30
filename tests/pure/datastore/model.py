"""The same promises over random histories: a store against a list of what was written, with several clients and watchers."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from netloom.datastore import Datastore, Event, Listing, Stored, Watch
from netloom.errors import Compacted, Conflict, NotFound
from netloom.model.resources import Node
from tests.pure.datastore.contract import all_or_compacted
from tests.pure.datastore.places import LONG, Place, node

SETTINGS = settings(max_examples=1000 if LONG else 100, stateful_step_count=60 if LONG else 30, deadline=None)

names = st.sampled_from(["a", "b", "c"])
clients = st.integers(0, 1)


@dataclass(slots=True)
class Follower:
    """A watch, and how much of the history it has given.  `lost`: it has said that it is too far behind."""

    watch: Watch
    seen: int
    lost: bool = False


@dataclass(slots=True)
class Model:
    """`start`: the revision before the first change.  `history`: (revision, name, node; None: deleted; a text: broken).  Changes
    before index `forgotten` are compacted."""

    start: int
    history: list[tuple[int, str, Node | str | None]] = field(default_factory=list)
    forgotten: int = 0

    @property
    def present(self) -> dict[str, tuple[int, Node | str]]:
        last = {name: (revision, value) for revision, name, value in self.history}
        return {name: (revision, value) for name, (revision, value) in sorted(last.items()) if value is not None}

    def place_of(self, revision: int) -> int | None:
        """How many changes came until `revision`; None: there was no such revision."""
        revisions = [self.start] + [r for r, _, _ in self.history]
        return revisions.index(revision) if revision in revisions else None


class StoreMachine(RuleBasedStateMachine):
    """A subclass says where the store lives."""

    followers = Bundle("followers")
    place: Place

    def __init__(self) -> None:
        super().__init__()
        self.value, self.epoch = 0, 0
        self.place = self.make_place()
        self.stores: list[Datastore] = [self.place.open(), self.place.open()]
        self.model = Model(self.stores[0].list().revision)
        self.identity = self.stores[0].identity

    def make_place(self) -> Place:
        raise NotImplementedError

    def fresh(self, name: str) -> Node:
        self.value += 1
        return node(name, self.value)

    def revision(self, name: str, stale: bool) -> int:
        """The present revision of `name`, or one that it had before or never."""
        own = [r for r, n, _ in self.model.history if n == name]
        present = self.model.present.get(name, (0, None))[0]
        return next((r for r in own if r != present), present + 1) if stale else present

    @rule(client=clients, name=names)
    def create(self, client: int, name: str) -> None:
        resource = self.fresh(name)
        if name in self.model.present:
            with pytest.raises(Conflict):
                self.stores[client].create(resource)
        else:
            self.model.history.append((self.stores[client].create(resource), name, resource))

    @rule(client=clients, name=names, stale=st.booleans())
    def update(self, client: int, name: str, stale: bool) -> None:
        resource, revision = self.fresh(name), self.revision(name, stale)
        if name not in self.model.present:
            with pytest.raises(NotFound):
                self.stores[client].update(resource, revision)
        elif stale:
            with pytest.raises(Conflict):
                self.stores[client].update(resource, revision)
        else:
            self.model.history.append((self.stores[client].update(resource, revision), name, resource))

    @rule(client=clients, name=names, how=st.sampled_from(["present", "stale", "whatever"]))
    def delete(self, client: int, name: str, how: str) -> None:
        revision = None if how == "whatever" else self.revision(name, how == "stale")
        if name not in self.model.present:
            with pytest.raises(NotFound):
                self.stores[client].delete("Node", name, revision)
        elif how == "stale":
            with pytest.raises(Conflict):
                self.stores[client].delete("Node", name, revision)
        else:
            self.model.history.append((self.stores[client].delete("Node", name, revision), name, None))

    @rule(name=names)
    def scribble(self, name: str) -> None:
        self.place.scribble("Node", name, b"{")
        self.model.history.append((self.stores[0].list().revision, name, "broken"))

    @rule(target=followers, client=clients, back=st.integers(-1, 8))
    def follow(self, client: int, back: int) -> tuple[int, Follower] | None:
        since = max(self.model.start, self.stores[0].list().revision - back)
        seen = self.model.place_of(since)
        if seen is None or seen < self.model.forgotten:
            with pytest.raises(Compacted):
                self.stores[client].watch(since).next(0)
            return None
        return self.epoch, Follower(self.stores[client].watch(since), seen)

    @rule(following=followers)
    def read(self, following: tuple[int, Follower] | None) -> None:
        if following is None or following[0] != self.epoch:
            return
        follower = following[1]
        unseen = self.model.history[follower.seen :]
        if follower.lost:
            return
        got = all_or_compacted(follower.watch, unseen[-1][0]) if unseen else follower.watch.next(0)
        if got is None:
            assert follower.seen < self.model.forgotten
            follower.lost = True
            return
        assert [self.said(event) for event in got] == unseen
        follower.seen = len(self.model.history)

    @rule(following=consumes(followers))
    def leave(self, following: tuple[int, Follower] | None) -> None:
        if following is not None:
            following[1].watch.close()
            assert list(following[1].watch.next(None)) == []

    @rule()
    def compact(self) -> None:
        self.place.compact()
        self.model.forgotten = len(self.model.history)

    @rule()
    def restart(self) -> None:
        self.place.close()
        self.stores = [self.place.open(), self.place.open()]
        self.epoch += 1
        assert self.stores[0].identity == self.identity

    @invariant()
    def both_clients_list_what_is(self) -> None:
        present = self.model.present
        expected = Listing(
            self.model.history[-1][0] if self.model.history else self.model.start,
            tuple(Stored(value, revision) for revision, value in present.values() if isinstance(value, Node)),
        )
        for store in self.stores:
            listing = store.list("Node")
            assert (listing.revision, listing.items) == (expected.revision, expected.items)
            assert [name for name, _ in listing.broken] == [f"Node/{n}" for n, (_, v) in present.items() if v == "broken"]

    def teardown(self) -> None:
        self.place.close()

    @staticmethod
    def said(event: Event) -> tuple[int, str, object]:
        return event.revision, event.key, "broken" if event.error else event.resource
