"""The ruleset as a pure function: `Filter` → the messages that build it.  Rules never change; a pod is elements of sets.

A packet of a pod, routed wiring: it comes in on `loomXXXXXXXXXXX`, and `inet netloom prerouting` sees it before conntrack.
Bridge wiring: the frame comes in on a port of our bridge, and `bridge netloom prerouting` sees it there; what goes up to the host
passes the inet table later as coming from the bridge, which is one of the `own-links`.  Both go through the same chains:

    prerouting → from-pod   no tunnels: whoever could build one would walk around every rule of policy
                 packet     nothing that turns others astray (redirects, source routes, loopback, neighbour discovery)
                            accept what this interface may send from, with this MAC: `sources4`, `sources6`
                            drop the rest

So a pod's interface of which nothing is known is closed, and a packet that cannot be parsed is never accepted.

Nearly every packet is TCP or UDP without options or extension headers.  For those one rule asks all of it at once, before the chains:
what it does not accept, they look at.  A rule costs its packet some 50 ns, and the chains are a dozen.  It comes before anything that
takes a lookup of its own: whether a bridge's port is a pod's, whether a link is the node's own (nobody but pods is a source).  What
comes out of a tunnel is known by `loom.`, as no pod's interface is named, and goes another way.

Neighbours.  Routed wiring has permanent entries at both ends: all ARP and all neighbour discovery of such pods is dropped.  On a
bridge a pod may ask and answer for itself: the sender in an ARP packet, the target of an advertisement (the set `targets`, whose
elements are those of `sources6`; nft wants another type for it).  Probes for duplicates (RFC 5227, RFC 4862) come from no address
and are dropped: IPAM makes addresses unique, and without an answer an address counts as free.

What tunnels bring comes from `vteps` only, and no packet in it is from a pod of this very node.  BGP and BFD come from `bgp-peers`
only.  What leaves the pools is masqueraded where the pool wants it; the chain for that is there only if any does, because it switches
conntrack on.
"""

from __future__ import annotations

import functools
import ipaddress
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from netloom.dataplane.nft import expressions as e
from netloom.dataplane.nft.expressions import Header, Meta
from netloom.dataplane.nft.nfnetlink import Message
from netloom.dataplane.nft.objects import (
    Hook,
    Set,
    TableId,
    add_chain,
    add_counter,
    add_elements,
    add_rule,
    add_set,
    add_table,
    delete_table,
)
from netloom.dataplane.nft.sets import (
    ADVERTISEMENT,
    ARP_TABLE,
    BGP_PEER_PORTS,
    BGP_PEERS,
    BGP_PORTS,
    BLOCKS,
    BRIDGE_TABLE,
    DISCOVERY,
    INET_TABLE,
    MASQUERADE,
    OUTER_PORTS,
    OUTER_PROTOCOLS,
    OWN_LINKS,
    POOLS,
    PROBE_PORTS,
    SETS,
    SOURCES,
    TARGETS,
    TUNNEL_PORTS,
    TUNNEL_PROTOCOLS,
    TUNNELS,
    VTEPS,
    keys,
)
from netloom.model.addresses import Prefix
from netloom.model.attachments import PREFIX
from netloom.model.desired import Filter

TABLES: Final = (INET_TABLE, BRIDGE_TABLE, ARP_TABLE)

COUNTERS: Final = {
    INET_TABLE: ("spoofed", "tunnels", "loopback", "source-routed", "discovery", "outer", "probes", "bgp"),
    BRIDGE_TABLE: ("spoofed", "tunnels", "loopback", "source-routed", "discovery", "arp-spoofed", "foreign"),
    ARP_TABLE: ("arp-spoofed",),
}

# linux/netfilter.h, linux/netfilter_arp.h; nft calls priority -300 raw (for bridges dstnat), 100 srcnat
_PREROUTING, _INPUT, _POSTROUTING, _ARP_INPUT = 0, 1, 4, 0
_RAW, _FILTER, _BEFORE_SRCNAT = -300, 0, 95

