"""etcd when things go wrong: servers that die, stop, are wiped or restored; what others put below the prefix; answers that are lost."""

from __future__ import annotations

import shutil
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import pairwise
from pathlib import Path

import pytest

from netloom.agent import watching as following
from netloom.agent.reaching import Reached
from netloom.datastore import Datastore, Event, Listing, Revision, Watch, connect
from netloom.datastore.etcd import line, messages, store, watch
from netloom.datastore.etcd.connection import Connection
from netloom.datastore.etcd.store import EtcdDatastore
from netloom.errors import Compacted, Conflict, DatastoreError, NotFound, Unavailable
from netloom.model.resources import encode
from netloom.model.snapshot import Snapshot
from tests import etcd
from tests.kernel.datastore.etcd_place import EtcdPlace
from tests.pure.datastore.contract import SOON, drain, in_background, names
from tests.pure.datastore.places import node
from tests.waiting import eventually


@pytest.fixture(scope="module", autouse=True)
def inside() -> Iterator[None]:
    with etcd.inside():
        yield


@pytest.fixture(scope="module")
def server() -> Iterator[etcd.Etcd]:
    with etcd.etcd() as running:
        yield running


@pytest.fixture
def place(server: etcd.Etcd) -> Iterator[EtcdPlace]:
    place = EtcdPlace(server.urls)
    yield place
    place.leave()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other seconds: a server that is asked has less time to answer."""
    monkeypatch.setattr(line, "ANSWER", 1.5)
    monkeypatch.setattr(watch, "_QUIET", 0.5)
    monkeypatch.setattr(watch, "_ANSWER", 1.5)


def line_of(datastore: Datastore) -> str:
    """URL of the server that it has a line to."""
    assert isinstance(datastore, EtcdDatastore)
    return str(datastore._connection.line().server)


def insist(datastore: Datastore, name: str) -> int:
    """Creates it, however often no answer comes."""

    def create() -> int:
        try:
            return datastore.create(node(name))
        except Conflict:
            found = datastore.get("Node", name)
            return found.revision if found else 0
        except Unavailable:
            return 0

    return eventually(create)


def connected(target: str) -> Datastore:
    """As soon as its servers have elected one of theirs."""

    def found() -> Datastore | None:
        with suppress(Unavailable):
            return connect(target)
        return None

    datastore = eventually(found)
    assert datastore is not None
    return datastore


# Servers that are lost


def test_a_watch_goes_on_where_it_was_after_its_server_was_killed(server: etcd.Etcd, place: EtcdPlace) -> None:
    reader, writer = place.open(), place.open()
    watching = reader.watch(reader.list().revision)
    assert names(drain(watching, writer.create(node("first")))) == ["+first"]
    server.member().kill()
    server.member().start()
    last = [insist(writer, f"n{i}") for i in range(50)][-1]
    assert names(drain_patiently(watching, last)) == [f"+n{i}" for i in range(50)]


def test_a_watch_from_a_later_change_than_the_last_listing_goes_on_too(server: etcd.Etcd, place: EtcdPlace) -> None:
    datastore, writer = place.open(), place.open()
    writer.create(node("old"))
    newest = writer.create(node("changes", 1))
    datastore.list()
    watching = datastore.watch(writer.update(node("changes", 2), newest))
    server.member().kill()
    server.member().start()
    last = insist(writer, "after")
    assert names(drain_patiently(watching, last)) == ["+after"]


def test_while_no_server_is_there_calls_fail_at_once_and_say_why(server: etcd.Etcd, place: EtcdPlace) -> None:
    datastore = place.open()
    watching = datastore.watch(datastore.list().revision)
    server.member().kill()
    try:
        for call in (datastore.list, lambda: datastore.create(node("a")), lambda: watching.next(SOON)):
            with pytest.raises(Unavailable):
                call()
        with pytest.raises(Unavailable, match=f"{server.urls} cannot be reached: Connection refused") as e:
            datastore.list()
        assert e.value.hint == f"etcdctl --endpoints={server.urls} endpoint health"
    finally:
        server.member().start()
    last = insist(datastore, "back")
    assert names(drain_patiently(watching, last))[-1] == "+back"


def test_a_server_that_stops_is_left_for_another_one(hasty: None) -> None:
    """Of three, that one to which there is a line: what is watched goes on, what is written too."""
    with etcd.etcd(size=3) as cluster, closing(connected(f"etcd:{cluster.urls}")) as datastore:
        watching = datastore.watch(datastore.list().revision)
        before = line_of(datastore)
        stopped = next(member for member in cluster.members if member.url == before)
        stopped.send(signal.SIGSTOP)
        with closing(connected("etcd:" + ",".join(m.url for m in cluster.members if m is not stopped))) as other:
            last = insist(other, "meanwhile")
        assert names(drain_patiently(watching, last)) == ["+meanwhile"]
        assert line_of(datastore) != before
        insist(datastore, "after")
        stopped.send(signal.SIGCONT)


def drain_patiently(watching: Watch, until: Revision) -> list[Event]:
    """As `drain`, with a watch that may say for a while that nobody is there."""
    events: list[Event] = []

    def came() -> bool:
        with suppress(Unavailable):
            events.extend(watching.next(1.0))
        return bool(events) and events[-1].revision >= until

    eventually(came, 60.0)
    return events


class Counting(Reached):
    """It counts listings that were answered."""

    def __init__(self, target: str) -> None:
        super().__init__(target, known=False)
        self.listed: Counter[str] = Counter()

    def list(self, kind: str | None = None) -> Listing:
        listing = super().list(kind)
        self.listed[str(kind)] += 1
        return listing


def test_an_agent_lists_each_kind_at_most_once_for_each_time_that_it_connects(server: etcd.Etcd, place: EtcdPlace) -> None:
    reached, told = Counting(f"etcd:{place.target}"), [(Snapshot(), following.Connection())]
    watcher = following.Watcher(reached, Snapshot(), lambda *news: told.append(news), reached.renew)
    watcher.start()
    writer = place.open()
    for name in ("at-first", "in-between", "at-last"):
        insist(writer, name)
        eventually(lambda name=name: name in told[-1][0].nodes and told[-1][1].connected)
        server.member().kill()
        eventually(lambda: not told[-1][1].connected)
        server.member().start()
        eventually(lambda: told[-1][1].connected)
    watcher.stop()
    reached.close()
    came = [after.connected and not before.connected for (_, before), (_, after) in pairwise(told)]
    assert set(reached.listed) == set(following.KINDS)
    assert max(reached.listed.values()) <= sum(came)


def test_a_member_that_has_lost_the_others_is_left(hasty: None) -> None:
    """It takes connections and answers pings, and will never hear of a change."""
    with etcd.etcd(size=3, options=["--heartbeat-interval=50", "--election-timeout=500"]) as cluster:
        alone, *others = cluster.members
        with closing(connected(f"etcd:{alone.url}")) as datastore:
            for other in others:
                other.send(signal.SIGSTOP)
            refused = eventually(lambda: refusal_of(datastore), 60.0)
            assert alone.url in refused
            for other in others:
                other.send(signal.SIGCONT)
            insist(datastore, "together")


def refusal_of(datastore: Datastore) -> str:
    try:
        datastore.list()
    except Unavailable as e:
        return str(e)
    return ""


def test_a_write_whose_answer_is_lost_is_unavailable_and_can_be_done_again(
    server: etcd.Etcd, place: EtcdPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    datastore, other = place.open(), place.open()
    real = Connection.write

    def cut(self: Connection, method: str, request: bytes) -> bytes:
        real(self, method, request)
        raise line.Lost("cut after it was done")

    with monkeypatch.context() as cutting:
        cutting.setattr(Connection, "write", cut)
        with pytest.raises(Unavailable, match="cut"):
            datastore.create(node("a"))
    with pytest.raises(Conflict):
        datastore.create(node("a"))
    assert other.get("Node", "a") is not None


# Another store in its place


def test_a_store_that_was_wiped_is_not_written_to(place: EtcdPlace, server: etcd.Etcd) -> None:
    """Somebody else's etcdctl del --prefix, between two claims."""
    datastore = place.open()
    identity, made = datastore.identity, datastore.create(node("a"))
    server.ctl("del", "--prefix", place.layout.all.first.decode())
    with pytest.raises(Unavailable, match="another store"):
        datastore.create(node("b"))
    with pytest.raises(Unavailable, match="another store"):
        datastore.list()
    with pytest.raises(Unavailable, match="there is no datastore of Netloom"):
        connect(f"etcd:{place.target}", create=False)
    again = place.open()
    assert again.identity != identity
    assert (again.list().items, again.list().revision > made) == ((), True)


