"""What holds of a copy between any two engines; each engine's tests call these with its own places."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from netloom.datastore import Datastore, Revision
from netloom.datastore.copying import MARK, copy
from netloom.errors import ConfigError, Conflict
from netloom.model.resources import AnyResource, DatastoreCopy, Metadata, Namespace
from tests.pure.datastore.places import Place, node
from tests.pure.ipam.making import block, claim, pool, reservation

CLUSTER: tuple[AnyResource, ...] = (
    node("a", 1),
    node("b", 2),
    pool("p", "10.0.0.0/16"),
    block("10.0.0.0/26", claim("10.0.0.0/27", "a"), claim("10.0.0.32/32", "b")),
    reservation("r", "10.0.0.0/30"),
    Namespace(metadata=Metadata(name="shop", labels={"tier": "1"})),
)


class CutShort(Exception):
    pass


class Frail:
    """A client that is killed before one of its writes."""

    def __init__(self, store: Datastore, writes: int) -> None:
        self._store, self._left = store, writes

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def create(self, resource: AnyResource) -> Revision:
        self._count()
        return self._store.create(resource)

    def update(self, resource: AnyResource, revision: Revision) -> Revision:
        self._count()
        return self._store.update(resource, revision)

    def delete(self, kind: str, key: str, revision: Revision | None = None) -> Revision:
        self._count()
        return self._store.delete(kind, key, revision)

    def _count(self) -> None:
        if self._left == 0:
            raise CutShort
        self._left -= 1


def fill(store: Datastore) -> None:
    for resource in CLUSTER:
        store.create(resource)


def contents(store: Datastore) -> dict[tuple[str, str], AnyResource]:
    listing = store.list()
    assert not listing.broken
    return {(s.resource.kind, s.resource.key): s.resource for s in listing.items}


def is_whole(source: Place, target: Place) -> bool:
    return contents(source.open()) == contents(target.open()) != {}


def copies_all(source: Place, target: Place) -> None:
    fill(source.open())
    written: list[None] = []
    found = copy(source.open(), target.open(), lambda: written.append(None))
    assert found == {"Node": 2, "IPPool": 1, "IPBlock": 1, "IPReservation": 1, "Namespace": 1}
    assert len(written) == len(CLUSTER)
    assert is_whole(source, target)


def goes_on_where_it_was_cut_short(source: Place, target: Place) -> None:
    fill(source.open())
    tries = 0
    while True:
        try:
            copy(source.open(), Frail(target.open(), 2), lambda: None)  # type: ignore[arg-type]  # it is one but for its writes
            break
        except CutShort:
            tries += 1
            assert target.open().get(MARK, DatastoreCopy.NAME) is not None
    assert tries > 2
    assert is_whole(source, target)


def takes_up_what_has_changed_since_it_was_cut_short(source: Place, target: Place) -> None:
    fill(source.open())
    with pytest.raises(CutShort):
        copy(source.open(), Frail(target.open(), len(CLUSTER)), lambda: None)  # type: ignore[arg-type]  # as above
    old = source.open()
    a = old.get("Node", "a")
    assert a is not None
    old.update(node("a", 99), a.revision)
    old.delete("Node", "b")
    old.create(node("c", 3))
    copy(source.open(), target.open())
    assert is_whole(source, target)


def leaves_alone_what_is_not_empty(source: Place, target: Place) -> None:
    fill(source.open())
    target.open().create(node("somebody", 5))
    with pytest.raises(ConfigError, match="is not empty: Node somebody"):
        copy(source.open(), target.open())
    assert contents(target.open()).keys() == {("Node", "somebody")}


def finds_out_who_writes_to_the_source_meanwhile(source: Place, target: Place) -> None:
    fill(source.open())
    late = iter([node("late", 1)])

    def write() -> None:
        for resource in late:
            source.open().create(resource)

    with pytest.raises(Conflict, match="Node late changed while they were copied: the copy is not whole"):
        copy(source.open(), target.open(), write)
    assert target.open().get(MARK, DatastoreCopy.NAME) is not None
    copy(source.open(), target.open())
    assert is_whole(source, target)


def finds_out_who_writes_to_the_target_meanwhile(source: Place, target: Place) -> None:
    fill(source.open())
    late = iter([node("stranger", 1)])

    def write() -> None:
        for resource in late:
            target.open().create(resource)

    with pytest.raises(Conflict, match="Node stranger is not in the new datastore as in the old one"):
        copy(source.open(), target.open(), write)
    assert target.open().get(MARK, DatastoreCopy.NAME) is not None


def refuses_what_cannot_be_read(source: Place, target: Place) -> None:
    fill(source.open())
    source.scribble("Node", "torn", b'{"kind":"Node"')
    with pytest.raises(ConfigError, match="Node/torn cannot be read"):
        copy(source.open(), target.open())
    assert contents(target.open()) == {}


EVERY: tuple[Callable[[Place, Place], None], ...] = (
    copies_all,
    goes_on_where_it_was_cut_short,
    takes_up_what_has_changed_since_it_was_cut_short,
    leaves_alone_what_is_not_empty,
    finds_out_who_writes_to_the_source_meanwhile,
    finds_out_who_writes_to_the_target_meanwhile,
    refuses_what_cannot_be_read,
)
