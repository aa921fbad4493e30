"""Serving: which pools a request may have addresses of, on this node; or why none.  Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from netloom.errors import ConfigError, Unavailable
from netloom.ipam.blocks import refusal, stranger
from netloom.ipam.choosing import FAMILIES, Request
from netloom.model.resources import EMPTY, IPPool
from netloom.model.snapshot import Snapshot


def serving(
    request: Request, snapshot: Snapshot, node: str, pools: Collection[IPPool], networks: Collection[str]
) -> dict[int, list[IPPool]]:
    """Per family, in the order of `pools`.  `networks`: those that have pools of their own.  Raises ConfigError that says why no pool
    does; Unavailable: nothing is known yet."""
    here, namespace = snapshot.nodes.get(node), snapshot.namespaces.get(request.namespace or "")
    node_labels = here.metadata.labels if here else EMPTY
    namespace_labels = namespace.metadata.labels if namespace else EMPTY
    found: dict[int, list[IPPool]] = {version: [] for version in FAMILIES}
    refused = {}
    home = request.network if request.own or request.network in networks else ""
    for pool in pools:
        version = pool.spec.cidr.version
        names = request.pools.get(version)
        if pool.spec.network != home if names is None else pool.name not in names:
            continue
        reason = _stranger(pool, request, node) or refusal(
            pool, node_labels=node_labels, namespace=request.namespace, namespace_labels=namespace_labels
        )
        if reason:
            refused[pool.name] = reason
        else:
            found[version].append(pool)
    if not any(found.values()):
        raise _unserved(request, snapshot, pools, refused)
    return found


def _stranger(pool: IPPool, request: Request, node: str) -> str | None:
    if not pool.spec.network:
        return None
    return stranger(pool, node=node, network=request.network, wiring=request.wiring)


def _unserved(request: Request, snapshot: Snapshot, pools: Collection[IPPool], refused: Mapping[str, str]) -> Exception:
    if not snapshot.revision and not pools:
        return Unavailable("the pools are not known yet: the datastore has not answered")
    asked = {name for names in request.pools.values() for name in names}
    refused = {**dict.fromkeys(sorted(asked - {pool.name for pool in pools}), "does not exist"), **refused}
    reasons = "; ".join(f"{name} {reason}" for name, reason in refused.items()) or "there are none"
    return ConfigError(f"no pool serves the pod: {reasons}", hint="netloom get ippools")
