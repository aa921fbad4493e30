"""Resizing: the MTU of pods that are there, when another one fits: both ends of a pod's veth, while it is in use.

Smaller: the pod's end first, or the host's would drop what it still sends.  Larger: the host's end first.  The journal comes last, so
whoever is killed in between does it again.  A pod whose MTU was asked for keeps it, as one on a network of its own does.

TCP goes on with smaller segments at once.  A pod's namespace is found by whoever holds it, for its path may mean another one by now.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable
from operator import is_

from netloom.calc.forms import pod_mtu
from netloom.dataplane import netns
from netloom.dataplane.netlink import Netlink, device, set_link
from netloom.dataplane.sandboxes import Sandboxes
from netloom.errors import DataplaneError, NetloomError
from netloom.ipam.journal import Journal
from netloom.model.addresses import IPV6_MTU
from netloom.model.attachments import Attachment, State
from netloom.model.host import Host
from netloom.model.snapshot import Snapshot

log = logging.getLogger(__name__)

_AT_ONCE = 20  # pods, then the loop has other things to do
_RETRY = 5.0  # seconds


class Resizing:
    """For the loop that made it.  `setting`: the MTU that this node's configuration says; `changed`: pods have another one now."""

    def __init__(self, kernel: Netlink, journal: Journal, home: int, setting: int, changed: Callable[[], None]) -> None:
        self._kernel, self._journal, self._home, self._setting, self._changed = kernel, journal, home, setting, changed
        self._wanted: list[tuple[Attachment, int]] = []
        self._basis: tuple[dict[str, int], list[Attachment]] = {}, []
        self._not_before = 0.0
        self._asked: tuple[object, ...] | None = None
        """What `_largest` is the answer to."""
        self._largest = 0

    def largest(self, snapshot: Snapshot, host: Host, attachments: Iterable[Attachment]) -> int:
        """MTU among pods that are to become smaller, 0 where none is; and notes which are to become anything else."""
        asked = snapshot.pools, snapshot.configurations, snapshot.complete, host, attachments
        if self._asked is not None and all(map(is_, asked, self._asked)):
            return self._largest
        self._asked = asked
        pools = [pool for pool in snapshot.pools.values() if not pool.spec.network]
        sizes = {pool.name: pod_mtu(snapshot, host, [pool], self._setting) for pool in pools}
        basis = (sizes, list(attachments) if snapshot.complete else [])
        if basis != self._basis:
            cidrs = [(pool.spec.cidr, sizes[pool.name]) for pool in pools]
            self._wanted, self._basis = [], basis
            for attachment in basis[1]:
                if attachment.mtu_given or attachment.own_network is not None:
                    continue
                found = [mtu for cidr, mtu in cidrs if any(a.ip in cidr for a in attachment.addresses)]
                if found and min(found) != attachment.mtu:
                    self._wanted.append((attachment, min(found)))
        self._largest = max((a.mtu for a, mtu in self._wanted if a.mtu > mtu), default=0)
        return self._largest

    @property
    def due(self) -> bool:
        return bool(self._wanted) and asyncio.get_running_loop().time() >= self._not_before

    async def run(self) -> None:
        """Raises DataplaneError: some pods are as they were, and will be tried again."""
        loop = asyncio.get_running_loop()
        self._not_before = loop.time() + _RETRY
        sandboxes = await loop.run_in_executor(None, Sandboxes)
        failures, wanted = [], self._wanted
        for number, (attachment, mtu) in enumerate(wanted, start=1):
            try:
                self._resize(sandboxes, attachment, mtu)
            except (NetloomError, OSError) as e:
                failures.append(f"{attachment.namespace}/{attachment.pod or attachment.key.container_id}: {e}")
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        log.info("%d pods have another MTU", len(wanted) - len(failures))
        self._changed()
        if failures:
            more = f" and {len(failures) - 1} more" if len(failures) > 1 else ""
            raise DataplaneError("links", "MTU of pods", f"{failures[0]}{more}")
        self._not_before = 0.0

    def _resize(self, sandboxes: Sandboxes, attachment: Attachment, mtu: int) -> None:
        """One that has gone or changed meanwhile is passed over."""
        if self._journal.get(attachment.key) != attachment or attachment.state is not State.READY:
            return
        if mtu < IPV6_MTU and any(a.version == 6 for a in attachment.addresses):
            raise DataplaneError("links", attachment.host_interface, f"an MTU of {mtu} is too small for its IPv6 address")
        host = device(self._kernel, attachment.host_interface)
        inside = sandboxes.open(attachment.netns)
        if host is None or inside is None:
            if inside is not None:
                os.close(inside)
            raise DataplaneError("links", attachment.host_interface, "the pod's namespace cannot be found")
        try:
            if mtu > host.mtu:
                self._kernel.transact(set_link(host.index, mtu=mtu))
            self._resize_inside(inside, host.peer, mtu)
            if mtu < host.mtu:
                self._kernel.transact(set_link(host.index, mtu=mtu))
        finally:
            os.close(inside)
        self._journal.resize(attachment.key, mtu)

    def _resize_inside(self, inside: int, index: int, mtu: int) -> None:
        with netns.entered(inside, self._home):
            netlink = Netlink()
        try:
            netlink.transact(set_link(index, mtu=mtu))
        finally:
            netlink.close()
