"""The allocator: what the agent asks for addresses.  It joins this node's blocks (inventory), its journal and the latest snapshot.

    allocate   in the agent's loop, microseconds, no I/O    → interfaces, or NeedBlock
    claim      in a worker thread, asks the datastore       → then allocate again
    sharing    where no block is free: of this node's, or of another one's (agent/asking.py, agent/giving.py)

Between `allocate` and the journal's `intend` the loop must not be left.

The tricky thing are the two threads.  Claims change in the worker, and a block goes out of service in the loop (`retire`), because
only there it is certain that no address of it is about to be journalled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from netloom.datastore import Datastore
from netloom.errors import ConfigError, PoolExhausted, Unavailable
from netloom.ipam import claiming
from netloom.ipam.blocks import Block, node_address, pool_of, slot_of
from netloom.ipam.choosing import FAMILIES, NeedBlock, Request, Situation, choose, lacking, least_recent
from netloom.ipam.claiming import Records
from netloom.ipam.claims import Claims, Held
from netloom.ipam.figures import exhaustion
from netloom.ipam.holdings import address_of
from netloom.ipam.inventory import Inventory
from netloom.ipam.journal import Journal, boottime
from netloom.ipam.restoring import concede, withdraw
from netloom.ipam.serving import serving
from netloom.ipam.sharing import Sharing
from netloom.ipam.sparing import spare
from netloom.model.addresses import Address, Interface, Prefix, contains, host_prefix
from netloom.model.resources import IPPool, block_name
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
        self._journal, self._grace = journal, grace
        self.inventory = Inventory(journal, path, node, node_id, cool_down=cool_down, clock=clock)
        self.doubts = self.inventory.doubts
        self.sharing = Sharing(self.inventory)
        self._said = frozenset[Prefix]()
        """What of ours the snapshot says is ours."""

    # in the agent's loop

    def update(self, snapshot: Snapshot) -> bool:
        """What the cluster declares now.  Whether it does not say any more that something is ours."""
        before = self.inventory.snapshot
        self.inventory.heard(snapshot)
        if snapshot.blocks is before.blocks:
            return False
        said, self._said = self._said, frozenset(held.cidr for held in self.claims.held if self._is_said(held))
        return self.unsaid and not (said & self.claims.cidrs) <= self._said

    @property
    def claims(self) -> Claims:
        return self.inventory.claims

    @property
    def contested(self) -> tuple[Prefix, ...]:
        return tuple(held.cidr for held in self.claims.held if held.contested)

    @property
    def disputed(self) -> tuple[Prefix, ...]:
        return tuple(self.inventory.disputed)

    @property
    def alarms(self) -> tuple[str, ...]:
        contested = (f"block {cidr} is claimed by another node" for cidr in self.contested)
        disputed = (
            f"node {node} had block {cidr} before the datastore went back, and has pods in it"
            for cidr, node in self.inventory.disputed.items()
        )
        return tuple(f"{what}: it gives out no more addresses (netloom ipam check)" for what in (*contested, *disputed))

    @property
    def unsaid(self) -> bool:
        """Whether the datastore does not say that something is ours, as far as the watch has told: its record was taken away, or written
        over.  A node that was deleted has nothing to say."""
        node = self.inventory.snapshot.nodes.get(self.claims.node)
        if node is None or node.spec.id != self.claims.node_id:
            return False
        return not all(held.contested or self._is_said(held) for held in self.claims.held)

    def _is_said(self, held: Held) -> bool:
        block, claims = self.inventory.snapshot.blocks.get(block_name(held.slot)), self.claims
        return block is not None and any(claims.owns(c) and contains(c.cidr, held.cidr) for c in block.spec.claims)

    def allocate(self, request: Request) -> tuple[Interface, ...] | NeedBlock:
        """Addresses for one attachment, free until the loop is left.  Raises ConfigError: the request cannot be met;
        Unavailable: not now."""
        self._require_membership()
        claims = self.inventory.claims
        found = choose(request, self._situation(request))
        return replace(found, held=claims.serving) if isinstance(found, NeedBlock) else found

    def lacking(self, request: Request) -> NeedBlock | None:
        """What pods like this one will need soon."""
        found = lacking(request, self._situation(request))
        return replace(found, held=self.claims.serving) if found else None

    def _situation(self, request: Request) -> Situation:
        own = self.inventory
        view = own.view
        pools = serving(request, own.snapshot, own.claims.node, view.pools, view.networks)
        return Situation(pools, view.blocks, self._journal.holdings, own.cooled())

    def pools_of(self, addresses: Iterable[Interface]) -> tuple[IPPool | None, ...]:
        """The pool that each is of."""
        pools = self.inventory.view.pools
        return tuple(next((pool for pool in pools if a.ip in pool.spec.cidr), None) for a in addresses)

    def own_address(self, pool: IPPool) -> Address | NeedBlock | None:
        """The node's own address in the pool, for its tunnel device: always the same while the node has the block.
        None where the pool's blocks are too small to have one."""
        if node_address(slot_of(pool, pool.spec.cidr.network_address)) is None:
            return None
        blocks = [b for b in self.inventory.view.blocks.get(pool.name, ()) if b.own is not None or b.is_dense]
        kept = [block.own for block in blocks if block.own is not None]
        present = sorted(a for a in self.inventory.pinned() if self._is_own(a, blocks))
        address = next(iter((*(a for a in kept if a in present), *present, *kept)), None) or self._free_of_parts(blocks)
        if address is None:
            return NeedBlock((pool,), held=self.claims.serving)
        self.inventory.pin(address)
        return address

    def _is_own(self, address: Address, blocks: Iterable[Block]) -> bool:
        """Whether what the node has taken in these blocks is still its own: what it took in a life of which nothing but its journal is
        left may be a pod's by now."""
        return any(address in block.cidr for block in blocks) and self._journal.holdings.holder(address) is None

    def _free_of_parts(self, blocks: Iterable[Block]) -> Address | None:
        """Where nothing is kept for the node, it takes what a pod might have."""
        holdings, cooled = self._journal.holdings, self.inventory.cooled()
        for block in blocks:
            if block.is_dense and (number := least_recent(block, holdings, cooled)) is not None:
                return address_of(block.cidr.version, number)
        return None

    def retire(self) -> tuple[Held, ...]:
        """Takes blocks that are not needed any more out of service; `give_back` does the rest.  None while claims change."""
        own = self.inventory
        with own.at_hand() as free:
            if not free:
                return ()
            view = own.view
            retired = spare(
                own.claims.held,
                self._journal.holdings,
                blocks={block.cidr: block for blocks in view.blocks.values() for block in blocks},
                quiet_since=view.since,
                before=own.cooled() - self._grace,
                cooled=own.cooled(),
                pinned=own.pinned(),
                serves=view.serves,
            )
            if retired:
                own.change(own.claims.without(held.cidr for held in retired))
        for held in retired:
            self._journal.forget(held.cidr)
        return retired

    # in a worker thread

    def claim(self, need: NeedBlock, datastore: Datastore) -> None:
        """Gets what is needed, or returns because something else has changed; either way `allocate` is asked again.

        Raises PoolExhausted with figures, ConfigError where an address asked for is another node's, Unavailable.
        """
        own = self.inventory
        with own.claiming:
            if own.claims.serving != need.held:
                return
            self.doubts.require_none()
            doubtful, own.doubtful = own.doubtful, True
            self._claim(need, datastore, listed=doubtful)
            own.doubtful, own.knows_all = False, own.knows_all or doubtful  # then all that the store says was taken up

    def synchronise(self, datastore: Datastore, *, anew: bool = False) -> None:
        """Asserts our claims: whenever the watch is there again.  `anew`: at the start, and when the datastore is another one or went
        back; then what it says beyond our own copy is old, and is withdrawn first.  Else it is taken up."""
        own = self.inventory
        with own.claiming:
            raised = self.doubts.raised
            if anew and own.knows_all:
                withdraw(datastore, own.claims, Records.of(datastore.list(claiming.KIND)), own.uses)
            own.assert_claims(datastore, listed=True)
            self._claim_what_pods_have(datastore)
            own.doubtful, own.knows_all = False, True
            self.doubts.end(raised)

    def settle(self, datastore: Datastore) -> None:
        """Asserts our claims once more: another node may have let go of a contested block."""
        with self.inventory.claiming:
            self.inventory.assert_claims(datastore, listed=False)

    def give_back(self, retired: Iterable[Held], datastore: Datastore) -> None:
        """Raises Unavailable; what could not be given back is taken up again before the next claim."""
        own = self.inventory
        with own.claiming:
            doubtful, own.doubtful = own.doubtful, True
            own.keep(own.claims)
            gone = [held for held in retired if held.cidr not in own.claims.cidrs]
            claiming.release(datastore, own.claims, gone)
            concede(datastore, own.claims, (held for held in gone if held.contested))
            own.doubtful = doubtful

    def _claim(self, need: NeedBlock, datastore: Datastore, *, listed: bool) -> None:
        own = self.inventory
        records = own.assert_claims(datastore, listed=listed)
        if own.claims.serving != need.held:
            return
        self.doubts.require_no_quarantine()
        if need.cidr is not None:
            self._claim_named(datastore, need.pools[0], need.cidr)
            return
        for pool in need.pools:
            held = claiming.claim_free(datastore, own.claims, pool, records)
            if held:
                own.add(held)
                return
        if listed:
            raise self._exhausted(need.pools, records)
        self._claim(need, datastore, listed=True)  # what is known may be old, and a block be free by now

    def _claim_what_pods_have(self, datastore: Datastore) -> None:
        """Where neither our own copy nor the datastore says any more whose it is.  What another node has by now stays that node's."""
        for version in FAMILIES:
            for address in [address_of(version, number) for number in tuple(self._journal.holdings.used[version])]:
                pool = pool_of(host_prefix(address), self.inventory.view.pools)
                if pool is not None and not any(address in held.cidr for held in self.claims.held):
                    held = Held(cidr=host_prefix(address), slot=slot_of(pool, address))
                    if claiming.claim_exactly(datastore, self.claims, held.slot, held.cidr):
                        self.inventory.add(held)

    def _claim_named(self, datastore: Datastore, pool: IPPool, cidr: Prefix) -> None:
        slot = slot_of(pool, cidr.network_address)
        if not claiming.claim_exactly(datastore, self.claims, slot, cidr):
            hint = f"netloom ipam find {cidr.network_address}"
            raise ConfigError(f"{cidr} of pool {pool.name} belongs to another node", hint=hint)
        self.inventory.add(Held(cidr=cidr, slot=slot))

    # in both

    def _require_membership(self) -> None:
        """A node that was deleted, or made anew by another machine, has no right to its claims any more."""
        claims, snapshot = self.inventory.claims, self.inventory.snapshot
        node = snapshot.nodes.get(claims.node)
        asked = snapshot.complete or snapshot.revision  # if only by an earlier life of this agent
        if node is None and asked:
            raise Unavailable(f"node {claims.node} is not in the datastore: it was deleted, or is not registered yet")
        if node is not None and node.spec.id not in ("", claims.node_id):
            raise Unavailable(f"node {claims.node} in the datastore is another incarnation ({node.spec.id})")

    def _exhausted(self, pools: Iterable[IPPool], records: Records) -> PoolExhausted:
        own, blocks = self.inventory, list(records.blocks.values())
        figures = exhaustion(own.claims.node, pools, blocks, own.view.blocks, self._journal.holdings, own.cooled())
        return PoolExhausted(figures, hint="netloom ipam show")
