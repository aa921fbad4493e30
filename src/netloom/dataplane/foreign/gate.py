"""Where the passage has to stand, from the chains that a firewall has: the same question for every variant."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from netloom.model.addresses import Prefix

OWN_CHAIN = "NETLOOM-FORWARD"
DOCKER, FORWARD, FIREWALLD = "DOCKER-USER", "FORWARD", "filter_FORWARD"
GATES = (DOCKER, FORWARD, FIREWALLD)
"""Chains that may hold the jump."""

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
