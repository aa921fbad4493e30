"""Placing: whether a network with a pool of its own can be where it is asked to be.

A bridge is one network's alone, and a network has one bridge: it is one link.  Where it has no pod yet, its bridge must not be
somebody else's interface, and its subnet not be in use on this host, or one would hide the other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from netloom.cni.wiring import not_ours
from netloom.dataplane.netlink import Netlink, device
from netloom.dataplane.occupied import occupant
from netloom.errors import ConfigError
from netloom.model.addresses import Prefix
from netloom.model.attachments import Attachment, State


def require_place(
    kernel: Netlink, network: str, bridge: str, subnets: Collection[Prefix], present: Iterable[Attachment]
) -> None:
    """Raises ConfigError.  `present`: all attachments of this node."""
    inhabited = False
    for other in present:
        if other.state is State.LEAVING:
            continue
        if other.bridge == bridge and other.key.network != network:
            hint = "give each network a bridge of its own: key `bridge`"
            raise ConfigError(f"bridge: {bridge} is the bridge of network {other.key.network}", hint=hint)
        if other.key.network == network and other.own_network is not None and other.bridge != bridge:
            hint = f"name {other.bridge}, or take the pods of the network away first"
            raise ConfigError(f"bridge: network {network} is on {other.bridge}, and cannot be on {bridge} too", hint=hint)
        inhabited = inhabited or other.bridge == bridge
    if not inhabited:
        link = device(kernel, bridge)
        if link is not None and (reason := not_ours(link)):
            raise ConfigError(f"bridge: {bridge} {reason}", hint="choose a name that no interface has: ip -br link")
        if reason := occupant(kernel, subnets, bridge):
            raise ConfigError(f"subnet: {reason}", hint="choose a subnet that this host does not use: ip route; ip -br address")
