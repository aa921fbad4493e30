from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from netloom.lab import packages
from tests.bird_pair import Node, pair


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, Node]]:
    """A pair whose sessions are up; each test leaves it so."""
    with pair(tmp_path_factory.mktemp("pair")) as (a, b):
        for node, other in ((a, b), (b, a)):
            node.write(node.config(node.session(other)))
            node.start()
        yield a, b


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[tuple[Node, Node]]:
    """A pair without any BIRD."""
    with pair(tmp_path) as (a, b):
        yield a, b


@pytest.fixture(scope="session")
def program() -> packages.Program:
    return packages.bird()
