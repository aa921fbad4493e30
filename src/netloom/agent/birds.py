"""BIRD's routes in this kernel, as far as the agent's own depend on them (`calc.bgp.taking`).

    lasting   prefixes with a route of ours, in pools that are BIRD's, to which BIRD's does not lead yet
    birds     prefixes with a route of BIRD's, in pools that are not, or not to such nodes

Both are empty but on the way from one to the other, and then a table of thousands of routes is read, at most once a second: when
somebody who is not us has changed routes.  Otherwise it is read when pools change, or who is a neighbour; without BGP never.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from netloom.calc.bgp import is_on
from netloom.calc.bgp.taking import parted
from netloom.calc.metrics import STANDBY
from netloom.calc.tables import Tables
from netloom.dataplane.netlink import Netlink
from netloom.dataplane.netlink.tables import PROTOCOL, RTA_DST, RTMSG, RTN_UNICAST, RTPROT_BIRD, get_routes, see_route
from netloom.dataplane.netlink.wire import FAMILY, attributes
from netloom.model.addresses import Prefix, contains
from netloom.model.host import Host
from netloom.model.resources import IPPool
from netloom.model.snapshot import Snapshot


class BirdsRoutes:
    """For the thread of the loop."""

    def __init__(self, kernel: Netlink) -> None:
        self._kernel = kernel
        self._pools: Mapping[str, IPPool] | None = None
        self._far: Mapping[str, str] = {}
        """Pools, and nodes that are no neighbours, for which the rest is known; no pools: BGP was off."""
        self._ours: frozenset[Prefix] = frozenset()
        self._theirs: frozenset[Prefix] = frozenset()
        """Of which it is asked whether both lead there, and whether BIRD's does."""
        self._lasting: frozenset[Prefix] = frozenset()
        self._birds: frozenset[Prefix] = frozenset()

    def host(self, snapshot: Snapshot, host: Host, last: Tables | None) -> Host:
        """With what a pass has to mind.  `last`: what the last pass wanted towards other nodes; None: there was none."""
        if not is_on(snapshot):
            self._pools = None
            return host
        if self._pools is not snapshot.pools or self._far != host.far:
            birds, agents = parted(snapshot.pools.values())
            self._pools, self._far = snapshot.pools, host.far
            self._ours = frozenset(_within(birds, self._own(last)))
            self._theirs = frozenset(_within(agents, map(_prefix, held(self._kernel)))) if agents else frozenset()
            self._read()
        elif last is not None and (self._ours or self._theirs):
            # a pass has told by node whose they are
            self._ours &= frozenset(last.lasting)
            self._theirs &= frozenset(last.left)
            self._lasting, self._birds = self._lasting & self._ours, self._birds & self._theirs
        return replace(host, lasting=self._lasting, birds=self._birds)

    def changed(self) -> bool:
        """Somebody changed routes: whether that matters."""
        before = self._lasting, self._birds
        if self._pools is None or not any(before):
            return False
        self._read()
        return (self._lasting, self._birds) != before

    def _read(self) -> None:
        birds = held(self._kernel) if self._ours or self._theirs else frozenset()
        self._lasting = frozenset(prefix for prefix in self._ours if key_of(prefix) not in birds)
        self._birds = frozenset(prefix for prefix in self._theirs if key_of(prefix) in birds)

    def _own(self, last: Tables | None) -> Iterable[Prefix]:
        if last is not None:
            return [key.prefix for key, route in last.routes.items() if route.gateway is not None and key.metric < STANDBY]
        bodies = (body for version in (4, 6) for body in self._kernel.dump(get_routes(version, PROTOCOL)))
        routes = [route for body in bodies if (route := see_route(body)) is not None and route.gateway is not None]
        return [route.prefix for route in routes if route.metric < STANDBY]


Key = tuple[int, int, bytes]
"""Family, length and address of a prefix, as a dump has them: of thousands, most are never looked at."""


def held(kernel: Netlink) -> Collection[Key]:
    """Where BIRD's routes lead."""
    return {key for version in (4, 6) for body in kernel.dump(get_routes(version, RTPROT_BIRD)) if (key := _key(body))}


def _key(body: bytes) -> Key | None:
    """Of a route that leads somewhere, for all packets."""
    family, length, source_length, tos, _, _, _, kind, _ = RTMSG.unpack_from(body)
    if kind != RTN_UNICAST or source_length or tos:
        return None
    return family, length, attributes(body, RTMSG.size).get(RTA_DST, b"")


def key_of(prefix: Prefix) -> Key:
    return FAMILY[prefix.version], prefix.prefixlen, prefix.network_address.packed if prefix.prefixlen else b""


def _prefix(key: Key) -> Prefix:
    family, length, address = key
    return ipaddress.ip_network((address or bytes(4 if family == FAMILY[4] else 16), length))


def _within(pools: Iterable[IPPool], prefixes: Iterable[Prefix]) -> Iterable[Prefix]:
    cidrs = [pool.spec.cidr for pool in pools]
    return (prefix for prefix in prefixes if any(contains(cidr, prefix) for cidr in cidrs))