_STRANGE_PROBES = 20, 20  # a second, and at once
_ICMP, _TCP, _UDP, _ICMPV6 = 1, 6, 17, 58
_ICMP_REDIRECT = 5
_LOOSE_SOURCE_ROUTE, _STRICT_SOURCE_ROUTE = 131, 137
_ROUTING_HEADER = 43
_ARP_ETHERNET_IPV4 = struct.pack(">HHBB", 1, 0x0800, 6, 4)

Place = tuple[Header, int, int]
"""Where something stands in a packet: header, offset, length."""
_FRAME_MAC: Place = (Header.LINK, 6, 6)
_ARP_MAC: Place = (Header.NETWORK, 8, 6)
_ARP_ADDRESS: Place = (Header.NETWORK, 14, 4)
_SOURCE: dict[int, Place] = {4: (Header.NETWORK, 12, 4), 6: (Header.NETWORK, 8, 16)}
_TARGET: Place = (Header.TRANSPORT, 8, 16)
_DESTINATION_PORT: Place = (Header.TRANSPORT, 2, 2)
_VERSION_AND_LENGTH: Place = (Header.NETWORK, 0, 1)
_DESTINATION_CLASS: Place = (Header.NETWORK, 16, 1)
_NEXT_HEADER: Place = (Header.NETWORK, 6, 1)
_DESTINATION_NETWORK: Place = (Header.NETWORK, 24, 8)

_INET_HOOKS = {"prerouting": Hook(_PREROUTING, _RAW), "input": Hook(_INPUT, _FILTER)}
_NAT_HOOKS = {"postrouting": Hook(_POSTROUTING, _BEFORE_SRCNAT, "nat")}
_BRIDGE_HOOKS = {"prerouting": Hook(_PREROUTING, _RAW)}
_ARP_HOOKS = {"input": Hook(_ARP_INPUT, _FILTER)}

_OWN_PREFIX = PREFIX + "."
"""No pod's interface is named like this."""

_NOWHERE: tuple[tuple[Prefix, str], ...] = (
    (ipaddress.ip_network("127.0.0.0/8"), "loopback is the host's own"),
    (ipaddress.ip_network("::1/128"), "loopback is the host's own"),
    (ipaddress.ip_network("::ffff:0:0/96"), "IPv4 in disguise"),
)
_MULTICAST: dict[int, Prefix] = {4: ipaddress.ip_network("224.0.0.0/4"), 6: ipaddress.ip_network("ff00::/8")}


class Rule(NamedTuple):
    chain: str
    steps: bytes
    comment: str


def build(want: Filter) -> list[Message]:
    """One transaction that puts the whole ruleset in place of whatever stands under our tables' names."""
    elements = (message for definition, found in keys(want).items() for message in add_elements(definition, found))
    return [*_structure(masquerade=bool(want.masquerade)), *elements]


@functools.cache
def _structure(*, masquerade: bool) -> tuple[Message, ...]:
    """All but the elements: there are only these two."""
    batch: list[Message] = []
    for table in TABLES:
        # a table has to be there to be deleted
        batch += (add_table(table), delete_table(table), add_table(table))
        batch += (add_counter(table, name) for name in COUNTERS[table])
    batch += (add_set(definition, number) for number, definition in enumerate(SETS, 1))
    for table in TABLES:
        batch += _chains(table, masquerade=masquerade)
    return tuple(batch)


def remove() -> list[Message]:
    """Nothing of ours is left."""
    return [message for table in TABLES for message in (add_table(table), delete_table(table))]