def test_a_watch_says_that_its_store_was_wiped(place: EtcdPlace, server: etcd.Etcd) -> None:
    datastore = place.open()
    watching = datastore.watch(datastore.create(node("a")))
    server.ctl("del", place.layout.identity.decode())
    with pytest.raises(Unavailable, match="another store"):
        watching.next(SOON)


def test_another_prefix_is_another_store(server: etcd.Etcd) -> None:
    a, b = EtcdPlace(server.urls), EtcdPlace(server.urls)
    a.open().create(node("a"))
    assert b.open().list().items == ()
    assert a.open().identity != b.open().identity
    a.leave()
    b.leave()


@pytest.mark.parametrize("how", ["wiped", "restored"])
def test_a_server_whose_data_were_taken_back_is_another_store(how: str) -> None:
    with etcd.etcd() as server, closing(connect(f"etcd:{server.urls}")) as datastore:
        member = server.member()
        datastore.create(node("a"))
        identity = datastore.identity
        member.kill()
        data, copy = Path(member.daemon.folder, "data"), Path(member.daemon.folder, "copy")
        shutil.copytree(data, copy)
        member.start()
        for i in range(20):
            last = insist(datastore, f"n{i}")
        watching = datastore.watch(last)
        member.kill()
        member.wipe()
        if how == "restored":
            copy.rename(data)
        member.start()
        eventually(lambda: "another store" in refusal_of(datastore))
        with pytest.raises(Unavailable, match="another store"):
            watching.next(SOON)
        with closing(connect(f"etcd:{server.urls}")) as anew:
            assert anew.list().revision < last
            assert (anew.identity == identity) == (how == "restored")
            with pytest.raises(Compacted):
                anew.watch(last)


