"""The datastore is away, or is not the one that it was: what runs goes on, and nothing is taken away that nobody took away."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager

import pytest

from netloom.datastore import connect
from netloom.model.resources import Claim, Endpoint, IPBlock, IPPool, Metadata
from tests.agent_process import NODE, POOLS, running_machine
from tests.kernel.agent.conftest import LONG, Place, place_of, remote_node
from tests.residue import differences
from tests.waiting import eventually

REMOTE = "10.244.7.0/26"


@pytest.fixture
def place() -> Iterator[Place]:
    """A pod, a remote node, and the agent is stopped."""
    with running_machine() as machine, place_of(machine) as made:
        remote_node(made.store, 2, REMOTE)
        assert made.add("before").ok
        eventually(lambda: REMOTE in made.run("ip route"))
        eventually(lambda: endpoints(made) == {"before"})
        machine.end()
        yield made


def endpoints(place: Place) -> set[str]:
    """Container IDs of this node's Endpoints."""
    with closing(connect(place.machine.datastore)) as store:
        found = [s.resource for s in store.list("Endpoint").items if isinstance(s.resource, Endpoint)]
    return {e.spec.container_id for e in found}


@contextmanager
def away(place: Place) -> Iterator[None]:
    """The database's files lie elsewhere, as on a disk that is not mounted."""
    place.store.close()
    path = place.machine.datastore.removeprefix("sqlite:")
    for name in files(path):
        os.rename(name, f"{name}.away")
    yield
    for name in files(f"{path}"):
        os.rename(name, name.removesuffix(".away"))


def files(path: str) -> list[str]:
    folder = os.path.dirname(path)
    return [f"{folder}/{name}" for name in os.listdir(folder) if name.startswith(os.path.basename(path))]


@contextmanager
def locked(place: Place) -> Iterator[None]:
    """Somebody writes and does not end."""
    place.store.close()
    with closing(sqlite3.connect(place.machine.datastore.removeprefix("sqlite:"), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


@pytest.mark.parametrize("how", [away, pytest.param(locked, marks=pytest.mark.skipif(not LONG, reason="takes ten seconds"))])
def test_an_agent_starts_and_serves_from_what_it_remembers(
    place: Place, how: Callable[[Place], AbstractContextManager[None]]
) -> None:
    before = place.quiet_residue()
    with how(place):
        place.machine.start()
        assert differences(before, place.residue()) == []
        state = place.machine.state()
        assert not state.datastore.connected
        assert state.datastore.error is not None and state.datastore.since is not None
        assert any("datastore is away" in problem.message for problem in state.problems)
        assert place.add("meanwhile").ok
        assert place.delete("before").ok
        assert REMOTE in place.run("ip route")
    eventually(lambda: place.machine.state().datastore.connected)
    eventually(lambda: endpoints(place) == {"meanwhile"})
    assert REMOTE in place.run("ip route")
    assert place.machine.state().in_sync_since is not None


def test_an_agent_that_remembers_nothing_takes_nothing_away(place: Place) -> None:
    before = place.quiet_residue()
    os.unlink(f"{place.machine.state_dir}/snapshot")
    with away(place):
        os.symlink("/proc/none", place.machine.datastore.removeprefix("sqlite:"))  # nothing can be made here
        place.machine.start()
        assert differences(before, place.residue()) == []
        answer = place.add("meanwhile")
        assert answer.error == 11
        assert "the datastore was never reached" in answer.document["msg"]
        assert place.delete("before").ok
        os.unlink(place.machine.datastore.removeprefix("sqlite:"))
    eventually(lambda: place.machine.state().ready)
    assert place.add("afterwards").ok
    assert REMOTE in place.run("ip route")


def test_a_node_that_was_deleted_serves_nothing_from_what_it_remembers(place: Place) -> None:
    place.machine.start()
    eventually(lambda: place.machine.state().datastore.connected)
    place.quiet_residue()  # it has found its Node there
    place.store.delete("Node", NODE)
    eventually(lambda: not place.machine.state().ready)
    place.machine.end()
    with away(place):
        place.machine.start()
        answer = place.add("meanwhile")
        assert answer.error == 11
        assert "its Node object was not in the datastore when that last answered" in answer.document["msg"]
        assert place.delete("before").ok
    eventually(lambda: place.machine.state().ready)
    assert place.add("afterwards").ok


def test_another_datastore_gets_to_know_the_node_its_blocks_and_its_pods(place: Place) -> None:
    """Its people have moved the old one away, and declared the pools again."""
    claimed = {b.cidr for b in claims(place)}
    with away(place):
        with closing(connect(place.machine.datastore)) as store:
            for name, spec in POOLS.items():
                store.create(IPPool(metadata=Metadata(name=name), spec=spec))
        place.machine.start()
        eventually(lambda: endpoints(place) == {"before"})
        eventually(lambda: {b.cidr for b in claims(place)} == claimed)
        assert place.machine.state().ready
        assert place.add("meanwhile").ok
        for name in files(place.machine.datastore.removeprefix("sqlite:")):
            if not name.endswith(".away"):
                os.unlink(name)
    # and while the agent runs the first one is put back
    eventually(lambda: endpoints(place) == {"before", "meanwhile"})
    eventually(lambda: REMOTE in place.run("ip route"))


def claims(place: Place) -> list[Claim]:
    with closing(connect(place.machine.datastore)) as store:
        blocks = [s.resource for s in store.list("IPBlock").items if isinstance(s.resource, IPBlock)]
    return [c for b in blocks for c in b.spec.claims if c.node == "node-0"]
