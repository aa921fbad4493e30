"""Encapsulations: how packets reach another node's pods.

Each is a module with two functions of one shape, checked against the Protocol here; they do not know each other.
To add one: a file, a line in ENCAPS, a golden test, a paragraph in docs/howto.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from netloom.calc.encap import direct, vxlan
from netloom.calc.encap.peer import Peer
from netloom.calc.tables import Tables
from netloom.model.host import Host
from netloom.model.resources import Encapsulation


class Encap(Protocol):
    def local(self, host: Host) -> Tables:
        """What this node itself needs, whoever its peers are: a device, its address."""

    def peer(self, host: Host, peer: Peer) -> Tables:
        """What it takes to reach one peer's prefixes."""

    def overhead(self, host: Host) -> int:
        """Bytes that the encapsulation adds to each packet."""


_DIRECT: Encap = direct
_VXLAN: Encap = vxlan

ENCAPS: Mapping[Encapsulation, tuple[Encap, bool]] = {
    Encapsulation.NONE: (_DIRECT, False),
    Encapsulation.VXLAN: (_VXLAN, False),
    Encapsulation.VXLAN_CROSS_SUBNET: (_VXLAN, True),
}
"""The encapsulation of a pool, and whether neighbours get plain routes instead."""


def reach(encapsulation: Encapsulation, host: Host, peer: Peer) -> Tables:
    encap, cross_subnet = ENCAPS[encapsulation]
    if cross_subnet and direct.is_neighbour(host, peer):
        return direct.peer(host, peer)
    return encap.peer(host, peer)
