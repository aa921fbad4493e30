"""A node whose Node object is gone, or is another's, takes no pods; those that it has go on."""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec
import pytest

from netloom.model.resources import Node
from tests.agent_process import NODE, running_machine
from tests.kernel.agent.conftest import Place, place_of
from tests.kernel.agent.flows import Flow
from tests.waiting import eventually


@pytest.fixture
def place() -> Iterator[Place]:
    with running_machine() as machine, place_of(machine) as made:
        assert made.add("a").ok
        assert made.add("b").ok
        made.quiet_residue()  # the agent has said all of its Node
        assert made.store.get("Node", NODE)
        yield made


def node_of(place: Place) -> tuple[Node, int]:
    stored = place.store.get("Node", NODE)
    assert stored is not None and isinstance(stored.resource, Node)
    return stored.resource, stored.revision


def passes(place: Place) -> int:
    last = place.machine.state().last_pass
    return last.number if last else 0


def test_a_node_that_is_deleted_takes_no_pods_until_its_agent_is_started_again(place: Place) -> None:
    with Flow(place.pods["a"].netns, place.pods["b"].netns, place.addresses["b"][0]) as flow:
        place.store.delete("Node", NODE)
        eventually(lambda: not place.machine.state().ready)
        answer = place.add("c")
        assert answer.error == 11
        assert "Node object was deleted" in answer.document["msg"]
        before, begun = passes(place), time.monotonic()
        time.sleep(1)
        assert passes(place) - before <= 3 * (time.monotonic() - begun), "it does not try all the time"
        assert place.store.get("Node", NODE) is None
        assert place.delete("c").ok
        place.machine.restart()
        assert place.add("d").ok
    assert node_of(place)
    assert flow.faults == []


def test_a_node_that_is_made_again_by_people_is_a_member_again(place: Place) -> None:
    node, _ = node_of(place)
    place.store.delete("Node", NODE)
    eventually(lambda: not place.machine.state().ready)
    place.store.create(msgspec.structs.replace(node, spec=type(node.spec)()))
    eventually(lambda: place.machine.state().ready)
    eventually(lambda: node_of(place)[0].spec == node.spec)
    assert place.add("c").ok


def test_a_node_name_that_another_machine_has_is_left_to_it(place: Place) -> None:
    node, revision = node_of(place)
    others = msgspec.structs.replace(node, spec=msgspec.structs.replace(node.spec, id="another"))
    place.store.update(others, revision)
    eventually(lambda: not place.machine.state().ready)
    answer = place.add("c")
    assert answer.error == 11
    assert "another machine has this node name" in answer.document["msg"]
    assert any("another machine has this node name" in p.message for p in place.machine.state().problems)
    assert node_of(place)[0] == others
    place.machine.restart()
    assert not place.machine.state().ready
    assert node_of(place)[0] == others


def test_labels_stay_the_peoples(place: Place) -> None:
    node, revision = node_of(place)
    labelled = msgspec.structs.replace(node, metadata=msgspec.structs.replace(node.metadata, labels={"rack": "r1"}))
    place.store.update(labelled, revision)
    place.run("ip link set eth0 mtu 1400")
    eventually(lambda: node_of(place)[0].spec.mtu == 1400)
    assert node_of(place)[0].metadata.labels == {"rack": "r1"}
