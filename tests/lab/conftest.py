"""Labs for tests: named after the test process, so runs side by side do not meet, and taken down whatever happens."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator

import msgspec
import pytest

from netloom.lab import cluster
from netloom.lab.checks import Proof, prove
from netloom.lab.cluster import Lab
from netloom.lab.topology import Topology

Raise = Callable[[Topology], Lab]

SETTLE = 60.0
_numbers = itertools.count()


@pytest.fixture
def lab_name() -> Iterator[str]:
    """A name that nobody else has; what is left of that lab afterwards is taken down."""
    name = f"t{os.getpid()}-{next(_numbers)}"
    yield name
    cluster.down(name)


@pytest.fixture
def bring_up(lab_name: str) -> Raise:
    """Brings a topology up under a name of its own."""
    return lambda topology: cluster.up(msgspec.structs.replace(topology, name=lab_name))


def settled(lab: Lab) -> Proof:
    """The proof, once the nodes have learned of each other; the last one if they do not in SETTLE seconds."""
    deadline = time.monotonic() + SETTLE
    while True:
        with lab.places() as places:
            proof = prove(places, timeout=2.0)
        if proof or time.monotonic() > deadline:
            return proof
