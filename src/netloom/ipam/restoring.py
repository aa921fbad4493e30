"""Restoring: what a node's claims have to do with a datastore that went back: it was restored from an older copy, or begun anew.

Such a store may lack claims that were won since, and may show some that were given back since, whose slots are others' by now.  The
nodes know better: each has its own durable copy, out of which alone its addresses were given.  So each makes the store say what
it holds.  First it takes out what it holds no more (`withdraw`): the slot's owner waits for that.  Then it asserts what it holds
(`claiming.assert_claims`).  And for `QUARANTINE` seconds it claims nothing new: the slots that seem free may be those of a node that has
not come to asserting yet.  That is longer than an agent needs to notice: it looks again every two seconds, and a server that has stopped
answering is found out within fifteen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress

from netloom.datastore import Datastore
from netloom.errors import Unreadable
from netloom.ipam.claiming import Change, swap
from netloom.ipam.claims import Claims
from netloom.model.addresses import Prefix, contains
from netloom.model.resources import Claim, IPBlock

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
