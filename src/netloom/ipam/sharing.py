"""Sharing: how a node gets along where blocks are few, and what it does for others then (decision 0014).

    thicken               of a whole block nothing is kept any more                         in the agent's loop
    claim_gap             a part of a slot that nobody has                                  in the thread that asks the datastore
    take_up               what another node has given us                                    likewise
    gift, part_with       what of ours another node could have; it is out of service        in the agent's loop
    give                  and then the other node's                                         in the thread that asks the datastore

Killed between `part_with` and `give`, the datastore still says that the part is ours, and it is taken up again.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from netloom.datastore import Datastore, Revision
from netloom.ipam import claiming
from netloom.ipam.blocks import SMALLEST_THAT_KEEPS, pool_of
from netloom.ipam.choosing import NeedBlock
from netloom.ipam.claims import Held
from netloom.ipam.giving import Gift, bridged, gift
from netloom.ipam.inventory import Inventory
from netloom.model.addresses import Prefix, overlap
from netloom.model.resources import Claim, IPPool


class Sharing:
    def __init__(self, inventory: Inventory) -> None:
        self._own = inventory

    def thicken(self, need: NeedBlock) -> bool:
        """Whether there was a whole block of these pools of which nothing need be kept any more, but what the node itself uses."""
        with self._own.at_hand() as free:
            if not free:
                return True
            held = self._own.claims.held
            found = next((one for one in held if self._can_be_dense(one, need.pools)), None)
            if found is None:
                return False
            others = (one for one in held if one is not found)
            self._own.change(self._own.claims.having((*others, msgspec.structs.replace(found, dense=True))))
            return True

    def _can_be_dense(self, held: Held, pools: Iterable[IPPool]) -> bool:
        return (
            pool_of(held.cidr, pools) is not None
            and held.cidr == held.slot
            and held.cidr.num_addresses >= SMALLEST_THAT_KEEPS
            and not (held.contested or held.dense or bridged(held, self._own.journal.holdings))
        )

    def claim_gap(self, need: NeedBlock, datastore: Datastore) -> bool:
        """Whether there was a part of a slot of these pools that nobody had."""
        own = self._own
        with own.claiming:
            if own.claims.serving != need.held:
                return True
            own.doubts.require_none()
            own.doubts.require_no_quarantine()
            own.doubtful = True
            records = own.assert_claims(datastore, listed=True)
            found = next(filter(None, (claiming.claim_gap(datastore, own.claims, p, records) for p in need.pools)), None)
            if found:
                own.add(found)
            own.doubtful, own.knows_all = False, True
            return own.claims.serving != need.held

    def take_up(self, slots: Iterable[Prefix], since: Revision, datastore: Datastore) -> bool:
        """Whether others have given us something in these slots, since we asked for it."""
        own = self._own
        with own.claiming:
            if own.doubts.remain:
                return False
            found = claiming.taken_up(datastore, own.claims, slots, since)
            if found:
                own.add(*found)
            return bool(found)

    def gift(self, pool: str) -> Gift | None:
        """What of this pool another node could have."""
        own, view = self._own, self._own.view
        giving = {block.cidr for block in view.blocks.get(pool, ())}
        if not giving or pool in view.own_pools:
            return None
        held = [one for one in own.claims.held if one.cidr in giving]
        return gift(held, own.journal.holdings, own.cooled(), own.pinned(), view.reserved)

    def part_with(self, pool: str) -> Gift | None:
        """Takes it out of service; `give` does the rest.  None while claims change, or when there is nothing to give any more."""
        with self._own.at_hand() as free:
            found = self.gift(pool) if free else None
            if found is not None:
                others = (held for held in self._own.claims.held if held.cidr != found.held.cidr)
                self._own.change(self._own.claims.having((*others, *found.left)))
        if found is not None:
            self._own.journal.forget(found.part)
        return found

    def give(self, gift: Gift, to: Claim, datastore: Datastore) -> bool:
        """Whether it is the other node's now.  Raises Unavailable: then it may be; what is not is taken up again before the next claim."""
        own = self._own
        with own.claiming:
            if any(overlap(held.cidr, gift.part) for held in own.claims.held):
                return False  # the datastore was asked in between, and said that it is ours
            doubtful, own.doubtful = own.doubtful, True
            own.keep(own.claims)
            given = claiming.swap(datastore, gift.held.slot, claiming.giving(own.claims, gift.part, to))
            own.doubtful = doubtful or not given
            return given
