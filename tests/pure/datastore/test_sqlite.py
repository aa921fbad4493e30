"""The SQLite engine: the contract, then what only it can meet: other processes, killed writers, files that are not what they should be."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from netloom.datastore import connect
from netloom.datastore.sqlite import SqliteDatastore
from netloom.errors import Compacted, Unavailable
from tests.pure.datastore import processes
from tests.pure.datastore.contract import SOON, Contract, drain
from tests.pure.datastore.model import SETTINGS, StoreMachine
from tests.pure.datastore.places import LONG, POLL, Place, SqlitePlace, node
from tests.pure.datastore.processes import hear

FAST = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Where fsync costs nothing, for tests that are about other things."""


@pytest.fixture
def directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(dir=FAST))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def file(directory: Path) -> str:
    return str(directory / "store.db")


class TestSqlite(Contract):
    @pytest.fixture
    def place(self, file: str) -> Iterator[Place]:
        place = SqlitePlace(file)
        yield place
        place.close()


class SqliteMachine(StoreMachine):
    def make_place(self) -> Place:
        self.directory = tempfile.mkdtemp(dir=FAST)
        return SqlitePlace(f"{self.directory}/store.db")

    def teardown(self) -> None:
        super().teardown()
        shutil.rmtree(self.directory)


SqliteMachine.TestCase.settings = SETTINGS
TestSqliteHistories = SqliteMachine.TestCase


def sql(file: str, *statements: str) -> None:
    """As another program would."""
    with closing(sqlite3.connect(file)) as db, db:
        for statement in statements:
            db.execute(statement)


DISAGREE = """
SELECT last.key FROM (SELECT kind, key, max(revision) AS revision, value FROM log WHERE revision > 0 GROUP BY kind, key) AS last
LEFT JOIN records USING (kind, key) WHERE (records.revision, records.value) IS NOT
    (CASE WHEN last.value IS NULL THEN NULL ELSE last.revision END, last.value)
"""


