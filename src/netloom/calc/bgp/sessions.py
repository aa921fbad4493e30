"""Sessions: with other nodes one for each family that both have an address of; with a peer outside one, at its address.

Between nodes exactly one side opens a session, the one with the higher address; the other waits for it.  A peer outside may be waiting
itself, so there both may open (RFC 4271, section 6.8 makes one of two).

What a BGPPeer says of its `peerIP` holds whoever else says to have that address: a Node tells of its addresses itself, and must not
take a router's session, or what is believed of it.  Nodes are peered with by the mesh and by `peerSelector`.

A session that cannot be as it was asked for (its filter is missing, its address is this node's own) is left out and told, and no other
is.  Names are made of names that people gave, and do not depend on what else there is.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Address

from netloom.calc.bgp.fitting import fitted
from netloom.calc.bgp.pairs import Pair, pairs
from netloom.calc.bgp.speakers import Speaker, Speakers
from netloom.model.addresses import Address
from netloom.model.bgp import BGP_PORT, BGPPassword, BGPPeer, BGPPeerSpec, ReversePeering, SourceAddress
from netloom.model.bgp_values import milliseconds
from netloom.model.host import Host
from netloom.model.resources import Node
from netloom.model.routing import OtherEnd, Secret, Session, Trust
from netloom.model.snapshot import Snapshot

RESTART = 120
"""Seconds of a graceful restart, unless said; BIRD's own."""
LIMIT = 50_000
"""Prefixes of each family that a peer outside may tell of, unless said: room for any cluster, none for the whole Internet."""
_LONGEST = 63  # characters of a name in BIRD
_ODD = re.compile("[^a-z0-9]")
_VERSIONS = (4, 6)
_MESH = {4: "mesh", 6: "mesh6"}


class Known:
    """Sessions with other nodes as they were computed last, and from what: of thousands of nodes few change at a time.  It saves time,
    and decides nothing."""

    def __init__(self) -> None:
        self.by_node: dict[str, tuple[Node, Pair, tuple[Session, ...], tuple[str, ...]]] = {}
        """What each was computed from, its sessions, and what is wrong with those that it does not have."""
        self._circumstances: tuple[object, ...] = ()
        self._resources: tuple[object, object] = (None, None)

    def mind(self, snapshot: Snapshot, host: Host, speakers: Speakers, disputed: Collection[Address]) -> None:
        """Forgets what was computed under other circumstances: all that a session depends on, besides the other node."""
        resources = snapshot.bgp_peers, snapshot.bgp_configurations
        circumstances = (host.addresses, host.uplinks, host.far, host.ipv6, speakers.own, frozenset(disputed))
        same = all(one is other for one, other in zip(resources, self._resources, strict=True))
        if not same or circumstances != self._circumstances:
            self.by_node = {}
        self._resources, self._circumstances = resources, circumstances


def sessions(
    snapshot: Snapshot,
    host: Host,
    speakers: Speakers,
    disputed: Collection[Address],
    problems: list[str],
    known: Known,
) -> tuple[Session, ...]:
    """In the order of their names."""
    known.mind(snapshot, host, speakers, disputed)
    taken: dict[Address, str] = {}
    found: dict[str, Session] = {}
    for session in _all(snapshot, host, speakers, disputed, problems, known):
        if session.address in taken:
            problems.append(f"{session.origin}: {session.address} has a session already, by {taken[session.address]}")
            continue
        taken[session.address] = session.origin
        name = session.name if session.name not in found else session_name(session.name, f"{session.origin}.", session.address)
        found[name] = session if name == session.name else replace(session, name=name)
    return tuple(found[name] for name in sorted(found))


def session_name(start: str, name: str, address: Address | None = None) -> str:
    """What BIRD takes for a name.  Where it would not tell two apart, or is too long, its end is a checksum of the whole."""
    text = f"{start}_{name}" if address is None else f"{start}_{name}_{address}"
    plain = _ODD.sub("_", text)
    if "." not in name and len(plain) <= _LONGEST:
        return plain
    return f"{plain[: _LONGEST - 9]}_{zlib.crc32(text.encode()):08x}"


