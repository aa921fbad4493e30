"""What the cluster's pools ask of a host."""

from __future__ import annotations

from netloom.model.forms import Method
from netloom.preflight.facts import Facts


def tunnels_wanted(facts: Facts) -> bool:
    """Whether packets cross from node to node in VXLAN; where no pool is known, they will."""
    pools = facts.cluster.cluster.pools.values() if facts.cluster else ()
    return not pools or any(pool.spec.encapsulation.method is Method.VXLAN for pool in pools)
