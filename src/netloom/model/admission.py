"""Admission: what one resource cannot know alone.  Does it fit to the others, and is it a person's to write?

Pools must not overlap, for a block belongs to one pool; a change must not strand addresses that pods hold; and what nodes
write about themselves is theirs.  The same rules serve `netloom apply` and `netloom delete`.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Iterator

from netloom.model.addresses import contains
from netloom.model.bgp_admission import check_bgp, check_bgp_deletion
from netloom.model.problem import Problem
from netloom.model.resources import AnyResource, DatastoreCopy, Endpoint, IPBlock, IPBlockRequest, IPPool, Node, NodeSpec
from netloom.model.snapshot import Snapshot


def check_against(existing: Snapshot, new: Iterable[AnyResource]) -> tuple[Problem, ...]:
    """What stands against writing `new`, all of it together, over `existing`."""
    written = tuple(new)
    pools = {r.key: r for r in written if isinstance(r, IPPool)}
    every = {**existing.pools, **pools}
    problems = [*_overlaps(every, pools), *_networks(every.values(), pools), *check_bgp(existing, written)]
    for resource in written:
        match resource:
            case IPPool():
                problems += _pool(resource, existing)
            case Node():
                problems += _node(resource, existing.nodes.get(resource.key))
            case IPBlock() | IPBlockRequest() | Endpoint() | DatastoreCopy():
                problems.append(_of_nodes(resource))
    return tuple(problems)


def check_deletion(
    existing: Snapshot, removed: Iterable[AnyResource], endpoints: Collection[Endpoint] = ()
) -> tuple[Problem, ...]:
    """What stands against deleting `removed`.  Blocks of a network's own pool are its node's affair: without pods it goes."""
    removed = tuple(removed)
    problems = [*check_bgp_deletion(existing, removed)]
    for resource in removed:
        match resource:
            case IPPool() if resource.spec.network:
                problems += _inhabited(resource, endpoints)
            case IPPool() if claimed := _claimed(resource, existing):
                message = f"{len(claimed)} of its blocks are claimed by nodes ({_nodes(claimed)})"
                hint = "write `disabled: true`; delete it when its pods are gone (netloom ipam show --blocks)"
                problems.append(Problem(resource, "", message, hint))
            case IPBlock() | IPBlockRequest() | Endpoint() | DatastoreCopy():
                problems.append(_of_nodes(resource))
    return tuple(problems)


def _inhabited(pool: IPPool, endpoints: Iterable[Endpoint]) -> Iterator[Problem]:
    version, cidr = pool.spec.cidr.version, pool.spec.cidr
    pods = [e for e in endpoints if any(a.version == version and a in cidr for a in e.spec.addresses)]
    if pods:
        names = ", ".join(f"{e.metadata.namespace}/{e.spec.pod or e.spec.container_id}" for e in pods[:3])
        more = f" and {len(pods) - 3} more" if len(pods) > 3 else ""
        yield Problem(
            pool, "", f"pods of network {pool.spec.network} have its addresses ({names}{more})", "take its pods away first"
        )


def _overlaps(pools: dict[str, IPPool], new: dict[str, IPPool]) -> Iterator[Problem]:
    """Prefixes either nest or are apart: in order of their first address, each need only be compared with the widest so far."""
    widest: IPPool | None = None
    for pool in sorted(pools.values(), key=lambda p: (p.spec.cidr.version, p.spec.cidr, p.key)):
        if widest is None or not contains(widest.spec.cidr, pool.spec.cidr):
            widest = pool
            continue
        blamed, other = (pool, widest) if pool.key in new else (widest, pool)
        if blamed.key in new:
            message = f"{blamed.spec.cidr} overlaps {other.spec.cidr} of pool {other.name}"
            yield Problem(blamed, "spec.cidr", message, "choose a range that no pool has: netloom get pools")


def _networks(pools: Iterable[IPPool], new: Container[str]) -> Iterator[Problem]:
    """A network is one link: it has at most one pool of each family, and all on one node."""
    owners: dict[tuple[str, int], IPPool] = {}
    for pool in sorted((p for p in pools if p.spec.network), key=lambda p: (p.key in new, p.key)):  # the new ones are blamed
        network, version = pool.spec.network, pool.spec.cidr.version
        other = owners.setdefault((network, version), pool)
        if pool.key in new and other is not pool:
            message = f"network {network} has an IPv{version} pool already: {other.name} ({other.spec.cidr})"
            yield Problem(pool, "spec.network", message, f"change that one, or delete it: netloom get pool {other.name}")
        sister = owners.get((network, 10 - version))
        if pool.key in new and sister is not None and sister.spec.node != pool.spec.node:
            message = f"network {network} is on node {sister.spec.node} (pool {sister.name})"
            yield Problem(pool, "spec.node", message, "a network is one link of one node: name that node, or another network")


def _pool(pool: IPPool, existing: Snapshot) -> Iterator[Problem]:
    for node in existing.nodes.values():
        for address in node.spec.addresses:
            if address.version == pool.spec.cidr.version and address.ip in pool.spec.cidr:
                message = f"{pool.spec.cidr} holds {address.ip}, the address of node {node.name}"
                yield Problem(
                    pool, "spec.cidr", message, "choose a range that is used nowhere in the network under the cluster"
                )
    old = existing.pools.get(pool.key)
    stranded = [b for b in _claimed(old, existing) if not _serves(pool, b)] if old else []
    if old and stranded:
        path, change = ("spec.cidr", f"{old.spec.cidr} → {pool.spec.cidr}")
        if old.spec.cidr == pool.spec.cidr:
            path, change = ("spec.blockSize", f"{old.spec.block_size} → {pool.spec.block_size}")
        message = f"{change} would strand {len(stranded)} blocks that nodes hold ({_nodes(stranded)})"
        yield Problem(pool, path, message, "make a pool beside it, write `disabled: true` in this one, and replace its pods")
    elif old and (claimed := _claimed(old, existing)):
        yield from _moved(pool, old, claimed)


def _moved(pool: IPPool, old: IPPool, claimed: list[IPBlock]) -> Iterator[Problem]:
    """What pods have by now: a link, a node, a way out."""
    for field in ("network", "node", "gateway"):
        before, after = getattr(old.spec, field), getattr(pool.spec, field)
        if before != after:
            message = (
                f"{before or 'none'} → {after or 'none'} would cut off the pods of {len(claimed)} blocks ({_nodes(claimed)})"
            )
            hint = "write `disabled: true`, and change it when its pods are gone (netloom ipam show --blocks)"
            yield Problem(pool, f"spec.{field}", message, hint)


def _node(node: Node, old: Node | None) -> Iterator[Problem]:
    if old is not None and node.spec.of_people(NodeSpec()) not in (old.spec.of_people(NodeSpec()), NodeSpec()):
        hint = "leave it out; labels, annotations, `spec.bgp` and `spec.draining` are yours to change"
        yield Problem(node, "spec", "a node writes its own spec", hint)


def _of_nodes(resource: AnyResource) -> Problem:
    message = f"{resource.kind} is written by the nodes, not by people"
    hint = "what nodes left behind: netloom ipam check"
    return Problem(resource, "kind", message, hint)


def _claimed(pool: IPPool, existing: Snapshot) -> list[IPBlock]:
    return [b for b in existing.blocks.values() if b.spec.claims and contains(pool.spec.cidr, b.spec.cidr)]


def _serves(pool: IPPool, block: IPBlock) -> bool:
    return contains(pool.spec.cidr, block.spec.cidr) and block.spec.cidr.prefixlen == pool.spec.block_size


def _nodes(blocks: Iterable[IPBlock]) -> str:
    names = sorted({claim.node for block in blocks for claim in block.spec.claims})
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
