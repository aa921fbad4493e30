"""Fitting: which sessions this node's BIRD can have, and why it cannot have the others.

BIRD takes a file as a whole or not at all.  So what it would refuse of one session (an address that is no peer's, a family that this
kernel does not speak, BFD from nowhere) is left out here, and told: or one Node with an odd address would keep every node of the
cluster from ever hearing of another peer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from netloom.model.bgp_configuration import BGPConfigurationSpec, BindMode
from netloom.model.bgp_values import check_peer_address
from netloom.model.host import Host
from netloom.model.routing import Session


def fitted(
    sessions: Iterable[Session], host: Host, settings: BGPConfigurationSpec
) -> tuple[tuple[Session, ...], tuple[str, ...]]:
    """Those that can be, with the families that this kernel speaks; and what is wrong with the others."""
    found: list[Session] = []
    reasons: list[str] = []
    for session in sessions:
        families = session.families if host.ipv6 else tuple(family for family in session.families if family == 4)
        if reason := _obstacle(session, families, host, settings):
            reasons.append(f"{session.origin}: no BGP session: {reason}")
        else:
            found.append(session if families == session.families else replace(session, families=families))
    return tuple(found), tuple(reasons)


def _obstacle(session: Session, families: tuple[int, ...], host: Host, settings: BGPConfigurationSpec) -> str:
    try:
        check_peer_address(session.address)
    except ValueError as e:
        return str(e)
    if not families or (session.address.version == 6 and not host.ipv6):
        return "this node's kernel speaks no IPv6"
    if session.source is not None:
        return ""
    if settings.bind_mode is BindMode.NODE_IP:
        if host.address(session.address.version) is None:
            return f"bindMode NodeIP, and this node has no IPv{session.address.version} address to listen on"
    elif session.bfd is not None and session.multihop:
        return (
            f"{session.address} is on no link of this node; BFD needs an address to speak from there: sourceAddress UseNodeIP"
        )
    return ""