def _chains(table: TableId, *, masquerade: bool) -> Iterator[Message]:
    bases, rules = {
        INET_TABLE: (_INET_HOOKS, [*_from_routed_pods(), *_packet(INET_TABLE), *_outer(), *_probes(), *_bgp()]),
        BRIDGE_TABLE: (_BRIDGE_HOOKS, [*_from_bridged_pods(), *_packet(BRIDGE_TABLE)]),
        ARP_TABLE: (_ARP_HOOKS, [*_arp()]),
    }[table]
    if masquerade and table is INET_TABLE:
        bases, rules = bases | _NAT_HOOKS, [*rules, *_masquerade()]
    for name in dict.fromkeys((*bases, *(rule.chain for rule in rules))):
        yield add_chain(table, name, bases.get(name))
    for rule in rules:
        yield add_rule(table, rule.chain, (rule.steps,), rule.comment)


def _dropped(counter: str) -> bytes:
    return e.counted(counter) + e.drop()


def _from_pods(table: TableId) -> bytes:
    """It comes from an interface of ours that is a pod's."""
    return e.from_interface(PREFIX) + _from_no_own_link(table)


def _from_no_own_link(table: TableId) -> bytes:
    """The same, where it is known to be one of ours."""
    return e.load_meta(Meta.IIFNAME) + e.in_set(OWN_LINKS[table].name, invert=True)


def _is_sender(sources: Set, mac: Place, address: Place) -> bytes:
    """The interface, and the MAC and address that stand at these places of the packet, belong together."""
    key = e.load_meta(Meta.IIFNAME) + e.load(*mac, e.REGISTER + 4) + e.load(*address, e.REGISTER + 6)
    return key + e.in_set(sources.name)


def _from_routed_pods() -> Iterator[Rule]:
    yield Rule("prerouting", e.from_interface(PREFIX, invert=True) + e.accept(), "neither from a pod nor out of a tunnel")
    yield Rule("prerouting", e.from_interface(_OWN_PREFIX) + e.goto("own"), "out of a tunnel, or by way of our bridge")
    yield from _plain(INET_TABLE, "prerouting")
    yield Rule("prerouting", _from_no_own_link(INET_TABLE) + e.goto("from-pod"), "all else that comes from a pod")
    for version, blocks in BLOCKS.items():
        ours = e.ip_version(version, bridge=False) + e.source(version) + e.in_set(blocks.name)
        tunnel = e.load_meta(Meta.IIFNAME) + e.in_set(TUNNELS.name)
        yield Rule("own", ours + tunnel + _dropped("outer"), "a pod of this node, out of a tunnel")


def _from_bridged_pods() -> Iterator[Rule]:
    arp = e.ether_type(e.ETHERTYPE_ARP)
    sources = SOURCES[BRIDGE_TABLE][4]
    honest = arp + e.load(Header.NETWORK, 0, 6) + e.equals(_ARP_ETHERNET_IPV4)
    honest += _is_sender(sources, _FRAME_MAC, _ARP_ADDRESS) + _is_sender(sources, _ARP_MAC, _ARP_ADDRESS)
    yield from _plain(BRIDGE_TABLE, "prerouting")
    yield Rule("prerouting", e.from_interface(PREFIX, invert=True) + e.accept(), "not from a port of a pod")
    yield Rule("prerouting", e.goto("frame"), "all else that comes from a port of a pod")
    yield Rule("frame", e.ether_type(e.ETHERTYPE_IPV4) + e.goto("from-pod"), "IPv4")
    yield Rule("frame", e.ether_type(e.ETHERTYPE_IPV6) + e.goto("from-pod"), "IPv6")
    yield Rule("frame", honest + e.accept(), "ARP of a pod for itself")
    yield Rule("frame", arp + _dropped("arp-spoofed"), "ARP for somebody else")
    yield Rule("frame", _dropped("foreign"), "neither IP nor ARP, or tagged")


