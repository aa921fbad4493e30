"""Standing: how it stands with this node, for whoever asks: why it serves no ADD, what is wrong in words, the document that `netloom
status` reads, what tunnels have carried.

Who asks for the last two is in a thread of its own: the values are taken in the loop, and made into a document where it is asked for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from netloom.agent.bgp_state import bgp_state
from netloom.agent.braking import Braking
from netloom.agent.hosting import Hosting
from netloom.agent.passing import Passes
from netloom.agent.probing import Probing
from netloom.agent.registering import Registration
from netloom.agent.reporting import Report, document
from netloom.agent.routing import Routing
from netloom.agent.state import encode
from netloom.agent.troubles import Troubles
from netloom.agent.trying import Trials
from netloom.agent.tunnel_metrics import Traffic, traffic
from netloom.agent.watching import Connection
from netloom.calc.forms import pod_mtu
from netloom.config import Settings
from netloom.ipam.allocator import Allocator
from netloom.ipam.journal import Journal
from netloom.model.addresses import Interface
from netloom.model.snapshot import Snapshot

_NAMED = 20  # records that cannot be read
_SECONDS = 5.0  # that somebody who asks waits for the loop


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """`latest`: the cluster as it counts, and how the datastore is reached.  `settled`: ADDs may be served."""

    settings: Settings
    journal: Journal
    allocator: Allocator
    braking: Braking
    registration: Registration
    hosting: Hosting
    passes: Passes
    trials: Trials
    probing: Probing
    routing: Routing
    troubles: Troubles
    settled: asyncio.Event
    latest: Callable[[], tuple[Snapshot, Connection]]
    started: float = field(default_factory=time.time)
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)

    def unready(self) -> str | None:
        """Why this node cannot serve ADD, or None."""
        snapshot, connection = self.latest()
        if self.passes.last is None or not self.passes.last.closed:
            return "the rules that close pods are not in place"
        if not self.settled.is_set():
            return "it is starting"
        if not snapshot.revision:
            return f"the datastore was never reached: {connection.error or 'connecting'}"
        if not self.registration.membership.serves:
            return str(self.registration.membership.value)
        if self.settings.node_name not in snapshot.nodes:
            return (
                "it is not registered yet"
                if snapshot.complete
                else "its Node object was not in the datastore when that last answered"
            )
        return None if self.hosting.addressed else self.hosting.problem

    def drained(self) -> str | None:
        """Why no new pod is to come here, though the node could serve it."""
        node = self.latest()[0].nodes.get(self.settings.node_name)
        if node is None or not node.spec.draining:
            return None
        return f"it is drained; netloom drain {node.name} --undo ends that"

    def mtu(self, addresses: Iterable[Interface]) -> int:
        """Of a pod with these addresses."""
        snapshot = self.latest()[0]
        pools = [p for a in addresses for p in snapshot.pools.values() if a.ip in p.spec.cidr]
        assert self.passes.host is not None  # the first pass has made it
        return pod_mtu(snapshot, self.passes.host, pools, self.settings.mtu)

    def mtu_of_all(self) -> int:
        snapshot, host = self.latest()[0], self.passes.host
        return pod_mtu(snapshot, host, snapshot.pools.values(), self.settings.mtu) if host else 0

    def state(self) -> bytes:
        """For other threads."""
        report = asyncio.run_coroutine_threadsafe(self._report(), self.loop).result(_SECONDS)
        return encode(document(report))

    def traffic(self) -> Traffic:
        """For other threads."""
        return asyncio.run_coroutine_threadsafe(self._counted(), self.loop).result(_SECONDS)

    async def _counted(self) -> Traffic:
        passes = self.passes
        return traffic(passes.desired, self.latest()[0], passes.reconciler.store, passes.forwarding.states())

    async def _report(self) -> Report:
        holdings, (snapshot, connection) = self.journal.holdings, self.latest()
        return Report(
            node=self.settings.node_name,
            started=self.started,
            ready=self.unready() is None,
            in_sync_since=self.passes.in_sync_since,
            pass_due=self.passes.due,
            mtu=self.mtu_of_all(),
            target=self.settings.datastore,
            snapshot=snapshot,
            connection=connection,
            last=self.passes.last,
            passes=self.passes.number,
            problems=tuple(self._problems()),
            desired=self.passes.desired,
            claims=self.allocator.claims,
            used={version: tuple(numbers) for version, numbers in holdings.used.items()},
            cooling={version: tuple(numbers) for version, numbers in holdings.released.items()},
            attachments=tuple(self.journal.attachments.values()),
            host=self.passes.host,
            choice=self.hosting.choice,
            probed=self.probing.rounds.figures,
            engines=self.hosting.engines,
            forwarders=tuple(self.passes.forwarding.states()),
            bgp=bgp_state(self.routing.view, self.routing.place, time.time()),
            held=self.braking.held,
        )

    def _problems(self) -> Iterable[str]:
        connection = self.latest()[1]
        if reason := self.unready():
            yield reason
        if not connection.connected:
            yield f"the datastore is away: {connection.error or 'connecting'}; pods are served from claimed blocks"
        yield from (f"{name} cannot be read: {reason}" for name, reason in connection.broken[:_NAMED])
        if len(connection.broken) > _NAMED:
            yield f"and {len(connection.broken) - _NAMED} records more cannot be read"
        yield from self.braking.problems
        if self.allocator.doubts.quarantined:
            yield "the datastore went back or is another one: no new block is claimed for half a minute, so that owners can assert theirs"
        if self.hosting.problem and self.hosting.addressed:
            yield self.hosting.problem
        yield from self.passes.desired.problems
        yield from self.trials.problems
        yield from self.troubles.standing
        yield from (f"link {name} of a pod is gone, its sandbox is not" for name in sorted(self.passes.missing))