# What others have put below the prefix


def test_what_another_program_has_put_there_is_named_and_blocks_nothing(place: EtcdPlace) -> None:
    datastore = place.open()
    prefix = place.layout.all.first
    watching = datastore.watch(datastore.create(node("a")))
    place.put(prefix + b"config", b"[section]")
    place.put(prefix + b"Node/\xff/x", b"\0\1")
    place.put(prefix + b"Node/half", encode(node("half"))[:40])
    place.put(prefix + b"Node/next", encode(node("next")).replace(b"netloom.io/v1", b"netloom.io/v2"))
    last = datastore.create(node("b"))
    listing = datastore.list()
    assert [stored.resource.name for stored in listing.items] == ["a", "b"]
    assert {name for name, _ in listing.broken} == {"config/", "Node/\\xff/x", "Node/half", "Node/next"}
    events = drain(watching, last)
    assert [event.key for event in events if event.error] == ["", "\\xff/x", "half", "next"]
    assert events[-1].resource == node("b")
    datastore.delete("Node", "half")
    with pytest.raises(NotFound):
        datastore.delete("Node", "half")


def test_an_identity_that_is_none_of_ours_is_refused_and_left_alone(place: EtcdPlace, server: etcd.Etcd) -> None:
    for value, words in (
        (b"hello", "is another program's"),
        (b'{"identity": "x", "schema": 2}', "has schema 2; this Netloom knows 1"),
    ):
        place.put(place.layout.identity, value)
        with pytest.raises(Unavailable, match=words) as e:
            place.open()
        assert e.value.hint
        assert server.ctl("get", "--print-value-only", place.layout.identity.decode()).strip() == value.decode()