def _plain(table: TableId, chain: str) -> Iterator[Rule]:
    """Accepts nothing that the chains would not: no tunnel, nothing between the headers, not to where loopback and IPv4 in disguise
    are (all of ::/64), from its own source."""
    bare = {
        4: e.load(*_VERSION_AND_LENGTH) + e.equals(b"\x45"),
        6: e.load(*_DESTINATION_NETWORK) + e.equals(bytes(8), invert=True),
    }
    elsewhere = e.load(*_DESTINATION_CLASS) + e.equals(b"\x7f", invert=True)
    no_tunnel = e.load(*_DESTINATION_PORT) + e.in_set(TUNNEL_PORTS[table].name, invert=True)
    for version, sources in SOURCES[table].items():
        frame = e.ip_version(version, bridge=True) if table is BRIDGE_TABLE else e.ethernet_frame(version)
        own = _is_sender(sources, _FRAME_MAC, _SOURCE[version])
        for protocol, what, port in ((_TCP, "TCP", b""), (_UDP, "UDP", no_tunnel)):
            directly = elsewhere if version == 4 else e.load(*_NEXT_HEADER) + e.equals(bytes((protocol,)))
            steps = e.protocol(protocol) + frame + bare[version] + directly + port + own
            yield Rule(chain, steps + e.accept(), f"a pod's own {what} without options")


def _packet(table: TableId) -> Iterator[Rule]:
    bridge = table is BRIDGE_TABLE
    no_tunnel = e.load_meta(Meta.L4PROTO) + e.in_set(TUNNEL_PROTOCOLS[table].name, invert=True)
    yield Rule("from-pod", no_tunnel + e.goto("packet"), "no tunnel protocol")
    yield Rule("from-pod", _dropped("tunnels"), "tunnel packets from a pod, or unreadable")
    port = e.protocol(_UDP) + e.load(*_DESTINATION_PORT) + e.in_set(TUNNEL_PORTS[table].name)
    yield Rule("packet", port + _dropped("tunnels"), "tunnel packets from a pod")
    for prefix, reason in _NOWHERE:
        to = e.ip_version(prefix.version, bridge=bridge) + e.destination(prefix.version) + e.within(prefix)
        yield Rule("packet", to + _dropped("loopback"), reason)
    yield from _turned_astray(bridge=bridge)
    if bridge:
        yield from _own_advertisements()
    discovery = e.ip_version(6, bridge=bridge) + e.icmp_type(_ICMPV6) + e.in_set(DISCOVERY[table].name)
    yield Rule("packet", discovery + _dropped("discovery"), "neighbour discovery that no pod may speak")
    for version, sources in SOURCES[table].items():
        frame = e.ip_version(version, bridge=True) if bridge else e.ethernet_frame(version)
        own = frame + _is_sender(sources, _FRAME_MAC, _SOURCE[version])
        yield Rule("packet", own + e.accept(), "a pod's own interface, MAC and address")
    yield Rule("packet", _dropped("spoofed"), "any other source")


def _turned_astray(*, bridge: bool) -> Iterator[Rule]:
    """What asks a host to send its packets another way."""
    redirect = e.ip_version(4, bridge=bridge) + e.icmp_type(_ICMP) + e.equals(bytes((_ICMP_REDIRECT,)))
    yield Rule("packet", redirect + _dropped("discovery"), "redirect")
    for option in (_LOOSE_SOURCE_ROUTE, _STRICT_SOURCE_ROUTE):
        route = e.ip_version(4, bridge=bridge) + e.ip_option_exists(option)
        yield Rule("packet", route + _dropped("source-routed"), "source route")
    header = e.ip_version(6, bridge=bridge) + e.extension_header_exists(_ROUTING_HEADER)
    yield Rule("packet", header + _dropped("source-routed"), "routing header")


def _own_advertisements() -> Iterator[Rule]:
    advertisement = e.ip_version(6, bridge=True) + e.icmp_type(_ICMPV6) + e.equals(bytes((ADVERTISEMENT,)))
    own = _is_sender(TARGETS, _FRAME_MAC, _TARGET) + _is_sender(SOURCES[BRIDGE_TABLE][6], _FRAME_MAC, _SOURCE[6])
    yield Rule("packet", advertisement + own + e.accept(), "neighbour advertisement of a pod for itself")


