"""This node's own addresses, as the agent would choose them."""

from __future__ import annotations

from netloom.agent.addressing import Choice, choose, steering
from netloom.errors import ConfigError
from netloom.model.addresses import Address, Interface
from netloom.preflight.facts import Facts, known


def choice(facts: Facts) -> Choice:
    """Raises ConfigError."""
    others: tuple[Address, ...] = ()
    if facts.cluster:
        nodes = facts.cluster.cluster.nodes
        others = tuple(a.ip for name, n in nodes.items() if name != facts.settings.node_name for a in n.spec.addresses)
    return choose(known(facts.uplinks), known(facts.default), steering(facts.settings, others, known(facts.reached)))


def own(facts: Facts) -> tuple[Interface, ...]:
    """None where no choice is clear; the check `address` says so."""
    try:
        return choice(facts).addresses
    except ConfigError:
        return ()


def outer(facts: Facts) -> Interface | None:
    """The one on the packets of tunnels."""
    addresses = own(facts)
    return next((a for a in addresses if a.version == 4), addresses[0] if addresses else None)
