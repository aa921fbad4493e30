"""A datastore that loses its memory takes no route away: what goes missing in a crowd, or after a restore, is held."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing

import msgspec
import pytest

from netloom.agent.control import Request, tell
from netloom.datastore import connect
from netloom.model.resources import Claim, IPBlock
from tests.agent_process import HASTY, NODE, running_machine
from tests.kernel.agent.conftest import Place, place_of, remote_node
from tests.waiting import eventually

OTHERS = range(2, 10)


def block_of(number: int) -> str:
    return f"10.244.{number}.0/26"


@pytest.fixture
def place() -> Iterator[Place]:
    """A pod, and eight other nodes."""
    with running_machine(command=HASTY) as machine, place_of(machine) as made:
        for number in OTHERS:
            remote_node(made.store, number, block_of(number))
        assert made.add("pod").ok
        eventually(lambda: led_to(made) == set(OTHERS))
        yield made


def led_to(place: Place) -> set[int]:
    """The other nodes that this one's kernel has routes to."""
    routes = place.run("ip route")
    return {number for number in OTHERS if block_of(number) in routes}


def lose(place: Place, *numbers: int) -> None:
    for number in numbers:
        place.store.delete("Node", f"remote-{number}")
        place.store.delete("IPBlock", f"10-244-{number}-0-26")


def is_braked(place: Place) -> bool:
    return any("system brake release" in problem.message for problem in place.machine.state().problems)


def netloom(place: Place, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "netloom", *arguments, "--run-dir", place.machine.run_dir]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def test_routes_to_most_of_the_nodes_stay_until_a_person_lets_them_go(place: Place) -> None:
    lose(place, 2, 3)
    eventually(lambda: led_to(place) == set(OTHERS) - {2, 3})
    lose(place, *range(4, 9))
    eventually(lambda: is_braked(place))

    assert place.machine.state().ready
    assert place.add("meanwhile").ok
    remote_node(place.store, 20, "10.244.20.0/26")
    eventually(lambda: "10.244.20.0/26" in place.run("ip route"))
    remaining = led_to(place)  # by now a pass has been made since it braked
    assert {5, 6, 7, 8, 9} <= remaining, "one more may have gone before it was too many"

    place.machine.restart(signal.SIGKILL)
    eventually(lambda: place.machine.state().in_sync_since)
    assert led_to(place) == remaining and is_braked(place)

    code, output = netloom(place, "system", "brake", "show")
    assert (code, output.split()) == (1, [f"remote-{n}" for n in sorted(remaining - {9})])
    code, output = netloom(place, "system", "brake", "release", "remote-8")
    assert (code, output) == (0, "remote-8 released\n")
    eventually(lambda: led_to(place) == remaining - {8})
    code, output = netloom(place, "system", "brake", "release", "remote-8")
    assert code == 1 and "nothing is held of node 'remote-8'" in output
    code, _ = netloom(place, "system", "brake", "release")
    eventually(lambda: led_to(place) == {9})
    assert not is_braked(place) and netloom(place, "system", "brake", "show") == (0, "nothing is held\n")
    assert "control: release-brake, told by process" in place.machine.log()


def test_it_ends_by_itself_when_the_nodes_are_back(place: Place) -> None:
    lose(place, *OTHERS)
    eventually(lambda: is_braked(place))
    held = led_to(place)
    for number in sorted(held):
        remote_node(place.store, number, block_of(number))
    eventually(lambda: not is_braked(place))
    eventually(lambda: led_to(place) == held)  # one more may have gone before it was too many, and come back now


def test_who_is_not_root_tells_the_agent_nothing(place: Place) -> None:
    script = "import sys, socket; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])"
    path = f"{place.machine.run_dir}/control.sock"
    tried = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, user=65534, group=65534)
    assert "PermissionError" in tried.stderr or "Permission denied" in tried.stderr
    answer = asyncio.run(tell(place.machine.run_dir, Request(command="no such")))
    assert answer.error == "this agent knows no command 'no such'"


# An older copy of the datastore


