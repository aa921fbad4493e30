"""Pairs of nodes that several tests share, and what pods do with them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.tunnel_pair import NUMPY, PLAIN, Node, pair

Pair = tuple[Node, Node]


@pytest.fixture(scope="module")
def forwarders() -> Iterator[Pair]:
    """One with numpy, one without."""
    with pair() as (a, b):
        a.forward(NUMPY)
        b.forward(PLAIN)
        yield a, b


@pytest.fixture(scope="module")
def beside_c() -> Iterator[Pair]:
    """A forwarder, and the plain C loop."""
    with pair(persistent=False) as (a, b):
        b.loop()
        a.forward()
        a.configure()
        yield a, b


@pytest.fixture(scope="module")
def over_ipv6() -> Iterator[Pair]:
    with pair(outer=6) as (a, b):
        a.forward(PLAIN)
        b.forward(NUMPY)
        yield a, b
