"""Machines with a real agent and a real runtime, for a module's tests to share; each test leaves them as it found them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.agent_process import Machine, running_machine
from tests.residue import Residue, quiet_residue, settled
from tests.runtime.containerd import V1, V2, Containerd, Version, containerd
from tests.runtime.cri import Cri
from tests.runtime.enclosure import Enclosure, enclosure
from tests.runtime.traces import changes, traces


@pytest.fixture(scope="module", autouse=True)
def _host_stays_as_it_is() -> Iterator[None]:
    before = traces()
    yield
    assert changes(before) == []


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with running_machine() as made:
        yield made


@pytest.fixture(scope="module")
def inside(machine: Machine) -> Iterator[Enclosure]:
    with enclosure(machine) as made:
        yield made


@pytest.fixture(scope="module", params=[V1, V2], ids=["containerd-1.6", "containerd-2.1"])
def version(request: pytest.FixtureRequest) -> Version:
    found: Version = request.param
    return found


@pytest.fixture(scope="module")
def _shared(version: Version) -> Iterator[tuple[Containerd, Residue]]:
    """A machine of its own for each version, and what was on it before the first pod."""
    with running_machine() as machine, enclosure(machine) as inside, containerd(inside, version) as runtime:
        runtime.wait_for_network()
        yield runtime, quiet_residue(machine)


@pytest.fixture
def runtime(_shared: tuple[Containerd, Residue]) -> Iterator[Containerd]:
    """containerd that is ready, and at the end of the test nothing of it is left: what a test does not remove, it leaks."""
    runtime, before = _shared
    yield runtime
    machine = runtime.inside.machine
    if machine.pid is None:
        machine.start()
    runtime.write_network(runtime.version.conflist())
    runtime.wait_for_network()
    running = runtime.cri.sandboxes()
    runtime.remove_all()
    assert running == []
    assert left_of(runtime, before) == []


@pytest.fixture
def cri(runtime: Containerd) -> Cri:
    return runtime.cri


def left_of(runtime: Containerd, before: Residue, seconds: float = 30.0) -> list[str]:
    """In the node's kernel, the agent's folders and the datastore, and in the runtime's; what is claimed stays the node's."""
    claimed = ("IPBlock", "claims", "blackhole", "blocks4", "blocks6")
    return [*settled(runtime.inside.machine, before, allowed=claimed, seconds=seconds), *runtime.left()]