def _all(
    snapshot: Snapshot,
    host: Host,
    speakers: Speakers,
    disputed: Collection[Address],
    problems: list[str],
    known: Known,
) -> Iterator[Session]:
    back = [peer for _, peer in sorted(snapshot.bgp_peers.items()) if _is_own(peer, host)]
    with_nodes = {pair.other: pair for pair in pairs(snapshot, speakers)}
    for peer in (peer for _, peer in sorted(snapshot.bgp_peers.items())):
        if not peer.spec.peer_ip or not peer.is_for(host.node, speakers.own.labels):
            continue
        if _is_own(peer, host) and any(peer.is_for(n.name, n.metadata.labels) for n in speakers.others()):
            continue  # what others peer with, a reflector: this node itself
        if reason := _obstacle(peer, snapshot, host):
            problems.append(f"{_origin(peer)}: {reason}")
        else:
            session, claim = _outside(peer, host, speakers, back, with_nodes)
            found, reasons = fitted([session], host, speakers.settings)
            problems += [*claim, *reasons]
            yield from found
    before, known.by_node = known.by_node, {}
    for pair in with_nodes.values():
        if pair.peer is not None and (reason := _obstacle(pair.peer, snapshot, host)):
            message = f"{_origin(pair.peer)}: {reason}"
            if message not in problems:
                problems.append(message)
        else:
            node = snapshot.nodes[pair.other]
            last = before.get(pair.other)
            if last is None or last[0] is not node or last[1] != pair:
                last = node, pair, *fitted(_with_node(pair, host, speakers, disputed, back), host, speakers.settings)
            known.by_node[pair.other] = last
            problems += last[3]
            yield from last[2]


def _origin(peer: BGPPeer) -> str:
    return f"BGPPeer {peer.name}"


def _obstacle(peer: BGPPeer, snapshot: Snapshot, host: Host) -> str:
    missing = [name for name in peer.spec.filters if name not in snapshot.bgp_filters]
    if missing:
        return f"there is no BGPFilter {', '.join(missing)}: no session without it"
    if peer.spec.peer is None:
        return ""
    address, _ = peer.spec.peer
    if _is_own(peer, host):
        return f"{address} is this node's own address: nobody peers with itself"
    if peer.spec.source_address is SourceAddress.USE_NODE_IP and host.address(address.version) is None:
        return f"this node has no IPv{address.version} address to speak with {address} from"
    return ""


def _is_own(peer: BGPPeer, host: Host) -> bool:
    return peer.spec.peer is not None and _is_local(peer.spec.peer[0], host)


def _is_local(address: Address, host: Host) -> bool:
    held = (*host.addresses, *(a for uplink in host.uplinks.values() for a in uplink.addresses))
    return any(a.ip == address for a in held)


def _outside(
    peer: BGPPeer, host: Host, speakers: Speakers, back: Collection[BGPPeer], with_nodes: Mapping[str, Pair]
) -> tuple[Session, list[str]]:
    """And what is odd about it.  Of a node that says to have that address nothing is taken but its port, where it is in that AS."""
    spec, own = peer.spec, speakers.own
    assert spec.peer is not None  # for the caller
    assert spec.as_number is not None  # the BGPPeer has seen to it
    address, port = spec.peer
    local_as = spec.local_as_number or own.as_number
    node, there, odd = speakers.with_address(address), None, []
    if node is not None:
        there = _there(back, node, own, address.version, with_nodes.get(node.name))
        number = there.as_number if there else node.as_number
        if number != spec.as_number:
            odd.append(f"{_origin(peer)}: node {node.name}, in AS {number}, says to have its address {address}")
    session = _session(
        name=session_name("peer", peer.name),
        origin=_origin(peer),
        address=address,
        remote_as=spec.as_number,
        local_as=local_as,
        families=_families(spec, address.version),
        port=port or (node.port if node and node.as_number == spec.as_number else BGP_PORT),
        source=_source(spec, own, address.version),
        passive=False,
        multihop=spec.reachable_by is not None or host.uplink_towards(address) is None,
        reflects=_reflects(own, None, local_as == spec.as_number),
        trust=Trust.ANYTHING,
        limit=spec.prefix_limit if spec.prefix_limit is not None else LIMIT,
        spec=spec,
        there=there,
    )
    return session, odd


def _with_node(
    pair: Pair, host: Host, speakers: Speakers, disputed: Collection[Address], back: Collection[BGPPeer]
) -> Iterator[Session]:
    own, other, spec = speakers.own, speakers.get(pair.other), pair.peer.spec if pair.peer else speakers.mesh
    both = [v for v in _VERSIONS if own.address(v) is not None and other.address(v) is not None]
    for version in _versions(spec, both):
        mine, theirs = own.address(version), other.address(version)
        assert mine is not None  # `both` has seen to it
        assert theirs is not None
        if theirs.ip in disputed or _is_local(theirs.ip, host):
            continue  # the first is told already
        near = own.is_near(other, version) and other.name not in host.far and host.uplink_towards(theirs.ip) is not None
        yield _between(pair, spec, own, other, version, near=near, there=_there(back, other, own, version))


