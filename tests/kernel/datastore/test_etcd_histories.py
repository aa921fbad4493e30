"""An etcd that was restored from an older copy and has been written to since: by its revision it has only gone on, and what a watch would
give from where it was is the end of another history."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from netloom.agent.reaching import Reached
from netloom.datastore import Datastore, connect
from netloom.errors import Replaced
from tests import etcd
from tests.kernel.datastore.test_etcd_faults import insist
from tests.pure.agent.following import following
from tests.pure.datastore.contract import SOON, drain, names
from tests.waiting import eventually

MANY = 30


@pytest.fixture(scope="module", autouse=True)
def inside() -> Iterator[None]:
    with etcd.inside():
        yield


@contextmanager
def going_back(server: etcd.Etcd, url: str) -> Iterator[None]:
    """What is written inside is forgotten, and other things written instead, before anybody else comes."""
    member = server.member()
    data, copy = Path(member.daemon.folder, "data"), Path(member.daemon.folder, "copy")
    member.kill()
    shutil.copytree(data, copy)
    member.start()
    yield
    member.kill()
    member.wipe()
    copy.rename(data)
    member.start()
    with closing(connect(url)) as other:
        for number in range(MANY):
            insist(other, f"other-{number}")


def only_listed(store: Datastore) -> None:
    """Nothing more is written."""


def made(store: Datastore) -> None:
    insist(store, "made")


def unmade(store: Datastore) -> None:
    made(store)
    store.delete("Node", "made")


@pytest.mark.parametrize("then", [only_listed, made, unmade])
def test_a_watch_does_not_go_on_in_another_history(then: Callable[[Datastore], None]) -> None:
    with etcd.etcd() as server:
        url = f"etcd:{server.urls}"
        with closing(connect(url)) as writer:
            insist(writer, "first")
        with closing(connect(url)) as store:
            with going_back(server, url):
                insist(store, "forgotten")
                watching = store.watch(store.list().revision)
                then(store)
                if then is not only_listed:
                    drain(watching, store.list().revision)
            with pytest.raises(Replaced):
                eventually(lambda: watching.next(SOON))


def test_a_watch_goes_on_in_the_same_history_whatever_was_last() -> None:
    with etcd.etcd() as server, closing(connect(f"etcd:{server.urls}")) as store:
        watching = store.watch(store.list().revision)
        for number, then in enumerate((only_listed, made, unmade, made)):
            then(store)
            if then is not only_listed:
                drain(watching, store.list().revision)
            server.member().kill()
            server.member().start()
            assert names(drain(watching, insist(store, f"after-{number}"))) == [f"+after-{number}"]


def test_an_agent_that_comes_late_knows_that_its_datastore_went_back() -> None:
    with etcd.etcd() as server:
        url = f"etcd:{server.urls}"
        with closing(connect(url)) as writer:
            insist(writer, "first")
        reached = Reached(url, known=False)
        with following(reached, None, reached.renew) as received:
            with going_back(server, url):
                received.wait(lambda s, c: c.connected and "first" in s.nodes)
                with closing(connect(url)) as writer:
                    insist(writer, "forgotten")
                received.wait(lambda s, c: "forgotten" in s.nodes)
            snapshot = received.wait(lambda s, c: c.connected and f"other-{MANY - 1}" in s.nodes)
            assert "forgotten" not in snapshot.nodes
            assert received.connection.jumps == 1
        reached.close()
