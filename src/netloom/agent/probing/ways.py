"""Ways: by what this node's packets reach another one, as far as probes are concerned.

underlay       its node address, out of whichever interface the kernel chooses
loom.vxlan     its tunnel address, through that device; so for every tunnel
"""

from __future__ import annotations

from dataclasses import dataclass

from netloom.model.addresses import Address
from netloom.model.host import Host
from netloom.model.resources import NodeSpec

UNDERLAY = ""


@dataclass(frozen=True, slots=True)
class Way:
    """Packets leave by `device` (`UNDERLAY`: by the one that the kernel's routes say) with this source."""

    device: str
    source: Address
    destination: Address


def tunnel(host: Host, peer: NodeSpec, device: str) -> Way | None:
    """Through a tunnel's device; None where one of both has no address for it.  A tunnel's packets take one path, whatever is in
    them, so one family is enough."""
    for source in host.tunnel_addresses:
        if (destination := peer.tunnel_address(source.version)) is not None:
            return Way(device, source, destination)
    return None


def underlay(host: Host, peer: NodeSpec) -> tuple[Way, ...]:
    """One for each family that both have."""
    return tuple(Way(UNDERLAY, own.ip, other.ip) for own in host.addresses if (other := peer.address(own.version)) is not None)
