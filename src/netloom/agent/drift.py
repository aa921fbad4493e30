"""Drift: the kernel tells what others did to it; what concerns us calls for a pass, and a link that is gone is said to be so.

Two descriptors of the agent's loop: netlink's events (links, addresses, routes, neighbours, some sysctls) and nftables'.
"""

from __future__ import annotations

import asyncio

from netloom.agent.hosting import Hosting
from netloom.agent.passing import AFTER_DRIFT, Passes
from netloom.agent.troubles import Troubles
from netloom.cni.removing import LinkRemover
from netloom.cni.wiring import is_pods
from netloom.dataplane.netlink import Events, Netlink, Touched, device_names
from netloom.dataplane.nft import Nft

_AFTER_ROUTES = 1.0  # seconds until the ways to other nodes are looked at: a routing daemon writes thousands of routes


class Drift:
    def __init__(
        self,
        events: Events,
        nft: Nft,
        kernel: Netlink,
        passes: Passes,
        hosting: Hosting,
        remover: LinkRemover,
        troubles: Troubles,
    ) -> None:
        self._events, self._nft, self._kernel = events, nft, kernel
        self._passes, self._hosting, self._remover, self._troubles = passes, hosting, remover, troubles
        self._looking: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(self._events.fileno(), self._kernel_changed)
        loop.add_reader(self._nft.fileno(), self._rules_changed)

    def _kernel_changed(self) -> None:
        with self._troubles.about("kernel events"):
            self._note(self._events.read())

    def _note(self, touched: Touched) -> None:
        for index in touched.removed:
            self._remover.gone(index)
        if touched.overrun:
            present = device_names(self._kernel)
            for index in self._remover.waiting():
                if index not in present:
                    self._remover.gone(index)
        links = touched.tables.get("links", ())
        near = any(not is_pods(index) or index in self._hosting.indexes for index in links)
        if near or touched.overrun or "addresses" in touched.tables:
            self._hosting.stale = True
        if self._concerns_us(touched):
            self._passes.request(AFTER_DRIFT)
        if touched.ways and self._looking is None:
            self._looking = asyncio.get_running_loop().call_later(_AFTER_ROUTES, self._look_at_ways)

    def _look_at_ways(self) -> None:
        self._looking = None
        with self._troubles.about("ways to nodes"):
            if self._hosting.ways_changed() | self._passes.birds.changed():
                self._passes.request(AFTER_DRIFT)

    def _concerns_us(self, touched: Touched) -> bool:
        """The kernel tells all that it learns about neighbours on every interface, and of everybody's qdiscs; ours are on our own."""
        elsewhere = touched.tables.keys() & {"neighbours", "fdb", "shaping"}
        near = set[int]().union(*(touched.tables[name] for name in elsewhere)) & self._passes.own_links
        return touched.overrun or bool(touched.tables.keys() - elsewhere or near)

    def _rules_changed(self) -> None:
        if self._passes.rules_changed():
            self._passes.request(AFTER_DRIFT)
