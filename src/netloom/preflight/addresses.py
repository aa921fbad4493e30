"""This node's own addresses, as the agent would choose them."""

from __future__ import annotations

from netloom.agent.addressing import choose
from netloom.errors import ConfigError
from netloom.model.addresses import Interface
from netloom.preflight.facts import Facts, known


def own(facts: Facts) -> tuple[Interface, ...]:
    """None where no choice is clear; the check `address` says so."""
    try:
        return choose(known(facts.uplinks), known(facts.default), facts.settings.node_addresses).addresses
    except ConfigError:
        return ()


def outer(facts: Facts) -> Interface | None:
    """The one on the packets of tunnels."""
    addresses = own(facts)
    return next((a for a in addresses if a.version == 4), addresses[0] if addresses else None)
