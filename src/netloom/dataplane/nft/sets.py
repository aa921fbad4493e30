"""The sets, and what `Filter` puts into them: the part of the ruleset that changes while pods and nodes come and go.

A pod's address is one element of `sources4` or `sources6` in two tables: of inet for routed wiring, of bridge for ports of our
bridges.  Both always hold both, so that nobody has to know which wiring a pod has, and no order of events opens a gap.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Final

from netloom.dataplane.nft.intervals import points
from netloom.dataplane.nft.objects import (
    ADDRESS,
    ARP,
    BRIDGE,
    ETHER_ADDR,
    ICMPV6_TYPE,
    IFNAME,
    INET,
    INET_PROTO,
    INET_SERVICE,
    INTEGER128,
    Set,
    TableId,
)
from netloom.model.addresses import mac_bytes
from netloom.model.desired import TCP, UDP, Filter, Outer, Source

NAME = "netloom"
INET_TABLE, BRIDGE_TABLE, ARP_TABLE = TableId(INET, NAME), TableId(BRIDGE, NAME), TableId(ARP, NAME)

Keys = Mapping[Set, frozenset[bytes]]

_TUNNEL_PORTS = (4789, 8472, 8285)
"""UDP: VXLAN's own port, the one of Linux and Flannel for it, and Flannel's udp."""
_TUNNEL_PROTOCOLS = (4, 41, 47, 97, 115)
"""IPIP, IPv6 in IP, GRE, EtherIP, L2TP."""
ROUTER_SOLICITATION, ROUTER_ADVERTISEMENT, SOLICITATION, ADVERTISEMENT, REDIRECT = range(133, 138)


def _udata(kind: int, value: bytes) -> bytes:
    return bytes((kind, len(value))) + value


def _udata_number(kind: int, value: int) -> bytes:
    return _udata(kind, struct.pack("=I", value))


HOST_ORDER = _udata_number(0, 1)
"""Keys are in host byte order: so nft wants names of interfaces marked where they stand alone."""


def _typeof_targets() -> bytes:
    """`typeof iifname . ether saddr . @th,64,128` as libnftables notes it beside a set.  It numbers expressions (9 meta,
    7 payload, 13 concatenation) and protocols (17 Ethernet); a raw payload is protocol 0, header, offset and length in bits."""
    interface = _udata_number(0, 9) + _udata(1, _udata_number(0, 6))
    mac = _udata_number(0, 7) + _udata(1, _udata_number(0, 17) + _udata_number(1, 2))
    raw = b"".join(_udata_number(kind, value) for kind, value in enumerate((0, 0, 3, 64, 128)))
    target = _udata_number(0, 7) + _udata(1, raw)
    fields = _udata(0, interface) + _udata(1, mac) + _udata(2, target)
    return _udata_number(0, 0) + _udata(3, _udata_number(0, 13) + _udata(1, fields))


def _addresses(name: str, *, interval: bool = False) -> dict[int, Set]:
    """One set for each family."""
    return {version: Set(INET_TABLE, f"{name}{version}", (ADDRESS[version],), interval=interval) for version in (4, 6)}


def _sources(table: TableId) -> dict[int, Set]:
    return {version: Set(table, f"sources{version}", (IFNAME, ETHER_ADDR, ADDRESS[version])) for version in (4, 6)}


OWN_LINKS: Final = {table: Set(table, "own-links", (IFNAME,), userdata=HOST_ORDER) for table in (INET_TABLE, ARP_TABLE)}
TUNNELS: Final = Set(INET_TABLE, "tunnels", (IFNAME,), userdata=HOST_ORDER)
SOURCES: Final = {table: _sources(table) for table in (INET_TABLE, BRIDGE_TABLE)}
TARGETS: Final = Set(BRIDGE_TABLE, "targets", (IFNAME, ETHER_ADDR, INTEGER128), userdata=_typeof_targets())
TUNNEL_PORTS: Final = {table: Set(table, "tunnel-ports", (INET_SERVICE,)) for table in (INET_TABLE, BRIDGE_TABLE)}
TUNNEL_PROTOCOLS: Final = {table: Set(table, "tunnel-protocols", (INET_PROTO,)) for table in (INET_TABLE, BRIDGE_TABLE)}
DISCOVERY: Final = {table: Set(table, "discovery", (ICMPV6_TYPE,)) for table in (INET_TABLE, BRIDGE_TABLE)}
OUTER_PORTS: Final = Set(INET_TABLE, "outer-ports", (INET_SERVICE,))
OUTER_PROTOCOLS: Final = Set(INET_TABLE, "outer-protocols", (INET_PROTO,))
PROBE_PORTS: Final = Set(INET_TABLE, "probe-ports", (INET_SERVICE,))
BGP_PORTS: Final = Set(INET_TABLE, "bgp-ports", (INET_PROTO, INET_SERVICE))
BGP_PEER_PORTS: Final = Set(INET_TABLE, "bgp-peer-ports", (INET_PROTO, INET_SERVICE))
BGP_PEERS: Final = _addresses("bgp-peers")
VTEPS: Final = _addresses("vteps")
POOLS: Final = _addresses("pools", interval=True)
MASQUERADE: Final = _addresses("masquerade", interval=True)
BLOCKS: Final = _addresses("blocks", interval=True)

_OF_BOTH = (OWN_LINKS, TUNNEL_PORTS, TUNNEL_PROTOCOLS, DISCOVERY)
SETS: Final[tuple[Set, ...]] = (
    *(definition for sets in _OF_BOTH for definition in sets.values()),
    *(definition for sets in SOURCES.values() for definition in sets.values()),
    TARGETS,
    TUNNELS,
    OUTER_PORTS,
    OUTER_PROTOCOLS,
    PROBE_PORTS,
    BGP_PORTS,
    BGP_PEER_PORTS,
    *(definition for sets in (BGP_PEERS, VTEPS, POOLS, MASQUERADE, BLOCKS) for definition in sets.values()),
)

_OF_A_SOURCE: Final = {
    4: tuple(sets[4] for sets in SOURCES.values()),
    6: (*(sets[6] for sets in SOURCES.values()), TARGETS),
}


def source_keys(sources: Iterable[Source]) -> dict[Set, frozenset[bytes]]:
    """Interface name (16 bytes), MAC (6, padded to 8) and address of each source, for every set that has to hold it."""
    keys: dict[int, set[bytes]] = {4: set(), 6: set()}
    for interface, mac, address in sources:
        keys[address.version].add(interface.encode().ljust(16, b"\0") + mac_bytes(mac) + b"\0\0" + address.packed)
    return {definition: frozenset(keys[version]) for version in (4, 6) if keys[version] for definition in _OF_A_SOURCE[version]}


def own_link_keys(names: Iterable[str]) -> dict[Set, frozenset[bytes]]:
    """Links that begin like a pod's and are the node's own."""
    return dict.fromkeys(OWN_LINKS.values(), _links(names))


def keys(want: Filter) -> dict[Set, frozenset[bytes]]:
    """What every set should hold."""
    ports = frozenset(_port(outer.port) for outer in want.outers if outer.port)
    found = {definition: frozenset[bytes]() for definition in SETS} | source_keys(want.sources)
    found |= own_link_keys((*want.tunnels, *want.bridges))
    found |= dict.fromkeys(TUNNEL_PORTS.values(), frozenset(map(_port, {*_TUNNEL_PORTS, *want.carried})) | ports)
    found |= dict.fromkeys(TUNNEL_PROTOCOLS.values(), frozenset(bytes((number,)) for number in _TUNNEL_PROTOCOLS))
    found[DISCOVERY[INET_TABLE]] = _types(ROUTER_SOLICITATION, ROUTER_ADVERTISEMENT, SOLICITATION, ADVERTISEMENT, REDIRECT)
    found[DISCOVERY[BRIDGE_TABLE]] = _types(ROUTER_SOLICITATION, ROUTER_ADVERTISEMENT, ADVERTISEMENT, REDIRECT)
    found[OUTER_PORTS] = ports
    found[OUTER_PROTOCOLS] = frozenset(bytes((outer.protocol,)) for outer in want.outers if not outer.port)
    found[PROBE_PORTS] = frozenset((_port(want.probe_port),)) if want.probe_port else frozenset()
    bfd = frozenset(_outer(Outer(UDP, port)) for port in want.bfd_ports)
    found[BGP_PORTS] = bfd | ({_outer(Outer(TCP, want.bgp_port))} if want.bgp_port else frozenset())
    found[BGP_PEER_PORTS] = bfd | {_outer(Outer(TCP, port)) for port in want.bgp_ports}
    found[TUNNELS] = _links(want.tunnels)
    for version in (4, 6):
        found[BGP_PEERS[version]] = frozenset(address.packed for address in want.bgp_peers if address.version == version)
        found[VTEPS[version]] = frozenset(address.packed for address in want.vteps if address.version == version)
        found[POOLS[version]] = points(want.pools, version)
        found[MASQUERADE[version]] = points(want.masquerade, version)
        found[BLOCKS[version]] = points(want.blocks, version)
    return found


def _links(names: Iterable[str]) -> frozenset[bytes]:
    return frozenset(name.encode().ljust(16, b"\0") for name in names)


def _port(number: int) -> bytes:
    return struct.pack(">H", number)


def _outer(outer: Outer) -> bytes:
    """Protocol and port, each in a register of its own."""
    return struct.pack(">B3xH2x", outer.protocol, outer.port)


def _types(*numbers: int) -> frozenset[bytes]:
    return frozenset(bytes((number,)) for number in numbers)