@pytest.fixture
def restore(place: Place) -> Callable[[], None]:
    """Puts a copy back as it is now."""
    path = place.machine.datastore.removeprefix("sqlite:")
    with closing(sqlite3.connect(path)) as db:
        db.execute("VACUUM INTO ?", (f"{path}.copy",))

    def put_back() -> None:
        place.store.close()
        os.rename(f"{path}.copy", f"{path}.new")
        for name in (path, f"{path}-wal", f"{path}-shm"):
            if os.path.exists(name):
                os.rename(name, f"{name}.lost")
        os.rename(f"{path}.new", path)
        place.store = connect(place.machine.datastore)

    return put_back


def own_claims(place: Place) -> set[Claim]:
    blocks = [s.resource for s in place.store.list("IPBlock").items if isinstance(s.resource, IPBlock)]
    return {c for b in blocks for c in b.spec.claims if c.node == NODE}


def test_after_a_restore_nothing_is_missing_and_what_is_ours_is_declared_again(
    place: Place, restore: Callable[[], None]
) -> None:
    before = place.quiet_residue()
    claims = own_claims(place)
    for key in ("IPBlock/10-244-2-0-26", "IPBlock/10-244-3-0-26", "Node/remote-4", *(f"IPBlock/{name}" for name in ())):
        kind, _, name = key.partition("/")
        place.store.delete(kind, name)
    restore_point = sorted(led_to(place))
    restore()
    eventually(lambda: any("went back" in problem.message for problem in place.machine.state().problems))
    eventually(lambda: own_claims(place) == claims and place.store.get("Node", NODE))
    eventually(lambda: led_to(place) == set(OTHERS))
    assert place.quiet_residue() == before and restore_point
    assert place.add("after").ok


def test_what_an_older_copy_does_not_know_stays_and_comes_back(place: Place, restore: Callable[[], None]) -> None:
    remote_node(place.store, 30, "10.244.30.0/26")
    place.store.delete("Node", "remote-9")
    eventually(lambda: "10.244.30.0/26" in place.run("ip route"))
    restore()
    eventually(lambda: place.machine.state().held == ("remote-30",))
    eventually(lambda: led_to(place) == set(OTHERS))  # remote-9 had gone
    assert "10.244.30.0/26" in place.run("ip route")
    place.machine.restart(signal.SIGKILL)
    eventually(lambda: place.machine.state().in_sync_since)
    assert place.machine.state().held == ("remote-30",) and "10.244.30.0/26" in place.run("ip route")
    assert any("no new block is claimed" in problem.message for problem in place.machine.state().problems)
    remote_node(place.store, 30, "10.244.30.0/26")
    eventually(lambda: place.machine.state().held == ())
    assert "10.244.30.0/26" in place.run("ip route")


def test_a_block_that_somebody_else_has_in_the_older_copy_is_an_alarm_until_that_one_lets_go(place: Place) -> None:
    block = next(s for s in place.store.list("IPBlock").items if ours(s.resource))
    assert isinstance(block.resource, IPBlock)
    theirs = (Claim(cidr=block.resource.spec.cidr, node="remote-2", node_id="id-2"),)
    spec = msgspec.structs.replace(block.resource.spec, claims=theirs)
    place.store.update(msgspec.structs.replace(block.resource, spec=spec), block.revision)
    place.machine.restart()
    eventually(lambda: any("claimed by another node" in p.message for p in place.machine.state().problems))
    assert "is claimed by another node" in place.machine.log()
    eventually(lambda: [claim.node for claim in record(place, block.resource.name).spec.disputed] == [NODE])
    place.store.delete("IPBlock", block.resource.name)
    eventually(lambda: not any("claimed by another node" in p.message for p in place.machine.state().problems))
    eventually(lambda: any(c.cidr == block.resource.spec.cidr for c in own_claims(place)))


def record(place: Place, name: str) -> IPBlock:
    stored = place.store.get("IPBlock", name)
    assert stored is not None and isinstance(stored.resource, IPBlock)
    return stored.resource


def ours(resource: object) -> bool:
    return isinstance(resource, IPBlock) and resource.spec.cidr.version == 4 and resource.spec.claims[0].node == NODE
