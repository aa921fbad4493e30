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

A network that is alone on its host needs no wall, and this table's hook would cost each of its frames a thirtieth where br_netfilter
is.  The next one's first ADD builds it, with its own bridge and all pools: either side is enough.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Sequence
from typing import Final

from netloom.dataplane.nft import expressions as e
from netloom.dataplane.nft.events import Change
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
    add_rule,
    add_set,
    add_table,
)
from netloom.dataplane.nft.sets import HOST_ORDER
from netloom.dataplane.nft.tables import Keys, WhileNeeded
from netloom.errors import DataplaneError
from netloom.model.addresses import Prefix
from netloom.model.desired import Filter
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


class Networks:
    """On the driver's socket.  `record` as of `Standing`."""

    def __init__(self, kernel: Nfnetlink, record: str | None) -> None:
        self.table = WhileNeeded(kernel, TABLE, _structure, record)
        self._known: Keys = {}
        """Elements that are there, as far as we know."""
        self._pools = frozenset[Prefix]()
        self._alone: Collection[str] = ()
        """The bridge that needs no wall while there is no other."""

    def notice(self, changes: Sequence[Change]) -> None:
        if self.table.notice(changes):
            self._known = {}

    def keep_apart(self, internal: Collection[str], isolated: Collection[str]) -> None:
        """These bridges from now on, too: before anybody behind them may send."""
        if not internal and all(name in self._alone for name in isolated):
            return
        wanted = keys(internal, isolated)
        if all(found <= self._known.get(definition, frozenset()) for definition, found in wanted.items()):
            return
        pools = pool_keys(self._pools)
        if self.table.add(wanted, besides=pools):
            wanted |= pools
        self._known = {d: self._known.get(d, frozenset()) | found for d, found in wanted.items()}
        self._alone = ()

    def reconcile(self, want: Filter, *, complete: bool = True) -> Outcome:
        """`complete` False: what stands is only added to."""
        self._pools, self._alone = want.pools, ()
        if not complete and self.table.is_standing():
            try:
                self.keep_apart(want.internal, want.isolated)
            except DataplaneError as error:
                return Outcome(failures=(error,))
            return Outcome()
        needed = want.internal or want.isolated
        wanted = keys(want.internal, want.isolated) | pool_keys(want.pools) if needed else None
        outcome = self.table.reconcile(wanted)
        self._known = {} if wanted is None or outcome.failures else wanted
        self._alone = want.alone
        return outcome


def keys(internal: Collection[str], isolated: Collection[str]) -> dict[Set, frozenset[bytes]]:
    """What the sets of bridges have to hold."""
    closed, apart = (frozenset(name.encode().ljust(IFNAME.length, b"\0") for name in names) for names in (internal, isolated))
    every = closed | apart
    return {NETWORKS: every, INTERNAL: closed, ISOLATED: apart, WITHIN: frozenset(name + name for name in every)}


def pool_keys(pools: Collection[Prefix]) -> dict[Set, frozenset[bytes]]:
    return {definition: points(pools, version) for version, definition in POOLS.items()}


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
