"""Sessions: with other nodes one for each family that both have an address of; with a peer outside one, at its address.  What each is
like at this end say `ends`.

What a BGPPeer says of its `peerIP` holds whoever else says to have that address: a Node tells of its addresses itself, and must not
take a router's session, or what is believed of it.  Nodes are peered with by the mesh and by `peerSelector`.

A session that cannot be as it was asked for (its filter is missing, its address is this node's own) is left out and told, and no other
is.  Names are made of names that people gave, and do not depend on what else there is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from netloom.calc.bgp.ends import is_ours, origin, outside, session_name, with_node
from netloom.calc.bgp.fitting import fitted
from netloom.calc.bgp.pairs import Pair, pairs
from netloom.calc.bgp.speakers import Speakers
from netloom.model.addresses import Address
from netloom.model.bgp_peer import BGPPeer, SourceAddress
from netloom.model.host import Host
from netloom.model.resources import Node
from netloom.model.routing import Session
from netloom.model.snapshot import Snapshot


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
            problems.append(f"{origin(peer)}: {reason}")
        else:
            session, claim = outside(peer, host, speakers, back, with_nodes)
            found, reasons = fitted([session], host, speakers.settings)
            problems += [*claim, *reasons]
            yield from found
    before, known.by_node = known.by_node, {}
    for pair in with_nodes.values():
        if pair.peer is not None and (reason := _obstacle(pair.peer, snapshot, host)):
            message = f"{origin(pair.peer)}: {reason}"
            if message not in problems:
                problems.append(message)
        else:
            node = snapshot.nodes[pair.other]
            last = before.get(pair.other)
            if last is None or last[0] is not node or last[1] != pair:
                last = node, pair, *fitted(with_node(pair, host, speakers, disputed, back), host, speakers.settings)
            known.by_node[pair.other] = last
            problems += last[3]
            yield from last[2]


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
    return peer.spec.peer is not None and is_ours(peer.spec.peer[0], host)
