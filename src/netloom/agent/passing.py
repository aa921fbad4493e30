"""Passing: when a pass is made, and from what.

    somebody asks ─▶ as soon as may be ─▶ snapshot, attachments, this machine ─calc→ desired ─▶ Reconciler ─▶ Pass

Asking costs nothing: wishes that come together are one pass.  Passes leave the loop four fifths of its time; what the kernel
refuses is tried again later and later; a fault of our own ends the pass that it is in, and no other.

While pods come and go a pass waits for a pause, though not for long: each ADD has brought about what it wants, calls for a pass all
the same (the kernel tells of its link, and of blocks that it claims the datastore does), and the next ADD would wait for that.

Of thousands of changes elsewhere most are another node's claims, which change nothing of `host`.  So each who adds something to it gives
the very same object where there is nothing new, and who goes by it compares no fields.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from netloom.agent.birds import BirdsRoutes
from netloom.agent.facts import read_labelled_tunnels, read_tunnels
from netloom.agent.forwarding import Forwarding
from netloom.agent.hosting import Hosting
from netloom.agent.moving import Moving
from netloom.agent.readdressing import Readdressing
from netloom.agent.reconciling import Pass, Reconciler
from netloom.agent.resizing import Resizing
from netloom.agent.standby import Standby
from netloom.agent.troubles import Troubles
from netloom.agent.trying import Pair, Trials
from netloom.calc import Last, desired, remote
from netloom.calc.networks import routed_blocks
from netloom.calc.reasons import form_of
from netloom.calc.same import Same
from netloom.calc.tables import Tables
from netloom.dataplane.foreign.tables import TABLES as FIREWALL_TABLES
from netloom.dataplane.netlink import Netlink, device_names
from netloom.dataplane.nft import Nft
from netloom.dataplane.nft.driver import TABLES as OWN_TABLES
from netloom.ipam.journal import Journal
from netloom.model.addresses import Address, Prefix
from netloom.model.attachments import PREFIX, Attachment, State
from netloom.model.desired import Desired, Route, Tunnel
from netloom.model.forms import Form
from netloom.model.host import Host
from netloom.model.snapshot import Snapshot

log = logging.getLogger(__name__)

AFTER_NEWS, AFTER_DRIFT = 0.02, 0.5  # seconds between passes that follow the datastore, and between those that repair
_REST = 4.0  # times the processor time of a pass until the next one: in a large cluster the loop has other things to do
_PAUSE, _LONGEST = 0.02, 0.1  # seconds in which no pod came or went; seconds that a pass waits for them at most
_RETRY = 1.0, 30.0  # seconds until a pass that was refused something is tried again: first, longest


@dataclass(frozen=True, slots=True)
class Known:
    """What a pass is made from besides the journal and this machine."""

    snapshot: Snapshot
    blocks: frozenset[Prefix]
    tunnel_addresses: tuple[Address, ...]
    moving: Moving
    resizing: Resizing
    trials: Trials


class Passes:
    """`known` is asked at each pass; `passed` is told how it went, None for a fault of our own.  For the loop that made it.

    host       this machine, as of the last pass
    desired    what it wanted
    missing    host interfaces of pods that are not there
    own_links  indexes of our interfaces
    birds      what of BIRD's routes matters to ours
    standby    ways of BIRD's that are kept while sessions begin anew
    forwarding this node's forwarders, which tell of themselves below `run_dir`
    """

    def __init__(
        self,
        kernel: Netlink,
        nft: Nft,
        hosting: Hosting,
        journal: Journal,
        troubles: Troubles,
        known: Callable[[], Known],
        passed: Callable[[Pass | None], None],
        run_dir: str,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._kernel, self._nft, self._hosting, self._journal, self._troubles = kernel, nft, hosting, journal, troubles
        self._known, self._passed = known, passed
        self.forwarding = Forwarding(run_dir, lambda: self.request(AFTER_NEWS))
        self.reconciler = Reconciler(kernel, nft, self.forwarding)
        self._readdressing = Readdressing()
        self.birds = BirdsRoutes(kernel)
        self.standby = Standby(kernel, lambda: self.request(0.0))
        self.host: Host | None = None
        self.desired = Desired()
        self.missing: frozenset[str] = frozenset()
        self.own_links: frozenset[int] = frozenset()
        self.last: Pass | None = None
        self.number = 0
        self.in_sync_since: float | None = None
        self._busy = 0.0
        self._basis: tuple[Snapshot, Host, frozenset[str]] | None = None
        """What `desired` was computed from; None: anew, please."""
        self._others: tuple[Snapshot, Host, Tables] | None = None
        self._last = Last()
        self._attachments: list[Attachment] | None = None
        self._tunnels: dict[str, Form] | None = None
        self._looking = True
        """Whether the next pass has to look at all that the kernel has."""
        self._scheduled: asyncio.TimerHandle | None = None
        self._pods_changed, self._waits_until = 0.0, 0.0
        """When a pod came or went last; when a pass that waits for a pause of them waits no longer, 0 where none does."""
        self._again: asyncio.TimerHandle | None = None
        self._closing: asyncio.TimerHandle | None = None
        self._patience = _RETRY[0]

    def request(self, gap: float, *, looking: bool = True) -> None:
        """Soon, but `gap` seconds after the one before, and so that passes take a fifth of the time; an earlier wish wins.  `looking`:
        something may have changed on this machine."""
        self._looking = self._looking or looking
        last = self.last.at if self.last else 0.0
        gap = max(gap, _REST * self._busy)
        when = self._loop.time() + min(gap, max(0.0, last + gap - time.time()))
        if self._scheduled is not None:
            if self._scheduled.when() <= when or self._waits_until:
                return
            self._scheduled.cancel()
        self._scheduled = self._loop.call_at(when, self._run_in_a_pause)

    def _run_in_a_pause(self) -> None:
        now = self._loop.time()
        self._waits_until = self._waits_until or now + _LONGEST
        pause = min(self._pods_changed + _PAUSE, self._waits_until)
        if pause > now:
            self._scheduled = self._loop.call_at(pause, self._run_in_a_pause)
        else:
            self.run()

    @property
    def due(self) -> bool:
        """Whether one is going to be made because somebody asked."""
        return self._scheduled is not None

    def attachments_changed(self) -> None:
        self._basis, self._looking, self._pods_changed = None, True, self._loop.time()

    def run(self) -> None:
        self._scheduled, self._waits_until, start = None, 0.0, time.thread_time()
        done, snapshot = None, self._known().snapshot
        self._looking |= self.rules_changed()  # what the pass repairs is named before
        with self._troubles.about("pass"):
            done = self._reconcile()
        if self.rules_changed():  # in the middle of it
            self.request(AFTER_DRIFT)
        if done is None:  # what is remembered may be half of one pass and half of another
            self._last, self._others, self._basis = Last(), None, None
        if done is None or done.failures:
            self.in_sync_since, self._looking = None, True
            self._try_again()
        elif snapshot.complete:
            self.in_sync_since, self._patience = self.in_sync_since or time.time(), _RETRY[0]
        self._passed(done)
        self._busy = time.thread_time() - start

    def rules_changed(self) -> bool:
        """Whether others changed our tables, or those that pods' traffic has to pass.  What they do in theirs is no news."""
        found = False
        with self._troubles.about("nftables events"):
            for change in self._nft.foreign_changes():
                ours = change.table is None or change.table in OWN_TABLES
                if ours:
                    log.info("nftables: %s was changed by %s", change.table or "something", change.process)
                found = found or ours or change.table in FIREWALL_TABLES
        return found

    def _reconcile(self) -> Pass:
        known, attachments = self._known(), self._present()
        snapshot = known.snapshot
        blocks = routed_blocks(known.blocks, snapshot.pools.values(), attachments)
        self._hosting.heard(snapshot.nodes)
        host = self._hosting.host(blocks, known.tunnel_addresses, {a.bridge for a in attachments if a.bridge})
        host = self._readdressing.host(snapshot, host, self._loop.time())
        host = self.birds.host(snapshot, host, self._others[2] if self._others else None)
        host = _with_ways(Same(host), Same(self.standby.routes), tuple(self._devices().items()))
        host = known.moving.host(snapshot, host, self._loop.time())
        largest = known.resizing.largest(snapshot, host, attachments)
        untried = known.trials.untried(snapshot, host, self.desired.uses)
        host = self.host = _with_limits(Same(host), largest, untried, known.trials.refused)
        basis = (snapshot, host, self.missing)
        if self._basis is None or self._basis[0] is not snapshot or self._basis[1:] != basis[1:]:
            self.desired, self._basis = desired(snapshot, attachments, host, self._others_of(snapshot, host)), basis
        done = self.last = self.reconciler.run(
            self.desired, snapshot.revision, complete=snapshot.complete, looking=self._looking
        )
        self._looking = str(done.outcomes["links"]) != "same"  # the next one sees what this one has made
        self.standby.placed = self.standby.routes
        self.number += 1
        if done.changed:
            log.info("%s", done)
        self._troubles.report("kernel", *map(str, done.failures))
        if snapshot.complete:
            known.moving.passed(snapshot, host, self.desired, done.outcomes)
            known.trials.begin(snapshot, host, self.desired.uses)
        now = self._loop.time()
        pauses = known.moving.due(now), self._readdressing.due(host, now)
        self._go_on_later(min((pause for pause in pauses if pause is not None), default=None))
        return done

    def _go_on_later(self, pause: float | None) -> None:
        if self._closing is not None:
            self._closing.cancel()
        self._closing = None if pause is None else self._loop.call_later(pause, self.request, 0.0)

    def _devices(self) -> dict[str, Form]:
        """What the kernel has of tunnels."""
        if self.last is None:
            devices = read_labelled_tunnels(self._kernel)
        else:
            devices = {name: form_of(link) for name, link in self.desired.links.items() if isinstance(link, Tunnel)}
        if self._looking or self._tunnels is None:  # else the kernel would have told of another one
            self._tunnels = read_tunnels(self._kernel)
        return devices | self._tunnels

    def _try_again(self) -> None:
        """Later and later, as long as the kernel refuses: what happens to it meanwhile calls for a pass by itself."""
        if self._again is None or self._again.when() <= self._loop.time():
            self._again = self._loop.call_later(self._patience, self.request, AFTER_DRIFT)
            self._patience = min(2 * self._patience, _RETRY[1])

    def _others_of(self, snapshot: Snapshot, host: Host) -> Tables:
        if self._others is None or self._others[0] is not snapshot or self._others[1] != host:
            self._others = snapshot, host, remote(snapshot, host, self._last)
        return self._others[2]

    def _present(self) -> list[Attachment]:
        """Attachments less those whose link is gone: nothing can be wanted there.  As they were, where nobody has told of any change."""
        if not self._looking and self._attachments is not None:
            return self._attachments
        indexes = device_names(self._kernel)
        names = set(indexes.values())
        attachments = [a for a in self._journal.attachments.values() if a.state is not State.LEAVING]
        bridges = {a.bridge for a in attachments}
        self.own_links = frozenset(index for index, name in indexes.items() if name.startswith(PREFIX) or name in bridges)
        self.missing = frozenset(a.host_interface for a in attachments if a.host_interface not in names)
        self._attachments = [a for a in attachments if a.host_interface in names]
        return self._attachments


@functools.lru_cache(1)
def _with_ways(host: Same[Host], standby: Same[dict[Prefix, Route]], devices: tuple[tuple[str, Form], ...]) -> Host:
    return replace(host.it, standby=standby.it, moving=replace(host.it.moving, devices=dict(devices)))


@functools.lru_cache(1)
def _with_limits(host: Same[Host], pods: int, untried: frozenset[Pair], refused: frozenset[Pair]) -> Host:
    return replace(host.it, moving=replace(host.it.moving, pods=pods, untried=untried, refused=refused))
