"""What one node does in test_giving_processes: it fills itself with pods, asks, gives, and takes some away again."""

from __future__ import annotations

import random
import time
from multiprocessing.connection import Connection

from netloom.datastore.sqlite import SqliteDatastore
from netloom.errors import NotFound, PoolExhausted
from netloom.ipam.allocator import Allocator
from netloom.ipam.choosing import NeedBlock, Request
from netloom.ipam.giving import open_requests, unknown_slots
from netloom.ipam.journal import Journal
from netloom.model.resources import Claim, IPBlockRequest, IPBlockRequestSpec, Metadata, decode
from netloom.model.snapshot import Snapshot
from tests.pure.ipam.making import NETNS, attachment, node


class OneNode:
    def __init__(self, folder: str, path: str, name: str, names: list[str], pool: bytes) -> None:
        self.store, self.name, self.pool = SqliteDatastore(path, patience=60), name, decode(pool)
        self.others = [node(other, f"{other}-1") for other in names]
        self.journal = Journal.rebuild(f"{folder}/{name}.journal", "boot", NETNS)
        self.allocator = Allocator(self.journal, f"{folder}/{name}.json", name, f"{name}-1", cool_down=0.0, grace=0.0)
        self.asked, self.count = 0, 0
        self.look()

    def look(self) -> None:
        listing = self.store.list()
        self.seen = Snapshot.of(listing.revision, [*self.others, self.pool, *(s.resource for s in listing.items)])
        self.allocator.update(self.seen)

    def add(self) -> bool:
        while isinstance(answer := self.allocator.allocate(Request()), NeedBlock):
            try:
                self.allocator.claim(answer, self.store)
            except PoolExhausted:
                if not self.allocator.sharing.thicken(answer) and not self.allocator.sharing.claim_gap(answer, self.store):
                    return False
        self.count += 1
        self.journal.intend(attachment(f"pod{self.count}", self.journal.next_sequence(), *answer))
        return True

    def ask(self) -> None:
        held = sum(h.cidr.num_addresses for h in self.allocator.claims.held)
        spec = IPBlockRequestSpec(node_id=f"{self.name}-1", pools={self.pool.name: held})
        self.withdraw()
        self.asked = self.store.create(IPBlockRequest(metadata=Metadata(name=self.name), spec=spec))

    def withdraw(self) -> None:
        try:
            self.store.delete("IPBlockRequest", self.name)
        except NotFound:
            return

    def give(self) -> None:
        for request in open_requests(self.seen, self.name):
            if (gift := self.allocator.sharing.part_with(self.pool.name)) is not None:
                to = Claim(cidr=gift.part, node=request.name, node_id=request.spec.node_id)
                self.allocator.sharing.give(gift, to, self.store)

    def take_up(self) -> None:
        claims = self.allocator.claims
        slots = unknown_slots(self.seen, claims.owns, claims.cidrs)
        if slots and self.allocator.sharing.take_up(slots, self.asked, self.store):
            self.withdraw()

    def delete_some(self) -> None:
        for attachment_key in list(self.journal.attachments)[::2]:
            self.journal.leave(attachment_key)
            self.journal.done(attachment_key, time.clock_gettime(time.CLOCK_BOOTTIME))


def live(pipe: Connection, folder: str, path: str, name: str, names: list[str], pool: bytes, turns: int) -> None:
    """Some turns of pods that come and go, and then all come that find a place; tells which addresses they have, whenever it is asked."""
    one, dice = OneNode(folder, path, name, names, pool), random.Random(name)
    pipe.send("ready")
    pipe.recv()
    turn = 0
    while True:
        one.look()
        one.give()
        one.take_up()
        if not one.add():
            one.ask()
        if turn < turns and dice.random() < 0.2:
            one.delete_some()
        turn += 1
        if pipe.poll(0.005):
            if pipe.recv() == "end":
                break
            pipe.send((turn > turns, [str(i.ip) for a in one.journal.attachments.values() for i in a.addresses]))
    one.journal.close()
    one.store.close()
