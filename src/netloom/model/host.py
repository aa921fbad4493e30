"""Host: the local facts that a calculation may use.  Read by the agent, passed in as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from netloom.model.addresses import Address, Interface, Mac


@dataclass(frozen=True, slots=True)
class Uplink:
    """An interface of the host that is not ours, with its addresses.  `mtu` in bytes."""

    name: str
    mtu: int
    addresses: tuple[Interface, ...] = ()


@dataclass(frozen=True, slots=True)
class Host:
    """This node: its name and incarnation, uplinks, VTEP MAC, and the VXLAN parameters that all nodes share."""

    node: str
    node_id: str
    uplinks: Mapping[str, Uplink] = field(default_factory=dict)
    vtep_mac: Mac | None = None
    vni: int = 4096
    port: int = 4789

    def uplink_of(self, address: Address) -> Uplink | None:
        """The uplink that holds `address` itself."""
        return next((u for u in self.uplinks.values() if any(a.ip == address for a in u.addresses)), None)

    def neighbour(self, address: Address) -> tuple[Uplink, Interface] | None:
        """The uplink on whose link `address` lies, and our own address there; None if a router stands between."""
        for uplink in self.uplinks.values():
            for own in uplink.addresses:
                if own.version == address.version and address in own.network and own.network.num_addresses > 1:
                    return uplink, own
        return None
