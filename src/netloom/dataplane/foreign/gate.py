"""Where a passage has to stand, from the chains that a firewall has: the same question for every variant."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping

from netloom.model.addresses import Address, Prefix
from netloom.model.desired import Filter

OWN_CHAIN, OWN_INPUT = "NETLOOM-FORWARD", "NETLOOM-INPUT"
OWN_CHAINS = (OWN_CHAIN, OWN_INPUT)
"""The passages: for what is forwarded, and for what the node itself takes in."""

DOCKER, FORWARD, FIREWALLD = "DOCKER-USER", "FORWARD", "filter_FORWARD"
GATES = (DOCKER, FORWARD, FIREWALLD)
"""Chains that may hold the jump to the first."""

INPUT_GATES = ("INPUT", "filter_INPUT")
"""Chains that may hold the jump to the second."""

Chains = Mapping[str, bool]
"""Chains by name, and whether their policy is to drop."""


def gate(chains: Chains, pools: Collection[Prefix], *, docker: bool) -> str | None:
    """The chain that has to hold the jump; None where nothing stands in the way, or nothing has to pass.
    `docker`: FORWARD jumps to DOCKER-USER.  After a flush that chain may still be there, and nobody go through it."""
    if not pools:
        return None
    if docker and DOCKER in chains:
        return DOCKER
    if chains.get(FORWARD):
        return FORWARD
    return FIREWALLD if FIREWALLD in chains else None


def tunnels(want: Filter) -> frozenset[int]:
    """The families in which other nodes' tunnels, and their probes, have to be taken in."""
    return _families(want.vteps) if want.taken_in else frozenset()


@functools.lru_cache(2)
def _families(addresses: frozenset[Address]) -> frozenset[int]:
    """Of thousands, which are the same in most passes."""
    return frozenset(address.version for address in addresses)
