"""Whatever the moment at which the agent or the client dies, the next retry of the runtime succeeds and nothing is left over.

Each test prints its line of the residue table (`pytest -s`): operation, points, faults.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.agent_process import PATIENT, machine, running_machine
from tests.cni_calls import CLIENTS, CONFIG, NATIVE, Document
from tests.crash.harness import (
    AgentKnife,
    ClientKnife,
    World,
    adding,
    collecting,
    cut_everywhere,
    deleting,
    fail_everywhere,
    kill_first_starts,
    kill_starts,
    world,
)

OPERATIONS = {"ADD": adding, "DEL": deleting}
RATES = {"ingressRate": 10_000_000, "egressRate": 10_000_000}
PORTS = [{"hostPort": number, "containerPort": 80, "protocol": protocol} for number, protocol in ((8080, "tcp"), (53, "udp"))]
SHAPES: dict[str, Document] = {
    "routed": {"wiring": "routed"},
    "bridge": {"wiring": "bridge"},
    "limited": {"runtimeConfig": {"bandwidth": RATES}},
    "publishing": {"runtimeConfig": {"portMappings": PORTS}},
}


@pytest.fixture(scope="module")
def here() -> Iterator[World]:
    configurations = [{**CONFIG, **shape} for shape in SHAPES.values()]
    with running_machine(command=PATIENT) as node, world(node, others=configurations) as made:
        yield made


@pytest.fixture(scope="module")
def knife(here: World) -> AgentKnife:
    return AgentKnife(here)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", [*OPERATIONS, "GC"])
def test_an_agent_that_dies_at_any_point_of_an_operation_leaves_nothing(knife: AgentKnife, name: str, shape: str) -> None:
    """On a bridge the pod is the only one: the bridge comes and goes with it."""
    here, operation = knife.here, {**OPERATIONS, "GC": collecting}[name]
    before, here.config = here.config, {**CONFIG, **SHAPES[shape]}
    try:
        table = cut_everywhere(f"agent killed, {name}, {shape}", knife, lambda number: operation(here, knife, number))
    finally:
        here.config = before
    print(table)
    assert table.faults == []
    assert name == "GC" or any(point.what.endswith(("LINK SETLINK", "DELLINK")) for point in table.points), "nothing was seen"


@pytest.mark.parametrize("down", [False, True], ids=["agent ready", "agent away"])
@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_that_dies_at_any_point_leaves_nothing(here: World, client: str, name: str, down: bool) -> None:
    here.client = CLIENTS[client]
    knife, operation = ClientKnife(here, down=down), OPERATIONS[name]
    title = f"{client} client killed, {name}, agent {'away' if down else 'ready'}"
    try:
        table = cut_everywhere(title, knife, lambda number: operation(here, knife, number))
    finally:
        here.client = NATIVE
    print(table)
    assert table.faults == []
    assert table.points


def test_an_agent_that_dies_in_its_start_starts_the_next_time(here: World) -> None:
    table = kill_starts(here, "agent killed, start (sampled)", every=5)
    print(table)
    assert table.faults == []


@pytest.mark.long
def test_an_agent_that_dies_at_any_point_of_its_start_starts_the_next_time(here: World) -> None:
    table = kill_starts(here, "agent killed, start")
    print(table)
    assert table.faults == []


@pytest.mark.long
def test_an_agent_that_dies_at_any_point_of_its_first_start_claims_one_block_of_each_pool() -> None:
    table = kill_first_starts(machine, "agent killed, first start")
    print(table)
    assert table.faults == []


@pytest.mark.long
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_system_call_that_fails_costs_one_operation_and_leaves_nothing(knife: AgentKnife, name: str) -> None:
    table = fail_everywhere(f"errors injected, {name}", knife, OPERATIONS[name])
    print(table)
    assert table.faults == []
