"""Networks kept apart: a table of its own, which is there while any network with a pool of its own is.

Networks are known by their bridges, which are elements of sets; a packet that neither comes from nor goes to one is looked up three
times and goes on.  Of the others

    within the network     accept, whatever way it took: answers of a service, frames that br_netfilter shows here.  It comes first,
                           since on a host that has br_netfilter it is every frame
    internal               drop, from it or to it: only the host, which does not forward, and the network itself are left
    redirected             accept: who publishes a port of a pod has asked for it, also for other networks
    isolated               drop what comes from another network's or the cluster's pod, or goes to one, wherever that is: by address,
                           since on plain routes another node's pods come in from the uplink

Accepting is for this chain only: other tables are passed as before.
"""

from __future__ import annotations

import errno
import functools
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from netloom.dataplane.nft import expressions as e
from netloom.dataplane.nft.expressions import Meta
from netloom.dataplane.nft.intervals import points
from netloom.dataplane.nft.nfnetlink import Message, Nfnetlink
from netloom.dataplane.nft.objects import (
    ADDRESS,
    IFNAME,
    INET,
    Hook,
    Set,
    TableId,
    add_chain,
    add_counter,
    add_elements,
    add_rule,
    add_set,
    add_table,
    delete_elements,
    delete_table,
    flush_set,
    get_elements,
    get_sets,
    keys_of,
)
from netloom.dataplane.nft.sets import HOST_ORDER
from netloom.dataplane.nft.standing import Standing
from netloom.errors import DataplaneError
from netloom.model.addresses import Prefix
from netloom.reconcile import Outcome

TABLE: Final = TableId(INET, "netloom-networks")
COUNTERS: Final = ("internal", "isolated")

_FORWARD, _FILTER = 2, 0  # linux/netfilter.h

NETWORKS, INTERNAL, ISOLATED = (
    Set(TABLE, name, (IFNAME,), userdata=HOST_ORDER) for name in ("networks", "internal", "isolated")
)
WITHIN: Final = Set(TABLE, "within", (IFNAME, IFNAME))
POOLS: Final = {version: Set(TABLE, f"pools{version}", (ADDRESS[version],), interval=True) for version in (4, 6)}
SETS: Final[tuple[Set, ...]] = (NETWORKS, INTERNAL, ISOLATED, WITHIN, *POOLS.values())

Keys = Mapping[Set, frozenset[bytes]]


class Networks:
    """The table in the kernel, on the driver's socket.  `record` as of `Standing`."""

    def __init__(self, kernel: Nfnetlink, record: str | None) -> None:
        self._kernel, self._standing = kernel, Standing(kernel, (TABLE,), record)
        self._stands: bool | None = None
        """Whether the table is there as we built it; None where that is not known."""
        self._spoilt = False
        self._known: Keys = {}
        """Elements that are there, as far as we know."""
        self._pools = frozenset[Prefix]()

    def changed_by_others(self) -> None:
        self._stands, self._spoilt, self._known = None, True, {}

    def keep_apart(self, internal: Collection[str], isolated: Collection[str]) -> None:
        """These bridges from now on, too: before anybody behind them may send."""
        wanted = keys(internal, isolated)
        if all(found <= self._known.get(definition, frozenset()) for definition, found in wanted.items()):
            return
        try:
            self._kernel.transact(list(_added(wanted)))
        except DataplaneError as error:
            if error.errno != errno.ENOENT or self._exists():
                raise
            wanted |= pool_keys(self._pools)
            self._build(wanted)
        self._known = {d: self._known.get(d, frozenset()) | found for d, found in wanted.items()}

    def reconcile(
        self, internal: Collection[str], isolated: Collection[str], pools: frozenset[Prefix], *, complete: bool = True
    ) -> Outcome:
        """`complete` False: what stands is only added to."""
        self._pools = pools
        try:
            if not complete and self._is_standing():
                self.keep_apart(internal, isolated)
                return Outcome()
            if internal or isolated:
                return self._put_in_place(keys(internal, isolated) | pool_keys(pools))
            self._known = {}
            if self._stands is not False and (self._stands or self._exists()):
                self._kernel.transact(remove())
                self._stands, self._spoilt = False, False
                return Outcome(deleted=1)
        except DataplaneError as error:
            self._stands, self._known = None, {}
            return Outcome(failures=(error,))
        self._stands = False
        return Outcome()

    def _put_in_place(self, want: Keys) -> Outcome:
        if self._is_standing():
            try:
                outcome = self._adjust(want)
            except DataplaneError:
                pass  # something is missing after all
            else:
                self._known = want
                return outcome
        outcome = Outcome(put=self._build(want))
        self._known = want
        return outcome

    def _is_standing(self) -> bool:
        if self._stands is None and not self._spoilt and self._standing.is_of(_structure()):
            self._stands = True
        return bool(self._stands)

    def _adjust(self, want: Keys) -> Outcome:
        batch: list[Message] = []
        put = deleted = 0
        for definition, wanted in want.items():
            have = keys_of(definition, [body for _, _, body in self._kernel.dump(get_elements(definition))])
            if have == wanted:
                continue
            put, deleted = put + len(wanted - have), deleted + len(have - wanted)
            if definition.interval:
                batch += (flush_set(definition), *add_elements(definition, wanted))
            else:
                batch += (*add_elements(definition, wanted - have), *delete_elements(definition, have - wanted))
        if batch:
            self._kernel.transact(batch)
        return Outcome(put, deleted)

    def _build(self, want: Keys) -> int:
        batch = [*remove(), *_structure(), *_added(want)]
        self._kernel.transact(batch)
        self._stands, self._spoilt = True, False
        self._standing.put_down(_structure())
        return len(batch)

    def _exists(self) -> bool:
        try:
            self._kernel.dump(get_sets(TABLE))
        except DataplaneError as error:
            if error.errno == errno.ENOENT:
                return False
            raise
        return True


