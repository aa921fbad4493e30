"""Pairs: which nodes this one peers with, and by what: the mesh, or a BGPPeer with `peerSelector`.

    mesh     all nodes with each other, but for those that reflect (they have a cluster ID)
    forward  this node is chosen by `node` or `nodeSelector` (or neither), the other one by `peerSelector`
    back     the other way round, unless `reversePeering` is Manual

Both ends go through the same resources and come to the same one: a BGPPeer goes before the mesh, one whose peering is mutual before one
that is not, and then the name decides.  Nobody peers with itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from netloom.calc.bgp.speakers import Speakers
from netloom.model.bgp_peer import BGPPeer, ReversePeering
from netloom.model.selectors import parse_selector
from netloom.model.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Pair:
    """`peer` None: the mesh.  `chosen` and `chooses_us`: whether this node, and the other one, is among those that the BGPPeer is for
    (its `localASNumber` is theirs)."""

    other: str
    peer: BGPPeer | None = None
    chosen: bool = False
    chooses_us: bool = False


def pairs(snapshot: Snapshot, speakers: Speakers) -> Iterator[Pair]:
    """One for each other node that this one peers with, by name."""
    found: dict[str, Pair] = {}
    resources = [peer for _, peer in sorted(snapshot.bgp_peers.items()) if peer.spec.peer_selector]
    for peer in sorted(resources, key=lambda peer: peer.spec.reverse_peering is ReversePeering.MANUAL):
        for pair in _of(peer, speakers):
            found.setdefault(pair.other, pair)
    if speakers.cluster.node_to_node_mesh_enabled and speakers.own.cluster_id is None:
        for node in speakers.others():
            if node.name not in found and (node.spec.bgp is None or not node.spec.bgp.route_reflector_cluster_id):
                found[node.name] = Pair(node.name)
    return (found[name] for name in sorted(found))


def _of(peer: BGPPeer, speakers: Speakers) -> Iterator[Pair]:
    is_peer, own = parse_selector(peer.spec.peer_selector), speakers.own
    forward, back = peer.is_for(own.name, own.labels), is_peer(own.labels)
    back = back and peer.spec.reverse_peering is ReversePeering.AUTO
    if not forward and not back:
        return
    for node in speakers.others():
        reached = forward and is_peer(node.metadata.labels)
        for_other = (back or reached) and peer.is_for(node.name, node.metadata.labels)
        if reached or (back and for_other):
            yield Pair(node.name, peer, chosen=forward, chooses_us=for_other)
