"""Encapsulations: how packets reach another node's pods.

Each is a module with four functions of one shape, checked against the Protocol here; they do not know each other.
To add one: a Method, a file, a line in ENCAPS, a golden test, a paragraph in docs/howto.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Protocol

from netloom.calc.encap import direct, ipip, udp, vxlan
from netloom.calc.encap.peer import Peer
from netloom.calc.tables import Tables
from netloom.model.addresses import Address
from netloom.model.forms import Form, Method
from netloom.model.host import Host


class Encap(Protocol):
    @property
    def DEVICE(self) -> str:  # noqa: N802  # a module's constant
        """What its device is called, or the first of them; empty where it needs none."""

    def local(self, host: Host, form: Form, device: str) -> Tables:
        """What this node itself needs, whoever its peers are: a device, its address."""

    def known(self, host: Host, device: str, peers: Iterable[Peer], doubts: Container[Address]) -> Tables:
        """What it takes to let in what nodes send; each with all of its prefixes, in whatever pool and family.  `doubts`: addresses of
        theirs that may be somebody else's."""

    def peer(self, host: Host, device: str, peer: Peer) -> Tables:
        """What it takes to reach one peer's prefixes."""

    def overhead(self, host: Host) -> int:
        """Bytes that the encapsulation adds to each packet."""


_DIRECT: Encap = direct
_VXLAN: Encap = vxlan
_IPIP: Encap = ipip
_UDP: Encap = udp

ENCAPS: Mapping[Method, Encap] = {
    Method.NONE: _DIRECT,
    Method.VXLAN: _VXLAN,
    Method.IPIP: _IPIP,
    Method.UDP: _UDP,
}
