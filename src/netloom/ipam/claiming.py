"""Claiming: a slot of a pool becomes this node's by compare-and-swap in the datastore.  No lock, no lease, no coordinator.

A slot's record (IPBlock) lists all claims in it.  `swap` reads it, asks a pure function what it should say, and writes that if
nobody wrote in between; whoever loses reads again and decides again.  Two nodes cannot both succeed, and the loser goes on
with the next slot of its own order.

The order of steps, such that a kill between any two does no harm (see claims.py for the node's own copy):
    claim      datastore → own copy (fsync) → first address          killed in between: `assert_claims` finds it and takes it up
    give back  no new addresses → own copy (fsync) → datastore        killed in between: likewise; it is given back again later

A write that timed out may have happened.  It is read back, and if that fails too, the next `assert_claims` finds out.  The
store itself may go back (a backup, a lost quorum) or be another one: so own claims are asserted before every new one, and a
block that is another's by now gives out no more addresses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from netloom.datastore import Datastore, Listing, Stored
from netloom.errors import Conflict, NotFound, Unavailable
from netloom.ipam.blocks import slots_in_order
from netloom.ipam.claims import Claims, Held
from netloom.model.addresses import Prefix, contains, overlap
from netloom.model.resources import Claim, IPBlock, IPBlockSpec, IPPool, Metadata, block_name

KIND = "IPBlock"
_ATTEMPTS = 1000
"""Each lost round is another node's success, so this is many more than a slot can have."""

Change = Callable[[tuple[Claim, ...]], tuple[Claim, ...] | None]


def swap(datastore: Datastore, slot: Prefix, change: Change) -> bool:
    """Replaces the slot's claims by `change(claims)`; False if that is None.  Raises Unavailable: it may still have happened."""
    for _ in range(_ATTEMPTS):
        stored = datastore.get(KIND, block_name(slot))
        before = _claims(stored)
        after = change(before)
        if after is None:
            return False
        if after == before:
            return True
        try:
            _write(datastore, slot, stored, after)
        except (Conflict, NotFound):
            continue
        except Unavailable:
            if _claims(datastore.get(KIND, block_name(slot))) != after:
                raise
        return True
    raise Conflict(f"{slot} was changed by others {_ATTEMPTS} times in a row")


def _write(datastore: Datastore, slot: Prefix, stored: Stored | None, claims: tuple[Claim, ...]) -> None:
    name = block_name(slot)
    block = IPBlock(metadata=Metadata(name=name), spec=IPBlockSpec(cidr=slot, claims=claims))
    if stored is None:
        datastore.create(block)
    elif claims:
        datastore.update(block, stored.revision)
    else:
        datastore.delete(KIND, name, stored.revision)


def _claims(stored: Stored | None) -> tuple[Claim, ...]:
    return stored.resource.spec.claims if stored and isinstance(stored.resource, IPBlock) else ()


def taking(claims: Claims, cidr: Prefix) -> Change:
    """Our claim of `cidr` in place of smaller ones of our own; declined where another's overlaps."""

    def change(present: tuple[Claim, ...]) -> tuple[Claim, ...] | None:
        around = next((c.cidr for c in present if claims.owns(c) and contains(c.cidr, cidr)), cidr)
        if any(overlap(c.cidr, around) and not claims.owns(c) for c in present):
            return None
        others = (c for c in present if not overlap(c.cidr, around))
        return _in_order((*others, claims.claim(around)))

    return change


def dropping(claims: Claims, cidr: Prefix) -> Change:
    """Our claim of `cidr` goes; what else the node holds inside it stays."""

    def change(present: tuple[Claim, ...]) -> tuple[Claim, ...]:
        rest = tuple(c for c in present if not (c.cidr == cidr and claims.owns(c)))
        if rest == present:
            return present
        inside = (claims.claim(h.cidr) for h in claims.held if h.cidr != cidr and contains(cidr, h.cidr))
        return _in_order((*rest, *inside))

    return change


