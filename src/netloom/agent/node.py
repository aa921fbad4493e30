"""The agent of one node: its loop, and what happens on each occasion.

    a snapshot came          ─▶ IPAM knows it, the node registers, a pass
    the kernel told of drift ─▶ a pass, at most twice a second
    a timer                  ─▶ a pass; claims, dead sandboxes, tombstones are looked after
    a CNI call               ─▶ cni.dispatch; the pod's Endpoint is published afterwards

Everything here runs in the loop's thread.  What blocks is done by threads that hand values over: watching, publishing, one
thread for whatever asks the datastore, link removal, conntrack.

Order of a start: journal, the closed rules, what a killed agent left half done, a first pass from what is remembered, and only
then the CNI socket.  An ADD is served at the datastore's first word: this is all, these blocks are yours; or: I am away.  Nothing is
taken away before it has said "this is all", and nothing at the end.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from netloom.agent import heap
from netloom.agent.claiming import Claiming
from netloom.agent.footing import Footing
from netloom.agent.health import Health
from netloom.agent.hosting import Hosting
from netloom.agent.identity import Identity, boot_id
from netloom.agent.metrics import Metrics
from netloom.agent.publishing import Publisher, endpoint
from netloom.agent.reaching import Reached
from netloom.agent.reconciling import Pass, Reconciler
from netloom.agent.registering import Registration
from netloom.agent.remembering import Memory
from netloom.agent.reporting import Report, document
from netloom.agent.state import encode
from netloom.agent.troubles import Troubles
from netloom.agent.watching import Connection, Watcher
from netloom.calc import desired, remote
from netloom.calc.tables import Tables
from netloom.cni.dispatch import Dispatcher
from netloom.cni.operations import Kernel, Operations
from netloom.cni.removing import LinkRemover
from netloom.cni.server import Server
from netloom.cni.tombstones import Tombstones
from netloom.config import Settings
from netloom.dataplane import conntrack
from netloom.dataplane.foreign.tables import TABLES as FIREWALL_TABLES
from netloom.dataplane.netlink import Events, Netlink, Touched, device_names
from netloom.dataplane.nft import Nft
from netloom.dataplane.nft.ruleset import TABLES as OWN_TABLES
from netloom.dataplane.sandboxes import Sandboxes
from netloom.ipam.allocator import Allocator
from netloom.ipam.blocks import pool_of
from netloom.ipam.journal import Journal
from netloom.model.addresses import Interface, Prefix, host_prefix
from netloom.model.attachments import PREFIX, Attachment, NetnsId, State
from netloom.model.desired import Desired
from netloom.model.host import Host
from netloom.model.resources import Endpoint
from netloom.model.snapshot import Snapshot

log = logging.getLogger(__name__)

_UPKEEP = 5.0  # seconds between looks at claims, dead sandboxes, tombstones
_DRIFT_GAP = 0.5  # seconds between passes that repair drift
_PASS_GAP = 0.02  # seconds between passes that follow the datastore
_REST = 4.0  # times a pass's own time until the next one: in a large cluster the loop has other things to do
_PUBLISH = 0.02  # seconds that an Endpoint waits for others: no ADD pays for the one before it
_LONGEST_RETRY = 30.0  # seconds
_RETRY = 1.0  # seconds until a pass that was refused something, or a registration, is tried again
_REPORT_SECONDS = 5.0  # that somebody who asks waits for the loop


class Agent:
    """Made inside the running loop, in the node's namespace."""

    def __init__(self, settings: Settings, identity: Identity, journal: Journal, kernel: Netlink, netns: NetnsId) -> None:
        self._settings, self._journal = settings, journal
        self._loop = asyncio.get_running_loop()
        self._troubles, self._tasks = Troubles(), set[asyncio.Task[None]]()
        self._kernel, self._nft, self._own_ports = kernel, Nft(f"{settings.run_dir}/ruleset"), {kernel.port}
        self._events = Events(own=self._own_ports)
        self._reconciler = Reconciler(kernel, self._nft)
        self._memory = Memory(settings.state_dir)
        self._snapshot, self._connection = self._memory.recall(), Connection()
        node = self._snapshot.nodes.get(settings.node_name)
        self._hosting = Hosting(settings, identity, kernel, node.spec.addresses if node else ())
        self._datastore = datastore = Reached(settings.datastore, known=self._snapshot.revision > 0)
        self._watcher = Watcher(datastore, self._snapshot, self._hand_over, datastore.renew)
        self._publisher = Publisher(datastore, settings.node_name, self._not_published)
        self._allocator = Allocator(
            journal, f"{settings.state_dir}/claims.json", settings.node_name, identity.id, cool_down=settings.cool_down
        )
        self._allocator.update(self._snapshot)
        self._datastore_thread = ThreadPoolExecutor(1, thread_name_prefix="datastore")
        self._claiming = Claiming(self._allocator, datastore, self._datastore_thread, self._mtu)
        self._registration = Registration(
            datastore, self._datastore_thread, self._claiming, settings.node_name, identity.id, f"{boot_id()}/{netns}"
        )
        self._registration.heard(self._snapshot)
        self._remover = LinkRemover(self._open_netlink)
        self._operations = Operations(
            journal,
            self._claiming,
            Kernel(kernel, self._nft, self._remover, conntrack.flush),
            Sandboxes,
            self._attachments_changed,
        )
        self._tombstones = Tombstones(settings.run_dir)
        self._metrics = Metrics()
        self._dispatcher = Dispatcher(self._operations, self._tombstones, netns, self._unready, self._metrics.call)
        self._health = Health(self._unready, self._state, self._metrics.text)
        self._server: Server | None = None
        self._missing: frozenset[str] = frozenset()
        self._own_links: frozenset[int] = frozenset()
        self._host: Host | None = None
        self._desired = Desired()
        self._basis: tuple[Snapshot, Host, frozenset[str]] | None = None
        """What `_desired` was computed from; None: anew, please."""
        self._last: Pass | None = None
        self._others: tuple[Snapshot, Host, Tables] | None = None
        self._passes, self._trimmed, self._busy = 0, 0, 0.0
        self._in_sync_since: float | None = None
        self._scheduled: asyncio.TimerHandle | None = None
        self._again: asyncio.TimerHandle | None = None
        self._patience = _RETRY
        self._registering = self._publishing = self._asked = False
        self._passing_legacy, self._passed = False, frozenset[Prefix]()
        self._endpoints: dict[int, Endpoint] = {}
        self._started = time.time()
        self.settled = asyncio.Event()

    async def start(self) -> None:
        """Listens when it returns.  ADDs are served once it is `settled`: set by the first pass that knows the whole cluster, when the
        datastore has been asked whether this node's blocks are still its own, or when the datastore is away."""
        if self._settings.health_address:
            self._health.serve_address(self._settings.health_address)
        self._pass()
        await self._operations.recover()
        await self._look_after_tombstones()
        self._loop.add_reader(self._events.fileno(), self._kernel_changed)
        self._loop.add_reader(self._nft.fileno(), self._rules_changed)
        self._publisher.start()
        self._attachments_changed()
        self._watcher.start()
        self._server = Server(self._settings.run_dir, self._dispatcher.handle)
        self._health.serve_socket(self._settings.api_socket)
        run_dir = self._settings.run_dir
        self._footing = Footing(
            (f"{run_dir}/journal.lock", self._settings.cni_socket, self._settings.api_socket), (f"{run_dir}/journal",)
        )
        self._loop.call_later(self._settings.resync_interval, self._resync)

    async def run(self, stopping: asyncio.Event) -> None:
        """Looks after things until it is told to stop.  Traffic flows on afterwards.  Raises ConfigError: it has lost its footing."""
        while not stopping.is_set():
            self._footing.require()
            self._health.turn()
            await self._upkeep()
            try:
                await asyncio.wait_for(stopping.wait(), _UPKEEP)
            except TimeoutError:
                continue

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop()
        self._watcher.stop()
        self._publisher.stop()
        self._health.stop()
        self._remover.stop()
        self._datastore_thread.shutdown(wait=False, cancel_futures=True)
        self._datastore.close()
        with self._troubles.about("remembering"):
            self._memory.keep(self._snapshot, at_once=True)
        self._journal.close()

    # occasions

    def _hand_over(self, snapshot: Snapshot, connection: Connection) -> None:
        """From the watching thread."""
        self._loop.call_soon_threadsafe(self._snapshot_came, snapshot, connection)

    def _snapshot_came(self, snapshot: Snapshot, connection: Connection) -> None:
        new_store = connection.identity != self._connection.identity or snapshot.revision < self._snapshot.revision
        back = connection.connected and not self._connection.connected
        self._snapshot, self._connection = snapshot, connection
        self._metrics.connected(connection.connected)
        self._allocator.update(snapshot)
        if not connection.connected:
            self.settled.set()
        if connection.connected and new_store:
            self._registration.forget()
            self._publisher.forget()
        if connection.connected and (new_store or back):
            self._begin("claims", self._synchronise())
        self._registration.heard(snapshot)
        if snapshot.complete:
            self._register()
            self._request_pass(_PASS_GAP)

    def _not_published(self, failures: Sequence[str]) -> None:
        """From the publishing thread."""
        self._loop.call_soon_threadsafe(self._troubles.report, "endpoints", *failures)

    def _resync(self) -> None:
        self._hosting.stale = True
        self._request_pass(0)
        self._loop.call_later(self._settings.resync_interval, self._resync)

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
        if touched.overrun or touched.tables.keys() & {"links", "addresses"}:
            self._hosting.stale = True
        if self._concerns_us(touched):
            self._request_pass(_DRIFT_GAP)

    def _concerns_us(self, touched: Touched) -> bool:
        """The kernel tells all that it learns about neighbours on every interface; ours are on our own."""
        learned = touched.tables.get("neighbours", set()) | touched.tables.get("fdb", set())
        return touched.overrun or bool(touched.tables.keys() - {"neighbours", "fdb"} or learned & self._own_links)

    def _rules_changed(self) -> None:
        if self._name_rule_changes():
            self._request_pass(_DRIFT_GAP)

    def _name_rule_changes(self) -> bool:
        """Whether our tables were changed, or those that pods' traffic has to pass.  What others do in theirs is no news."""
        found = False
        with self._troubles.about("nftables events"):
            for change in self._nft.foreign_changes():
                ours = change.table is None or change.table in OWN_TABLES
                if ours:
                    log.info("nftables: %s was changed by %s", change.table or "something", change.process)
                found = found or ours or change.table in FIREWALL_TABLES
        return found

    def _attachments_changed(self) -> None:
        """An attachment came or went: its Endpoint follows, with those of others that come at the same time."""
        self._basis = None
        if not self._publishing:
            self._publishing = True
            self._loop.call_later(_PUBLISH, self._publish)

    def _publish(self) -> None:
        self._publishing, known = False, self._endpoints
        ready = (a for a in self._journal.attachments.values() if a.state is State.READY)
        self._endpoints = {a.sequence: known.get(a.sequence) or endpoint(a, self._settings.node_name) for a in ready}
        self._publisher.want({e.key: e for e in self._endpoints.values()})

    # a pass

    def _request_pass(self, gap: float) -> None:
        """Soon, but `gap` seconds after the one before, and so that passes take a fifth of the time; an earlier wish wins."""
        last = self._last.at if self._last else 0.0
        gap = max(gap, _REST * self._busy)
        when = self._loop.time() + min(gap, max(0.0, last + gap - time.time()))
        if self._scheduled is not None:
            if self._scheduled.when() <= when:
                return
            self._scheduled.cancel()
        self._scheduled = self._loop.call_at(when, self._pass)

    def _pass(self) -> None:
        self._scheduled, start = None, time.perf_counter()
        done = None
        self._name_rule_changes()
        with self._troubles.about("pass"):
            done = self._reconcile()
        if done is None or done.failures:
            self._in_sync_since = None
            self._try_again()
        elif self._snapshot.complete:
            self._in_sync_since, self._patience = self._in_sync_since or time.time(), _RETRY
        if self._snapshot.complete and self._asked:
            self.settled.set()
        self._register()
        self._busy = time.perf_counter() - start

    def _try_again(self) -> None:
        """Later and later, as long as the kernel refuses: what happens to it meanwhile calls for a pass by itself."""
        if self._again is None or self._again.when() <= self._loop.time():
            self._again = self._loop.call_later(self._patience, self._request_pass, _DRIFT_GAP)
            self._patience = min(2 * self._patience, _LONGEST_RETRY)

    def _reconcile(self) -> Pass:
        snapshot, attachments = self._snapshot, self._present()
        host = self._host = self._hosting.host(
            self._allocator.claims.cidrs, self._registration.tunnel_addresses, {a.bridge for a in attachments if a.bridge}
        )
        basis = (snapshot, host, self._missing)
        if self._basis is None or self._basis[0] is not snapshot or self._basis[1:] != basis[1:]:
            self._desired, self._basis = desired(snapshot, attachments, host, self._others_of(snapshot, host)), basis
        done = self._last = self._reconciler.run(self._desired, snapshot.revision, complete=snapshot.complete)
        self._passes += 1
        self._metrics.passed(done, in_sync=snapshot.complete and not done.failures)
        if snapshot.complete and self._desired.filter.pools != self._passed:
            self._passed = self._desired.filter.pools
            self._begin_legacy()
        if done.changed:
            log.info("%s", done)
        self._troubles.report("kernel", *map(str, done.failures))
        return done

    def _others_of(self, snapshot: Snapshot, host: Host) -> Tables:
        if self._others is None or self._others[0] is not snapshot or self._others[1] != host:
            self._others = snapshot, host, remote(snapshot, host)
        return self._others[2]

    def _present(self) -> list[Attachment]:
        """Attachments less those whose link is gone: nothing can be wanted there."""
        indexes = device_names(self._kernel)
        names = set(indexes.values())
        attachments = [a for a in self._journal.attachments.values() if a.state is not State.LEAVING]
        bridges = {a.bridge for a in attachments}
        self._own_links = frozenset(index for index, name in indexes.items() if name.startswith(PREFIX) or name in bridges)
        self._missing = frozenset(a.host_interface for a in attachments if a.host_interface not in names)
        return [a for a in attachments if a.host_interface in names]

    # this node in the datastore

    def _register(self) -> None:
        """Makes the datastore say what this node is, once it is known and whenever it changes."""
        host = self._host
        if host is None or self._registering or not self._connection.connected:
            return
        if self._registration.due(self._snapshot, host):
            self._registering = True
            self._begin(f"node {host.node}", self._write_node(self._snapshot, host))

    async def _write_node(self, snapshot: Snapshot, host: Host) -> None:
        delay = _RETRY
        try:
            await self._registration.register(snapshot, host)
            delay = 0.0
        finally:
            self._loop.call_later(delay, self._node_written)

    def _node_written(self) -> None:
        """Or not: then it is still due, and the pass will see to it."""
        self._registering = False
        self._request_pass(_PASS_GAP)

    async def _synchronise(self) -> None:
        try:
            await self._loop.run_in_executor(self._datastore_thread, self._allocator.synchronise, self._datastore)
        finally:
            self._asked = True
            self._request_pass(_PASS_GAP)

    def _begin(self, what: str, work: Coroutine[object, object, None]) -> None:
        """In the background; how it goes is told to `_troubles`."""

        async def guarded() -> None:
            with self._troubles.about(what):
                await work

        task = self._loop.create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # upkeep

    async def _upkeep(self) -> None:
        """Each duty for itself: one that fails does not stop the others."""
        duties = {
            "tombstones": self._look_after_tombstones,
            "dead sandboxes": self._bury,
            "remembering": self._remember,
            "other firewalls": self._pass_firewalls,
            "blocks": self._give_back,
            "memory": self._trim,
        }
        for what, duty in duties.items():
            with self._troubles.about(what):
                await duty()
        used = sum(map(len, self._journal.holdings.used.values()))
        self._metrics.addresses(used, sum(map(len, self._journal.holdings.released.values())))

    async def _look_after_tombstones(self) -> None:
        if self._tombstones.waiting():
            await self._tombstones.take_up(self._operations.delete)

    async def _bury(self) -> None:
        await self._operations.bury(self._missing)

    async def _remember(self) -> None:
        await self._loop.run_in_executor(None, self._memory.keep, self._snapshot)

    async def _pass_firewalls(self) -> None:
        if self._snapshot.complete:
            if (outcome := self._reconciler.passages(self._desired)).put + outcome.deleted:
                log.info("passages through other firewalls %s", outcome)
            self._begin_legacy()

    def _begin_legacy(self) -> None:
        if not self._passing_legacy:
            self._passing_legacy = True
            self._begin("iptables-legacy", self._pass_legacy())

    async def _pass_legacy(self) -> None:
        """In a thread, for it may wait for others' lock longer than anybody waits for the loop."""
        try:
            outcome = await self._loop.run_in_executor(None, self._reconciler.legacy_passages, self._desired)
        finally:
            self._passing_legacy = False
        if outcome.put:
            log.info("passages through iptables-legacy %s", outcome)
        if outcome.failures:
            raise outcome.failures[0]

    async def _give_back(self) -> None:
        if self._connection.connected and (retired := self._allocator.retire()):
            await self._loop.run_in_executor(self._datastore_thread, self._allocator.give_back, retired, self._datastore)
            self._request_pass(_PASS_GAP)

    async def _trim(self) -> None:
        """Passes need memory for a moment; what they leave free goes back."""
        if self._trimmed != self._passes:
            self._trimmed = self._passes
            await self._loop.run_in_executor(None, heap.give_back)

    # facts for others

    def _unready(self) -> str | None:
        """Why this node cannot serve ADD, or None."""
        if self._last is None or not self._last.closed:
            return "the rules that close pods are not in place"
        if not self.settled.is_set():
            return "it is starting"
        if not self._snapshot.revision:
            return f"the datastore was never reached: {self._connection.error or 'connecting'}"
        if not self._registration.membership.serves:
            return str(self._registration.membership.value)
        return None if self._hosting.addressed else self._hosting.problem

    def _mtu(self, addresses: Iterable[Interface]) -> int:
        pools = (pool_of(host_prefix(a.ip), self._snapshot.pools.values()) for a in addresses)
        assert self._host is not None  # the first pass has made it
        return self._hosting.pod_mtu(self._host, [pool for pool in pools if pool])

    def _open_netlink(self) -> Netlink:
        netlink = Netlink()
        self._own_ports.add(netlink.port)
        return netlink

    def _state(self) -> bytes:
        """For other threads: the values are taken in the loop, the document is made where it is asked for."""
        report = asyncio.run_coroutine_threadsafe(self._report(), self._loop).result(_REPORT_SECONDS)
        return encode(document(report))

    async def _report(self) -> Report:
        holdings = self._journal.holdings
        return Report(
            node=self._settings.node_name,
            started=self._started,
            ready=self._unready() is None,
            in_sync_since=self._in_sync_since,
            mtu=self._mtu_of_all(),
            target=self._settings.datastore,
            snapshot=self._snapshot,
            connection=self._connection,
            last=self._last,
            passes=self._passes,
            problems=tuple(self._problems()),
            desired=self._desired,
            claims=self._allocator.claims,
            used={version: tuple(numbers) for version, numbers in holdings.used.items()},
            cooling={version: tuple(numbers) for version, numbers in holdings.released.items()},
            attachments=tuple(self._journal.attachments.values()),
        )

    def _mtu_of_all(self) -> int:
        return self._hosting.pod_mtu(self._host, self._snapshot.pools.values()) if self._host else 0

    def _problems(self) -> Iterable[str]:
        if reason := self._unready():
            yield reason
        if not self._connection.connected:
            yield f"the datastore is away: {self._connection.error or 'connecting'}; pods are served from claimed blocks"
        yield from (f"{name} cannot be read: {reason}" for name, reason in self._connection.broken)
        yield from self._allocator.alarms
        if self._hosting.problem and self._hosting.addressed:
            yield self._hosting.problem
        yield from self._desired.problems
        yield from self._troubles.standing
        yield from (f"link {name} of a pod is gone, its sandbox is not" for name in sorted(self._missing))
