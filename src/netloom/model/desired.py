"""Desired: what one node's kernel should hold, keyed by what the kernel keys by.

Each table is a mapping, so a difference is two set operations (`reconcile.diff`).  Interfaces are named by name here; a
driver resolves them to indexes when it writes.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from netloom.model.addresses import Address, Interface, Mac, Prefix
from netloom.model.forms import Use
from netloom.model.routing import BgpConfig


@dataclass(frozen=True, slots=True)
class Vxlan:
    """A VXLAN device without learning: it sends where the FDB says.  `local` is the outer source, `parent` its interface."""

    mac: Mac
    mtu: int
    vni: int
    port: int
    local: Address
    parent: str


@dataclass(frozen=True, slots=True)
class Bridge:
    mac: Mac
    mtu: int


@dataclass(frozen=True, slots=True)
class Veth:
    """The host's end of a pod's interface.  Only ADD makes one; a pass repairs its attributes or takes it away.

    `alias` (≤ 255 bytes) tells whose it is, even with the journal lost.  `bridge` is the bridge whose port it is, hairpin on.
    """

    mac: Mac
    mtu: int
    alias: str
    bridge: str | None = None


@dataclass(frozen=True, slots=True)
class Ifb:
    """A device that gives back what it is given, after a while: what a pod sends passes one where its rate is limited.  It goes with
    the pod, whose alias it has."""

    mac: Mac
    mtu: int
    alias: str


class Carrier(enum.Enum):
    """What a tunnel of ours puts around a packet: IP (RFC 2003, RFC 2473), or IP and UDP as Flannel's `udp` does."""

    IPIP = "ipip"
    UDP = "udp"


class Engine(enum.Enum):
    """Who does it: our programs in the kernel, the kernel's own `ipip` device (IPv4 in IPv4 alone), or a process."""

    EBPF = "ebpf"
    KERNEL = "kernel"
    FORWARDER = "forwarder"


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A device that leads to other nodes: where to, by prefix, is in `Desired.tunnels`.  `local`: outer source; all outer packets are
    of its family.  `port`: UDP, source and destination; 0 for IPIP.  `uplinks`: interfaces by which outer packets may come.
    `finished`: packets are finished before they go in (`Finisher`).  `early`: datagrams may be unpacked by the uplink's driver (XDP).
    `also`: other addresses that it takes packets in by."""

    mac: Mac
    mtu: int
    carrier: Carrier
    engine: Engine
    local: Address
    port: int = 0
    uplinks: tuple[str, ...] = ()
    finished: bool = False
    early: bool = True
    also: tuple[Address, ...] = ()

    @property
    def alias(self) -> str:
        """What tells, after a restart, which of two devices carries which port; the form's name (model.forms)."""
        return f"{self.carrier.value.upper()}:{self.port}" if self.port else self.carrier.value.upper()


@dataclass(frozen=True, slots=True)
class Finisher:
    """One end of a cable that leads back to this node, to `other`.  It has no offloads, so what goes in comes out as it would on a
    real wire: cut into packets, with finished checksums."""

    other: str
    mtu: int = 0xFFFF


@dataclass(frozen=True, slots=True)
class Catcher:
    """A second device beside the kernel's own `ipip`, which is bound to one address: takes in what comes to any other one of this node.
    Nothing leads to it."""

    mtu: int


def catcher(device: str) -> str:
    """That of a tunnel."""
    return f"{device}.any"


_ENDS = ".fin", ".done"


def finishers(device: str) -> tuple[str, str]:
    """Both ends of that of a tunnel: where packets go in, and where they come out."""
    return f"{device}{_ENDS[0]}", f"{device}{_ENDS[1]}"


def is_finisher(name: str) -> bool:
    return name.endswith(_ENDS)


Link = Vxlan | Bridge | Veth | Ifb | Tunnel | Catcher | Finisher


class AddressKey(NamedTuple):
    device: str
    address: Interface


class RouteKind(enum.Enum):
    UNICAST = 1  # RTN_UNICAST
    BLACKHOLE = 6  # RTN_BLACKHOLE


class RouteKey(NamedTuple):
    """What the kernel's main table is keyed by.  For IPv6 the kernel has no metric 0: use 1024, its default."""

    prefix: Prefix
    metric: int


@dataclass(frozen=True, slots=True)
class Route:
    """`gateway` None: the destination is on the link itself.  `onlink`: the kernel need not know how to reach the gateway.
    `source`: preferred source address of the host's own packets.  `device` is empty for a blackhole."""

    device: str = ""
    gateway: Address | None = None
    onlink: bool = False
    source: Address | None = None
    kind: RouteKind = RouteKind.UNICAST


class NeighbourKey(NamedTuple):
    device: str
    address: Address


class FdbKey(NamedTuple):
    device: str
    mac: Mac


class TunnelKey(NamedTuple):
    """The longest prefix counts.  Also for what arrives: a packet from `prefix` has to come from that node."""

    device: str
    prefix: Prefix


class SenderKey(NamedTuple):
    """An outer source that is believed."""

    device: str
    address: Address


@dataclass(frozen=True, slots=True)
class Limit:
    """A token bucket, in bytes: `rate` a second, `burst` at once beyond that, and at most `queue` that wait."""

    rate: int
    burst: int
    queue: int


