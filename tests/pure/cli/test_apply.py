from __future__ import annotations

from pathlib import Path

import pytest

from netloom.datastore.sqlite import SqliteDatastore
from netloom.model.resources import Node
from tests.pure.cli.conftest import Run

POOL = """\
apiVersion: netloom.io/v1
kind: IPPool
metadata: {name: gpu}
spec: {cidr: 10.9.0.0/16}
"""
RESERVATION = """\
apiVersion: projectcalico.org/v3
kind: IPReservation
metadata: {name: keep}
spec: {reservedCIDRs: [10.9.0.0/30]}
"""


def test_what_a_manifest_says_is_made_and_making_it_again_changes_nothing(run: Run, store: SqliteDatastore) -> None:
    assert run("apply", "-f", "-", stdin=POOL).stdout == "ippool/gpu created\n"
    assert run("apply", "-f", "-", stdin=POOL).stdout == "ippool/gpu unchanged\n"
    assert run(
        "apply", "-f", "-", stdin=POOL.replace("}\n", ", disabled: true}\n").replace("gpu, disabled: true", "gpu")
    ).stdout == ("ippool/gpu configured\n")
    assert run("get", "pools", "-o", "name").stdout == "pool/gpu\n"


def test_the_first_apply_makes_the_datastore(run: Run) -> None:
    assert run("apply", "-f", "-", stdin=POOL).exit_code == 0
    assert run("get", "pools", "-o", "name").stdout == "pool/gpu\n"


def test_a_directory_is_all_manifests_in_it(run: Run, store: SqliteDatastore, tmp_path: Path) -> None:
    folder = tmp_path / "manifests"
    folder.mkdir()
    for name, text in (("b.yaml", RESERVATION), ("a.yml", POOL), ("notes.txt", "not a manifest")):
        (folder / name).write_text(text)
    assert run("apply", "-f", str(folder)).stdout == "ippool/gpu created\nipreservation/keep created\n"


@pytest.mark.parametrize("kind", ["nodes", "pools", "namespaces", "reservations"])
@pytest.mark.parametrize("output", ["json", "yaml"])
def test_what_is_printed_can_be_applied_and_changes_nothing(kind: str, output: str, run: Run, cluster: SqliteDatastore) -> None:
    printed = run("get", kind, "-o", output).stdout
    before = cluster.list().revision
    result = run("apply", "-f", "-", stdin=printed)
    assert result.exit_code == 0
    assert {line.split()[1] for line in result.stdout.splitlines()} == {"unchanged"}
    assert cluster.list().revision == before


@pytest.mark.parametrize("flag", ["--dry-run", "--diff"])
def test_a_rehearsal_writes_nothing(flag: str, run: Run, cluster: SqliteDatastore) -> None:
    before = cluster.list().revision
    run("apply", "-f", "-", flag, stdin=POOL)
    assert cluster.list().revision == before


def test_a_dry_run_says_what_would_happen(run: Run, store: SqliteDatastore) -> None:
    result = run("apply", "-f", "-", "--dry-run", stdin=POOL)
    assert (result.exit_code, result.stdout) == (0, "ippool/gpu created (dry run)\n")


def test_a_diff_shows_each_field_and_its_exit_code_says_whether_there_is_one(run: Run, cluster: SqliteDatastore) -> None:
    changed = run("get", "pool", "default", "-o", "yaml").stdout.replace("natOutgoing: true", "disabled: true")
    result = run("apply", "-f", "-", "--diff", stdin=f"{changed}---\n{POOL}")
    assert result.stdout.splitlines() == [
        "~ ippool/default",
        "    spec.disabled: - → true",
        "    spec.natOutgoing: true → -",
        "+ ippool/gpu",
        "    metadata.name: gpu",
        "    spec.blockSize: 26",
        "    spec.cidr: 10.9.0.0/16",
    ]
    assert result.exit_code == 1
    assert run("apply", "-f", "-", "--diff", stdin=run("get", "pools", "-o", "yaml").stdout).exit_code == 0


def test_a_nodes_labels_change_and_its_spec_stays(run: Run, cluster: SqliteDatastore) -> None:
    labelled = "apiVersion: netloom.io/v1\nkind: Node\nmetadata: {name: a, labels: {rack: '2'}}\n"
    assert run("apply", "-f", "-", stdin=labelled).stdout == "node/a configured\n"
    stored = cluster.get("Node", "a")
    assert stored and isinstance(stored.resource, Node)
    assert (stored.resource.metadata.labels, stored.resource.spec.id) == ({"rack": "2"}, "id-a")


def test_every_error_of_every_file_is_told_and_nothing_is_written(run: Run, store: SqliteDatastore, tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text(POOL)
    (tmp_path / "bad.yaml").write_text(POOL.replace("10.9.0.0/16", "10.9.0.1/16").replace("gpu", "x"))
    (tmp_path / "worse.yaml").write_text("a: *b\n")
    arguments = [part for name in ("good", "bad", "worse") for part in ("-f", str(tmp_path / f"{name}.yaml"))]
    result = run("apply", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines() == [
        f"error: {tmp_path}/bad.yaml:4: spec.cidr: '10.9.0.1/16' has host bits set; did you mean 10.9.0.0/16?",
        f"error: {tmp_path}/worse.yaml:1: aliases (*name) are not read; write the value out",
        "hint: nothing was written; correct the manifest and try again",
    ]
    assert store.list().items == ()


def test_what_does_not_fit_to_what_is_there_is_refused_with_its_line(run: Run, cluster: SqliteDatastore) -> None:
    result = run("apply", "-f", "-", stdin=POOL + "---\n" + POOL.replace("gpu", "more").replace("10.9.0.0/16", "10.244.9.0/24"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines()[:2] == [
        "error: standard input:9: spec.cidr: 10.244.9.0/24 overlaps 10.244.0.0/16 of pool default",
        "hint: choose a range that no pool has: netloom get pools",
    ]
    assert cluster.get("IPPool", "gpu") is None


@pytest.mark.parametrize("kind", ["pods", "blocks"])
def test_what_nodes_write_is_not_applied(kind: str, run: Run, cluster: SqliteDatastore) -> None:
    result = run("apply", "-f", "-", stdin=run("get", kind, "-A", "-o", "yaml").stdout)
    assert result.exit_code == 2
    assert "is written by the nodes, not by people" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "stdin", "error"),
    [
        (["-f", "/nonexistent.yaml"], None, "/nonexistent.yaml: cannot be read: No such file or directory"),
        (["-f", "-"], "", "-: there is nothing in it"),
        (["-f", "-"], b"\xff", "standard input:1: is not UTF-8 text"),
        (["-f", "-"], "x" * ((1 << 20) + 9), "standard input: is longer than 1048576 bytes"),
        ([], None, "Missing option '-f' / '--filename'"),
    ],
)
def test_what_cannot_be_read_is_used_wrongly(arguments: list[str], stdin: str | bytes | None, error: str, run: Run) -> None:
    result = run("apply", *arguments, stdin=stdin)
    first, *_, last = result.stderr.splitlines()
    assert (result.exit_code, first) == (2, f"error: {error}")
    assert last.startswith("hint: ")
