"""Is the network well?  A pure judgement of what the datastore and this node's agent say; the worst comes first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from netloom import __version__
from netloom.errors import NetloomError
from netloom.findings import Finding, Level
from netloom.ipam.audit import audit
from netloom.ipam.blocks import slot_count
from netloom.model.addresses import contains

if TYPE_CHECKING:
    from netloom.agent.state import AgentState
    from netloom.ipam.audit import Records

_MORE = "see who has them: netloom ipam show --blocks; or apply one more pool"
_POOL_MANIFEST = """printf '%s' '{"apiVersion": "netloom.io/v1", "kind": "IPPool", "metadata": {"name": "default"}, \
"spec": {"cidr": "10.244.0.0/16", "encapsulation": "VXLANCrossSubnet", "natOutgoing": true}}' | netloom apply -f -"""


def judge(
    records: Records | NetloomError, state: AgentState | NetloomError, broken: Iterable[tuple[str, str]] = ()
) -> list[Finding]:
    """An error in place of an answer says why there is none."""
    findings: list[Finding] = []
    for answer in (records, state):
        if isinstance(answer, NetloomError):
            findings.append(Finding(Level.UNKNOWN, str(answer), answer.hint or ""))
    if not isinstance(state, NetloomError):
        findings += of_agent(state)  # before the cluster: what it lacks may be for want of this node
    if not isinstance(records, NetloomError):
        findings += _cluster(records)
        findings += (Finding(Level.PROBLEM, f"record {key} cannot be read: {why}", _broken_hint(key)) for key, why in broken)
    return sorted(findings, key=lambda f: -f.level)


def _broken_hint(key: str) -> str:
    kind, _, name = key.partition("/")
    return f"if nothing needs it: netloom delete {kind.lower()} {name}"


def _cluster(records: Records) -> Iterator[Finding]:
    pools = records.cluster.pools.values()
    if not records.cluster.nodes:
        yield Finding(Level.PROBLEM, "no node has registered", "start an agent: netloom agent")
    if not pools:
        yield Finding(Level.PROBLEM, "there is no pool, so no pod gets an address", _POOL_MANIFEST)
    elif all(pool.spec.disabled for pool in pools):
        yield Finding(Level.PROBLEM, "every pool is disabled, so no pod gets an address", "netloom get pools")
    for pool in pools:
        claimed = sum(bool(b.spec.claims) and contains(pool.spec.cidr, b.spec.cidr) for b in records.cluster.blocks.values())
        if claimed >= slot_count(pool) and not pool.spec.disabled:
            message = f"pool {pool.name}: all {claimed} blocks are claimed; nodes that need another ask for parts of others'"
            yield Finding(Level.WARNING, message, _MORE)
    for request in records.cluster.requests.values():
        pools_asked = ", ".join(sorted(request.spec.pools))
        message = f"node {request.name} has no free address of {pools_asked} left, and asks the others for a part of a block"
        yield Finding(Level.WARNING, message, _MORE)
    disagreements = len(audit(records))
    if disagreements:
        yield Finding(Level.PROBLEM, f"{disagreements} disagreements about addresses", "netloom ipam check")


def of_agent(state: AgentState) -> Iterator[Finding]:
    """What this node's agent says of itself."""
    node = f"node {state.node}"
    yield from (Finding(Level.PROBLEM, f"{node}: {problem.message}", problem.hint) for problem in state.problems)
    if not state.ready:
        yield Finding(Level.PROBLEM, f"{node} is not ready: new pods fail there", "what it waits for is in its log")
    if not state.datastore.connected:
        reason = state.datastore.error or "no reason given"
        message = f"{node} runs without its datastore {state.datastore.target}: {reason}"
        yield Finding(Level.PROBLEM, message, "its pods go on; changes do not reach it until the datastore is back")
    if state.last_pass and state.last_pass.failures:
        failures = state.last_pass.failures
        yield Finding(
            Level.PROBLEM,
            f"{node}: the kernel refused {len(failures)} changes, first {failures[0]}",
            "netloom status -o yaml shows all",
        )
    elif state.ready and state.in_sync_since is None:
        yield Finding(Level.WARNING, f"{node}: the kernel does not hold yet what is wanted", "look again in a moment")
    if state.version != __version__:
        yield Finding(
            Level.WARNING, f"{node}: the agent is version {state.version}, this is {__version__}", "restart the agent"
        )
