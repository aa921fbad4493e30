"""The agent of one node: its loop, and what happens on each occasion.

    a snapshot came          ─▶ as much of it as counts (braking): IPAM knows it (asserting), the node registers (joining), a pass (passing)
    the kernel told of drift ─▶ a pass, at most twice a second (drift)
    a timer                  ─▶ a pass; claims, dead sandboxes, tombstones are looked after (upkeep)
    a CNI call               ─▶ cni.dispatch; the pod's Endpoint is published afterwards

Everything here runs in the loop's thread.  What blocks is done by threads that hand values over: watching, publishing, one
thread for whatever asks the datastore, link removal, conntrack.

Order of a start: journal, the closed rules, what a killed agent left half done, a first pass from what is remembered, and only
then the CNI socket.  An ADD is served at the datastore's first word: this is all, these blocks are yours; or: I am away.  Nothing is
taken away before it has said "this is all", and nothing at the end.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from netloom.agent.announcing import Announcing
from netloom.agent.answering import Answering
from netloom.agent.asking import Asking
from netloom.agent.asserting import Asserting
from netloom.agent.background import Background
from netloom.agent.braking import Braking
from netloom.agent.claiming import Claiming
from netloom.agent.control import Request
from netloom.agent.drift import Drift
from netloom.agent.firewalls import Firewalls
from netloom.agent.footing import Footing
from netloom.agent.giving import Giving
from netloom.agent.growing import Growing
from netloom.agent.hosting import Hosting
from netloom.agent.identity import Identity, boot_id
from netloom.agent.joining import Joining
from netloom.agent.metrics import Metrics
from netloom.agent.moving import Moving
from netloom.agent.networks import Networks
from netloom.agent.passing import AFTER_NEWS, Known, Passes
from netloom.agent.probing import Probing, Sight
from netloom.agent.publishing import Publisher
from netloom.agent.reaching import Reached
from netloom.agent.reconciling import Pass
from netloom.agent.registering import Registration
from netloom.agent.remembering import Memory
from netloom.agent.resizing import Resizing
from netloom.agent.routing import Routing
from netloom.agent.standing import Standing
from netloom.agent.troubles import Troubles
from netloom.agent.trying import Trials
from netloom.agent.upkeep import Upkeep
from netloom.agent.watching import Connection, Watcher
from netloom.calc.forms import own_word
from netloom.cni.collecting import Collector
from netloom.cni.dispatch import Dispatcher
from netloom.cni.operations import Kernel, Operations
from netloom.cni.removing import LinkRemover
from netloom.cni.server import Server
from netloom.cni.tombstones import Tombstones
from netloom.config import Settings
from netloom.dataplane import conntrack
from netloom.dataplane import netns as namespaces
from netloom.dataplane.netlink import Events, Netlink
from netloom.dataplane.nft import Nft
from netloom.dataplane.sandboxes import Sandboxes
from netloom.ipam.allocator import Allocator
from netloom.ipam.journal import Journal
from netloom.model.addresses import Interface
from netloom.model.attachments import NetnsId
from netloom.model.snapshot import Snapshot

_UPKEEP = 5.0  # seconds between looks at claims, dead sandboxes, tombstones


class Agent:
    """Made inside the running loop, in the node's namespace."""

    def __init__(self, settings: Settings, identity: Identity, journal: Journal, kernel: Netlink, netns: NetnsId) -> None:
        self._settings, self._journal = settings, journal
        self._loop = asyncio.get_running_loop()
        self._troubles = Troubles()
        self._background = Background(self._troubles)
        self._kernel, self._nft, self._own_ports = kernel, Nft(f"{settings.run_dir}/ruleset"), {kernel.port}
        events = Events(own=self._own_ports)
        self._memory = Memory(settings.state_dir)
        self._snapshot, self._connection = self._memory.recall(), Connection()
        self._braking = Braking(settings.state_dir, settings.node_name, self._snapshot)
        recalled, self._snapshot = self._snapshot, self._braking.counts
        node = self._snapshot.nodes.get(settings.node_name)
        self._hosting = Hosting(settings, identity, kernel, node.spec.addresses if node else ())
        self._datastore = datastore = Reached(settings.target, known=self._snapshot.revision > 0)
        known = self._memory.identity, self._memory.written
        self._watcher = Watcher(datastore, recalled, self._hand_over, datastore.renew, *known)
        self._publisher = Publisher(datastore, settings.node_name, self._not_published)
        self._announcing = Announcing(journal, self._publisher, settings.node_name)
        self._allocator = Allocator(
            journal, f"{settings.state_dir}/claims.json", settings.node_name, identity.id, cool_down=settings.cool_down
        )
        self._allocator.update(self._snapshot)
        self._allocator.doubts.arise()
        if self._braking.jumped:
            self._allocator.doubts.quarantine()
        self._datastore_thread = ThreadPoolExecutor(1, thread_name_prefix="datastore")
        self._networks = Networks(settings.node_name, datastore, self._datastore_thread, self._settle)
        self._networks.heard(self._snapshot)
        places = (self._allocator, datastore, self._datastore_thread)
        self._asserting = Asserting(*places, self._background, self._troubles, lambda: self._passes.request(AFTER_NEWS))
        self._asking = Asking(*places, settings.node_name, identity.id, lambda: self._snapshot, self._claimed)
        self._giving = Giving(*places, self._background, settings.node_name, lambda: self._snapshot, self._claimed)
        self._claiming = Claiming(*places, self._mtu, self._networks, self._claimed, self._asking)
        self._moving = Moving()
        self._registration = Registration(
            datastore,
            self._datastore_thread,
            self._claiming,
            settings.node_name,
            identity.id,
            f"{boot_id()}/{netns}",
            self._moving,
        )
        self._registration.heard(self._snapshot)
        self._remover, self._home = LinkRemover(self._open_netlink), namespaces.own()
        self._trials = Trials(self._sight, lambda: self._passes.request(AFTER_NEWS))
        self._resizing = Resizing(kernel, journal, self._home, settings.mtu, self._resized)
        self._passes = Passes(
            kernel, self._nft, self._hosting, journal, self._troubles, self._known, self._passed, settings.run_dir
        )
        self._probing = Probing(settings, identity.id, lambda: self._snapshot, self._sight, self._found_far, self._troubles)
        self._drift = Drift(events, self._nft, kernel, self._passes, self._hosting, self._remover, self._troubles)
        self._operations = Operations(
            journal,
            self._claiming,
            Kernel(self._home, kernel, self._nft, self._remover, conntrack.flush, conntrack.flush_ports),
            Sandboxes,
            self._attachments_changed,
        )
        collector = Collector(self._operations, journal, kernel, Sandboxes)
        tombstones = Tombstones(settings.run_dir)
        self._routing = Routing(
            settings, self._background, self._troubles, self._passes.standby, lambda: not journal.attachments
        )
        self.settled = asyncio.Event()
        self._standing = standing = Standing(
            settings=settings,
            journal=journal,
            allocator=self._allocator,
            braking=self._braking,
            registration=self._registration,
            hosting=self._hosting,
            passes=self._passes,
            trials=self._trials,
            probing=self._probing,
            routing=self._routing,
            troubles=self._troubles,
            settled=self.settled,
            latest=self._latest,
        )
        self._metrics = Metrics()
        self._dispatcher = Dispatcher(
            self._operations, collector, tombstones, netns, standing.unready, self._metrics.call, standing.drained
        )
        self._firewalls = Firewalls(self._passes, self._background, self._troubles)
        self._upkeep = Upkeep(
            self._operations,
            collector,
            tombstones,
            self._passes,
            self._firewalls,
            self._claiming,
            self._asking,
            self._giving,
            Growing(settings.state_dir),
            self._memory,
            self._troubles,
            self._latest,
        )
        self._answering = Answering(settings, standing, self._routing, self._metrics, self._release)
        self._joining = Joining(self._registration, self._passes, self._background, self._latest)
        self._server: Server | None = None

    async def start(self) -> None:
        """Listens when it returns.  ADDs are served once it is `settled`: set by the first pass that knows the whole cluster with this
        node in it, when the datastore has been asked whether its blocks are still its own, or when the datastore is away."""
        self._answering.open_address()
        self._passes.run()
        await self._operations.recover()
        await self._upkeep.look_after_tombstones()
        self._drift.watch()
        self._publisher.start()
        self._attachments_changed()
        self._watcher.start()
        self._server = Server(self._settings.run_dir, self._dispatcher.handle)
        await self._answering.open_sockets()
        run_dir = self._settings.run_dir
        self._footing = Footing(
            (f"{run_dir}/journal.lock", self._settings.cni_socket, self._settings.api_socket), (f"{run_dir}/journal",)
        )
        self._probing.start()
        self._trials.prober = self._probing.prober if self._settings.probe_port else None
        self._loop.call_later(self._settings.resync_interval, self._resync)

    async def run(self, stopping: asyncio.Event) -> None:
        """Looks after things until it is told to stop.  Traffic flows on afterwards.  Raises ConfigError: it has lost its footing."""
        while not stopping.is_set():
            self._footing.require()
            self._answering.turn()
            await self._upkeep.round()
            self._routing.look_after()
            self._count_addresses()
            self._look_at_brake()
            try:
                await asyncio.wait_for(stopping.wait(), _UPKEEP)
            except TimeoutError:
                continue

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop()
        self._trials.stop()
        self._probing.stop()
        self._passes.forwarding.close()
        self._routing.stop()
        self._watcher.stop()
        self._publisher.stop()
        self._answering.stop()
        self._remover.stop()
        self._datastore_thread.shutdown(wait=False, cancel_futures=True)
        self._datastore.close()
        with self._troubles.about("remembering"):
            self._memory.keep(self._snapshot, self._connection.identity, self._connection.written, at_once=True)
        self._journal.close()
        os.close(self._home)

    # occasions

    def _hand_over(self, snapshot: Snapshot, connection: Connection) -> None:
        """From the watching thread."""
        self._loop.call_soon_threadsafe(self._snapshot_came, snapshot, connection)

    def _snapshot_came(self, said: Snapshot, connection: Connection) -> None:
        jumped = connection.jumps != self._connection.jumps
        self._asserting.connected(connection, jumped=jumped)
        with self._troubles.about("brake"):
            self._braking.take(said, jumped=jumped)
        if (late := self._braking.late) is not None:
            self._loop.call_later(late, self._make_up)
        snapshot = self._braking.counts
        new_store = jumped or connection.identity != self._connection.identity
        back = connection.connected and not self._connection.connected
        told = snapshot.complete and self._told(snapshot) != self._told(self._snapshot)
        self._snapshot, self._connection = snapshot, connection
        self._metrics.connected(connection.connected)
        self._asserting.heard(snapshot)
        self._networks.heard(snapshot)
        self._asking.heard(snapshot)
        self._giving.look()
        if not connection.connected:
            self.settled.set()
        if connection.connected and new_store:
            self._registration.forget()
            self._moving.forget()
            self._publisher.forget()
        if connection.connected and (new_store or back):
            self._asserting.ask()
        self._registration.heard(snapshot)
        if told:  # who starts from what is remembered goes by what this node has told last
            self._background.begin("remembering", self._upkeep.remember(at_once=True))
        if snapshot.complete:
            self._passes.request(AFTER_NEWS, looking=False)

    def _resized(self) -> None:
        self._passes.attachments_changed()
        self._passes.request(AFTER_NEWS)

    def _look_at_brake(self) -> None:
        """What is held may end by the time; and another node may have let go of a block of ours."""
        with self._troubles.about("brake"):
            if self._braking.look(quarantined=self._allocator.doubts.quarantined):
                self._recount()
        self._metrics.doubts(
            held=len(self._braking.held), contested=len((*self._allocator.contested, *self._allocator.disputed))
        )
        self._asserting.look_after()

    def _make_up(self) -> None:
        with self._troubles.about("brake"):
            if self._braking.late is not None and self._braking.look(quarantined=self._allocator.doubts.quarantined):
                self._recount()

    def _recount(self) -> None:
        """Something else counts than before, and the datastore said nothing new."""
        self._snapshot = self._braking.counts
        self._allocator.update(self._snapshot)
        self._networks.heard(self._snapshot)
        self._registration.heard(self._snapshot)
        self._passes.request(AFTER_NEWS)

    def _release(self, request: Request) -> tuple[str, ...]:
        try:
            return self._braking.release(request.nodes)
        finally:
            self._recount()
            self._background.begin("remembering", self._upkeep.remember(at_once=True))

    def _told(self, snapshot: Snapshot) -> int:
        """How often this node has told others what it receives and sends; nothing is less than never."""
        node = snapshot.nodes.get(self._settings.node_name)
        return node.spec.generation if node else -1

    def _settle(self) -> None:
        """A network's pool is new: whatever it needs is there before its first pod, and it is remembered at once, for who is
        killed next."""
        self._passes.run()
        self._background.begin("remembering", self._upkeep.remember(at_once=True))

    def _claimed(self) -> None:
        self._giving.look()
        self._passes.request(AFTER_NEWS, looking=False)

    def _not_published(self, failures: Sequence[str]) -> None:
        """From the publishing thread."""
        self._loop.call_soon_threadsafe(self._troubles.report, "endpoints", *failures)

    def _resync(self) -> None:
        self._hosting.stale = True
        self._passes.request(0)
        self._loop.call_later(self._settings.resync_interval, self._resync)

    def _attachments_changed(self) -> None:
        """An attachment came or went."""
        self._passes.attachments_changed()
        self._announcing.attachments_changed()

    def _known(self) -> Known:
        tunnel_addresses = self._registration.tunnel_addresses
        claimed = self._allocator.claims.cidrs
        return Known(self._snapshot, claimed, tunnel_addresses, self._moving, self._resizing, self._trials)

    def _passed(self, done: Pass | None) -> None:
        """How a pass went; None: it ended with a fault of our own."""
        complete = self._snapshot.complete
        if done is not None:
            self._metrics.passed(done, in_sync=self._passes.in_sync_since is not None)
        host = self._passes.host
        asked = complete and self._asserting.asked and host is not None and not self.settled.is_set()
        if asked and host is not None and not self._registration.due(self._snapshot, host):
            self.settled.set()
        if complete and self._resizing.due:
            self._background.begin("MTU", self._resizing.run())
        if complete:
            self._firewalls.passed()
        # until it is registered BIRD stays as it is: whom it speaks with is a matter of its Node's labels
        is_member = host is not None and (own_word(self._snapshot, host) or not self._registration.membership.serves)
        self._routing.passed(self._passes.desired.bgp, self._snapshot.secrets, complete=complete and bool(is_member))
        self._joining.look()

    # facts for others

    def _latest(self) -> tuple[Snapshot, Connection]:
        """The cluster as it counts, and how the datastore is reached."""
        return self._snapshot, self._connection

    def _count_addresses(self) -> None:
        used = sum(map(len, self._journal.holdings.used.values()))
        self._metrics.addresses(used, sum(map(len, self._journal.holdings.released.values())))

    def _mtu(self, addresses: Iterable[Interface]) -> int:
        """Of a pod with these addresses."""
        return self._standing.mtu(addresses)

    def _found_far(self, far: Mapping[str, str]) -> None:
        self._hosting.far = far
        self._passes.request(AFTER_NEWS)

    def _sight(self) -> Sight | None:
        """What probes go by; None before the cluster is known."""
        host = self._passes.host
        if host is None or not self._snapshot.complete:
            return None
        return Sight(self._snapshot, host, self._passes.desired, self._standing.mtu_of_all())

    def _open_netlink(self) -> Netlink:
        netlink = Netlink()
        self._own_ports.add(netlink.port)
        return netlink
