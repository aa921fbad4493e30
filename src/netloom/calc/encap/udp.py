"""UDP: one packet in one datagram without any header between, as Flannel's `udp` has it."""

from __future__ import annotations

from collections.abc import Container, Iterable

from netloom.calc.encap import carried
from netloom.calc.encap.peer import Peer
from netloom.calc.tables import Tables
from netloom.model.addresses import Address
from netloom.model.desired import Carrier
from netloom.model.forms import Form
from netloom.model.host import Host

DEVICE = "loom.udp"
_UDP_HEADER = 8


def overhead(host: Host) -> int:
    return carried.IP_HEADER[host.outer.version if host.outer else 4] + _UDP_HEADER


def local(host: Host, form: Form, device: str) -> Tables:
    return carried.local(host, form, Carrier.UDP, device, overhead(host))


def known(host: Host, device: str, peers: Iterable[Peer], doubts: Container[Address]) -> Tables:
    return carried.known(host, peers, device, doubts)


def peer(host: Host, device: str, peer: Peer) -> Tables:
    return carried.peer(host, peer, Carrier.UDP, device)
