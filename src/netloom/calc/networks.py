"""Networks that have pools of their own: one link of one node, which the rest of the cluster knows nothing of.

    pool blue  172.20.0.0/16, network blue, node a      on a: bridge, masquerade, kept apart as the pool says
                                                        elsewhere: nothing

Which bridges are kept apart follows from the pool as it is now.  Where it is not known (it was deleted while pods are there, the
datastore is away since before it was made), from what it said at their ADD: not knowing opens nothing.

A network that is alone, as `docker0` is on most hosts, has nobody to be kept apart from: no other network or pool is there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from netloom.model.addresses import Prefix, contains
from netloom.model.attachments import Attachment, OwnNetwork
from netloom.model.resources import IPPool


class Apart(NamedTuple):
    """Bridges: `internal`, nothing is forwarded to or from them; `isolated`, nothing from or to other networks and the cluster's pods."""

    internal: frozenset[str] = frozenset()
    isolated: frozenset[str] = frozenset()


def of_node(pools: Iterable[IPPool], node: str) -> list[IPPool]:
    """Those of the cluster, and of the networks of this node."""
    return [pool for pool in pools if not pool.spec.network or pool.spec.node == node]


def apart(pools: Iterable[IPPool], attachments: Iterable[Attachment]) -> Apart:
    declared: dict[str, list[OwnNetwork]] = {}
    for pool in pools:
        if pool.spec.network:
            own = OwnNetwork(internal=pool.spec.internal, isolated=pool.spec.isolated)
            declared.setdefault(pool.spec.network, []).append(own)
    internal: set[str] = set()
    isolated: set[str] = set()
    for attachment in attachments:
        if attachment.bridge is None:
            continue
        own_network = attachment.own_network
        for said in declared.get(attachment.key.network, () if own_network is None else (own_network,)):
            if said.internal:
                internal.add(attachment.bridge)
            if said.isolated:
                isolated.add(attachment.bridge)
    return Apart(frozenset(internal), frozenset(isolated))


def alone(pools: Iterable[IPPool], attachments: Iterable[Attachment], kept_apart: Apart) -> frozenset[str]:
    """The isolated bridge besides which there is nothing, if so.  Pools have to be known to say that."""
    networks = {pool.spec.network for pool in pools}
    places = {(attachment.key.network, attachment.bridge) for attachment in attachments}
    found = kept_apart.isolated - kept_apart.internal
    return found if networks == {network for network, _ in places} and len(places) == len(networks) == 1 else frozenset()


def links(attachments: Iterable[Attachment]) -> frozenset[Prefix]:
    """What networks of their own take up, whether their pools are known or not."""
    return frozenset(address.network for a in attachments if a.own_network is not None for address in a.addresses)


def routed_blocks(blocks: Iterable[Prefix], pools: Iterable[IPPool], attachments: Iterable[Attachment]) -> frozenset[Prefix]:
    """Less those of networks: a network is on the link as a whole, and a blackhole for one of its blocks would hide its pods."""
    networks = links(attachments).union(pool.spec.cidr for pool in pools if pool.spec.network)
    return frozenset(block for block in blocks if not any(contains(network, block) for network in networks))
