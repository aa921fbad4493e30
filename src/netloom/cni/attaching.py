"""Attaching, the pure part: from a request and its addresses to the attachment that is journalled and wired.

MACs say what they belong to: a pod's is 0a:58 and its IPv4 address, a bridge port's host end 0e:58 and the same, so that no two
ports share one; an IPv6-only pod's comes from a hash of its key.  All are locally administered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import zip_longest

from netloom.calc.pods import GATEWAYS, HOST_MAC
from netloom.cni.environment import INVALID_ENVIRONMENT
from netloom.cni.messages import INVALID_CONFIG, Add
from netloom.errors import CniError
from netloom.ipam.blocks import gateway
from netloom.model.addresses import IPV6_MTU, Address, Interface, Mac, mac_bytes, mac_text
from netloom.model.attachments import ALIAS_LIMIT, Attachment, AttachmentKey, OwnNetwork, State, Wiring, host_interface_name
from netloom.model.resources import IPPool

_POD, _PORT = b"\x0a\x58", b"\x0e\x58"


def attachment_for(
    request: Add, addresses: Sequence[Interface], sequence: int, mtu: int, pools: Sequence[IPPool | None] = ()
) -> Attachment:
    """PENDING, with everything decided.  `addresses` carry the length that the pod's interface shows; `pools`: on a bridge, of each.

    Raises CniError where the MAC asked for says another pod's address, the interface is too small for IPv6, or the link's alias
    could not say whose it is: after a lost journal nobody would know."""
    bridged = request.wiring is Wiring.BRIDGE
    mac = request.mac or pod_mac(request.key, addresses)
    attachment = Attachment(
        key=request.key,
        sequence=sequence,
        state=State.PENDING,
        netns=request.netns,
        host_interface=host_interface_name(request.key),
        mac=mac,
        host_mac=mac_text(_PORT + mac_bytes(pod_mac(request.key, addresses))[2:]) if bridged else HOST_MAC,
        mtu=request.mtu or mtu,
        addresses=tuple(addresses),
        wiring=request.wiring,
        bridge=request.bridge if bridged else None,
        gateways=_gateways(addresses, pools) if bridged else tuple(GATEWAYS[a.version] for a in addresses),
        namespace=request.namespace,
        pod=request.pod,
        labels=request.labels,
        own_network=own_network(pools),
        ports=request.ports,
        bandwidth=request.bandwidth,
        mtu_given=bool(request.mtu),
    )
    if bridged and _says_another_address(attachment.mac, pod_mac(request.key, addresses)):
        raise CniError(
            INVALID_CONFIG, f"mac: {attachment.mac} says another address than this pod's; on a bridge that pod would lose it"
        )
    if attachment.mtu < IPV6_MTU and any(a.version == 6 for a in addresses):
        raise CniError(INVALID_CONFIG, f"mtu: IPv6 needs {IPV6_MTU} bytes, this pod's interface would have {attachment.mtu}")
    if len(attachment.alias) > ALIAS_LIMIT:
        raise CniError(INVALID_ENVIRONMENT, "CNI_CONTAINERID and the network's name are too long together", attachment.alias)
    return attachment


def _says_another_address(mac: Mac, own: Mac) -> bool:
    return mac != own and mac_bytes(mac)[:2] in (_POD, _PORT)


def pod_mac(key: AttachmentKey, addresses: Sequence[Interface]) -> Mac:
    version4 = next((a for a in addresses if a.version == 4), None)
    if version4 is not None:
        return mac_text(_POD + version4.ip.packed)
    return mac_text(_POD + hashlib.sha1("\0".join(key).encode(), usedforsecurity=False).digest()[:4])


def _gateways(addresses: Sequence[Interface], pools: Sequence[IPPool | None]) -> tuple[Address, ...]:
    found = [gateway(a.network, pool) for a, pool in zip_longest(addresses, pools)]
    assert all(found)  # the chooser gives a bridge only addresses of blocks that keep one
    return tuple(one for one in found if one)


def own_network(pools: Sequence[IPPool | None]) -> OwnNetwork | None:
    """Closed as far as any of its pools says."""
    own = [pool.spec for pool in pools if pool is not None and pool.spec.network]
    if not own:
        return None
    return OwnNetwork(internal=any(spec.internal for spec in own), isolated=any(spec.isolated for spec in own))