def _there(back: Iterable[BGPPeer], node: Speaker, own: Speaker, version: int, pair: Pair | None = None) -> OtherEnd | None:
    """How that node has its session with this one: by a BGPPeer at an address of ours (`back`), or by what both peer by.  None: not at
    all, or so that this one cannot tell."""
    for peer in back:
        is_way_back = peer.spec.peer is not None and peer.spec.peer[0].version == version
        if is_way_back and peer.spec.as_number and peer.is_for(node.name, node.labels):
            return OtherEnd(node.name, peer.spec.local_as_number or node.as_number, peer.spec.as_number, _origin(peer))
    if pair is None or (pair.peer is not None and pair.peer.spec.reverse_peering is ReversePeering.MANUAL):
        return None
    theirs, ours = _numbers(pair, node, own)
    return OtherEnd(node.name, theirs, ours, _origin(pair.peer) if pair.peer else "the mesh")


def _numbers(pair: Pair, node: Speaker, own: Speaker) -> tuple[int, int]:
    """AS numbers of the other one, and of this one."""
    number = pair.peer.spec.local_as_number if pair.peer else None
    return (pair.chooses_us and number) or node.as_number, (pair.chosen and number) or own.as_number


def _between(
    pair: Pair, spec: BGPPeerSpec, own: Speaker, other: Speaker, version: int, *, near: bool, there: OtherEnd | None
) -> Session:
    mine, theirs = own.address(version), other.address(version)
    assert mine is not None  # for the caller
    assert theirs is not None
    remote_as, local_as = _numbers(pair, other, own)
    return _session(
        name=session_name("peer", pair.peer.name, theirs.ip) if pair.peer else session_name(_MESH[version], other.name),
        origin=_origin(pair.peer) if pair.peer else f"mesh, node {other.name}",
        address=theirs.ip,
        remote_as=remote_as,
        local_as=local_as,
        families=_families(spec, version),
        port=other.port,
        source=_source(spec, own, version),
        passive=mine.ip < theirs.ip,  # type: ignore[operator]  # of one family
        multihop=not near,
        reflects=_reflects(own, other, local_as == remote_as),
        trust=Trust.POOLS,
        limit=spec.prefix_limit or 0,
        spec=spec,
        there=there,
    )


def _versions(spec: BGPPeerSpec, both: list[int]) -> list[int]:
    """Families of the sessions' own packets: unless said each carries its own routes; said together, one session carries all of them."""
    if not spec.families:
        return both
    wanted = [family.version for family in spec.families]
    carrying = [version for version in both if version in wanted] or both
    return carrying[:1]


def _families(spec: BGPPeerSpec, version: int) -> tuple[int, ...]:
    return tuple(sorted(family.version for family in spec.families)) or (version,)


def _source(spec: BGPPeerSpec, own: Speaker, version: int) -> Address | None:
    mine = own.address(version)
    return mine.ip if mine is not None and spec.source_address is SourceAddress.USE_NODE_IP else None


def _reflects(own: Speaker, other: Speaker | None, same_as: bool) -> IPv4Address | None:
    """As a reflector, to all in its AS but others of its cluster."""
    if own.cluster_id is None or not same_as or (other is not None and other.cluster_id == own.cluster_id):
        return None
    return own.cluster_id


def _session(
    *,
    name: str,
    origin: str,
    address: Address,
    remote_as: int,
    local_as: int,
    families: tuple[int, ...],
    port: int,
    source: Address | None,
    passive: bool,
    multihop: bool,
    reflects: IPv4Address | None,
    trust: Trust,
    limit: int,
    spec: BGPPeerSpec,
    there: OtherEnd | None,
) -> Session:
    """With what `spec` says of itself."""
    return Session(
        name=name,
        origin=origin,
        address=address,
        remote_as=remote_as,
        local_as=local_as,
        families=families,
        port=port,
        source=source,
        passive=passive,
        password=_secret(spec.password),
        ttl=spec.ttl_security,
        multihop=multihop,
        hold_time=_seconds(spec.hold_time),
        keepalive_time=_seconds(spec.keepalive_time),
        restart_time=_restart_time(spec),
        bfd=spec.bfd.value if spec.bfd else None,
        reflects=reflects,
        next_hop=spec.next_hop_mode,
        allowed_local_as=spec.num_allowed_local_as_numbers,
        via=spec.reachable_by,
        trust=trust,
        limit=limit,
        filters=spec.filters,
        other_end=there if there and (there.as_number, there.expects) != (remote_as, local_as) else None,
    )


def _secret(password: BGPPassword | None) -> Secret | None:
    return Secret(password.secret_key_ref.name, password.secret_key_ref.key) if password else None


def _seconds(duration: str | None) -> int:
    return 0 if duration is None else milliseconds(duration) // 1000


def _restart_time(spec: BGPPeerSpec) -> int | None:
    """None: no graceful restart, which is also what BFD asks for."""
    if spec.bfd is not None or spec.graceful_restart is False:
        return None
    return RESTART if spec.max_restart_time is None else _seconds(spec.max_restart_time)
