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

Which slot is free is chosen from what the node knows (`Records`), and thousands of blocks need not be read for one.  It may be
old: then the swap is declined, and the next slot is tried.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from netloom.datastore import Datastore, Listing, Revision, Stored
from netloom.errors import Conflict, NotFound, Unavailable, Unreadable
from netloom.ipam.blocks import slots_in_order
from netloom.ipam.claims import Claims, Held
from netloom.ipam.parts import gaps, rest
from netloom.model.addresses import Prefix, contains, overlap
from netloom.model.resources import Claim, IPBlock, IPBlockSpec, IPPool, Metadata, block_name

KIND = "IPBlock"
_ATTEMPTS = 1000
"""Each lost round is another node's success, so this is many more than a slot can have."""

Change = Callable[[tuple[Claim, ...]], tuple[Claim, ...] | None]


def swap(datastore: Datastore, slot: Prefix, change: Change, *, anew: bool = False) -> bool:
    """Replaces the slot's claims by `change(claims)`; False if that is None.  Raises Unavailable: it may still have happened.  `anew`:
    written also if nothing changes, so that no earlier write of ours, which timed out, can happen after this."""
    for _ in range(_ATTEMPTS):
        stored = datastore.get(KIND, block_name(slot))
        before = _claims(stored)
        after = change(before)
        if after is None:
            return False
        if after == before and not (anew and stored):
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
    disputed = tuple(d for d in _disputed(stored) if any(is_disputed(c, d) for c in claims))
    block = IPBlock(metadata=Metadata(name=name), spec=IPBlockSpec(cidr=slot, claims=claims, disputed=disputed))
    if stored is None:
        datastore.create(block)
    elif claims:
        datastore.update(block, stored.revision)
    else:
        datastore.delete(KIND, name, stored.revision)


def _claims(stored: Stored | None) -> tuple[Claim, ...]:
    return stored.resource.spec.claims if stored and isinstance(stored.resource, IPBlock) else ()


def _disputed(stored: Stored | None) -> tuple[Claim, ...]:
    return stored.resource.spec.disputed if stored and isinstance(stored.resource, IPBlock) else ()


def is_disputed(claim: Claim, by: Claim) -> bool:
    """Whether that is another node's word about this claim."""
    return overlap(claim.cidr, by.cidr) and (claim.node, claim.node_id) != (by.node, by.node_id)


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


def giving(claims: Claims, part: Prefix, to: Claim) -> Change:
    """A part of what is ours goes to another node, in one write; declined where it is not ours any more."""

    def change(present: tuple[Claim, ...]) -> tuple[Claim, ...] | None:
        around = next((c for c in present if claims.owns(c) and contains(c.cidr, part)), None)
        if around is None:
            return None
        others = (c for c in present if c is not around)
        return _in_order((*others, to, *(claims.claim(cidr) for cidr in rest(around.cidr, part))))

    return change


class Records:
    """Every node's blocks, by name: as the watch has told of them, or (`listed`) just read.  A record that says another slot than its
    name is nobody's."""

    def __init__(self, blocks: Mapping[str, IPBlock], broken: frozenset[str] = frozenset(), *, listed: bool = False) -> None:
        self.blocks, self.broken, self.listed = blocks, broken, listed
        self._cuts: dict[tuple[int, int], list[IPBlock]] = defaultdict(list)
        for block in blocks.values():
            self._cuts[block.spec.cidr.version, block.spec.cidr.prefixlen].append(block)

    @classmethod
    def of(cls, listing: Listing) -> Records:
        blocks = {s.resource.name: s.resource for s in listing.items if isinstance(s.resource, IPBlock)}
        return cls(blocks, frozenset(key.rpartition("/")[2] for key, _ in listing.broken), listed=True)

    def __iter__(self) -> Iterator[IPBlock]:
        return (block for block in self.blocks.values() if block.name == block_name(block.spec.cidr))

    def claims(self, slot: Prefix) -> tuple[Claim, ...]:
        block = self.blocks.get(block_name(slot))
        return block.spec.claims if block and block.spec.cidr == slot else ()

    def cut_otherwise(self, version: int, length: int) -> list[IPBlock]:
        """Of slots of another size.  There are some only where a pool was deleted and made again."""
        others = (blocks for (v, size), blocks in self._cuts.items() if v == version and size != length)
        return [block for blocks in others for block in blocks if block.name == block_name(block.spec.cidr)]


def claim_free(datastore: Datastore, claims: Claims, pool: IPPool, records: Records) -> Held | None:
    """A slot of the pool in which nobody else has anything; None if there is none, as far as the records know."""
    others = (block.spec.cidr for block in records.cut_otherwise(pool.spec.cidr.version, pool.spec.block_size))
    misfits, own = [cidr for cidr in others if overlap(cidr, pool.spec.cidr)], claims.cidrs
    for slot in slots_in_order(pool, claims.node):
        occupied = not all(claims.owns(c) for c in records.claims(slot))
        if occupied or slot in own or block_name(slot) in records.broken or any(overlap(slot, m) for m in misfits):
            continue
        try:
            if claim_exactly(datastore, claims, slot, slot):
                return Held(cidr=slot, slot=slot)
        except Unreadable:
            continue
    return None


