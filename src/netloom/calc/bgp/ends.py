"""Ends: this node's end of one BGP session, by what a BGPPeer or the mesh says of it, and by who both are.

Between nodes exactly one side opens a session, the one with the higher address; the other waits for it.  A peer outside may be waiting
itself, so there both may open (RFC 4271, section 6.8 makes one of two).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from ipaddress import IPv4Address

from netloom.calc.bgp.pairs import Pair
from netloom.calc.bgp.speakers import Speaker, Speakers
from netloom.model.addresses import Address
from netloom.model.bgp_configuration import BGP_PORT
from netloom.model.bgp_peer import BGPPeer, BGPPeerSpec, ReversePeering, SourceAddress
from netloom.model.bgp_session import BGPPassword
from netloom.model.bgp_values import milliseconds
from netloom.model.host import Host
from netloom.model.routing import OtherEnd, Secret, Session, Trust

RESTART = 120
"""Seconds of a graceful restart, unless said; BIRD's own."""
LIMIT = 50_000
"""Prefixes of each family that a peer outside may tell of, unless said: room for any cluster, none for the whole Internet."""
_LONGEST = 63  # characters of a name in BIRD
_ODD = re.compile("[^a-z0-9]")
_VERSIONS = (4, 6)
_MESH = {4: "mesh", 6: "mesh6"}


def session_name(start: str, name: str, address: Address | None = None) -> str:
    """What BIRD takes for a name.  Where it would not tell two apart, or is too long, its end is a checksum of the whole."""
    text = f"{start}_{name}" if address is None else f"{start}_{name}_{address}"
    plain = _ODD.sub("_", text)
    if "." not in name and len(plain) <= _LONGEST:
        return plain
    return f"{plain[: _LONGEST - 9]}_{zlib.crc32(text.encode()):08x}"


def origin(peer: BGPPeer) -> str:
    return f"BGPPeer {peer.name}"


def is_ours(address: Address, host: Host) -> bool:
    held = (*host.addresses, *(a for uplink in host.uplinks.values() for a in uplink.addresses))
    return any(a.ip == address for a in held)


def outside(
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
            odd.append(f"{origin(peer)}: node {node.name}, in AS {number}, says to have its address {address}")
    session = _session(
        name=session_name("peer", peer.name),
        origin=origin(peer),
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


def with_node(
    pair: Pair, host: Host, speakers: Speakers, disputed: Collection[Address], back: Collection[BGPPeer]
) -> Iterator[Session]:
    own, other, spec = speakers.own, speakers.get(pair.other), pair.peer.spec if pair.peer else speakers.mesh
    both = {
        v: (mine.ip, theirs.ip)
        for v in _VERSIONS
        if (mine := own.address(v)) is not None and (theirs := other.address(v)) is not None
    }
    for version in _versions(spec, [*both]):
        address = both[version][1]
        if address in disputed or is_ours(address, host):
            continue  # the first is told already
        near = own.is_near(other, version) and other.name not in host.far and host.uplink_towards(address) is not None
        yield _between(pair, spec, own, other, *both[version], near=near, there=_there(back, other, own, version))


def _there(back: Iterable[BGPPeer], node: Speaker, own: Speaker, version: int, pair: Pair | None = None) -> OtherEnd | None:
    """How that node has its session with this one: by a BGPPeer at an address of ours (`back`), or by what both peer by.  None: not at
    all, or so that this one cannot tell."""
    for peer in back:
        is_way_back = peer.spec.peer is not None and peer.spec.peer[0].version == version
        if is_way_back and peer.spec.as_number and peer.is_for(node.name, node.labels):
            return OtherEnd(node.name, peer.spec.local_as_number or node.as_number, peer.spec.as_number, origin(peer))
    if pair is None or (pair.peer is not None and pair.peer.spec.reverse_peering is ReversePeering.MANUAL):
        return None
    theirs, ours = _numbers(pair, node, own)
    return OtherEnd(node.name, theirs, ours, origin(pair.peer) if pair.peer else "the mesh")


def _numbers(pair: Pair, node: Speaker, own: Speaker) -> tuple[int, int]:
    """AS numbers of the other one, and of this one."""
    number = pair.peer.spec.local_as_number if pair.peer else None
    return (pair.chooses_us and number) or node.as_number, (pair.chosen and number) or own.as_number


def _between(
    pair: Pair,
    spec: BGPPeerSpec,
    own: Speaker,
    other: Speaker,
    mine: Address,
    theirs: Address,
    *,
    near: bool,
    there: OtherEnd | None,
) -> Session:
    version = theirs.version
    remote_as, local_as = _numbers(pair, other, own)
    return _session(
        name=session_name("peer", pair.peer.name, theirs) if pair.peer else session_name(_MESH[version], other.name),
        origin=origin(pair.peer) if pair.peer else f"mesh, node {other.name}",
        address=theirs,
        remote_as=remote_as,
        local_as=local_as,
        families=_families(spec, version),
        port=other.port,
        source=_source(spec, own, version),
        passive=int(mine) < int(theirs),
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
