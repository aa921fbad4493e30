"""Hosting: this machine as the value `Host` that a calculation takes.  The kernel is read again when it said that links or
addresses changed; in between the same value is given, so whoever compares sees that nothing did."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable

from netloom.agent import addressing
from netloom.agent.facts import default_devices, read_uplinks
from netloom.agent.identity import Identity
from netloom.calc.encap import ENCAPS
from netloom.config import Settings
from netloom.dataplane.netlink import Netlink
from netloom.errors import ConfigError
from netloom.model.addresses import Address, Interface, Prefix
from netloom.model.host import Host, Uplink
from netloom.model.resources import IPPool

log = logging.getLogger(__name__)

_DEFAULT_MTU = 1500


class Hosting:
    def __init__(self, settings: Settings, identity: Identity, kernel: Netlink) -> None:
        self._settings, self._identity, self._kernel = settings, identity, kernel
        self._uplinks: dict[str, Uplink] = {}
        self._choice = addressing.Choice((), "not chosen yet")
        self.problem: str | None = None
        self.stale = True

    def host(self, blocks: Iterable[Prefix], tunnel_addresses: Iterable[Address], bridges: Collection[str]) -> Host:
        if self.stale:
            self._read(bridges)
        settings = self._settings
        return Host(
            node=settings.node_name,
            node_id=self._identity.id,
            addresses=self._choice.addresses,
            uplinks=self._uplinks,
            vtep_mac=self._identity.vtep_mac,
            blocks=tuple(blocks),
            tunnel_addresses=tuple(tunnel_addresses),
            mtu=self._uplink_mtu(),
            vni=settings.vxlan_vni,
            port=settings.vxlan_port,
        )

    def pod_mtu(self, host: Host, pools: Iterable[IPPool]) -> int:
        """What fits through every one of these pools' encapsulations."""
        overheads = [ENCAPS[pool.spec.encapsulation][0].overhead(host) for pool in pools]
        return self._settings.mtu or (host.mtu or _DEFAULT_MTU) - max(overheads, default=0)

    def _read(self, bridges: Collection[str]) -> None:
        self._uplinks = read_uplinks(self._kernel, bridges)
        self.stale = False
        try:
            choice = addressing.choose(self._uplinks, default_devices(), self._settings.node_addresses)
        except ConfigError as e:
            self.problem = str(e)
            return
        self.problem = None
        if choice != self._choice:
            log.info("node address %s: %s", ", ".join(map(str, choice.addresses)), choice.reason)
            self._choice = choice

    def _uplink_mtu(self) -> int:
        """The smallest of the interfaces that hold the node's addresses; 0 if there is none."""
        own: set[Interface] = set(self._choice.addresses)
        found = [u.mtu for u in self._uplinks.values() if any(a.ip == o.ip for a in u.addresses for o in own)]
        return min(found, default=0)