def require_sound(file: str) -> None:
    """Whole, no revision missing in the log, and both tables tell the same."""
    with closing(sqlite3.connect(file)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        first, last, count = db.execute("SELECT min(revision), max(revision), count(*) FROM log").fetchone()
        assert last - first + 1 == count
        assert db.execute(DISAGREE).fetchall() == []


# The file


def test_directory_and_files_are_made_for_the_owner_alone(directory: Path) -> None:
    old = os.umask(0)
    try:
        SqliteDatastore(str(directory / "a" / "b" / "store.db")).create(node("a"))
    finally:
        os.umask(old)
    made = directory / "a" / "b"
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert {f.name: stat.S_IMODE(f.stat().st_mode) for f in made.iterdir()} == {
        "store.db": 0o600,
        "store.db-wal": 0o600,
        "store.db-shm": 0o600,
        "store.db-bell": 0o600,
    }


def test_connect_opens_the_file_that_the_setting_names(file: str) -> None:
    with closing(connect(f"sqlite:{file}")) as store:
        store.create(node("a"))
    with closing(SqliteDatastore(file)) as same:
        assert [s.resource.name for s in same.list().items] == ["a"]


def test_a_path_with_signs_of_a_uri_is_only_a_path(directory: Path) -> None:
    path = str(directory / "50% a?b#c &é.db")
    with closing(SqliteDatastore(path)) as store:
        store.create(node("a"))
    assert os.path.exists(path)


def test_another_store_has_another_identity(directory: Path) -> None:
    with closing(SqliteDatastore(str(directory / "a.db"))) as a, closing(SqliteDatastore(str(directory / "b.db"))) as b:
        assert a.identity != b.identity


def test_the_log_forgets_what_is_older_than_it_keeps(file: str) -> None:
    with closing(SqliteDatastore(file, keep=3)) as store:
        revisions = [store.create(node(f"n{i}")) for i in range(5)]
        with pytest.raises(Compacted):
            store.watch(revisions[1])
        assert [e.revision for e in drain(store.watch(revisions[2]), revisions[-1])] == revisions[3:]


def test_a_watcher_far_behind_gets_everything_in_several_portions(file: str) -> None:
    with closing(SqliteDatastore(file)) as store:
        watch = store.watch(0)
        revisions = [store.create(node(f"n{i}")) for i in range(2100)]
        assert [e.revision for e in drain(watch, revisions[-1])] == revisions


# Files that cannot be used: each refusal names the file and says what to do next


def refusal(file: str, **how: float) -> Unavailable:
    with pytest.raises(Unavailable, match=file) as e:
        SqliteDatastore(file, **how)  # type: ignore[arg-type]  # patience alone
    assert e.value.hint
    return e.value


def test_what_is_not_a_database_is_refused_and_left_alone(file: str) -> None:
    Path(file).write_text("just a letter to the people who come after us, and longer than a database's header is\n" * 20)
    before = Path(file).read_bytes()
    assert "is not a database" in str(refusal(file))
    assert Path(file).read_bytes() == before


def test_a_database_of_another_program_is_refused_and_left_alone(file: str) -> None:
    sql(file, "CREATE TABLE songs (title TEXT)", "INSERT INTO songs VALUES ('La Mer')")
    before = Path(file).read_bytes()
    assert "another program" in str(refusal(file))
    assert Path(file).read_bytes() == before
    assert os.listdir(os.path.dirname(file)) == ["store.db"]


def test_a_newer_schema_is_refused_by_number(file: str) -> None:
    SqliteDatastore(file).close()
    sql(file, "PRAGMA user_version = 2")
    assert "schema 2; this Netloom knows 1" in str(refusal(file))


@pytest.mark.parametrize("damage", ["DELETE FROM log", "DROP TABLE log", "DELETE FROM meta", "DROP TABLE records"])
def test_a_store_that_lacks_a_part_is_unavailable(file: str, damage: str) -> None:
    with closing(SqliteDatastore(file)) as store:
        store.create(node("a"))
    sql(file, damage)
    with pytest.raises(Unavailable, match=file), closing(SqliteDatastore(file)) as store:
        store.list()


def test_a_damaged_file_is_refused(file: str) -> None:
    with closing(SqliteDatastore(file)) as store:
        for i in range(300):
            store.create(node(f"n{i}"))
    page = 4096
    with open(file, "r+b") as raw:
        raw.seek(5 * page)
        raw.write(os.urandom(10 * page))
    assert "is damaged" in str(refusal(file))


def test_damage_while_in_use_is_unavailable_and_says_so(file: str) -> None:
    with closing(SqliteDatastore(file)) as store:
        for i in range(300):
            store.create(node(f"n{i}"))
        sql(file, "PRAGMA wal_checkpoint(TRUNCATE)")
        with open(file, "r+b") as raw:
            raw.seek(4096)
            raw.write(b"\xa5" * (os.path.getsize(file) - 4096))
        sql(file, "PRAGMA user_version = 1")  # a commit, so that cached pages are read again
        with pytest.raises(Unavailable, match=f"{file} is damaged") as e:
            store.list()
        assert e.value.hint and "move it away" in e.value.hint
        with pytest.raises(Unavailable):
            store.create(node("a"))


def test_a_directory_in_the_place_of_the_file_is_refused(file: str) -> None:
    os.mkdir(file)
    assert "is not a file" in str(refusal(file))


def test_a_file_in_the_place_of_the_directory_is_refused(file: str) -> None:
    Path(file).write_bytes(b"")
    assert f"{file}: File exists" in str(refusal(f"{file}/store.db"))


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_file_that_was_taken_away_in_use_is_unavailable(file: str, how: str) -> None:
    with closing(SqliteDatastore(file)) as store:
        watch = store.watch(store.create(node("a")))
        os.unlink(file)
        if how == "replaced":
            Path(file).write_bytes(b"")
        for call in (store.list, lambda: store.create(node("b")), lambda: watch.next(0)):
            with pytest.raises(Unavailable, match="removed or replaced"):
                call()


def test_a_store_that_went_back_in_place_sends_its_watchers_to_list_again(file: str) -> None:
    with closing(SqliteDatastore(file)) as store:
        store.create(node("a"))
        backup = sqlite3.connect(":memory:")
        with closing(sqlite3.connect(file)) as db:
            db.backup(backup)
        watch = store.watch(store.create(node("b")))
        with closing(sqlite3.connect(file)) as db:
            backup.backup(db)
        with pytest.raises(Compacted):
            watch.next(0)
        assert store.list().revision == 1
        backup.close()


# Other processes


def test_of_racing_processes_exactly_one_wins_each_round(file: str) -> None:
    racers, rounds = (16, 60) if LONG else (8, 15)
    with closing(SqliteDatastore(file)) as store, ExitStack() as running:
        store.create(node("counter", 0))
        pipes = [running.enter_context(processes.process(processes.compete, file, rounds))[0] for _ in range(racers)]
        for pipe in pipes:
            assert hear(pipe) == "ready"
        for pipe in pipes:
            pipe.send("go")
        won = [i for pipe in pipes for i in hear(pipe)]
        assert sorted(won) == list(range(rounds))
        counter = store.get("Node", "counter")
        assert counter is not None and counter.resource == node("counter", racers * rounds)
    require_sound(file)


def test_many_processes_may_make_the_store_at_once(directory: Path) -> None:
    file = str(directory / "new" / "store.db")
    with ExitStack() as running:
        pipes = [running.enter_context(processes.process(processes.follow, file))[0] for _ in range(8)]
        assert [hear(pipe) for pipe in pipes] == ["ready"] * 8
        with closing(SqliteDatastore(file)) as store:
            store.create(node("a"))
            assert [hear(pipe) for pipe in pipes] == ["a"] * 8


def test_the_doorbell_and_not_the_poll_wakes_watchers_of_other_processes(file: str) -> None:
    with closing(SqliteDatastore(file, poll=POLL)) as store, processes.process(processes.follow, file) as (pipe, _):
        assert hear(pipe) == "ready"
        for i in range(100):
            store.create(node(f"n{i}"))
            assert hear(pipe) == f"n{i}"


def test_the_poll_finds_what_nobody_rang_for(file: str) -> None:
    with closing(SqliteDatastore(file, poll=0.01)) as store:
        watch = store.watch(store.list().revision)
        SqlitePlace(file).scribble("Node", "quiet", b"{")
        assert [e.key for e in watch.next(SOON)] == ["quiet"]


def test_a_lock_held_by_another_process_is_waited_for_and_then_unavailable(file: str) -> None:
    with closing(SqliteDatastore(file, patience=0.05)) as store, processes.process(processes.lock, file) as (pipe, _):
        assert hear(pipe) == "ready"
        with pytest.raises(Unavailable, match=f"{file} is locked by another process") as e:
            store.create(node("a"))
        assert e.value.hint == f"see who holds it: fuser -v {file}"
        assert store.list().items == ()  # readers do not wait
        pipe.send("let go")
        assert hear(pipe) == "free"
        store.create(node("a"))


def test_a_writer_killed_at_any_moment_leaves_a_sound_store(file: str) -> None:
    rng = random.Random(0)
    with closing(SqliteDatastore(file)) as observer:
        for number in range(200 if LONG else 25):
            with processes.process(processes.write, file, f"w{number}") as (pipe, child):
                answered = hear(pipe)
                time.sleep(rng.uniform(0, 0.03))
                child.kill()
                child.join()
                with suppress(EOFError):
                    while True:
                        answered = pipe.recv()
            assert observer.list().revision >= answered
            require_sound(file)
