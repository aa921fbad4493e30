"""Reporting: what the agent knows, as the document that `netloom status` and the page read.  Values in, document out."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import netloom
from netloom.agent import engines
from netloom.agent.addressing import Choice
from netloom.agent.probing import Figures
from netloom.agent.reconciling import Pass
from netloom.agent.state import (
    AgentState,
    AttachmentState,
    BgpState,
    BlockState,
    DatastoreState,
    EngineState,
    PassState,
    PoolState,
    ProbesState,
    Problem,
    RouteFor,
    RouteState,
)
from netloom.agent.watching import Connection
from netloom.calc.metrics import node_metric
from netloom.calc.reasons import reason
from netloom.dataplane.netlink import PROTOCOL
from netloom.ipam.blocks import kept, pool_of
from netloom.ipam.claims import Claims
from netloom.model.addresses import host_prefix
from netloom.model.attachments import Attachment
from netloom.model.desired import Desired, Route, RouteKey, RouteKind, Tunnel
from netloom.model.host import Host
from netloom.model.snapshot import Snapshot
from netloom.tunnel.forwarder import messages


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that the document is made from.  `used`, `cooling`: addresses as numbers, by family."""

    node: str
    started: float
    ready: bool
    in_sync_since: float | None
    pass_due: bool
    mtu: int
    target: str
    snapshot: Snapshot
    connection: Connection
    last: Pass | None
    passes: int
    problems: tuple[str, ...]
    desired: Desired
    claims: Claims
    used: Mapping[int, Collection[int]]
    cooling: Mapping[int, Collection[int]]
    attachments: tuple[Attachment, ...]
    host: Host | None = None
    choice: Choice | None = None
    probed: Figures | None = None
    engines: tuple[engines.Choice, ...] = ()
    forwarders: tuple[messages.State, ...] = ()
    held: tuple[str, ...] = ()
    bgp: BgpState = field(default_factory=BgpState)


def document(report: Report) -> AgentState:
    return AgentState(
        node=report.node,
        version=netloom.__version__,
        pid=os.getpid(),
        started=_time(report.started),
        ready=report.ready,
        in_sync_since=None if report.in_sync_since is None else _time(report.in_sync_since),
        pass_due=report.pass_due,
        held=report.held,
        mtu=report.mtu,
        addresses=report.choice.addresses if report.choice else (),
        addresses_because=report.choice.reason if report.choice else "",
        passed_over=report.choice.passed_over if report.choice else (),
        probes=_probes(report.probed),
        engines=tuple(_engine(report, choice) for choice in report.engines),
        bgp=report.bgp,
        datastore=DatastoreState(
            target=report.target,
            connected=report.connection.connected,
            since=_time(report.connection.since),
            error=report.connection.error or None,
            revision=report.snapshot.revision,
            identity=report.connection.identity,
        ),
        last_pass=_pass(report.last, report.passes),
        problems=tuple(Problem(message=text) for text in report.problems),
        blocks=tuple(_blocks(report)),
        routes=tuple(_routes(report)),
        pools=tuple(
            PoolState(name=name, cidr=pool.spec.cidr, encapsulation=pool.spec.encapsulation.value)
            for name, pool in sorted(report.snapshot.pools.items())
            if not pool.spec.network
        ),
        attachments=tuple(_attachment(a) for a in report.attachments),
    )


def _engine(report: Report, choice: engines.Choice) -> EngineState:
    tunnels = {n: t for n, t in report.desired.links.items() if isinstance(t, Tunnel) and t.carrier is choice.carrier}
    forwarder = next((each for each in report.forwarders if each.device in tunnels), None)
    return EngineState(
        carrier=choice.carrier.value.upper(),
        engine=choice.engine.value if choice.engine else "",
        because=choice.reason,
        used=bool(tunnels),
        process=forwarder.pid if forwarder else 0,
        bulk=forwarder.bulk if forwarder else "",
        lost=forwarder.lost if forwarder else {},
    )


def _probes(figures: Figures | None) -> ProbesState:
    if figures is None:
        return ProbesState()
    return ProbesState(asked=figures.asked, answered=figures.answered, silent=figures.silent)


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _pass(last: Pass | None, number: int) -> PassState | None:
    if last is None:
        return None
    return PassState(
        number=number,
        revision=last.revision,
        at=_time(last.at),
        milliseconds=last.milliseconds,
        tables={name: str(outcome) for name, outcome in last.outcomes.items()},
        failures=tuple(str(failure) for failure in last.failures),
    )


def _blocks(report: Report) -> Iterable[BlockState]:
    for held in report.claims.held:
        cidr, pool = held.cidr, pool_of(held.cidr, report.snapshot.pools.values())
        first, last = int(cidr.network_address), int(cidr.broadcast_address)
        used = sum(first <= number <= last for number in report.used[cidr.version])
        cooling = sum(first <= number <= last for number in report.cooling[cidr.version])
        node = report.snapshot.nodes.get(report.node)
        mine = [a for a in node.spec.tunnel_addresses if a in cidr] if node else []
        own = len(mine if held.is_dense else kept(cidr, pool))
        free = cidr.num_addresses - used - cooling - own
        yield BlockState(cidr=cidr, pool=pool.name if pool else "", used=used, kept=own, cooling=cooling, free=free)


def _routes(report: Report) -> Iterable[RouteState]:
    pods: dict[object, str] = {
        host_prefix(i.ip): f"{a.namespace}/{a.pod or a.key.container_id}" for a in report.attachments for i in a.addresses
    }
    nodes = {node_metric(name): name for name in report.snapshot.nodes}
    for key, route in report.desired.routes.items():
        kind, owner = _purpose(key, route, nodes, pods)
        pool, encapsulation, why = _reason(report, key, route, kind, owner)
        yield RouteState(
            destination=key.prefix,
            kind=kind,
            via=route.gateway,
            device=route.device,
            metric=key.metric,
            protocol=PROTOCOL,
            owner=owner,
            pool=pool,
            encapsulation=encapsulation,
            why=why,
        )


def _reason(report: Report, key: RouteKey, route: Route, kind: RouteFor, owner: str) -> tuple[str, str, str]:
    """Pool, encapsulation and why."""
    if kind is RouteFor.NODE and report.host is not None:
        snapshot = report.snapshot
        found = reason(snapshot, report.host, key.prefix, route, snapshot.nodes.get(owner), report.desired)
        return found.pool, str(found.form), found.why
    pool = pool_of(key.prefix, report.snapshot.pools.values())
    why = "addresses of this node that no pod has" if kind is RouteFor.BLACKHOLE else "a pod of this node"
    return (pool.name if pool else ""), "", why


def _purpose(key: RouteKey, route: Route, nodes: dict[int, str], pods: dict[object, str]) -> tuple[RouteFor, str]:
    if route.kind is RouteKind.BLACKHOLE:
        return RouteFor.BLACKHOLE, ""
    if key.metric in nodes:
        return RouteFor.NODE, nodes[key.metric]
    return RouteFor.POD, pods.get(key.prefix, "")


def _attachment(attachment: Attachment) -> AttachmentState:
    return AttachmentState(
        namespace=attachment.namespace,
        pod=attachment.pod,
        container_id=attachment.key.container_id,
        interface=attachment.key.interface,
        host_interface=attachment.host_interface,
        mac=attachment.mac,
        addresses=tuple(i.ip for i in attachment.addresses),
        state=attachment.state,
        network=attachment.key.network,
        wiring=attachment.wiring,
    )
