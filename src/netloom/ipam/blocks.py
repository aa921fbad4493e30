"""Blocks: the arithmetic of pools, slots and addresses, and which pools serve a pod.

    pool 10.244.0.0/16, blockSize 26  →  1024 slots 10.244.0.0/26, 10.244.0.64/26, ...

A slot belongs to one node as a whole (then it is that node's block), or parts of it belong to several nodes, down to single
addresses (blocks of one).  All claims in a slot stand in one record of the datastore, named after the slot.

A slot of at least 8 addresses keeps some for the network itself: the first is the node's own (its tunnel device), the second the
gateway of bridge wiring, and in IPv4 the last is broadcast; a part, or a slot that had to become dense, keeps none.  A network with a
pool of its own is one link, and its blocks are of no concern to who looks at it: only the pool as a whole keeps its address, gateway
and broadcast.  Pure; addresses are integers only inside `Block.assignable`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from netloom.model.addresses import Address, Prefix, contains
from netloom.model.attachments import Wiring
from netloom.model.resources import IPPool
from netloom.model.selectors import parse_selector
from netloom.model.showing import shown

SMALLEST_THAT_KEEPS = 8
NAMESPACE_LABEL = "kubernetes.io/metadata.name"
"""Kubernetes gives every namespace this label with its name (Namespace, "Automatic labelling")."""


@dataclass(frozen=True, slots=True)
class Block:
    """A block of this node as the chooser sees it.  `assignable`: addresses that a pod may be given unasked.  `link`: what is one
    link on a bridge, and what `gateway` is of; None where there is no room for one.  `own`: what the node may take for itself."""

    cidr: Prefix
    pool: str
    assignable: frozenset[int]
    link: Prefix
    gateway: Address | None
    own: Address | None = None
    is_dense: bool = False

    @classmethod
    def of(cls, cidr: Prefix, pool: str, reserved: Iterable[Prefix] = (), network: IPPool | None = None) -> Block:
        """`network`: the pool, where it is a network's own."""
        numbers = unreserved(cidr, reserved).difference(map(int, kept(cidr, network)))
        if network and network.spec.ip_range is not None:
            part = _numbers(network.spec.ip_range)
            numbers = {n for n in numbers if n in part}
        link = network.spec.cidr if network else cidr
        return cls(cidr, pool, frozenset(numbers), link, gateway(cidr, network), node_address(cidr))

    @classmethod
    def dense(cls, cidr: Prefix, pool: str, reserved: Iterable[Prefix], own: Iterable[Address]) -> Block:
        """Where addresses are few nothing is kept but `own`, what the node has taken for itself: it serves routed pods alone."""
        numbers = unreserved(cidr, reserved).difference(int(a) for a in own if a in cidr)
        return cls(cidr, pool, frozenset(numbers), cidr, None, is_dense=True)


def unreserved(cidr: Prefix, reserved: Iterable[Prefix]) -> set[int]:
    """Its addresses but for those of `reserved`."""
    numbers = set(_numbers(cidr))
    for prefix in reserved:
        if prefix.version == cidr.version and prefix.overlaps(cidr):
            away = _numbers(prefix)
            numbers = {n for n in numbers if n not in away}
    return numbers


_WINDOW = 1 << 16
"""Slots that are gone through together: more than nodes that ever claim at once, and few enough to write."""


def _numbers(prefix: Prefix) -> range:
    first = int(prefix.network_address)
    return range(first, first + prefix.num_addresses)


def served(pool: IPPool) -> range:
    """The slots that pods get addresses of unasked, by their numbers."""
    cidr, part = pool.spec.cidr, pool.spec.ip_range or pool.spec.cidr
    shift, first = cidr.max_prefixlen - pool.spec.block_size, int(cidr.network_address)
    return range((int(part.network_address) - first) >> shift, ((int(part.broadcast_address) - first) >> shift) + 1)


def slot_count(pool: IPPool) -> int:
    slots = served(pool)
    return slots.stop - slots.start  # more than `len` can say, for many an IPv6 pool


