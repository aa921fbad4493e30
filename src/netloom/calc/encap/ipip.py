"""IPIP: a packet in a packet (RFC 2003; RFC 2473 for IPv6), as Calico has it.  What is in it says its own version: protocol 4 or 41."""

from __future__ import annotations

from collections.abc import Container, Iterable

from netloom.calc.encap import carried
from netloom.calc.encap.peer import Peer
from netloom.calc.tables import Tables
from netloom.model.addresses import Address
from netloom.model.desired import Carrier
from netloom.model.forms import Form
from netloom.model.host import Host

DEVICE = "loom.ipip"


def overhead(host: Host) -> int:
    return carried.IP_HEADER[host.outer.version if host.outer else 4]


def local(host: Host, form: Form, device: str) -> Tables:
    return carried.local(host, form, Carrier.IPIP, device, overhead(host))


def known(host: Host, device: str, peers: Iterable[Peer], doubts: Container[Address]) -> Tables:
    return carried.known(host, peers, device, doubts)


def peer(host: Host, device: str, peer: Peer) -> Tables:
    return carried.peer(host, peer, Carrier.IPIP, device)
