from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from netloom.agent import reaching
from netloom.agent.reaching import Reached
from netloom.datastore import Datastore, connect
from netloom.errors import ConfigError, Unavailable
from tests.pure.datastore.places import node


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "store.db")


@pytest.fixture
def reached(path: str) -> Iterator[Reached]:
    made = Reached(f"sqlite:{path}", known=True)
    yield made
    made.close()


def make(path: str) -> None:
    with closing(connect(f"sqlite:{path}")) as store:
        store.create(node("a"))


def test_a_store_that_this_node_has_known_is_not_made_anew(reached: Reached, path: str) -> None:
    for _ in range(2):
        with pytest.raises(Unavailable, match="does not exist"):
            reached.list()
    assert not os.path.exists(path)
    make(path)
    assert len(reached.list().items) == 1


def test_the_first_start_of_all_makes_it(path: str) -> None:
    reached = Reached(f"sqlite:{path}", known=False)
    assert reached.list().items == ()
    assert reached.identity
    reached.renew()
    os.unlink(path)
    with pytest.raises(Unavailable, match="does not exist"):
        reached.list()
    reached.close()


def test_it_serves_as_a_datastore(reached: Reached, path: str) -> None:
    make(path)
    revision = reached.create(node("b", 1))
    watch = reached.watch(revision)
    stored = reached.get("Node", "b")
    assert stored is not None
    assert reached.update(node("b", 2), stored.revision) > revision
    reached.delete("Node", "b")
    assert [e.key for e in watch.next(1)] == ["b", "b"]
    watch.close()


def test_a_store_that_was_replaced_is_found_again_after_a_renewal(reached: Reached, path: str) -> None:
    make(path)
    identity = reached.identity
    os.rename(path, f"{path}.old")
    make(path)
    with pytest.raises(Unavailable, match="replaced"):
        reached.list()
    reached.renew()
    assert reached.identity != identity


def test_a_renewal_wakes_who_watches(reached: Reached, path: str) -> None:
    make(path)
    watch = reached.watch(reached.list().revision)
    ended = threading.Event()

    def wait() -> None:
        with pytest.raises(Unavailable):
            watch.next(30)
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    reached.renew()
    assert ended.wait(30)


def test_what_is_closed_stays_closed(reached: Reached, path: str) -> None:
    make(path)
    reached.close()
    with pytest.raises(Unavailable, match="closed"):
        reached.list()


def test_a_damaged_store_is_unavailable_and_left_as_it_is(reached: Reached, path: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE theirs (x)")
    with pytest.raises(Unavailable, match="another program"):
        reached.list()


def test_close_waits_for_nobody_who_opens_it(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    opening, go_on = threading.Event(), threading.Event()

    def slowly(target: str, *, create: bool) -> Datastore:
        opening.set()
        assert go_on.wait(30)
        return connect(target)

    monkeypatch.setattr(reaching, "connect", slowly)
    reached = Reached(f"sqlite:{path}", known=True)
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(reached.list)
        assert opening.wait(30)
        reached.close()
        assert not asking.done()
        go_on.set()
        with pytest.raises(Unavailable, match="closed"):
            asking.result(30)


def test_an_attempt_that_failed_counts_for_as_long_as_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 3.0, 4.0, 5.1, 5.2])
    tries: list[str] = []

    def nobody_answers(target: str, *, create: bool) -> Datastore:
        tries.append(target)
        raise Unavailable("nobody answers")

    monkeypatch.setattr(reaching, "connect", nobody_answers)
    monkeypatch.setattr(reaching.time, "monotonic", lambda: next(times))
    reached = Reached("memory:", known=True)
    for tried in (1, 1, 2):  # at 0 it takes 3 seconds and counts for 2; at 4; at 5.1
        with pytest.raises(Unavailable, match="nobody answers"):
            reached.list()
        assert len(tries) == tried


@pytest.mark.parametrize("target", ["", "sqlite", "sqlite:", "consul:http://x", "/var/lib/netloom.db"])
def test_a_target_that_names_nothing_is_a_setting_to_mend(target: str) -> None:
    with pytest.raises(ConfigError, match="names no datastore"):
        Reached(target, known=False)
