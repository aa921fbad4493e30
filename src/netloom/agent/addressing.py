"""Addressing: which of this machine's addresses the other nodes should use, and why that one.

In this order: the setting; the interface of the default route; the only interface that has a global address.  Never simply the
first: on machines whose first interface is the same private network everywhere, that joins nobody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from netloom.errors import ConfigError
from netloom.model.addresses import Interface
from netloom.model.host import Uplink


@dataclass(frozen=True, slots=True)
class Choice:
    addresses: tuple[Interface, ...]
    reason: str


def choose(uplinks: Mapping[str, Uplink], default_devices: Sequence[str], setting: Sequence[Interface]) -> Choice:
    """`default_devices`: interfaces of default routes, the best first.  Raises ConfigError where no choice is clear."""
    if setting:
        held = {a.ip for uplink in uplinks.values() for a in uplink.addresses}
        for address in setting:
            if address.ip not in held:
                raise ConfigError(f"no interface holds {address.ip}", path="nodeAddresses", hint="ip -br address")
        return Choice(tuple(setting), "set by nodeAddresses")
    for device in default_devices:
        if device in uplinks and (found := _usable(uplinks[device])):
            return Choice(found, f"on {device}, the interface of the default route")
    candidates = {name: found for name, uplink in uplinks.items() if (found := _usable(uplink))}
    if len(candidates) == 1:
        name, found = next(iter(candidates.items()))
        return Choice(found, f"on {name}, the only interface with an address")
    seen = ", ".join(sorted(candidates)) or "none"
    raise ConfigError(
        f"which address should other nodes use? interfaces with one: {seen}",
        path="nodeAddresses",
        hint="set nodeAddresses: [ADDRESS/LENGTH] in /etc/netloom/agent.yaml",
    )


def _usable(uplink: Uplink) -> tuple[Interface, ...]:
    """The first address of each family that others can reach; none while the interface is down."""
    found: dict[int, Interface] = {}
    for address in uplink.addresses if uplink.up else ():
        if not (address.is_link_local or address.is_loopback or address.is_multicast):
            found.setdefault(address.version, address)
    return tuple(found[version] for version in sorted(found))