def claim_free(datastore: Datastore, claims: Claims, pool: IPPool, listing: Listing) -> Held | None:
    """A slot of the pool in which nobody else has anything; None if there is none.  `listing`: of all blocks, just read."""
    records = {block.spec.cidr: block for block in _blocks(listing)}
    misfits = [cidr for cidr in records if cidr.prefixlen != pool.spec.block_size and overlap(cidr, pool.spec.cidr)]
    broken = _broken(listing)
    for slot in slots_in_order(pool, claims.node):
        record = records.get(slot)
        occupied = record is not None and not all(claims.owns(c) for c in record.spec.claims)
        if occupied or slot in claims.cidrs or block_name(slot) in broken or any(overlap(slot, m) for m in misfits):
            continue
        if claim_exactly(datastore, claims, slot, slot):
            return Held(cidr=slot, slot=slot)
    return None


def claim_exactly(datastore: Datastore, claims: Claims, slot: Prefix, cidr: Prefix) -> bool:
    """Claims the whole slot, or an address in it; False if another node has it or a part of it.

    Records of differently cut slots can only stand beside each other where a pool was deleted and made again.  They are not
    under one compare-and-swap, so they are looked for once more after the write: of two nodes at least one sees the other.
    """
    if not swap(datastore, slot, taking(claims, cidr)):
        return False
    if any(_beside(block, slot, claims, cidr) for block in _blocks(datastore.list(KIND))):
        swap(datastore, slot, dropping(claims, cidr))
        return False
    return True


def release(datastore: Datastore, claims: Claims, held: Iterable[Held]) -> None:
    for one in held:
        swap(datastore, one.slot, dropping(claims, one.cidr))


def assert_claims(datastore: Datastore, claims: Claims, listing: Listing) -> Claims:
    """Makes the datastore say what this node holds, and takes up what it says that the node does not know.

    What another node has by now comes back as contested.  A record that cannot be read says nothing, and nobody can claim by it.
    """
    blocks, broken = _blocks(listing), _broken(listing)
    found = [Held(cidr=c.cidr, slot=b.spec.cidr) for b in blocks for c in b.spec.claims if claims.owns(c)]
    known = {h.cidr: h for h in (*found, *claims.held)}.values()
    asserted = [h if block_name(h.slot) in broken else _asserted(datastore, claims, h, blocks) for h in known]
    return msgspec.structs.replace(claims.having(asserted), former=claims.former if broken else ())


def _asserted(datastore: Datastore, claims: Claims, held: Held, blocks: Iterable[IPBlock]) -> Held:
    stands = not any(_beside(block, held.slot, claims, held.cidr) for block in blocks)
    stands = stands and swap(datastore, held.slot, taking(claims, held.cidr))
    return msgspec.structs.replace(held, contested=not stands)


def _beside(block: IPBlock, slot: Prefix, claims: Claims, cidr: Prefix) -> bool:
    """Whether somebody else claims something of `cidr` by a record of a differently cut slot."""
    return (
        block.spec.cidr.prefixlen != slot.prefixlen
        and overlap(block.spec.cidr, cidr)
        and any(overlap(c.cidr, cidr) and not claims.owns(c) for c in block.spec.claims)
    )


def _blocks(listing: Listing) -> list[IPBlock]:
    """Blocks under their own names only: a record that says otherwise is nobody's slot."""
    blocks = (stored.resource for stored in listing.items if isinstance(stored.resource, IPBlock))
    return [block for block in blocks if block.name == block_name(block.spec.cidr)]


def _broken(listing: Listing) -> set[str]:
    return {key.rpartition("/")[2] for key, _ in listing.broken}


def _in_order(claims: Iterable[Claim]) -> tuple[Claim, ...]:
    return tuple(sorted(claims, key=lambda c: (c.cidr.version, c.cidr)))
