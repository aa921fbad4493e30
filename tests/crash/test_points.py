"""Whatever the moment at which the agent or the client dies, the next retry of the runtime succeeds and nothing is left over.

Each test prints its line of the residue table (`pytest -s`): operation, points, faults.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from tests.agent_process import machine, running_machine
from tests.cni_calls import CLIENTS, NATIVE
from tests.crash.harness import (
    MOST,
    AgentKnife,
    ClientKnife,
    Operation,
    World,
    adding,
    deleting,
    fail_everywhere,
    kill_everywhere,
    kill_first_starts,
    kill_starts,
    world,
)
from tests.crash.ptrace import Kill

OPERATIONS = {"ADD": adding, "DEL": deleting}


@pytest.fixture(scope="module")
def here() -> Iterator[World]:
    with running_machine() as node, world(node) as made:
        yield made


@pytest.fixture(scope="module")
def agent_knife(here: World) -> AgentKnife:
    return AgentKnife(here, Kill(1))


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_an_agent_that_dies_at_any_point_of_an_operation_leaves_nothing(agent_knife: AgentKnife, operation: Operation) -> None:
    table = kill_everywhere(agent_knife.here, agent_knife, operation, f"agent, {operation.__name__}")
    print(table)
    assert table.faults == []
    assert {"netlink NEWLINK SETLINK", "netlink DELLINK"} & set(table.points), "the tracer has seen nothing"


@pytest.mark.parametrize("down", [False, True], ids=["agent ready", "agent away"])
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
def test_a_client_that_dies_at_any_point_leaves_nothing(here: World, client: str, operation: Operation, down: bool) -> None:
    here.client = client
    try:
        table = kill_everywhere(
            here, ClientKnife(here, Kill(1), down=down), operation, f"{client}, {operation.__name__}, {down}"
        )
    finally:
        here.client = NATIVE
    print(table)
    assert table.faults == []


def test_an_agent_that_dies_in_its_start_starts_the_next_time(here: World) -> None:
    table = kill_starts(here, "agent, start (sampled)", range(3, MOST, 5))
    print(table)
    assert table.faults == []


@pytest.mark.long
def test_an_agent_that_dies_at_any_point_of_its_start_starts_the_next_time(here: World) -> None:
    table = kill_starts(here, "agent, start", range(1, MOST))
    print(table)
    assert table.faults == []


@pytest.mark.long
def test_an_agent_that_dies_at_any_point_of_its_first_start_claims_one_block_of_each_pool() -> None:
    table = kill_first_starts(machine, "agent, first start", range(1, MOST))
    print(table)
    assert table.faults == []


@pytest.mark.long
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_a_system_call_that_fails_costs_one_operation_and_leaves_nothing(agent_knife: AgentKnife, operation: Operation) -> None:
    codes = {name: getattr(errno, name) for name in ("ENOSPC", "EMFILE", "ENOMEM", "EBUSY")}
    table = fail_everywhere(agent_knife.here, agent_knife, operation, f"agent, {operation.__name__}, errors", codes)
    print(table)
    assert table.faults == []