# Listings in pages


def test_a_listing_in_pages_is_as_of_one_revision(place: EtcdPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_PAGE", 3)
    datastore, other = place.open(), place.open()
    for i in range(10):
        last = datastore.create(node(f"n{i}"))
    real = EtcdDatastore._page

    def interrupted(self: EtcdDatastore, first: bytes, end: bytes, revision: int) -> messages.Found:
        page = real(self, first, end, revision)
        if not revision:
            other.delete("Node", "n9")
            other.create(node("n8a"))
        return page

    monkeypatch.setattr(EtcdDatastore, "_page", interrupted)
    listing = datastore.list("Node")
    assert (listing.revision, [s.resource.name for s in listing.items]) == (last, [f"n{i}" for i in range(10)])


def test_a_listing_that_a_compaction_overtakes_is_read_again(place: EtcdPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_PAGE", 3)
    datastore, other = place.open(), place.open()
    for i in range(5):
        datastore.create(node(f"n{i}"))
    real, compactions = EtcdDatastore._page, iter(range(1))

    def compacted(self: EtcdDatastore, first: bytes, end: bytes, revision: int) -> messages.Found:
        page = real(self, first, end, revision)
        for _ in compactions:
            other.create(node("n5"))
            place.compact()
        return page

    monkeypatch.setattr(EtcdDatastore, "_page", compacted)
    assert len(datastore.list("Node").items) == 6


def test_records_that_are_too_long_for_one_answer_come_one_by_one(place: EtcdPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    options = dict(line._OPTIONS) | {"grpc.max_receive_message_length": 1 << 20}
    monkeypatch.setattr(line, "_OPTIONS", tuple(options.items()))
    datastore = place.open()
    for i in range(4):
        place.scribble("Node", f"long{i}", b"x" * (1 << 19))
    datastore.create(node("short"))
    listing = datastore.list("Node")
    assert [stored.resource.name for stored in listing.items] == ["short"]
    assert [name for name, _ in listing.broken] == [f"Node/long{i}" for i in range(4)]


def test_a_watcher_far_behind_gets_everything_though_an_answer_comes_in_parts(place: EtcdPlace) -> None:
    """etcd puts a thousand revisions into one answer, and cuts that into parts of 1.5 MiB."""
    datastore = place.open()
    since = datastore.list().revision
    for i in range(12):
        place.scribble("Node", f"long{i}", b"x" * (1 << 19))
    last = datastore.create(node("last"))
    assert [event.key for event in drain(datastore.watch(since), last)] == [*(f"long{i}" for i in range(12)), "last"]


def test_an_object_larger_than_etcd_takes_is_refused_for_good(place: EtcdPlace) -> None:
    huge = node("huge")
    huge.metadata.labels.update({f"label-{i}": "x" * 60 for i in range(40_000)})
    with pytest.raises(DatastoreError, match="too large") as e:
        place.open().create(huge)
    assert not isinstance(e.value, Unavailable)


# Threads


def test_close_leaves_no_thread(place: EtcdPlace) -> None:
    before = set(threading.enumerate())
    datastore = place.open()
    watches = [datastore.watch(datastore.list().revision) for _ in range(3)]
    waiting = [in_background(lambda each=each: each.next(None)) for each in watches]
    watches[0].close()
    assert list(waiting[0].result(SOON)) == []
    datastore.close()
    for each in waiting[1:]:
        with pytest.raises(Unavailable):
            each.result(SOON)
    for each in watches:
        each.close()
    eventually(lambda: not set(threading.enumerate()) - before)
