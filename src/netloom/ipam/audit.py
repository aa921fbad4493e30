"""Audit: does what the datastore says of addresses agree with itself?  One listing in, findings out; pure.

A finding that has only one safe answer carries it: what a Node that is gone left behind can be taken away, unless a pod of a
living node still uses an address of it.  All others are a person's to decide.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import combinations

import msgspec

from netloom.ipam.blocks import kept, pool_of
from netloom.ipam.claiming import is_disputed
from netloom.model.addresses import Address, Prefix
from netloom.model.resources import AnyResource, Claim, Endpoint, IPBlock, IPPool, Node
from netloom.model.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Repair:
    """Write `resource` in place of what is there; `delete` takes it away instead."""

    resource: AnyResource
    delete: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence that names the objects, and the repair or the next thing to do."""

    message: str
    repair: Repair | None = None
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Records:
    """All that is audited, as of one revision."""

    cluster: Snapshot
    endpoints: tuple[Endpoint, ...] = ()
    holders: dict[Address, list[Endpoint]] = field(default_factory=dict)
    claims: dict[Address, Claim] = field(default_factory=dict)

    @classmethod
    def of(cls, revision: int, resources: Iterable[AnyResource]) -> Records:
        everything = tuple(resources)
        cluster = Snapshot.of(revision, everything)
        endpoints = tuple(r for r in everything if isinstance(r, Endpoint))
        holders: dict[Address, list[Endpoint]] = defaultdict(list)
        for endpoint in endpoints:
            for address in endpoint.spec.addresses:
                holders[address].append(endpoint)
        claims = _claims_of(holders, cluster.blocks.values())
        return cls(cluster, endpoints, dict(holders), claims)

    def claim_around(self, address: Address) -> Claim | None:
        """The claim that an address lies in, whether a pod has it or not."""
        return _claims_of((address,), self.cluster.blocks.values()).get(address)

    def lives(self, node: str) -> bool:
        return node in self.cluster.nodes


def _claims_of(addresses: Iterable[Address], blocks: Iterable[IPBlock]) -> dict[Address, Claim]:
    """The claim that each address lies in.  Prefixes are looked up by length, so the cost does not grow with the blocks."""
    by_cidr: dict[Prefix, Claim] = {claim.cidr: claim for block in blocks for claim in block.spec.claims}
    lengths = {(cidr.version, cidr.prefixlen): type(cidr) for cidr in by_cidr}
    found: dict[Address, Claim] = {}
    for address in addresses:
        for (version, length), network in lengths.items():
            if version == address.version and (claim := by_cidr.get(network((int(address), length), strict=False))):
                found[address] = claim
    return found


def audit(records: Records) -> list[Finding]:
    return [
        *_pools(records),
        *_blocks(records),
        *_claims(records),
        *_disputes(records),
        *_requests(records),
        *_endpoints(records),
        *_held_twice(records),
    ]


def _pools(records: Records) -> Iterator[Finding]:
    pools = records.cluster.pools.values()
    for one, other in combinations(pools, 2):
        if one.spec.cidr.overlaps(other.spec.cidr):
            message = f"pools {one.name} ({one.spec.cidr}) and {other.name} ({other.spec.cidr}) overlap"
            yield Finding(message, hint=f"netloom get pools; then netloom delete pool {other.name}")
    for node in records.cluster.nodes.values():
        for pool in pools:
            yield from (
                Finding(f"pool {pool.name} ({pool.spec.cidr}) holds {address.ip}, the address of node {node.name}")
                for address in node.spec.addresses
                if address.version == pool.spec.cidr.version and address.ip in pool.spec.cidr
            )

    for pool in pools:
        spec = pool.spec
        if spec.network and not records.lives(spec.node):
            message = f"pool {pool.name} is of network {spec.network} on node {spec.node}, which does not exist"
            yield Finding(message, hint=f"netloom delete pool {pool.name}; the network's next pod makes it anew, where that is")


def _blocks(records: Records) -> Iterator[Finding]:
    pools: list[IPPool] = list(records.cluster.pools.values())
    for block in records.cluster.blocks.values():
        pool = pool_of(block.spec.cidr, pools)
        if not block.spec.claims:
            continue
        if pool is None:
            yield Finding(
                f"block {block.spec.cidr} lies in no pool, and nodes hold it", hint="apply its pool again: netloom apply -f"
            )
        elif block.spec.cidr.prefixlen != pool.spec.block_size:
            message = f"block {block.spec.cidr} is not of pool {pool.name}'s block size (/{pool.spec.block_size})"
            yield Finding(message, hint=f"give the pool its old block size again: netloom get pool {pool.name} -o yaml")


