from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from netloom.datastore.sqlite import SqliteDatastore
from tests.pure.cli.conftest import Run, fill
from tests.pure.cli.samples import block, endpoint, pool


@pytest.mark.parametrize(
    "arguments", [["reservation", "printers"], ["ipreservations/printers"], ["namespace", "shop"], ["node", "b"]]
)
def test_an_object_is_deleted_by_kind_and_name(arguments: list[str], run: Run, cluster: SqliteDatastore) -> None:
    before = len(cluster.list().items)
    result = run("delete", *arguments, "--yes")
    assert (result.exit_code, result.stdout.split()[1]) == (0, "deleted")
    assert len(cluster.list().items) == before - 1


def test_what_a_file_names_is_deleted(run: Run, cluster: SqliteDatastore) -> None:
    printed = run("get", "reservations", "-o", "yaml").stdout
    assert run("delete", "-f", "-", "--yes", stdin=printed).stdout == "ipreservation/printers deleted\n"


def test_without_a_terminal_a_yes_is_needed(run: Run, cluster: SqliteDatastore) -> None:
    result = run("delete", "namespace", "shop")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: --yes: deleting namespace/shop needs a yes\nhint: add --yes")
    assert cluster.get("Namespace", "shop")


def test_a_dry_run_deletes_nothing(run: Run, cluster: SqliteDatastore) -> None:
    assert run("delete", "ns", "shop", "--dry-run").stdout == "namespace/shop deleted (dry run)\n"
    assert cluster.get("Namespace", "shop")


def test_a_pool_in_use_is_a_clear_no(run: Run, cluster: SqliteDatastore) -> None:
    result = run("delete", "pool", "default", "--yes")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(
        "error: ippool/default: 2 of its blocks are claimed by nodes (a, b)\nhint: write `disabled: true`"
    )
    assert cluster.get("IPPool", "default")


def test_a_network_goes_when_its_pods_are_gone(run: Run, cluster: SqliteDatastore) -> None:
    """Its node holds a block of it for a while; a network is no more than its pods."""
    blue = pool("blue", "172.20.0.0/16", network="blue", node="a")
    pod = endpoint("db", "shop", "a", "172.20.0.7")
    fill(cluster, (blue, block("172.20.0.0/26", "a"), pod))
    result = run("delete", "pool", "blue", "--yes")
    assert result.exit_code == 1
    assert result.stderr.startswith(
        "error: ippool/blue: pods of network blue have its addresses (shop/db)\nhint: take its pods"
    )
    cluster.delete("Endpoint", pod.key)
    assert run("delete", "pool", "blue", "--yes").stdout == "ippool/blue deleted\n"


def test_an_unused_pool_goes(run: Run, cluster: SqliteDatastore) -> None:
    fill(cluster, (pool("old", "10.9.0.0/16"),))
    assert run("delete", "pool", "old", "--yes").stdout == "ippool/old deleted\n"


@pytest.mark.parametrize("arguments", ["block 10-244-0-0-26", "endpoint loom00000000002 -n shop", "pod web-0 -n shop"])
def test_what_nodes_write_is_not_deleted_by_hand(arguments: str, run: Run, cluster: SqliteDatastore) -> None:
    result = run("delete", *arguments.split(), "--yes")
    assert result.exit_code == 1
    assert "not by people" in result.stderr
    assert "what nodes left behind: netloom ipam check" in result.stderr


def test_what_is_there_is_deleted_and_what_is_not_is_named(run: Run, cluster: SqliteDatastore) -> None:
    result = run("delete", "ns", "shop", "nope", "--yes")
    assert (result.exit_code, result.stdout) == (1, "namespace/shop deleted\n")
    assert result.stderr == "error: there is no namespace/nope\nhint: netloom get namespaces\n"


def test_a_record_that_cannot_be_read_can_be_deleted(run: Run, cluster: SqliteDatastore, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "store.db")) as db, db:
        db.execute("UPDATE records SET value = '{' WHERE kind = 'Namespace'")
    assert run("delete", "ns", "shop", "--yes").stdout == "namespace/shop deleted\n"
    assert cluster.list().broken == ()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ([], "say what to delete: KIND NAME, or -f FILE"),
        (["pool", "a", "-f", "x.yaml"], "say what to delete: KIND NAME, or -f FILE"),
        (["pool"], "say which of the pools"),
        (["wombat", "a"], "'wombat' is not a kind"),
        (["pool", "a/b"], "'a/b': pools have no namespace"),
    ],
)
def test_what_is_not_said_clearly_is_used_wrongly(arguments: list[str], error: str, run: Run, cluster: SqliteDatastore) -> None:
    result = run("delete", *arguments)
    first, last = result.stderr.splitlines()
    assert (result.exit_code, first) == (2, f"error: {error}")
    assert last.startswith("hint: ")