def remove() -> list[Message]:
    return [add_table(TABLE), delete_table(TABLE)]


def keys(internal: Collection[str], isolated: Collection[str]) -> dict[Set, frozenset[bytes]]:
    """What the sets of bridges have to hold."""
    closed, apart = (frozenset(name.encode().ljust(IFNAME.length, b"\0") for name in names) for names in (internal, isolated))
    every = closed | apart
    return {NETWORKS: every, INTERNAL: closed, ISOLATED: apart, WITHIN: frozenset(name + name for name in every)}


def pool_keys(pools: Collection[Prefix]) -> dict[Set, frozenset[bytes]]:
    return {definition: points(pools, version) for version, definition in POOLS.items()}


def _added(elements: Keys) -> Iterator[Message]:
    for definition, found in elements.items():
        yield from add_elements(definition, found)


@functools.cache
def _structure() -> tuple[Message, ...]:
    """All but the elements."""
    batch = [add_table(TABLE), *(add_counter(TABLE, name) for name in COUNTERS)]
    batch += (add_set(definition, number) for number, definition in enumerate(SETS, 1))
    batch += (add_chain(TABLE, "apart"), add_chain(TABLE, "forward", Hook(_FORWARD, _FILTER)))
    batch += (add_rule(TABLE, chain, (steps,), comment) for chain, steps, comment in _rules())
    return tuple(batch)


_FROM, _TO = e.load_meta(Meta.IIFNAME), e.load_meta(Meta.OIFNAME)


def _rules() -> Iterator[tuple[str, bytes, str]]:
    within = _FROM + e.load_meta(Meta.OIFNAME, e.REGISTER + 4) + e.in_set(WITHIN.name)
    yield "forward", within + e.accept(), "within a network"
    for way, word in ((_FROM, "from"), (_TO, "to")):
        yield "forward", way + e.in_set(NETWORKS.name) + e.goto("apart"), f"{word} a network with a pool of its own"
    for way, word in ((_FROM, "from"), (_TO, "to")):
        yield "apart", way + e.in_set(INTERNAL.name) + e.counted("internal") + e.drop(), f"{word} an internal network"
    yield "apart", e.is_redirected() + e.accept(), "to a published port, and back"
    for way, other, words in (
        (_FROM, e.destination, "from an isolated network to"),
        (_TO, e.source, "to an isolated network from"),
    ):
        for version, pools in POOLS.items():
            pod = e.ip_version(version, bridge=False) + other(version) + e.in_set(pools.name)
            yield "apart", way + e.in_set(ISOLATED.name) + pod + e.counted("isolated") + e.drop(), f"{words} another pod"