def _claims(records: Records) -> Iterator[Finding]:
    in_use = {
        claim.cidr for address, claim in records.claims.items() if any(_alive(records, e) for e in records.holders[address])
    }
    for block in records.cluster.blocks.values():
        leaked = [
            (claim, reason) for claim in block.spec.claims if (reason := _leaked(claim, records.cluster.nodes.get(claim.node)))
        ]
        safe = [claim for claim, _ in leaked if claim.cidr not in in_use]
        repair = _without(block, safe)
        for claim, reason in leaked:
            if claim in safe:
                yield Finding(f"{claim.cidr} is claimed by {reason}", repair)
            else:
                yield Finding(
                    f"{claim.cidr} is claimed by {reason}, and pods use it", hint=f"netloom ipam show --blocks {claim.cidr}"
                )


def _disputes(records: Records) -> Iterator[Finding]:
    """What two nodes have, since the datastore forgot that one of them had it."""
    for block in records.cluster.blocks.values():
        for own in block.spec.disputed:
            for other in (claim for claim in block.spec.claims if is_disputed(claim, own)):
                if _leaked(own, records.cluster.nodes.get(own.node)):
                    continue  # and has no say
                message = (
                    f"node {own.node} had {own.cidr} first and has pods in it, and node {other.node} claims {other.cidr} by now"
                )
                hint = f"move the pods of one of them: netloom ipam show --blocks {block.spec.cidr}"
                yield Finding(message, hint=hint)


def _requests(records: Records) -> Iterator[Finding]:
    for request in records.cluster.requests.values():
        node = records.cluster.nodes.get(request.name)
        if node is None or node.spec.id != request.spec.node_id:
            message = f"a part of a block is asked for by node {request.name}, which does not exist or is another one by now"
            yield Finding(message, Repair(request, delete=True))


def _leaked(claim: Claim, node: Node | None) -> str | None:
    """Who holds the claim, if it is nobody that lives."""
    if node is None:
        return f"node {claim.node}, which does not exist"
    return f"an earlier incarnation of node {claim.node}" if node.spec.id not in ("", claim.node_id) else None


def _alive(records: Records, endpoint: Endpoint) -> bool:
    return records.lives(endpoint.spec.node)


def _without(block: IPBlock, claims: list[Claim]) -> Repair:
    rest = tuple(claim for claim in block.spec.claims if claim not in claims)
    return Repair(msgspec.structs.replace(block, spec=msgspec.structs.replace(block.spec, claims=rest)), delete=not rest)


def _endpoints(records: Records) -> Iterator[Finding]:
    for endpoint in records.endpoints:
        node = endpoint.spec.node
        if not records.lives(node):
            yield Finding(f"{_pod(endpoint)} is on node {node}, which does not exist", Repair(endpoint, delete=True))
            continue
        for address in endpoint.spec.addresses:
            claim = records.claims.get(address)
            if claim is None or claim.node != node:
                owner = "no node has claimed" if claim is None else f"node {claim.node} has claimed"
                yield Finding(
                    f"{_pod(endpoint)} on node {node} uses {address}, which {owner}", hint=f"netloom ipam find {address}"
                )
            elif address in _kept(records, claim):
                message = f"{_pod(endpoint)} uses {address}, which is kept for the network itself, or for its node"
                yield Finding(message, hint=f"netloom ipam find {address}")


def _kept(records: Records, claim: Claim) -> tuple[Address, ...]:
    """What no pod may have of it: the node's own; a network's.  What else a block keeps is given to pods where addresses are few."""
    node, pool = records.cluster.nodes.get(claim.node), pool_of(claim.cidr, records.cluster.pools.values())
    return (*(node.spec.tunnel_addresses if node else ()), *(kept(claim.cidr, pool) if pool and pool.spec.network else ()))


def _held_twice(records: Records) -> Iterator[Finding]:
    for address, holders in records.holders.items():
        living = [endpoint for endpoint in holders if _alive(records, endpoint)]
        if len(living) > 1:
            who = " and ".join(sorted(_pod(endpoint) for endpoint in living))
            yield Finding(
                f"{address} is used twice: by {who}", hint="delete one of the pods; it comes back with another address"
            )


def _pod(endpoint: Endpoint) -> str:
    return f"pod {endpoint.metadata.namespace}/{endpoint.spec.pod or endpoint.spec.container_id}"
