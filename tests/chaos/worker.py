"""One process of many: some nodes' allocators, which claim blocks until each has what it wants, whatever the datastore does.

    python -m tests.chaos.worker '{"target": "etcd:…", "folder": "…", "number": 0, "nodes": 60, "blocks": 4, "pool": "10.0.0.0/12",
                                   "seconds": 10.0}'

They are the agent's own, each with a journal and a durable copy of its claims.  Now and then one is restarted, or gives back what
it does not need, and claims anew.  "claimed" is printed when all have what they want and so many seconds are over; then a line on
stdin, and all assert their claims once more and say what they hold.
"""

from __future__ import annotations

import ipaddress
import json
import os
import random
import sys
import time
from contextlib import suppress

from netloom.agent.reaching import Reached
from netloom.errors import Unavailable
from netloom.ipam.allocator import Allocator
from netloom.ipam.choosing import NeedBlock
from netloom.ipam.journal import Journal
from netloom.model.attachments import NetnsId
from netloom.model.resources import IPPool, IPPoolSpec, Metadata, Node, NodeSpec
from netloom.model.snapshot import Snapshot
from tests.chaos.recording import Recorded

RESTARTED, GIVEN_BACK = 0.05, 0.25  # of the turns


class Claimant:
    """One node."""

    def __init__(self, name: str, folder: str, pool: IPPool, store: Recorded) -> None:
        self.name, self.pool, self._store = name, pool, store
        self._folder = f"{folder}/{name}"
        os.makedirs(self._folder)
        self._journal = Journal.rebuild(f"{self._folder}/journal", "boot", NetnsId(4, 1))
        self._now = 0.0
        self.restart()

    def restart(self) -> None:
        self._allocator = Allocator(
            *(self._journal, f"{self._folder}/claims.json", self.name, f"{self.name}-1"),
            cool_down=0.0,
            grace=0.0,
            clock=lambda: self._now,
        )
        node = Node(metadata=Metadata(name=self.name), spec=NodeSpec(id=f"{self.name}-1"))
        self._allocator.update(Snapshot.of(1, [node, self.pool]))
        self._started = False

    def turn(self) -> None:
        """One step.  Raises Unavailable."""
        if not self._started:
            self._allocator.synchronise(self._store, anew=True)
            self._started = True
        self._allocator.claim(NeedBlock((self.pool,), held=self._allocator.claims.serving, whole=True), self._store)

    def give_back(self) -> None:
        self._now += 1.0
        if self._started:
            self._allocator.give_back(self._allocator.retire(), self._store)

    def settle(self) -> None:
        self._allocator.synchronise(self._store)

    @property
    def serving(self) -> list[str]:
        """Out of which it would give addresses."""
        return sorted(str(cidr) for cidr in self._allocator.claims.serving)


def main(target: str, folder: str, number: int, nodes: int, blocks: int, pool: str, seconds: float) -> None:
    store = Recorded(Reached(target, known=True), f"{folder}/history-{number}", f"w{number}")
    declared = IPPool(metadata=Metadata(name="p"), spec=IPPoolSpec(cidr=ipaddress.ip_network(pool)))
    chance = random.Random(number)
    claimants = [Claimant(f"node-{number}-{index}", folder, declared, store) for index in range(nodes)]
    refused, until = 0, time.monotonic() + seconds
    while (goes_on := time.monotonic() < until) or any(len(one.serving) < blocks for one in claimants):
        for one in chance.sample(claimants, len(claimants)):
            try:
                if len(one.serving) < blocks:
                    one.turn()
                if goes_on and chance.random() < GIVEN_BACK:
                    one.give_back()
            except Unavailable:
                refused += 1
                time.sleep(chance.uniform(0.02, 0.2))
            if goes_on and chance.random() < RESTARTED:
                one.restart()
    print("claimed", flush=True)
    sys.stdin.readline()
    for one in claimants:
        while True:
            with suppress(Unavailable):
                one.settle()
                break
            time.sleep(0.1)
    print(json.dumps({"refused": refused, "serving": {one.name: one.serving for one in claimants}}), flush=True)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
