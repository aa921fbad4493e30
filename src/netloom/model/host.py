"""Host: the local facts that a calculation may use.  Read by the agent, passed in as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from netloom.model.addresses import Address, Interface, Mac, Prefix
from netloom.model.desired import Carrier, Engine, Route
from netloom.model.forms import Form


@dataclass(frozen=True, slots=True)
class Uplink:
    """An interface of the host that is not ours, with its addresses.  `mtu` in bytes; `up`: somebody set it up, whether or not a cable
    is in it; `default`: a default route leads out of it; `accept_ra`: whether it takes router advertisements (0 no, 1 unless it
    forwards, 2 yes).  `deprecated`: addresses of its that are not to be used any more (RFC 4862, 5.5.4).  `unfinished`: nothing behind
    it finishes checksums, or cuts what is many packets as one; `whole`: and that comes by it as it is."""

    name: str
    mtu: int
    addresses: tuple[Interface, ...] = ()
    up: bool = True
    default: bool = False
    accept_ra: int = 0
    unfinished: bool = False
    deprecated: frozenset[Address] = frozenset()
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Moving:
    """What only this node knows of its way from one form to another.

    devices    tunnels that its kernel has, by name
    held       forms that are not to be closed yet: others may have read that they are received, or packets are on their way
    leaving    forms that a write under way takes out of what this node has published that it sends
    refused    nodes, and forms that do not come through to them
    untried    nodes, and forms of which that is not known yet
    leftover   forms that no pool wants any more, and somebody sends in all the same
    pods       the largest MTU of its pods, of those that are to become smaller
    """

    devices: Mapping[str, Form] = field(default_factory=dict)
    held: frozenset[Form] = frozenset()
    leaving: frozenset[Form] = frozenset()
    refused: frozenset[tuple[str, Form]] = frozenset()
    untried: frozenset[tuple[str, Form]] = frozenset()
    leftover: frozenset[Form] = frozenset()
    pods: int = 0


@dataclass(frozen=True, slots=True)
class Host:
    """This node: name and incarnation, underlay addresses, uplinks, VTEP MAC, the blocks that it holds (its durable claims, not the
    datastore's word; less those of networks), its own addresses inside them, and the numbers of tunnels where the cluster has none of
    its own.  `ways`: interfaces by which other nodes are reached.  `far`: nodes that are no neighbours whatever their addresses say,
    and why.  `lasting`: prefixes of other nodes with a route of ours, which BIRD is to lead to, and does not yet; `birds`: those that
    BIRD's routes lead to, and that it is to leave; `standby`: ways of BIRD's that are kept behind BIRD's.  `ipv6`: its kernel speaks
    it.  `engines`: who can carry what here.  `early`: the uplink's driver may unpack datagrams.  `former`: addresses before these,
    which it still has; `source`: what its packets leave with, as far as that is one of those."""

    node: str
    node_id: str
    addresses: tuple[Interface, ...] = ()
    uplinks: Mapping[str, Uplink] = field(default_factory=dict)
    vtep_mac: Mac | None = None
    blocks: tuple[Prefix, ...] = ()
    tunnel_addresses: tuple[Address, ...] = ()
    mtu: int = 0
    vni: int = 4096
    port: int = 4789
    udp_port: int = 8285
    probe_port: int = 0
    ways: tuple[str, ...] = ()
    far: Mapping[str, str] = field(default_factory=dict)
    lasting: frozenset[Prefix] = frozenset()
    birds: frozenset[Prefix] = frozenset()
    standby: Mapping[Prefix, Route] = field(default_factory=dict)
    ipv6: bool = True
    engines: Mapping[Carrier, Engine] = field(default_factory=lambda: dict.fromkeys(Carrier, Engine.EBPF))
    early: bool = True
    former: tuple[Address, ...] = ()
    source: Interface | None = None
    moving: Moving = Moving()

    @property
    def outer(self) -> Interface | None:
        """This node's address on outer packets."""
        return self.source or self.address(4) or self.address(6)

    def address(self, version: int) -> Interface | None:
        return next((a for a in self.addresses if a.version == version), None)

    def uplink_of(self, address: Address) -> Uplink | None:
        """The uplink that holds `address` itself."""
        return next((u for u in self.uplinks.values() if any(a.ip == address for a in u.addresses)), None)

    def uplink_towards(self, address: Address) -> Uplink | None:
        """The uplink on whose link `address` lies; None if a router stands between."""
        for uplink in self.uplinks.values():
            for own in uplink.addresses:
                if own.version == address.version and own.ip != address and address in own.network:
                    return uplink
        return None
