"""The inventory: which blocks are this node's, durably and in service, for all that allocates, claims and shares them.

Claims change in the thread that asks the datastore and in the agent's loop, one at a time: whoever changes them has `claiming`.  What
is new is written to the disk before it gives out an address (`keep`); what goes is out of service before anything else (`change`), and
that only in the loop, where it is certain that no address of it is about to be journalled.

It keeps no book of addresses: which are used and which cool is what the journal says.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from netloom.datastore import Datastore
from netloom.errors import Unavailable
from netloom.ipam import claiming
from netloom.ipam.claiming import Records
from netloom.ipam.claims import Claims, Held, load, save
from netloom.ipam.doubts import Doubts
from netloom.ipam.journal import Journal
from netloom.ipam.restoring import dispute, disputed
from netloom.ipam.view import View, view
from netloom.model.addresses import Address, Prefix
from netloom.model.snapshot import Snapshot


class Inventory:
    """path       of the node's own copy of its claims
    cool_down  seconds before an address is given out again
    clock      seconds of CLOCK_BOOTTIME, the journal's clock

    doubtful   the datastore may have claims of ours that are not known here: at the start, and after a write that may have happened
    knows_all  what only the datastore knows is of no use here: the copy is as this node left it
    """

    def __init__(
        self, journal: Journal, path: str, node: str, node_id: str, *, cool_down: float, clock: Callable[[], float]
    ) -> None:
        self.journal, self._path, self._cool_down, self.clock = journal, path, cool_down, clock
        self.claiming, self._viewing = threading.Lock(), threading.Lock()
        loaded = load(path)
        self.claims = (loaded or Claims(node=node, node_id=node_id)).reborn(node, node_id)
        self.doubtful, self.knows_all = True, loaded is not None and loaded.node == node
        self.doubts = Doubts(clock)
        self.snapshot = Snapshot()
        self.disputed: Mapping[Prefix, str] = {}
        """Blocks of ours that other nodes have pods in, and which node."""
        self.view = View()
        self._own_addresses: set[Address] = set()

    # in the agent's loop

    def heard(self, snapshot: Snapshot) -> None:
        """What the cluster declares now."""
        before, self.snapshot = self.snapshot, snapshot
        pools_or_reservations = snapshot.pools is not before.pools or snapshot.reservations is not before.reservations
        theirs = disputed(self.claims, snapshot.blocks, snapshot.nodes)
        anew = theirs != self.disputed or self._tunnel_addresses(snapshot) != self._tunnel_addresses(before)
        self.disputed = theirs
        if pools_or_reservations or anew:
            self._look()

    def pin(self, address: Address) -> None:
        """The node uses it itself."""
        if address not in self._own_addresses:
            self._own_addresses.add(address)
            self._look()

    @contextmanager
    def at_hand(self) -> Iterator[bool]:
        """Whether claims may be changed here: the loop does not wait for who is doing that."""
        free = self.claiming.acquire(blocking=False)
        try:
            yield free
        finally:
            if free:
                self.claiming.release()

    # in the thread that asks the datastore

    def assert_claims(self, datastore: Datastore, *, listed: bool) -> Records:
        """Before every claim: the datastore may have gone back, or be another one.  Gives all blocks, as they were before."""
        records = Records.of(datastore.list(claiming.KIND)) if listed else Records(self.snapshot.blocks)
        asserted = claiming.assert_claims(datastore, self.claims, records)
        if asserted != self.claims:
            self.keep(asserted)
        for held in asserted.held:
            if held.contested and self.uses(held.cidr):
                dispute(datastore, asserted, held)
        return records

    def add(self, *held: Held) -> None:
        self.keep(self.claims.having((*self.claims.held, *held)))

    def keep(self, claims: Claims) -> None:
        """Durably first, then in service."""
        try:
            save(self._path, claims)
        except OSError as e:
            raise Unavailable(f"{self._path} cannot be written: {e.strerror}", hint=f"make room: df -h {self._path}") from e
        self.change(claims)

    # in both

    def change(self, claims: Claims) -> None:
        """Only for who has `claiming`."""
        self.claims = claims
        self._look()

    def _look(self) -> None:
        """The last one to come has seen the latest of all."""
        with self._viewing:
            self.view = view(self.claims, self.snapshot, self.disputed, self.pinned(), self.view, self.clock())

    def uses(self, cidr: Prefix) -> bool:
        """Whether an attachment has an address of it."""
        first, last = int(cidr.network_address), int(cidr.broadcast_address)
        return any(first <= number <= last for number in tuple(self.journal.holdings.used[cidr.version]))  # the loop goes on

    def cooled(self) -> float:
        """What was released before this has cooled down."""
        return self.clock() - self._cool_down

    def pinned(self) -> set[Address]:
        """Addresses that the node itself uses."""
        return self._own_addresses.union(self._tunnel_addresses(self.snapshot))

    def _tunnel_addresses(self, snapshot: Snapshot) -> tuple[Address, ...]:
        node = snapshot.nodes.get(self.claims.node)
        return node.spec.tunnel_addresses if node else ()