def slot_at(pool: IPPool, index: int) -> Prefix:
    cidr, size = pool.spec.cidr, pool.spec.block_size
    step = 1 << (cidr.max_prefixlen - size)
    return type(cidr)((int(cidr.network_address) + index * step, size))


def slot_of(pool: IPPool, address: Address) -> Prefix:
    """The slot that holds `address`, which lies in the pool."""
    return type(pool.spec.cidr)((int(address), pool.spec.block_size), strict=False)


def slots_in_order(pool: IPPool, node: str) -> Iterator[Prefix]:
    """Every slot once, in an order of the node's own, so that nodes that claim at once seldom want the same one.

    The first slots of a large pool come before the rest: addresses stay short (`fd00::1f:84c2`).  Their number is a power of
    two, so steps of any odd size come by all of them before they come back.  A network's own pool has one node, and is filled from
    the start.
    """
    if pool.spec.network:
        yield from (slot_at(pool, number) for number in served(pool))
        return
    seed = hashlib.sha256(f"{node} {pool.spec.cidr}".encode()).digest()
    start, step = int.from_bytes(seed[:16]), int.from_bytes(seed[16:]) | 1
    count = slot_count(pool)
    window = min(count, _WINDOW)
    for first in range(0, count, window):
        for turn in range(window):
            yield slot_at(pool, first + (start + turn * step) % window)


def node_address(cidr: Prefix) -> Address | None:
    """What the node itself takes in its block: the address of its tunnel device.  Small blocks have none."""
    return cidr.network_address if cidr.num_addresses >= SMALLEST_THAT_KEEPS else None


def gateway(cidr: Prefix, pool: IPPool | None = None) -> Address | None:
    """What a bridge takes for the pods of this block of the pool: their gateway.  Small blocks of the cluster have none."""
    if pool is not None and pool.spec.network:
        return pool.spec.gateway
    return cidr.network_address + 1 if cidr.num_addresses >= SMALLEST_THAT_KEEPS else None


def kept(cidr: Prefix, pool: IPPool | None = None) -> tuple[Address, ...]:
    """What no pod is ever given of this block of the pool, not even by name."""
    if pool is not None and pool.spec.network:
        return tuple(address for address in pool.spec.kept if address in cidr)
    if cidr.num_addresses < SMALLEST_THAT_KEEPS:
        return ()
    first = cidr.network_address
    return (first, first + 1, cidr.broadcast_address) if cidr.version == 4 else (first, first + 1)


def pool_of(prefix: Prefix, pools: Iterable[IPPool]) -> IPPool | None:
    return next((pool for pool in pools if contains(pool.spec.cidr, prefix)), None)


def stranger(pool: IPPool, *, node: str, network: str, wiring: Wiring) -> str | None:
    """Why the pool, which belongs to a network, does not serve this network on this node; None if it does."""
    if pool.spec.network != network:
        return f"belongs to network {pool.spec.network}"
    if pool.spec.node != node:
        return f"belongs to network {network} on node {pool.spec.node}, and this is {node}"
    return None if wiring is Wiring.BRIDGE else "is of one link, and needs wiring bridge"


def refusal(
    pool: IPPool,
    *,
    node_labels: Mapping[str, str],
    namespace: str | None,
    namespace_labels: Mapping[str, str],
) -> str | None:
    """Why the pool does not serve pods of this namespace (None: of any) on this node; None if it does.  A pool asked for by name is no
    exception: a selector is the administrator's word, the request may be anybody's."""
    spec = pool.spec
    if spec.disabled:
        return "is disabled"
    if not parse_selector(spec.node_selector)(node_labels):
        return f"does not serve this node (nodeSelector {shown(spec.node_selector)})"
    if namespace is not None and not parse_selector(spec.namespace_selector)({NAMESPACE_LABEL: namespace, **namespace_labels}):
        return f"does not serve namespace {namespace} (namespaceSelector {shown(spec.namespace_selector)})"
    return None
