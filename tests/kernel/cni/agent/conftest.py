"""One agent for all tests of this folder, and the proof after each that it has left nothing behind."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

import pytest

from netloom.model.resources import IPPoolSpec
from tests.agent_process import POOLS, Machine, Sandbox, running_machine
from tests.cni_calls import CLIENTS, NATIVE, Runtime
from tests.residue import Residue, quiet_residue, settled

CLAIMED = ("datastore IPBlock", "10.99.0.", "10.244.9.", "fd00:244::2e:19")
"""Blocks that a test made the node claim stay for a grace, with their blackholes."""

TINY = IPPoolSpec(cidr=ipaddress.ip_network("10.99.0.0/30"), block_size=30)  # of four addresses, all for pods


@pytest.fixture(scope="session")
def machine() -> Iterator[Machine]:
    with running_machine({**POOLS, "z-tiny": TINY}) as made:
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
    left = settled(machine, pristine[0], CLAIMED)
    if left:
        pristine[0] = quiet_residue(machine)
    assert left == []


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
