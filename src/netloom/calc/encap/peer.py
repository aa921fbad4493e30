"""Peer: what an encapsulation must know of another node."""

from __future__ import annotations

from dataclasses import dataclass

from netloom.model.addresses import Address, Mac, Prefix


@dataclass(frozen=True, slots=True)
class Peer:
    """`addresses`: on the underlay, at most one per family; `former`: what it may still send from.  `prefixes`: its claims in one pool,
    all of one family."""

    name: str
    addresses: tuple[Address, ...]
    prefixes: tuple[Prefix, ...]
    metric: int
    vtep_mac: Mac | None = None
    tunnel_addresses: tuple[Address, ...] = ()
    former: tuple[Address, ...] = ()

    def address(self, version: int) -> Address | None:
        return next((a for a in self.addresses if a.version == version), None)

    def tunnel_address(self, version: int) -> Address | None:
        return next((a for a in self.tunnel_addresses if a.version == version), None)
