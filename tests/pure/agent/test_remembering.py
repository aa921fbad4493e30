from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netloom.agent.remembering import Memory
from netloom.agent.watching import Written
from netloom.model.resources import IPBlock, IPPool, IPReservation, Metadata, Namespace, Node, Resource, encode
from netloom.model.snapshot import Snapshot
from tests.pure.datastore.places import LONG, node
from tests.pure.ipam.making import block, claim, pool, reservation
from tests.pure.model.strategies import resources

KINDS = (Node, IPPool, IPBlock, IPReservation, Namespace)
CLUSTER = Snapshot.of(
    42,
    [
        node("a", 1),
        pool("p", "10.0.0.0/16"),
        block("10.0.0.0/26", claim("10.0.0.0/26", "a")),
        reservation("r", "10.0.0.0/30"),
        Namespace(metadata=Metadata(name="shop")),
    ],
)


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    return Memory(str(tmp_path))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "snapshot"


def recalled(file: Path) -> Snapshot:
    return Memory(str(file.parent)).recall()


def test_what_was_kept_is_recalled_and_is_not_complete(memory: Memory, file: Path) -> None:
    memory.keep(CLUSTER)
    found = recalled(file)
    assert (found.revision, found.complete) == (42, False)
    assert (found.nodes, found.pools, found.blocks) == (CLUSTER.nodes, CLUSTER.pools, CLUSTER.blocks)
    assert (found.reservations, found.namespaces) == (CLUSTER.reservations, CLUSTER.namespaces)


@pytest.mark.parametrize("written", [Written(), Written("Node", "a", 41), Written("Node", 'odd\n "key" ü', 7)])
def test_of_what_store_it_is_and_what_was_written_there_last_is_recalled(memory: Memory, file: Path, written: Written) -> None:
    memory.keep(CLUSTER, "4f-identity", written)
    again = Memory(str(file.parent))
    assert again.recall().nodes == CLUSTER.nodes
    assert (again.identity, again.written) == ("4f-identity", written)


def test_a_snapshot_that_an_older_agent_has_kept_is_recalled(memory: Memory, file: Path) -> None:
    file.write_bytes(b"7 4f-identity\n" + encode(node("a")) + b"\n")
    again = Memory(str(file.parent))
    assert again.recall().revision == 7
    assert (again.identity, again.written) == ("4f-identity", Written())


@settings(max_examples=200 if LONG else 30, deadline=None)
@given(st.lists(resources.filter(lambda r: isinstance(r, KINDS)), max_size=6), st.integers(0, 2**63))
def test_any_cluster_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, found: list[Resource], revision: int
) -> None:
    folder = tmp_path_factory.mktemp("state")
    snapshot = Snapshot.of(revision, found)  # type: ignore[arg-type]  # resources of any kind, drawn
    Memory(str(folder)).keep(snapshot)
    again = Memory(str(folder)).recall()
    assert again.revision == revision
    assert [encode(r) for r in every(again)] == [encode(r) for r in every(snapshot)]


def every(snapshot: Snapshot) -> list[Resource]:
    tables = (snapshot.nodes, snapshot.pools, snapshot.blocks, snapshot.reservations, snapshot.namespaces)
    return [resource for table in tables for _, resource in sorted(table.items())]


def test_nothing_is_recalled_where_nothing_was_kept(memory: Memory) -> None:
    assert memory.recall() == Snapshot()


def test_only_what_the_datastore_has_called_all_is_kept(memory: Memory, file: Path) -> None:
    memory.keep(Snapshot.of(1, [node("a")], complete=False))
    assert not file.exists()


def test_the_same_is_not_written_again_nor_the_next_at_once(memory: Memory, file: Path) -> None:
    memory.keep(CLUSTER)
    first = file.stat().st_ino
    memory.keep(CLUSTER)
    memory.keep(CLUSTER.updated(43, []))
    assert file.stat().st_ino == first
    memory.keep(CLUSTER.updated(43, []), at_once=True)
    assert recalled(file).revision == 43


def test_the_file_is_roots_alone(memory: Memory, file: Path) -> None:
    memory.keep(CLUSTER)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"nonsense\n", b"\xff\xfe\x00", b"12.5\n", b"-\n{}\n", b"\0" * 4096], ids=lambda c: repr(c[:9])
)
def test_a_damaged_file_is_as_good_as_none(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    assert recalled(file) == Snapshot()


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[]",
        b'{"kind":"Unknown"}',
        b'{"kind":"Node","metadata":{"name":"A B"}}',
        b"[" * 100_000,
        b"\xff\xff",
        b'"x"',
        b"1e999",
    ],
    ids=lambda line: repr(line[:20]),
)
def test_a_damaged_line_costs_itself_only(memory: Memory, file: Path, line: bytes) -> None:
    memory.keep(CLUSTER)
    lines = file.read_bytes().splitlines()
    file.write_bytes(b"\n".join([lines[0], line, *lines[1:]]))
    assert recalled(file).nodes == CLUSTER.nodes
    assert recalled(file).revision == 42


@settings(max_examples=300 if LONG else 60, deadline=None)
@given(st.integers(0, 5000), st.integers(0, 255), st.booleans())
def test_no_flipped_or_missing_byte_is_fatal(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int, cut: bool
) -> None:
    file = tmp_path_factory.mktemp("state") / "snapshot"
    Memory(str(file.parent)).keep(CLUSTER)
    data = bytearray(file.read_bytes())
    place %= len(data)
    data[place:] = b"" if cut else bytes((value,)) + data[place + 1 :]
    file.write_bytes(data)
    found = recalled(file)
    assert not found.complete


WRITER = """
import sys
from netloom.agent.remembering import Memory
from netloom.model.snapshot import Snapshot
from tests.pure.datastore.places import node
memory = Memory(sys.argv[1])
print("ready", flush=True)
revision = 0
while True:
    revision += 1
    memory.keep(Snapshot.of(revision, [node(f"n{number}", revision) for number in range(300)]), at_once=True)
"""


def test_a_kill_in_the_middle_of_a_write_leaves_one_whole_snapshot(memory: Memory, file: Path) -> None:
    memory.keep(CLUSTER)
    for delay in (0.001, 0.004, 0.009, 0.015, 0.03, 0.05):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(file.parent)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(delay)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        found = recalled(file)
        assert found.revision == 42 or len(found.nodes) == 300
        assert {n.metadata.labels["value"] for n in found.nodes.values()} in ({str(found.revision)}, {"1"})


def test_a_full_disk_keeps_the_last_one(memory: Memory, file: Path) -> None:
    memory.keep(CLUSTER)
    os.mkdir(f"{file}.new")  # in the way of the temporary file
    with pytest.raises(OSError, match="directory"):
        memory.keep(CLUSTER.updated(43, []), at_once=True)
    assert recalled(file).revision == 42
    os.rmdir(f"{file}.new")
    memory.keep(CLUSTER.updated(43, []), at_once=True)
    assert recalled(file).revision == 43
