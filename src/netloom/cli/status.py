"""netloom status: one screen.  Is the network well, and if not, what is the first thing to do?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from netloom import __version__
from netloom.cli.context import Context, connection, output_option
from netloom.cli.printing import ago, answer, clean, count, table
from netloom.errors import DatastoreError, NetloomError

if TYPE_CHECKING:
    from netloom.agent.state import AgentState, BgpState
    from netloom.findings import Finding
    from netloom.ipam.audit import Records
    from netloom.model.resources import Node

Broken = tuple[tuple[str, str], ...]


@click.command()
@output_option
@connection
@click.pass_obj
def status(context: Context, output: str) -> None:
    """Is the network well, and if not, what is the first thing to do?

    Exit code 0: well.  1: a problem.  3: agent or datastore did not answer.
    """
    from netloom.cli.health import judge
    from netloom.findings import exit_code

    records, broken = _records(context)
    state = _state(context)
    findings = judge(records, state, broken)
    if output == "table":
        lines = [line for part in _screen(context, records, state) for line in (*part, "")]
        click.echo("\n".join([*lines, *_judgement(findings)]))
    else:
        click.echo(answer(output, "Status", **_fields(records, state, findings)))
    raise click.exceptions.Exit(exit_code(findings))


def _records(context: Context) -> tuple[Records | NetloomError, Broken]:
    from netloom.ipam.audit import Records

    try:
        with context.datastore() as datastore:
            listing = datastore.list()
    except DatastoreError as e:
        return e, ()
    return Records.of(listing.revision, (s.resource for s in listing.items)), listing.broken


def _state(context: Context) -> AgentState | NetloomError:
    try:
        return context.agent_state()
    except DatastoreError as e:
        return e


def _screen(context: Context, records: Records | NetloomError, state: AgentState | NetloomError) -> Iterator[list[str]]:
    """Its parts, as lines."""
    here = None if isinstance(state, NetloomError) else state.node
    yield [" · ".join(_headline(context, records, here))]
    if not isinstance(records, NetloomError):
        if records.cluster.nodes:
            yield _nodes(records, here).splitlines()
        if records.cluster.pools:
            yield _pools(records).splitlines()
        if moving := _moving(context, records, state):
            yield moving
    if not isinstance(state, NetloomError):
        yield _agent(state, datetime.now(UTC))


def _headline(context: Context, records: Records | NetloomError, here: str | None) -> Iterator[str]:
    yield f"netloom {__version__}"
    if here:
        yield f"node {clean(here)}"
    if not isinstance(records, NetloomError):
        yield count(len(records.cluster.nodes), "node")
        yield count(len(records.endpoints), "pod")
    yield clean(context.settings.datastore)


def _nodes(records: Records, here: str | None) -> str:
    pods = Counter(endpoint.spec.node for endpoint in records.endpoints)
    blocks = Counter(claim.node for block in records.cluster.blocks.values() for claim in block.spec.claims)
    rows = [
        (name, node.spec.addresses, blocks[name], pods[name], ", ".join(_notes(node, here)) or None)
        for name, node in sorted(records.cluster.nodes.items())
    ]
    return table(("NODE", "ADDRESSES", "BLOCKS", "PODS", "NOTE"), rows)


def _notes(node: Node, here: str | None) -> Iterator[str]:
    if node.name == here:
        yield "this node"
    if node.spec.draining:
        yield "drained"


def _pools(records: Records) -> str:
    from netloom.cli import usage

    return table(usage.POOL_COLUMNS, [use.row() for use in usage.pools(records)])


def _moving(context: Context, records: Records, state: AgentState | NetloomError) -> list[str]:
    from netloom.calc.progress import progress
    from netloom.cli.moving import numbers

    silent = () if isinstance(state, NetloomError) else state.probes.silent
    return [clean(each.words(silent)) for each in progress(records.cluster, numbers(context.settings))]


def _agent(state: AgentState, now: datetime) -> list[str]:
    ready = "ready" if state.ready else "NOT READY"
    agreement = f"in sync for {ago(state.in_sync_since, now)}" if state.in_sync_since else "not in sync"
    lines = [f"agent {clean(state.version)} on {clean(state.node)}: {ready}, {agreement}, up {ago(state.started, now)}"]
    if state.addresses:
        also = f" (passed over: {', '.join(state.passed_over)})" if state.passed_over else ""
        lines.append(clean(f"address {', '.join(map(str, state.addresses))}: {state.addresses_because}{also}"))
    if not state.datastore.connected:
        lines += map(clean, _away(state, now))
    for each in state.engines:
        if each.used:
            process = f" (process {each.process}, {each.bulk})" if each.process else ""
            lines.append(clean(f"{each.carrier} by {each.engine}{process}: {each.because}"))
    if state.probes.asked:
        silent = f", {', '.join(state.probes.silent)} not" if state.probes.silent else ""
        lines.append(clean(f"probes: {state.probes.answered} of {count(state.probes.asked, 'node')} answer{silent}"))
    lines += map(clean, _bgp(state.bgp, now))
    if state.last_pass:
        written = " ".join(f"{name} {outcome}" for name, outcome in state.last_pass.tables.items() if outcome != "same")
        took = f"{state.last_pass.milliseconds:.1f} ms"
        which = f"pass {state.last_pass.number}, {ago(state.last_pass.at, now)} ago"
        lines.append(clean(f"{which}, took {took}: {written or 'nothing to write'}"))
    for block in state.blocks:
        lines.append(
            clean(f"block {block.cidr} of {block.pool}: {block.used} used, {block.cooling} cooling, {block.free} free")
        )
    return lines


def _away(state: AgentState, now: datetime) -> Iterator[str]:
    """What goes on without the datastore, and what does not."""
    since, free = state.datastore.since, Counter[int]()
    for block in state.blocks:
        free[block.cidr.version] += block.free
    when = f" for {ago(since, now)}, since {since:%Y-%m-%d %H:%M:%S} UTC" if since else ""
    room = min(free.values(), default=0) if state.ready else 0
    starting = f"the next {count(room, 'pod')} start, in blocks that are claimed" if room else "none starts"
    yield f"datastore away{when}: {state.datastore.error or 'connecting'}"
    yield f"    goes on: all traffic; pods stop, {starting}; what others change in this kernel is repaired"
    yield "    waits: new blocks, new nodes and pools, what changes elsewhere; and what changes here is not heard of elsewhere"


def _bgp(bgp: BgpState, now: datetime) -> Iterator[str]:
    """Sessions that are up, and a BIRD that is not as it should be; what is wrong with a session is a problem of its own."""
    if bgp.away:
        yield f"BGP: BIRD away for {ago(bgp.since, now)}; routes that it has made stay"
    elif bgp.wanted:
        up = sum(session.state == "Established" for session in bgp.sessions)
        drains = ", drained: nobody is told of a way here" if bgp.withdrawn else ", draining" if bgp.draining else ""
        yield f"BGP by BIRD {bgp.bird}: {up} of {count(len(bgp.sessions), 'session')} up{drains}"


def _judgement(findings: list[Finding]) -> Iterator[str]:
    from netloom.findings import SIGNS

    if not findings:
        yield "all is well"
    for finding in findings:
        yield clean(f"{SIGNS[finding.level]} {finding.message}")
        if finding.hint:
            yield clean(f"    hint: {finding.hint}")


def _fields(records: Records | NetloomError, state: AgentState | NetloomError, findings: list[Finding]) -> dict[str, object]:
    """`cluster` and `agent` are null where nobody answered; `agent` is the agent's own document."""
    cluster = None
    if not isinstance(records, NetloomError):
        cluster = {"nodes": sorted(records.cluster.nodes), "pods": len(records.endpoints)}
    return {
        "findings": [{"level": f.level.name.lower(), "message": f.message, "hint": f.hint} for f in findings],
        "cluster": cluster,
        "agent": None if isinstance(state, NetloomError) else state,
    }
