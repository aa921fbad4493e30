"""Rebuilding: a journal that is lost or damaged is made anew from the kernel, whose links say whose they are.

Each host link's alias names network, container, interface, addresses and rates; the link's name is a hash of the first three, so an
alias that somebody else wrote is found out.  The pod's MAC is in the permanent neighbour entries; where somebody took those away,
at the link's other end, if its namespace can be found; else it is what a pod has that did not ask for another.  A namespace that
cannot be found is NetnsId(0, 0), which counts as alive.

Published ports are in the rules that lead there.  Only names and labels of pods are nowhere in the kernel: they are taken from the
node's Endpoints, where the datastore answers.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping

import msgspec

from netloom.calc.pods import GATEWAYS
from netloom.calc.ports import recovered
from netloom.cni.attaching import own_network, pod_mac
from netloom.dataplane import netns
from netloom.dataplane.netlink import Device, Netlink, device, devices
from netloom.dataplane.netlink.tables import get_neighbours, is_permanent, parse_neighbour
from netloom.dataplane.nft import Nft
from netloom.dataplane.peers import find_namespaces
from netloom.ipam.blocks import gateway
from netloom.model.addresses import Address, Mac
from netloom.model.attachments import (
    PREFIX,
    Attachment,
    AttachmentKey,
    NetnsId,
    State,
    Wiring,
    host_interface_name,
    parse_alias,
)
from netloom.model.resources import Endpoint, IPPool

log = logging.getLogger(__name__)

_UNKNOWN_NETNS = NetnsId(0, 0)
_SMALLEST_NETWORK = 4  # addresses: its own, a gateway, a pod, and broadcast


def attachments_of(kernel: Netlink) -> list[Attachment]:
    """One per host link of ours, READY; sequence numbers are the journal's to give."""
    links = devices(kernel)
    names = {0: "", **{link.index: link.name for link in links}}
    ours = [link for link in links if link.kind == "veth" and link.name.startswith(PREFIX)]
    neighbours = _neighbours(kernel)
    peers = find_namespaces(kernel, {link.peer_nsid for link in ours} - {-1})
    try:
        found = [_attachment(link, names, neighbours, peers.get(link.peer_nsid)) for link in ours]
    finally:
        for fd in peers.values():
            os.close(fd)
    for link, attachment in zip(ours, found, strict=True):
        if attachment is None:
            log.warning("link %s says nothing of whose it is (alias %r): not taken up", link.name, link.alias)
    return [attachment for attachment in found if attachment is not None]


def publishing(attachments: Iterable[Attachment]) -> list[Attachment]:
    """With the ports that the kernel leads to them."""
    nft = Nft()
    try:
        found = nft.published()
    finally:
        nft.close()
    return [msgspec.structs.replace(a, ports=recovered(a, found)) for a in attachments] if found else list(attachments)


def completed(attachments: Iterable[Attachment], endpoints: Iterable[Endpoint]) -> list[Attachment]:
    """With the pods' names and labels as the node has published them."""
    published = {AttachmentKey(e.spec.network, e.spec.container_id, e.spec.interface): e for e in endpoints}
    return [_named(a, published.get(a.key)) for a in attachments]


def of_networks(attachments: Iterable[Attachment], pools: Iterable[IPPool]) -> list[Attachment]:
    """With what the pools of networks of their own say, as they are remembered."""
    own = [pool for pool in pools if pool.spec.network]
    return [_of_network(a, [pool for pool in own if pool.spec.network == a.key.network]) for a in attachments]


def _of_network(attachment: Attachment, pools: list[IPPool]) -> Attachment:
    found = [next((pool for pool in pools if a.network == pool.spec.cidr), None) for a in attachment.addresses]
    if attachment.bridge is None or not any(found):
        return attachment
    gateways = [pool.spec.gateway if pool else None for pool in found]
    return msgspec.structs.replace(
        attachment,
        gateways=tuple(new or old for new, old in zip(gateways, attachment.gateways, strict=True)),
        own_network=own_network(found),
    )


def _named(attachment: Attachment, endpoint: Endpoint | None) -> Attachment:
    if endpoint is None or tuple(a.ip for a in attachment.addresses) != endpoint.spec.addresses:
        return attachment
    return msgspec.structs.replace(
        attachment,
        namespace=endpoint.metadata.namespace or attachment.namespace,
        pod=endpoint.spec.pod,
        labels=endpoint.metadata.labels,
    )


def _attachment(
    link: Device, names: Mapping[int, str], neighbours: Mapping[tuple[int, Address], Mac], peer: int | None
) -> Attachment | None:
    """`peer`: the descriptor of the other end's namespace, where it was found."""
    owner = parse_alias(link.alias)
    if owner is None or host_interface_name(owner.key) != link.name:
        return None
    key, addresses, bandwidth = owner
    bridge = names[link.master] or None
    entries = ((link.master or link.index, a.ip) for a in addresses)
    mac = next((neighbours[entry] for entry in entries if entry in neighbours), None)
    if bridge and any(a.network.num_addresses < _SMALLEST_NETWORK for a in addresses):
        return None
    # where a block has no gateway, the address is of a network with a pool of its own: `of_networks` knows which that is
    gateways = tuple(
        (gateway(a.network) or a.network.network_address + 1) if bridge else GATEWAYS[a.version] for a in addresses
    )
    return Attachment(
        key=key,
        sequence=0,
        state=State.READY,
        netns=_UNKNOWN_NETNS if peer is None else netns.identify(peer),
        host_interface=link.name,
        mac=mac or _mac_inside(peer, key.interface) or pod_mac(key, addresses),
        host_mac=link.mac,
        mtu=link.mtu,
        addresses=addresses,
        wiring=Wiring.BRIDGE if bridge else Wiring.ROUTED,
        bridge=bridge,
        gateways=gateways,
        bandwidth=bandwidth,
    )


def _mac_inside(peer: int | None, interface: str) -> Mac | None:
    if peer is None:
        return None
    with Netlink(peer) as inside:
        found = device(inside, interface)
    return found.mac if found else None


def _neighbours(kernel: Netlink) -> dict[tuple[int, Address], Mac]:
    """By interface and address; only what was put there, not what somebody on a link says."""
    entries = (body for version in (4, 6) for body in kernel.dump(get_neighbours(version)) if is_permanent(body))
    return {(index, address): mac for index, address, mac in map(parse_neighbour, entries) if mac}
