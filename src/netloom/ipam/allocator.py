"""The allocator: what the agent asks for addresses.  It joins this node's claims, its journal and the latest snapshot.

    allocate   in the agent's loop, microseconds, no I/O    → interfaces, or NeedBlock
    claim      in a worker thread, asks the datastore       → then allocate again
    thicken, claim_gap, take_up                             where no block is free (agent/asking.py)
    part_with  in the loop, give in a worker thread         where another node finds none (agent/giving.py)

It keeps no book of addresses: which are used and which cool is what the journal says, and between `allocate` and the
journal's `intend` the loop must not be left.  What it keeps is a view of the node's blocks, computed anew whenever claims, pools
or reservations change.

The tricky thing are the two threads.  Claims change in the worker (one at a time, in `_claiming`), and a block goes out of
service in the loop (`retire`), because only there it is certain that no address of it is about to be journalled.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import msgspec

from netloom.datastore import Datastore, Revision
from netloom.errors import ConfigError, PoolExhausted, Unavailable
from netloom.ipam import claiming
from netloom.ipam.blocks import SMALLEST_THAT_KEEPS, Block, node_address, pool_of, slot_of
from netloom.ipam.choosing import NeedBlock, Request, Situation, choose, lacking
from netloom.ipam.claiming import Records
from netloom.ipam.claims import Claims, Held, load, save
from netloom.ipam.figures import exhaustion
from netloom.ipam.giving import Gift, bridged, gift
from netloom.ipam.holdings import address_of
from netloom.ipam.journal import Journal, boottime
from netloom.ipam.restoring import QUARANTINE, concede, dispute, disputed, withdraw
from netloom.ipam.serving import serving
from netloom.ipam.sparing import spare
from netloom.model.addresses import Address, Interface, Prefix, contains, overlap
from netloom.model.resources import Claim, IPPool, block_name
from netloom.model.snapshot import Snapshot

GRACE = 60.0
"""Seconds that an empty block is kept before it is given back, as in Calico."""


class Allocator:
    """path       of the node's own copy of its claims (STATE_DIR/claims.json)
    cool_down  seconds before an address is given out again
    clock      seconds of CLOCK_BOOTTIME, the journal's clock
    """

    def __init__(
        self,
        journal: Journal,
        path: str,
        node: str,
        node_id: str,
        *,
        cool_down: float,
        grace: float = GRACE,
        clock: Callable[[], float] = boottime,
    ) -> None:
        self._journal, self._path, self._clock = journal, path, clock
        self._cool_down, self._grace = cool_down, grace
        self._claiming, self._viewing = threading.Lock(), threading.Lock()
        loaded = load(path)
        self._claims = (loaded or Claims(node=node, node_id=node_id)).reborn(node, node_id)
        self._knows_all = loaded is not None and loaded.node == node
        """Whether what only the datastore knows is of no use here: the copy is as this node left it."""
        self._quarantine_ends = float("-inf")
        self._doubts = self._cleared = 0
        """How often the datastore was lost, and how often it had been when it was last asked what is ours."""
        self._disputed: Mapping[Prefix, str] = {}
        """Blocks of ours that other nodes have pods in."""
        self._snapshot = Snapshot()
        self._said = frozenset[Prefix]()
        """What of ours the snapshot says is ours."""
        self._pools: tuple[IPPool, ...] = ()
        self._networks = frozenset[str]()
        """Those that have pools of their own."""
        self._own_pools = frozenset[str]()
        """Those of networks."""
        self._reserved: list[Prefix] = []
        self._blocks: Mapping[str, tuple[Block, ...]] = {}
        self._since: dict[Prefix, float] = {}
        self._own_addresses: set[Address] = set()
        self._doubtful = True
        """The datastore may have claims of ours that are not known here: at the start, and after a write that may have happened."""

    # in the agent's loop

    def update(self, snapshot: Snapshot) -> bool:
        """What the cluster declares now.  Whether it does not say any more that something is ours."""
        before, self._snapshot = self._snapshot, snapshot
        pools_or_reservations = snapshot.pools is not before.pools or snapshot.reservations is not before.reservations
        theirs = disputed(self._claims, snapshot.blocks, snapshot.nodes)
        anew = theirs != self._disputed or self._tunnel_addresses(snapshot) != self._tunnel_addresses(before)
        self._disputed = theirs
        if pools_or_reservations or anew:
            self._view()
        if snapshot.blocks is before.blocks:
            return False
        said, self._said = self._said, frozenset(held.cidr for held in self._claims.held if self._is_said(held))
        return self.unsaid and not (said & self._claims.cidrs) <= self._said

    @property
    def claims(self) -> Claims:
        return self._claims

    def quarantine(self) -> None:
        """The datastore went back, or is another one: nothing new is claimed before owners had time to assert what is theirs."""
        self._quarantine_ends = self._clock() + QUARANTINE

    @property
    def quarantined(self) -> bool:
        return self._clock() < self._quarantine_ends

    def doubt(self) -> None:
        """The datastore is away, or jumped: what it says when it is there again may be old.  Until it was asked what is ours
        (`synchronise`) nothing new is claimed or taken up; who waits for a block may come before the watch."""
        self._doubts += 1

    @property
    def in_doubt(self) -> bool:
        return self._cleared != self._doubts

    @property
    def contested(self) -> tuple[Prefix, ...]:
        return tuple(held.cidr for held in self._claims.held if held.contested)

    @property
    def unsaid(self) -> bool:
        """Whether the datastore does not say that something is ours, as far as the watch has told: its record was taken away, or written
        over.  A node that was deleted has nothing to say."""
        node = self._snapshot.nodes.get(self._claims.node)
        if node is None or node.spec.id != self._claims.node_id:
            return False
        return not all(held.contested or self._is_said(held) for held in self._claims.held)

    def _is_said(self, held: Held) -> bool:
        block = self._snapshot.blocks.get(block_name(held.slot))
        return block is not None and any(self._claims.owns(c) and contains(c.cidr, held.cidr) for c in block.spec.claims)

    @property
    def disputed(self) -> tuple[Prefix, ...]:
        return tuple(self._disputed)

    @property
    def alarms(self) -> tuple[str, ...]:
        contested = (f"block {cidr} is claimed by another node" for cidr in self.contested)
        disputed = (
            f"node {node} had block {cidr} before the datastore went back, and has pods in it"
            for cidr, node in self._disputed.items()
        )
        return tuple(f"{what}: it gives out no more addresses (netloom ipam check)" for what in (*contested, *disputed))

    def allocate(self, request: Request) -> tuple[Interface, ...] | NeedBlock:
        """Addresses for one attachment, free until the loop is left.  Raises ConfigError: the request cannot be met;
        Unavailable: not now."""
        self._require_membership()
        claims = self._claims
        found = choose(request, self._situation(self._serving(request)))
        return replace(found, held=claims.serving) if isinstance(found, NeedBlock) else found

    def lacking(self, request: Request) -> NeedBlock | None:
        """What pods like this one will need soon."""
        found = lacking(request, self._situation(self._serving(request)))
        return replace(found, held=self._claims.serving) if found else None

    def pools_of(self, addresses: Iterable[Interface]) -> tuple[IPPool | None, ...]:
        """The pool that each is of."""
        return tuple(next((pool for pool in self._pools if a.ip in pool.spec.cidr), None) for a in addresses)

    def own_address(self, pool: IPPool) -> Address | NeedBlock | None:
        """The node's own address in the pool, for its tunnel device: always the same while the node has the block.
        None where blocks are too small to have one."""
        if node_address(slot_of(pool, pool.spec.cidr.network_address)) is None:
            return None
        blocks = [block for block in self._blocks.get(pool.name, ()) if block.own is not None or block.is_dense]
        if not blocks:
            return NeedBlock((pool,), held=self._claims.serving)
        kept = [block.own for block in blocks if block.own is not None]
        pinned = self._pinned()
        here = sorted(a for a in pinned if a.version == pool.spec.cidr.version and any(a in block.cidr for block in blocks))
        address = next((a for a in kept if a in pinned), next(iter((*here, *kept)), self._free_of_parts(blocks)))
        if address is not None and address not in self._own_addresses:
            self._own_addresses.add(address)
            self._view()
        return address

    def _free_of_parts(self, blocks: Iterable[Block]) -> Address | None:
        """Where nothing is kept, one that nobody has; small parts are for pods."""
        holdings = self._journal.holdings
        for block in blocks:
            version = block.cidr.version
            free = block.assignable.difference(holdings.used[version], holdings.released[version])
            if block.is_dense and free and block.cidr.num_addresses >= SMALLEST_THAT_KEEPS:
                return address_of(version, min(free))
        return None

    def retire(self) -> tuple[Held, ...]:
        """Takes blocks that are not needed any more out of service; `give_back` does the rest.  None while claims change."""
        if not self._claiming.acquire(blocking=False):
            return ()
        try:
            retired = spare(
                self._claims.held,
                self._journal.holdings,
                blocks={block.cidr: block for blocks in self._blocks.values() for block in blocks},
                quiet_since=self._since,
                before=self._cooled() - self._grace,
                cooled=self._cooled(),
                pinned=self._pinned(),
                serves=self._serves,
            )
            if retired:
                self._change(self._claims.without(held.cidr for held in retired))
        finally:
            self._claiming.release()
        for held in retired:
            self._journal.forget(held.cidr)
        return retired

    # in the agent's loop, where blocks are few

    def thicken(self, need: NeedBlock) -> bool:
        """Whether there was a whole block of these pools of which nothing need be kept any more, but what the node itself uses."""
        if not self._claiming.acquire(blocking=False):
            return True
        try:
            for held in self._claims.held:
                pool = pool_of(held.cidr, need.pools)
                if (
                    pool
                    and held.cidr == held.slot
                    and not (held.contested or held.dense or bridged(held, self._journal.holdings))
                ):
                    if held.cidr.num_addresses < SMALLEST_THAT_KEEPS:
                        continue
                    others = (h for h in self._claims.held if h is not held)
                    self._change(self._claims.having((*others, msgspec.structs.replace(held, dense=True))))
                    return True
            return False
        finally:
            self._claiming.release()

    def gift(self, pool: str) -> Gift | None:
        """What of this pool another node could have."""
        giving = {block.cidr for block in self._blocks.get(pool, ())}
        if not giving or pool in self._own_pools:
            return None
        held = [one for one in self._claims.held if one.cidr in giving]
        return gift(held, self._journal.holdings, self._cooled(), self._pinned(), self._reserved)

    def part_with(self, pool: str) -> Gift | None:
        """Takes it out of service; `give` does the rest.  None while claims change, or when there is nothing to give any more."""
        if not self._claiming.acquire(blocking=False):
            return None
        try:
            found = self.gift(pool)
            if found is not None:
                others = (held for held in self._claims.held if held.cidr != found.held.cidr)
                self._change(self._claims.having((*others, *found.left)))
        finally:
            self._claiming.release()
        if found is not None:
            self._journal.forget(found.part)
        return found

    # in a worker thread

    def give(self, gift: Gift, to: Claim, datastore: Datastore) -> bool:
        """Whether it is the other node's now.  Raises Unavailable: then it may be; what is not is taken up again before the next claim."""
        with self._claiming:
            if any(overlap(held.cidr, gift.part) for held in self._claims.held):
                return False  # the datastore was asked in between, and said that it is ours
            doubtful, self._doubtful = self._doubtful, True
            self._keep(self._claims)
            given = claiming.swap(datastore, gift.held.slot, claiming.giving(self._claims, gift.part, to))
            self._doubtful = doubtful or not given
            return given

    def claim_gap(self, need: NeedBlock, datastore: Datastore) -> bool:
        """Whether there was a part of a slot of these pools that nobody had."""
        with self._claiming:
            if self._claims.serving != need.held:
                return True
            self._require_no_doubt()
            self._require_no_quarantine()
            self._doubtful = True
            records = self._assert(datastore, listed=True)
            found = next(filter(None, (claiming.claim_gap(datastore, self._claims, p, records) for p in need.pools)), None)
            if found:
                self._keep(self._claims.having((*self._claims.held, found)))
            self._doubtful, self._knows_all = False, True
            return self._claims.serving != need.held

    def take_up(self, slots: Iterable[Prefix], since: Revision, datastore: Datastore) -> bool:
        """Whether others have given us something in these slots, since we asked for it."""
        with self._claiming:
            if self.in_doubt:
                return False
            found = claiming.taken_up(datastore, self._claims, slots, since)
            if found:
                self._keep(self._claims.having((*self._claims.held, *found)))
            return bool(found)

    def claim(self, need: NeedBlock, datastore: Datastore) -> None:
        """Gets what is needed, or returns because something else has changed; either way `allocate` is asked again.

        Raises PoolExhausted with figures, ConfigError where an address asked for is another node's, Unavailable.
        """
        with self._claiming:
            if self._claims.serving != need.held:
                return
            self._require_no_doubt()
            doubtful, self._doubtful = self._doubtful, True
            self._claim(need, datastore, listed=doubtful)
            self._doubtful, self._knows_all = False, self._knows_all or doubtful  # then all that the store says was taken up

    def synchronise(self, datastore: Datastore, *, anew: bool = False) -> None:
        """Asserts our claims: whenever the watch is there again.  `anew`: at the start, and when the datastore is another one or went
        back; then what it says beyond our own copy is old, and is withdrawn first.  Else it is taken up."""
        with self._claiming:
            doubts = self._doubts
            if anew and self._knows_all:
                withdraw(datastore, self._claims, Records.of(datastore.list(claiming.KIND)), self._uses)
            self._assert(datastore, listed=True)
            self._doubtful, self._knows_all, self._cleared = False, True, doubts

    def settle(self, datastore: Datastore) -> None:
        """Asserts our claims once more: another node may have let go of a contested block."""
        with self._claiming:
            self._assert(datastore, listed=False)

    def give_back(self, retired: Iterable[Held], datastore: Datastore) -> None:
        """Raises Unavailable; what could not be given back is taken up again before the next claim."""
        with self._claiming:
            doubtful, self._doubtful = self._doubtful, True
            self._keep(self._claims)
            gone = [held for held in retired if held.cidr not in self._claims.cidrs]
            claiming.release(datastore, self._claims, gone)
            concede(datastore, self._claims, (held for held in gone if held.contested))
            self._doubtful = doubtful

    def _claim(self, need: NeedBlock, datastore: Datastore, *, listed: bool) -> None:
        records = self._assert(datastore, listed=listed)
        if self._claims.serving != need.held:
            return
        self._require_no_quarantine()
        if need.cidr is not None:
            self._claim_named(datastore, need.pools[0], need.cidr)
            return
        for pool in need.pools:
            held = claiming.claim_free(datastore, self._claims, pool, records)
            if held:
                self._keep(self._claims.having((*self._claims.held, held)))
                return
        if listed:
            raise self._exhausted(need.pools, records)
        self._claim(need, datastore, listed=True)  # what is known may be old, and a block be free by now

    def _claim_named(self, datastore: Datastore, pool: IPPool, cidr: Prefix) -> None:
        slot = slot_of(pool, cidr.network_address)
        if not claiming.claim_exactly(datastore, self._claims, slot, cidr):
            hint = f"netloom ipam find {cidr.network_address}"
            raise ConfigError(f"{cidr} of pool {pool.name} belongs to another node", hint=hint)
        self._keep(self._claims.having((*self._claims.held, Held(cidr=cidr, slot=slot))))

    def _assert(self, datastore: Datastore, *, listed: bool) -> Records:
        """Before every claim: the datastore may have gone back, or be another one.  Gives all blocks, as they were before."""
        records = Records.of(datastore.list(claiming.KIND)) if listed else Records(self._snapshot.blocks)
        asserted = claiming.assert_claims(datastore, self._claims, records)
        if asserted != self._claims:
            self._keep(asserted)
        for held in asserted.held:
            if held.contested and self._uses(held.cidr):
                dispute(datastore, asserted, held)
        return records

    def _keep(self, claims: Claims) -> None:
        """Durably first, then in service."""
        try:
            save(self._path, claims)
        except OSError as e:
            raise Unavailable(f"{self._path} cannot be written: {e.strerror}", hint=f"make room: df -h {self._path}") from e
        self._change(claims)

    # both

    def _change(self, claims: Claims) -> None:
        """Only for who has `_claiming`."""
        self._claims = claims
        self._view()

    def _view(self) -> None:
        """Computes what follows from claims, pools and reservations; the last one to come has seen the latest of all."""
        with self._viewing:
            claims, snapshot, now = self._claims, self._snapshot, self._clock()
            pools = tuple(sorted(snapshot.pools.values(), key=lambda p: p.name))
            reserved = [prefix for r in snapshot.reservations.values() for prefix in r.spec.reserved_cidrs]
            own = self._pinned()
            blocks: dict[str, tuple[Block, ...]] = {}
            for held in claims.held:
                pool = pool_of(held.cidr, pools)
                if pool and not held.contested and held.cidr not in self._disputed:
                    network = pool if pool.spec.network else None
                    if held.is_dense:
                        block = Block.dense(held.cidr, pool.name, reserved, own)
                    else:
                        block = Block.of(held.cidr, pool.name, reserved, network)
                    blocks[pool.name] = (*blocks.get(pool.name, ()), block)
            self._pools, self._blocks, self._reserved = pools, blocks, reserved
            self._own_pools = frozenset(pool.name for pool in pools if pool.spec.network)
            self._networks = frozenset(pool.spec.network for pool in pools if pool.spec.network)
            self._since = {held.cidr: self._since.get(held.cidr, now) for held in claims.held}

    def _situation(self, pools: Mapping[int, Sequence[IPPool]]) -> Situation:
        return Situation(pools, self._blocks, self._journal.holdings, self._cooled())

    def _uses(self, cidr: Prefix) -> bool:
        """Whether an attachment has an address of it."""
        first, last = int(cidr.network_address), int(cidr.broadcast_address)
        return any(first <= number <= last for number in self._journal.holdings.used[cidr.version])

    def _cooled(self) -> float:
        return self._clock() - self._cool_down

    def _pinned(self) -> set[Address]:
        return self._own_addresses.union(self._tunnel_addresses(self._snapshot))

    def _tunnel_addresses(self, snapshot: Snapshot) -> tuple[Address, ...]:
        node = snapshot.nodes.get(self._claims.node)
        return node.spec.tunnel_addresses if node else ()

    def _serves(self, cidr: Prefix) -> str | None:
        """The network that the block serves, empty for the cluster; None where its pool is not in use."""
        pool = pool_of(cidr, self._pools)
        return None if pool is None or pool.spec.disabled or cidr in self._disputed else pool.spec.network

    def _require_no_doubt(self) -> None:
        if self.in_doubt:
            raise Unavailable(
                "the datastore has not been asked since it was away what is this node's: no new block before that"
            )

    def _require_no_quarantine(self) -> None:
        if self.quarantined:
            raise Unavailable(
                "the datastore went back or is another one: new blocks are claimed when their owners had time to come first"
            )

    def _require_membership(self) -> None:
        """A node that was deleted, or made anew by another machine, has no right to its claims any more."""
        node = self._snapshot.nodes.get(self._claims.node)
        asked = self._snapshot.complete or self._snapshot.revision  # if only by an earlier life of this agent
        if node is None and asked:
            raise Unavailable(f"node {self._claims.node} is not in the datastore: it was deleted, or is not registered yet")
        if node is not None and node.spec.id not in ("", self._claims.node_id):
            raise Unavailable(f"node {self._claims.node} in the datastore is another incarnation ({node.spec.id})")

    def _serving(self, request: Request) -> dict[int, list[IPPool]]:
        return serving(request, self._snapshot, self._claims.node, self._pools, self._networks)

    def _exhausted(self, pools: Iterable[IPPool], records: Records) -> PoolExhausted:
        blocks = list(records.blocks.values())
        figures = exhaustion(self._claims.node, pools, blocks, self._blocks, self._journal.holdings, self._cooled())
        return PoolExhausted(figures, hint="netloom ipam show")