def claim_gap(datastore: Datastore, claims: Claims, pool: IPPool, records: Records) -> Held | None:
    """The largest part of a slot of the pool that nobody has, where others have the rest of it."""
    blocks = [b for b in records if b.spec.cidr.prefixlen == pool.spec.block_size and contains(pool.spec.cidr, b.spec.cidr)]
    found = [(gap, b.spec.cidr) for b in blocks for gap in gaps(b.spec.cidr, [c.cidr for c in b.spec.claims])]
    for gap, slot in sorted(found, key=lambda piece: piece[0].prefixlen):
        try:
            if claim_exactly(datastore, claims, slot, gap):
                return Held(cidr=gap, slot=slot, dense=True)
        except Unreadable:
            continue
    return None


def taken_up(datastore: Datastore, claims: Claims, slots: Iterable[Prefix], since: Revision) -> list[Held]:
    """What others have given to this node in these slots.  What was written before `since` was none of that: a store that went back shows
    claims that ended long ago."""
    stored = [(slot, datastore.get(KIND, block_name(slot))) for slot in slots]
    fresh = [(slot, record) for slot, record in stored if record is not None and record.revision > since]
    found = [(c.cidr, slot) for slot, record in fresh for c in _claims(record) if claims.owns(c)]
    return [Held(cidr=cidr, slot=slot, dense=True) for cidr, slot in found if not any(contains(o, cidr) for o in claims.cidrs)]


def claim_exactly(datastore: Datastore, claims: Claims, slot: Prefix, cidr: Prefix) -> bool:
    """Claims the whole slot, or a part of it; False if another node has it or a part of it.

    Records of differently cut slots can only stand beside each other where a pool was deleted and made again.  They are not
    under one compare-and-swap, so they are looked for once more after the write: of two nodes at least one sees the other.
    """
    if not swap(datastore, slot, taking(claims, cidr)):
        return False
    if any(_beside(block, slot, claims, cidr) for block in _cut_otherwise(datastore, slot)):
        swap(datastore, slot, dropping(claims, cidr))
        return False
    return True


def _cut_otherwise(datastore: Datastore, slot: Prefix) -> Iterator[IPBlock]:
    """Records of slots of another size, of its family, as they are now.  Names say enough to pass over all the others."""
    own = block_name(slot)
    groups, size = own.count("-"), own[own.rindex("-") :]
    for name in datastore.keys(KIND):
        if name.endswith(size) or name.count("-") != groups:
            continue
        try:
            stored = datastore.get(KIND, name)
        except Unreadable:
            continue
        if stored and isinstance(stored.resource, IPBlock) and name == block_name(stored.resource.spec.cidr):
            yield stored.resource


def release(datastore: Datastore, claims: Claims, held: Iterable[Held]) -> None:
    for one in held:
        swap(datastore, one.slot, dropping(claims, one.cidr))


def assert_claims(datastore: Datastore, claims: Claims, records: Records) -> Claims:
    """Makes the datastore say what this node holds, and takes up what records that were just read say and the node does not know.

    What another node has by now comes back as contested.  A record that cannot be read says nothing, and nobody can claim by it.
    """
    every = records if records.listed else ()
    found = [Held(cidr=c.cidr, slot=b.spec.cidr) for b in every for c in b.spec.claims if claims.owns(c)]
    known = {h.cidr: h for h in (*found, *claims.held)}.values()
    asserted = claims.having([_asserted(datastore, claims, h, records, anew=h not in claims.held) for h in known])
    settled = records.listed and not records.broken
    return msgspec.structs.replace(asserted, former=() if settled else claims.former)


def _asserted(datastore: Datastore, claims: Claims, held: Held, records: Records, *, anew: bool) -> Held:
    others = records.cut_otherwise(held.slot.version, held.slot.prefixlen)
    stands = not any(_beside(block, held.slot, claims, held.cidr) for block in others)
    try:
        stands = stands and swap(datastore, held.slot, taking(claims, held.cidr), anew=anew)
    except Unreadable:
        return held
    return msgspec.structs.replace(held, contested=not stands)


def _beside(block: IPBlock, slot: Prefix, claims: Claims, cidr: Prefix) -> bool:
    """Whether somebody else claims something of `cidr` by a record of a differently cut slot."""
    return (
        block.spec.cidr.prefixlen != slot.prefixlen
        and overlap(block.spec.cidr, cidr)
        and any(overlap(c.cidr, cidr) and not claims.owns(c) for c in block.spec.claims)
    )


def _in_order(claims: Iterable[Claim]) -> tuple[Claim, ...]:
    return tuple(sorted(claims, key=lambda c: (c.cidr.version, c.cidr)))
