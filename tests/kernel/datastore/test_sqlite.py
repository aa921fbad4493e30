"""The SQLite engine where mounts matter: watchers in other namespaces, a full disk, a read-only one."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from netloom.datastore.sqlite import SqliteDatastore
from tests.pure.datastore.contract import SOON, in_background
from tests.pure.datastore.places import POLL, node

ROOT = Path(__file__).parents[3]
PRELUDE = f"""
import subprocess, sys
sys.path.insert(0, {str(ROOT)!r})
from netloom.datastore.sqlite import SqliteDatastore
from netloom.errors import Unavailable
from tests.pure.datastore.places import POLL, node

def refused(call, *words):
    try:
        call()
    except Unavailable as e:
        assert all(word in str(e) for word in words) and e.hint, repr(e)
    else:
        raise AssertionError("was not refused")
"""


@contextmanager
def apart(program: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The program runs in mount, network, PID and IPC namespaces of its own."""
    command = ["unshare", "--mount", "--net", "--ipc", "--pid", "--fork", "--kill-child", sys.executable, "-c"]
    with subprocess.Popen(
        [*command, PRELUDE + textwrap.dedent(program), *arguments], stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def run_apart(program: str, *arguments: str) -> None:
    with apart(program, *arguments) as child:
        child.communicate(timeout=60)
        assert child.returncode == 0


def line(child: subprocess.Popen[str]) -> str:
    assert child.stdout
    return in_background(child.stdout.readline).result(SOON).strip()


FOLLOW = """
subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)
store = SqliteDatastore(sys.argv[1], poll=POLL)
watch = store.watch(store.list().revision)
print("ready", flush=True)
while True:
    for event in watch.next(None):
        print(event.key, flush=True)
"""


def test_the_doorbell_is_heard_in_other_namespaces(tmp_path: Path) -> None:
    file = str(tmp_path / "store.db")
    with closing(SqliteDatastore(file, poll=POLL)) as store, apart(FOLLOW, file) as one, apart(FOLLOW, file) as other:
        assert (line(one), line(other)) == ("ready", "ready")
        for i in range(20):
            store.create(node(f"n{i}"))
            assert (line(one), line(other)) == (f"n{i}", f"n{i}")


def test_the_doorbell_is_heard_where_the_directory_is_mounted_elsewhere(tmp_path: Path) -> None:
    there = tmp_path / ("a-path-much-longer-than-a-socket's-name-may-be" * 4)
    there.mkdir()
    mounted = 'subprocess.run(["mount", "--bind", sys.argv[2], "/mnt"], check=True)\n' + FOLLOW
    with (
        closing(SqliteDatastore(str(there / "store.db"), poll=POLL)) as store,
        apart(mounted, "/mnt/store.db", str(there)) as child,
    ):
        assert line(child) == "ready"
        store.create(node("a"))
        assert line(child) == "a"


def test_a_full_disk_refuses_writes_whole_and_serves_readers(tmp_path: Path) -> None:
    program = """
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", sys.argv[1]], check=True)
    file = sys.argv[1] + "/store.db"
    store, written = SqliteDatastore(file), []
    try:
        while True:
            store.create(node(f"n{len(written)}"))
            written.append(f"n{len(written)}")
    except Unavailable as e:
        assert file in str(e) and "df" in e.hint, repr(e)
    assert len(written) > 100
    assert sorted(written) == [s.resource.name for s in store.list().items]
    assert [e.key for e in store.watch(0).next(0)] == written[:1000]
    refused(lambda: store.create(node("more")), file)
    subprocess.run(["mount", "-o", "remount,size=8m", sys.argv[1]], check=True)
    store.create(node("more"))
    store.close()
    with_it = SqliteDatastore(file)
    assert len(with_it.list().items) == len(written) + 1
    """
    run_apart(program, str(tmp_path))


def test_a_store_cannot_be_made_on_a_full_disk_and_can_be_later(tmp_path: Path) -> None:
    program = """
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", sys.argv[1]], check=True)
    file, ballast = sys.argv[1] + "/store.db", sys.argv[1] + "/ballast"
    with open(ballast, "wb", buffering=0) as full:
        try:
            while full.write(bytes(4096)): pass
        except OSError: pass
    refused(lambda: SqliteDatastore(file), file)
    subprocess.run(["rm", ballast], check=True)
    SqliteDatastore(file).create(node("a"))
    """
    run_apart(program, str(tmp_path))


def test_a_store_on_a_read_only_mount_is_refused_by_that_name(tmp_path: Path) -> None:
    program = """
    subprocess.run(["mount", "-t", "tmpfs", "none", sys.argv[1]], check=True)
    file = sys.argv[1] + "/store.db"
    SqliteDatastore(file).create(node("a"))
    subprocess.run(["mount", "--bind", sys.argv[1], "/mnt"], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", "/mnt"], check=True)
    refused(lambda: SqliteDatastore("/mnt/store.db"), "/mnt/store.db", "Read-only")
    """
    run_apart(program, str(tmp_path))
