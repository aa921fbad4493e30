"""The last change of a pool, or of the cluster's numbers, is taken back."""

from __future__ import annotations

import msgspec
import pytest

from netloom.datastore.sqlite import SqliteDatastore
from netloom.model.before import KEY
from netloom.model.resources import Encapsulation, FelixConfiguration, IPPool
from tests.pure.cli.conftest import Run

NUMBERS = "apiVersion: netloom.io/v1\nkind: FelixConfiguration\nmetadata: {name: default}\nspec: {vxlanVNI: %s}\n"


def change(run: Run, before: str, after: str) -> None:
    shown = run("get", "pool", "default", "-o", "yaml").stdout
    assert f"encapsulation: {before}" in shown
    written = run("apply", "-f", "-", stdin=shown.replace(f"encapsulation: {before}", f"encapsulation: {after}"))
    assert written.stdout == "ippool/default configured\n", written.output


def encapsulation(store: SqliteDatastore) -> Encapsulation:
    stored = store.get("IPPool", "default")
    assert stored is not None and isinstance(stored.resource, IPPool)
    return stored.resource.spec.encapsulation


def test_a_pool_is_as_it_was_and_undone_twice_as_it_is(run: Run, cluster: SqliteDatastore) -> None:
    change(run, "VXLAN", "IPIP")
    said = run("undo", "pool", "default")
    assert said.stdout == "    spec.encapsulation: IPIP → VXLAN\nippool/default as it was\n", said.output
    assert encapsulation(cluster) is Encapsulation.VXLAN
    run("undo", "pool", "default")
    assert encapsulation(cluster) is Encapsulation.IPIP


def test_applying_the_same_again_keeps_what_was_before(run: Run, cluster: SqliteDatastore) -> None:
    change(run, "VXLAN", "UDP")
    shown = run("get", "pool", "default", "-o", "yaml").stdout
    without_note = "\n".join(line for line in shown.splitlines() if KEY not in line and "annotations" not in line)
    assert run("apply", "-f", "-", stdin=without_note).stdout == "ippool/default unchanged\n"
    run("undo", "pool", "default")
    assert encapsulation(cluster) is Encapsulation.VXLAN


def test_the_clusters_numbers_are_as_they_were(run: Run, store: SqliteDatastore) -> None:
    for number in (7, 8):
        run("apply", "-f", "-", stdin=NUMBERS % number)
    assert run("undo", "felixconfiguration", "default").exit_code == 0
    stored = store.get("FelixConfiguration", "default")
    assert stored is not None and isinstance(stored.resource, FelixConfiguration)
    assert stored.resource.spec.vxlan_vni == 7


def test_a_rehearsal_writes_nothing(run: Run, cluster: SqliteDatastore) -> None:
    change(run, "VXLAN", "IPIP")
    assert "IPIP → VXLAN" in run("undo", "pool", "default", "--dry-run").stdout
    assert encapsulation(cluster) is Encapsulation.IPIP


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("pool", "nobodys"), "there is no pool nobodys"),
        (("pool", "default"), "of pool default it is not known what it said before"),
    ],
)
def test_what_cannot_be_taken_back_is_said(words: tuple[str, str], error: str, run: Run, cluster: SqliteDatastore) -> None:
    result = run("undo", *words)
    assert (result.exit_code, result.stderr.splitlines()[0]) == (1, f"error: {error}")


@pytest.mark.parametrize("note", ["", "{", "[]", '{"cidr": "nowhere"}', '{"cidr": "10.244.0.0/16", "encapsulation": "rm -rf"}'])
def test_a_note_that_somebody_has_changed_is_refused(note: str, run: Run, cluster: SqliteDatastore) -> None:
    stored = cluster.get("IPPool", "default")
    assert stored is not None and isinstance(stored.resource, IPPool)
    metadata = msgspec.structs.replace(stored.resource.metadata, annotations={KEY: note})
    cluster.update(msgspec.structs.replace(stored.resource, metadata=metadata), stored.revision)
    result = run("undo", "pool", "default")
    assert result.exit_code == 2, result.output
    assert KEY in result.stderr
    assert encapsulation(cluster) is Encapsulation.VXLAN
