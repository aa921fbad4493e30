"""Readdressing: this node's way from one underlay address to another, while it has both.

    chosen     the new one is in its Node, the old one under `former`: others take in packets from both, and send to the new one
    told       a moment after the datastore has shown that, this node's own packets leave from the new one
    gone       no interface holds the old one any more: nobody mentions it

Meanwhile packets to either arrive.  An old address that is taken away at once takes with it what is on its way to it: the others learn
of the new one some milliseconds later.

Mostly nothing of this is under way: who asks with the same host then gets the very same answer, and has nothing to compare.
"""

from __future__ import annotations

from dataclasses import replace

from netloom.calc.forms import own_word
from netloom.model.addresses import Address, Interface
from netloom.model.host import Host
from netloom.model.resources import NodeSpec
from netloom.model.snapshot import Snapshot

GRACE = 3.0
"""Seconds that others have for a pass, once they can read it."""


class Readdressing:
    """For the loop.  `grace` in seconds."""

    def __init__(self, grace: float = GRACE) -> None:
        self._grace = grace
        self._sources: dict[int, Interface] = {}
        """What packets leave with, by family; another choice follows later."""
        self._shown: tuple[tuple[Interface, ...], float] | None = None
        """Which addresses the datastore shows as this node's, and since when."""
        self._rest: tuple[NodeSpec, Host, Host] | None = None
        """What was asked last and answered, while nothing is under way."""

    def host(self, snapshot: Snapshot, host: Host, now: float) -> Host:
        """With what is left of addresses before these, and the one that packets leave with."""
        own = own_word(snapshot, host)
        if self._rest is not None and self._rest[0] is own and self._rest[1] is host:
            return self._rest[2]
        shown = own.addresses if own else ()
        if self._shown is None:
            self._shown = shown, -self._grace  # as an agent before this one had it
        elif self._shown[0] != shown:
            self._shown = shown, now
        held = {a.ip: a for uplink in host.uplinks.values() if uplink.up for a in uplink.addresses}
        before = (*self._sources.values(), *shown, *(held[a] for a in (own.former if own else ()) if a in held))
        chosen = {a.ip for a in host.addresses}
        former = tuple(dict.fromkeys(a.ip for a in before if a.ip in held and a.ip not in chosen))
        told = shown == host.addresses and now >= self._shown[1] + self._grace
        for address in host.addresses:
            last = self._sources.get(address.version) or next((a for a in shown if a.version == address.version), address)
            self._sources[address.version] = address if told or last.ip not in former else last
        source = next((self._sources[a.version] for version in (4, 6) for a in host.addresses if a.version == version), None)
        made = replace(host, former=_by_family(former), source=source)
        self._rest = (own, host, made) if own is not None and told and not former else None
        return made

    def due(self, host: Host, now: float) -> float | None:
        """Seconds until packets leave from the new address."""
        if self._shown is None or host.source in (None, *host.addresses) or self._shown[0] != host.addresses:
            return None
        return max(0.0, self._shown[1] + self._grace - now)


def _by_family(addresses: tuple[Address, ...]) -> tuple[Address, ...]:
    """One of each: who changes twice within a moment has been told so."""
    found: dict[int, Address] = {}
    for address in addresses:
        found.setdefault(address.version, address)
    return tuple(found[version] for version in sorted(found))
