"""Restoring: what a node's claims have to do with a datastore that went back: it was restored from an older copy, or begun anew.

Such a store may lack claims that were won since, and may show some that were given back since, whose slots are others' by now.  The
nodes know better: each has its own durable copy, out of which alone its addresses were given.  So each makes the store say what
it holds.  First it takes out what it holds no more (`withdraw`): the slot's owner waits for that.  Then it asserts what it holds
(`claiming.assert_claims`).  And for `QUARANTINE` seconds it claims nothing new: the slots that seem free may be those of a node that has
not come to asserting yet.  That is longer than an agent needs to notice: it looks again every two seconds, and a server that has stopped
answering is found out within fifteen.

A node that has never seen the store before knows of no jump, and may claim a slot before its owner has come.  Then the owner, if it has
pods there, says so in the slot's record (`dispute`), and the later claim gives out no more addresses: as soon as its own pods there
are gone it is given back.  Until then both sides say what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

import msgspec

from netloom.datastore import Datastore
from netloom.errors import Conflict, NotFound, Unreadable
from netloom.ipam.claiming import KIND, Change, is_disputed, swap
from netloom.ipam.claims import Claims, Held
from netloom.model.addresses import Prefix, contains
from netloom.model.resources import Claim, IPBlock, Node, block_name

QUARANTINE = 30.0
"""Seconds without new claims after the datastore went back."""


def withdraw(datastore: Datastore, claims: Claims, blocks: Iterable[IPBlock], uses: Callable[[Prefix], bool]) -> None:
    """Takes claims out of the datastore that are this node's by its word and not by the node's own copy.  None of their addresses was
    given out, but for those that `uses` knows of: then the copy is not what it was."""
    for block in blocks:
        if any(claims.owns(claim) and not _is_held(claims, claim.cidr, uses) for claim in block.spec.claims):
            with suppress(Unreadable):  # nobody can claim by it
                swap(datastore, block.spec.cidr, _withdrawing(claims, uses))


def _withdrawing(claims: Claims, uses: Callable[[Prefix], bool]) -> Change:
    def change(present: tuple[Claim, ...]) -> tuple[Claim, ...]:
        gone = [c.cidr for c in present if claims.owns(c) and not _is_held(claims, c.cidr, uses)]
        rest = (c for c in present if c.cidr not in gone)
        inside = (claims.claim(h.cidr) for h in claims.held if any(contains(cidr, h.cidr) for cidr in gone))
        return tuple(sorted((*rest, *inside), key=lambda claim: claim.cidr))

    return change


def _is_held(claims: Claims, cidr: Prefix, uses: Callable[[Prefix], bool]) -> bool:
    """A smaller claim that was taken into a larger one since is held, too; of one that was split since, the parts that are left are."""
    if any(contains(held.cidr, cidr) for held in claims.held):
        return True
    return uses(cidr) and not any(contains(cidr, held.cidr) for held in claims.held)


def dispute(datastore: Datastore, claims: Claims, held: Held) -> None:
    """Another node claims what this one has pods in: the record says so from now on."""
    own = claims.claim(held.cidr)
    _say(datastore, held, lambda said, block: said if own in said or not _is_anothers(block, own) else (*said, own))


def concede(datastore: Datastore, claims: Claims, held: Iterable[Held]) -> None:
    """This node has no pods there any more, and nothing to say."""
    for one in held:
        _say(datastore, one, _without(claims.claim(one.cidr)))


def _without(own: Claim) -> Callable[[tuple[Claim, ...], IPBlock], tuple[Claim, ...]]:
    return lambda said, _: tuple(other for other in said if other != own)


def disputed(claims: Claims, blocks: Mapping[str, IPBlock], nodes: Mapping[str, Node]) -> dict[Prefix, str]:
    """Of what this node holds, that which another one has pods in, and which one.  One that is no node any more has no say."""
    found = {}
    for held in claims.held:
        block, own = blocks.get(block_name(held.slot)), claims.claim(held.cidr)
        for other in block.spec.disputed if block is not None and block.spec.disputed else ():
            node = nodes.get(other.node)
            if node is not None and node.spec.id == other.node_id and is_disputed(own, other):
                found[held.cidr] = other.node
    return found


_ATTEMPTS = 20


def _say(datastore: Datastore, held: Held, change: Callable[[tuple[Claim, ...], IPBlock], tuple[Claim, ...]]) -> None:
    """Replaces what is disputed in the slot's record."""
    for _ in range(_ATTEMPTS):
        try:
            stored = datastore.get(KIND, block_name(held.slot))
        except Unreadable:
            return
        if stored is None or not isinstance(block := stored.resource, IPBlock):
            return
        if (after := change(block.spec.disputed, block)) == block.spec.disputed:
            return
        with suppress(Conflict, NotFound):
            spec = msgspec.structs.replace(block.spec, disputed=after)
            datastore.update(msgspec.structs.replace(block, spec=spec), stored.revision)
            return
    raise Conflict(f"{held.slot} was changed by others {_ATTEMPTS} times in a row")


def _is_anothers(block: IPBlock, own: Claim) -> bool:
    return any(is_disputed(claim, own) for claim in block.spec.claims)
