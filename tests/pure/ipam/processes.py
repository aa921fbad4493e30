"""What other processes do in these tests; see tests.pure.datastore.processes."""

from __future__ import annotations

import ipaddress
from multiprocessing.connection import Connection

from netloom.datastore.sqlite import SqliteDatastore
from netloom.ipam.blocks import slot_of
from netloom.ipam.claiming import Records, claim_exactly, claim_free, release
from netloom.ipam.claims import Claims, Held
from netloom.model.addresses import host_prefix
from netloom.model.resources import decode


def grab(pipe: Connection, path: str, incarnation: str, pools: list[bytes], addresses: list[str], rounds: int) -> None:
    """Claims every address of a list, then slots until there are none; gives back every other one, and begins again.
    All are incarnations of one node name, so they go through the slots in one order.  Tells what it has at the end."""
    store = SqliteDatastore(path, patience=60)
    claims = Claims(node="n1", node_id=incarnation)
    wanted = [decode(data) for data in pools]
    pipe.send("ready")
    pipe.recv()
    for _ in range(rounds):
        for text in addresses:
            address = ipaddress.ip_address(text)
            pool = next(p for p in wanted if address in p.spec.cidr)
            slot, cidr = slot_of(pool, address), host_prefix(address)
            if claim_exactly(store, claims, slot, cidr):
                claims = claims.having((*claims.held, Held(cidr=cidr, slot=slot)))
        for pool in wanted:
            while held := claim_free(store, claims, pool, Records.of(store.list("IPBlock"))):
                claims = claims.having((*claims.held, held))
        gone = claims.held[::2]
        claims = claims.without(h.cidr for h in gone)
        release(store, claims, gone)
    pipe.send([str(h.cidr) for h in claims.held])
    store.close()
