"""A node is drained, and takes pods again."""

from __future__ import annotations

from netloom.datastore.sqlite import SqliteDatastore
from netloom.model.resources import Node
from tests.pure.cli.conftest import Run


def draining(store: SqliteDatastore, name: str) -> bool | None:
    stored = store.get("Node", name)
    assert stored is not None and isinstance(stored.resource, Node)
    return stored.resource.spec.draining


def test_a_node_is_drained_and_what_it_has_left_is_said(run: Run, cluster: SqliteDatastore) -> None:
    for _ in range(2):
        result = run("drain", "a")
        assert result.exit_code == 0
        assert result.stdout.startswith("a takes no new pods; it has ")
        assert draining(cluster, "a") is True


def test_status_says_so(run: Run, cluster: SqliteDatastore) -> None:
    run("drain", "a")
    [line] = [line for line in run("status").stdout.splitlines() if line.startswith("a ")]
    assert line.endswith("drained")


def test_it_takes_pods_again(run: Run, cluster: SqliteDatastore) -> None:
    run("drain", "a")
    assert run("drain", "a", "--undo").stdout == "a takes new pods\n"
    assert draining(cluster, "a") is None
    assert run("drain", "a", "--undo").stdout == "a takes new pods: it was not being drained\n"


def test_a_node_that_is_not_there_is_none(run: Run, cluster: SqliteDatastore) -> None:
    result = run("drain", "nobody")
    assert (result.exit_code, result.stderr) == (1, "error: there is no node nobody\nhint: netloom get nodes\n")
