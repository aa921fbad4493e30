"""One agent for all tests of this folder, and the proof after each that it has left nothing behind."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from netloom.model.resources import IPPoolSpec
from tests.agent_process import POOLS, Machine, Sandbox, altered, running_machine
from tests.cni_calls import CLIENTS, CONFIG, NATIVE, Document, Runtime, call
from tests.residue import Residue, quiet_residue, settled

TINY = IPPoolSpec(cidr=ipaddress.ip_network("10.99.0.0/30"), block_size=30)  # of four addresses, all for pods
SLOW_TO_BURY = altered(repairs=0.1, upkeep=3600.0, grace=3600.0)
"""It gives no block back, and leaves dead sandboxes to those tests that have them collected."""
NEEDING_BLOCKS: tuple[Document, ...] = (
    {},
    {"wiring": "bridge"},
    {"ipv4Pools": ["z-tiny"], "ipv6Pools": []},
    {"wiring": "bridge", "ipv6Pools": [], "args": {"cni": {"ips": ["10.244.9.77"]}}},
)
"""Networks of pods that are there at the same time: between them they need every block that a test's pods do."""


@pytest.fixture(scope="session")
def machine() -> Iterator[Machine]:
    """It has all blocks from the beginning, and keeps them: what is there after a test, and was not before, that test has left."""
    with running_machine({**POOLS, "z-tiny": TINY}, SLOW_TO_BURY) as made, ExitStack() as stack:
        runtime = Runtime(made.run_dir, NATIVE)
        visitors = [(stack.enter_context(made.sandbox()), CONFIG | network) for network in NEEDING_BLOCKS]
        for command in ("ADD", "DEL"):
            for visitor, config in visitors:
                assert runtime(command, visitor, config).ok
        yield made


@pytest.fixture(scope="session")
def pristine(machine: Machine) -> list[Residue]:
    """What the machine holds between tests: one entry, replaced by a test that failed."""
    return [quiet_residue(machine)]


@pytest.fixture(autouse=True)
def nothing_is_left(machine: Machine, pristine: list[Residue]) -> Iterator[None]:
    yield
    if machine.pid is None:
        machine.start()
    left = settled(machine, pristine[0])
    if left:
        detach_all(machine)
        if settled(machine, pristine[0]):
            pristine[0] = quiet_residue(machine)
    assert left == []


def detach_all(machine: Machine) -> None:
    """What a test that failed has left attached is not in the way of those after it."""
    for one in machine.state().attachments:
        config = CONFIG | {"name": one.network}
        call(NATIVE, "DEL", machine.run_dir, one.container_id, config=config, ifname=one.interface)


@pytest.fixture
def sandbox(machine: Machine) -> Iterator[Sandbox]:
    with machine.sandbox() as made:
        yield made


@pytest.fixture
def other(machine: Machine) -> Iterator[Sandbox]:
    with machine.sandbox() as made:
        yield made


@pytest.fixture(params=list(CLIENTS.values()), ids=list(CLIENTS))
def either(request: pytest.FixtureRequest, machine: Machine) -> Runtime:
    """Both clients, one after the other."""
    return Runtime(machine.run_dir, request.param)


@pytest.fixture
def runtime(machine: Machine) -> Runtime:
    return Runtime(machine.run_dir, NATIVE)
