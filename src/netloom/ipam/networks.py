"""Networks that their configuration declares: `subnet` and what goes with it become pools of the network's own, once.

    {"name": "blue", "subnet": ["172.20.0.0/16", "fd00:20::/64"], ...}   ─▶   IPPool blue, IPPool blue-v6

The datastore has the last word: a pool that is there stays as it is, and a configuration that says something else is refused,
for pods go by the pool.  What the configuration does not say, it leaves to the pool.

Each pool is one record, made if there is none; so several ADDs, and agents, that come at once make one.  Two pools that overlap are
two records: whoever makes one looks once more afterwards, and of two that see each other both withdraw.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from netloom.datastore import Datastore
from netloom.errors import ConfigError, Conflict, NotFound
from netloom.model.addresses import Address, Prefix, overlap
from netloom.model.admission import check_against
from netloom.model.resources import IPPool, IPPoolSpec, Metadata
from netloom.model.snapshot import Snapshot

_ATTEMPTS = 5
_LONGEST = 200  # characters of a network's name that its pools' names begin with
_LOOK = "netloom get pools -o wide"


@dataclass(frozen=True, slots=True)
class Declared:
    """`subnets`, `gateways`, `ranges`: at most one per family.  None: the configuration does not say."""

    name: str
    bridge: str
    subnets: tuple[Prefix, ...]
    gateways: tuple[Address, ...] = ()
    internal: bool | None = None
    isolated: bool | None = None
    masquerade: bool | None = None
    ranges: tuple[Prefix, ...] = ()

    def pools(self, node: str) -> tuple[IPPool, ...]:
        """As they are made where there are none.  Raises ValueError that names the field of the pool."""
        return tuple(
            IPPool(metadata=Metadata(name=pool_name(self.name, cidr.version)), spec=self._spec(cidr, node))
            for cidr in self.subnets
        )

    def _spec(self, cidr: Prefix, node: str) -> IPPoolSpec:
        return IPPoolSpec(
            cidr=cidr,
            network=self.name,
            node=node,
            gateway=next((gateway for gateway in self.gateways if gateway.version == cidr.version), None),
            ip_range=next((part for part in self.ranges if part.version == cidr.version), None),
            internal=bool(self.internal),
            isolated=self.isolated is not False,
            nat_outgoing=not self.internal if self.masquerade is None else self.masquerade,
        )


def pool_name(network: str, version: int) -> str:
    """The network's name where that is an object's, else one that nobody else's pool has."""
    plain = re.sub(r"[^a-z0-9.-]", "-", network.lower())[:_LONGEST].rstrip("-.")
    if plain != network:
        plain = f"{plain}-{hashlib.sha1(network.encode(), usedforsecurity=False).hexdigest()[:8]}"
    return plain if version == 4 else f"{plain}-v6"


def difference(declared: Declared, pools: Iterable[IPPool], node: str) -> str | None:
    """What the network's pools that are there say otherwise than its configuration; None where they agree."""
    subnets = {cidr.version: cidr for cidr in declared.subnets}
    gateways = {gateway.version: gateway for gateway in declared.gateways}
    ranges = {part.version: part for part in declared.ranges}
    for pool in pools:
        spec = pool.spec
        if spec.network != declared.name:
            continue
        if spec.node != node:
            return f"network {declared.name} is on node {spec.node} (pool {pool.name}), and this is {node}"
        said = (
            ("subnet", subnets.get(spec.cidr.version, "none"), spec.cidr),
            ("gateway", gateways.get(spec.cidr.version), spec.gateway),
            ("ipRange", ranges.get(spec.cidr.version), spec.ip_range),
            ("internal", declared.internal, spec.internal),
            ("isolated", declared.isolated, spec.isolated),
            ("ipMasq", declared.masquerade, spec.nat_outgoing),
        )
        for key, wanted, present in said:
            if wanted is not None and wanted != present:
                return (
                    f"{key}: {_text(wanted)} is asked for, and pool {pool.name} of network {declared.name} has {_text(present)}"
                )
    return None


def missing(declared: Declared, pools: Iterable[IPPool], node: str) -> list[IPPool]:
    """Those of its pools that are not there."""
    present = {pool.spec.cidr.version for pool in pools if pool.spec.network == declared.name}
    return [pool for pool in declared.pools(node) if pool.spec.cidr.version not in present]


def establish(datastore: Datastore, declared: Declared, node: str) -> None:
    """Makes the pools that are not there.  Raises ConfigError: it cannot be, and nothing was made; Conflict: others were at it,
    try again; Unavailable."""
    for _ in range(_ATTEMPTS):
        existing = _existing(datastore)
        if reason := difference(declared, existing.pools.values(), node):
            raise ConfigError(reason, hint=_LOOK)
        wanted = missing(declared, existing.pools.values(), node)
        if not wanted:
            return
        for pool in wanted:
            if pool.name in existing.pools:
                raise ConfigError(f"pool {pool.name} is there and belongs to another network", hint=_LOOK)
        for problem in check_against(existing, wanted):
            path = problem.path.removeprefix("spec.").replace("cidr", "subnet")
            raise ConfigError(f"{path}: {problem.message}", hint=problem.hint)
        try:
            made = {pool.name: datastore.create(pool) for pool in wanted}
        except Conflict:
            continue
        _require_alone(datastore, wanted, made)
        return
    raise Conflict(f"the pools of network {declared.name} were changed by others {_ATTEMPTS} times in a row")


def _require_alone(datastore: Datastore, wanted: Iterable[IPPool], made: dict[str, int]) -> None:
    others = [pool for pool in _existing(datastore).pools.values() if pool.name not in made]
    for pool in wanted:
        beside = next((other for other in others if overlap(other.spec.cidr, pool.spec.cidr)), None)
        if beside is not None:
            for name, revision in made.items():
                try:
                    datastore.delete("IPPool", name, revision)
                except (Conflict, NotFound):
                    continue  # somebody has changed it since: it is theirs
            raise Conflict(
                f"{pool.spec.cidr} overlaps {beside.spec.cidr} of pool {beside.name}, which was made at the same time"
            )


def _existing(datastore: Datastore) -> Snapshot:
    listings = [datastore.list(kind) for kind in ("IPPool", "Node", "IPBlock")]
    return Snapshot.of(listings[0].revision, (stored.resource for listing in listings for stored in listing.items))


def _text(value: object) -> str:
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