def _arp() -> Iterator[Rule]:
    yield Rule("input", _from_pods(ARP_TABLE) + _dropped("arp-spoofed"), "routed pods have permanent neighbours")


def _outer() -> Iterator[Rule]:
    port = e.protocol(_UDP) + e.load(*_DESTINATION_PORT) + e.in_set(OUTER_PORTS.name)
    protocol = e.load_meta(Meta.L4PROTO) + e.in_set(OUTER_PROTOCOLS.name)
    for one in (port, protocol):
        yield Rule("input", one + e.goto("outer"), "what tunnels bring to the node itself")
    for version, vteps in VTEPS.items():
        node = e.ip_version(version, bridge=False) + e.source(version) + e.in_set(vteps.name)
        yield Rule("outer", e.from_interface(PREFIX, invert=True) + node + e.accept(), "a tunnel's from a node")
    yield Rule("outer", _dropped("outer"), "a tunnel's from anybody else")


def _probes() -> Iterator[Rule]:
    """From nodes, and out of tunnels; never from pods of this node.  From others some datagrams: a node that comes with another address
    has to be found out, and the agent can tell it from a stranger.  No connections: each would take one of those that nodes need."""
    for protocol in (_UDP, _TCP):
        port = e.protocol(protocol) + e.load(*_DESTINATION_PORT) + e.in_set(PROBE_PORTS.name)
        yield Rule("input", port + e.goto("probes"), "what nodes ask each other")
    outside = e.from_interface(PREFIX, invert=True)
    for version, vteps in VTEPS.items():
        node = e.ip_version(version, bridge=False) + e.source(version) + e.in_set(vteps.name)
        yield Rule("probes", outside + node + e.accept(), "a probe from a node")
    yield Rule("probes", e.load_meta(Meta.IIFNAME) + e.in_set(TUNNELS.name) + e.accept(), "a probe out of a tunnel")
    others = outside + e.protocol(_UDP) + e.limited(*_STRANGE_PROBES)
    yield Rule("probes", others + e.accept(), "a node with another address, or a stranger")
    yield Rule("probes", _dropped("probes"), "a probe from a pod or a stranger, or too many")


def _bgp() -> Iterator[Rule]:
    """From peers, by way of an uplink.  BFD says whether they are there, and is guarded as BGP is: who can fake it can end a session."""
    yield Rule("input", _is_to(BGP_PORTS) + e.goto("bgp"), "BGP and BFD")
    for version, peers in BGP_PEERS.items():
        peer = e.ip_version(version, bridge=False) + e.source(version) + e.in_set(peers.name)
        yield Rule("bgp", e.from_interface(PREFIX, invert=True) + peer + e.accept(), "BGP from a peer")
    yield Rule("bgp", _dropped("bgp"), "BGP from anybody else")


def _is_to(ports: Set) -> bytes:
    """A protocol, and a port of it."""
    port = e.load(*_DESTINATION_PORT, e.REGISTER + 1)
    return e.load_meta(Meta.L4PROTO) + port + e.in_set(ports.name)


def _masquerade() -> Iterator[Rule]:
    """A pod that got this node's address on its way to a BGP peer would be taken for this node."""
    for version, peers in BGP_PEERS.items():
        session = _is_to(BGP_PEER_PORTS) + e.ip_version(version, bridge=False) + e.destination(version) + e.in_set(peers.name)
        session += e.source(version) + e.in_set(POOLS[version].name)
        yield Rule("postrouting", session + _dropped("bgp"), "BGP of a pod with a peer of this node")
    for version in (4, 6):
        leaves = e.ip_version(version, bridge=False)
        leaves += e.source(version) + e.in_set(MASQUERADE[version].name)
        leaves += e.destination(version) + e.in_set(POOLS[version].name, invert=True)
        leaves += e.destination(version) + e.within(_MULTICAST[version], invert=True)
        yield Rule("postrouting", leaves + e.masquerade(), "pods' traffic that leaves the pools")