@dataclass(frozen=True, slots=True)
class Shaping:
    """Of an interface: `limit` is for what it sends.  `redirect`: the interface to which all goes that arrives; empty for none."""

    limit: Limit | None = None
    redirect: str = ""


class Source(NamedTuple):
    """What a pod may send from: this interface, this MAC, this address.  Everything else from `loom*` is dropped."""

    interface: str
    mac: Mac
    address: Address


class Published(NamedTuple):
    """A port of this host that leads to a pod's, in one family.  `host_address` None: every address of that family that the host
    has.  `interface`: the one that leads to the pod, its host interface or its bridge; `beside`: who is answered without the host,
    the pod's own network."""

    protocol: str
    host_address: Address | None
    host_port: int
    address: Address
    port: int
    interface: str
    beside: Prefix


IPIP, TCP, UDP = 4, 6, 17
"""Protocols of IP."""
_WITH_PORTS = {TCP: "tcp", UDP: "udp"}


class Outer(NamedTuple):
    """Outer packets that the kernel's own tunnels or a process take in: UDP or TCP to a port, or another protocol of IP, port 0.
    Those of our programs are no longer there when rules are asked."""

    protocol: int
    port: int = 0

    @property
    def transport(self) -> str:
        """As firewalls call it; empty where there is no port."""
        return _WITH_PORTS[self.protocol] if self.port else ""

    def __str__(self) -> str:
        return f"{self.transport.upper()} port {self.port}" if self.port else f"protocol {self.protocol}"


@dataclass(frozen=True, slots=True)
class Filter:
    """The nft ruleset as data.

    sources:    what each pod may send from (anti-spoofing)
    pools:      all pools: traffic to them is never masqueraded, and forwarding is accepted for them
    masquerade: pools whose traffic to elsewhere takes the node's address
    blocks:     this node's own: no packet out of a tunnel comes from there
    vteps:      underlay addresses that may send us what `outers` says
    outers:     what tunnels bring to this node itself
    carried:    UDP ports of tunnels, whoever takes their packets in: from pods they are dropped
    tunnels:    our devices that lead to other nodes
    probe_port: UDP and TCP port by which nodes ask each other what comes through, 0 for none: taken in from nodes and out of
                tunnels, and a few datagrams from elsewhere
    bgp_port:   TCP port that BIRD listens on, 0 for none: open to `bgp_peers` alone
    bgp_peers:  with whom this node has BGP sessions; `bgp_ports`: to which of their ports.  No pod speaks with them in this node's name
    bfd_ports:  UDP ports of BFD (RFC 5881, RFC 5883) where any of those sessions goes by it: open to `bgp_peers` alone
    bridges:    our bridges: their ports are filtered in the bridge family too
    internal:   those of them that nothing is forwarded to or from
    isolated:   those that are kept apart from other networks and the cluster's pods
    alone:      the one that would be, if there were any of those
    published:  ports of the host that lead to pods
    """

    sources: frozenset[Source] = frozenset()
    pools: frozenset[Prefix] = frozenset()
    masquerade: frozenset[Prefix] = frozenset()
    blocks: frozenset[Prefix] = frozenset()
    vteps: frozenset[Address] = frozenset()
    outers: frozenset[Outer] = frozenset()
    carried: frozenset[int] = frozenset()
    tunnels: frozenset[str] = frozenset()
    probe_port: int = 0
    bgp_port: int = 0
    bgp_peers: frozenset[Address] = frozenset()
    bgp_ports: frozenset[int] = frozenset()
    bfd_ports: frozenset[int] = frozenset()
    bridges: frozenset[str] = frozenset()
    internal: frozenset[str] = frozenset()
    isolated: frozenset[str] = frozenset()
    alone: frozenset[str] = frozenset()
    published: frozenset[Published] = frozenset()

    @property
    def taken_in(self) -> frozenset[Outer]:
        """What other nodes send to this one itself."""
        probes = {Outer(protocol, self.probe_port) for protocol in _WITH_PORTS if self.probe_port}
        bfd = {Outer(UDP, port) for port in self.bfd_ports}
        return self.outers | probes | bfd | ({Outer(TCP, self.bgp_port)} if self.bgp_port else frozenset())


@dataclass(frozen=True, slots=True)
class Desired:
    """One node's wanted state.  `uses`: how another node's blocks in a pool are sent to, by (node, pool).  `bgp`: what its BIRD does;
    None: nothing.  `problems` are what could not be computed, in words: that part stays closed."""

    links: Mapping[str, Link] = field(default_factory=dict)
    addresses: Mapping[AddressKey, None] = field(default_factory=dict)
    routes: Mapping[RouteKey, Route] = field(default_factory=dict)
    neighbours: Mapping[NeighbourKey, Mac] = field(default_factory=dict)
    fdb: Mapping[FdbKey, Address] = field(default_factory=dict)
    tunnels: Mapping[TunnelKey, Address] = field(default_factory=dict)
    senders: Mapping[SenderKey, Address | None] = field(default_factory=dict)
    sysctls: Mapping[str, str] = field(default_factory=dict)
    shaping: Mapping[str, Shaping] = field(default_factory=dict)
    filter: Filter = Filter()
    uses: Mapping[tuple[str, str], Use] = field(default_factory=dict)
    bgp: BgpConfig | None = None
    problems: tuple[str, ...] = ()
