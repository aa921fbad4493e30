"""Reconciling: one pass makes every kernel table agree with what is wanted.

Tables are done in an order in which nothing waits for the next: links, their rates, sysctls and addresses, the rules and the passages
through other firewalls, tunnels of ours (what their programs look up, then the programs; forwarders, and what they are told), then what
leads packets there (neighbours, FDB, and routes last).  Each driver goes on after a refusal; a refusal is reported, and the next pass
tries again.  While the datastore has not said "this is all", nothing is deleted, and what leads to other nodes is left as it is: it was
right once, and later than what is remembered.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from netloom.agent.forwarded import Believed, Forwarded, Forwarders
from netloom.agent.forwarding import Forwarding
from netloom.dataplane.addresses import Addresses
from netloom.dataplane.batch import describe
from netloom.dataplane.entries import Entries
from netloom.dataplane.fdb import Fdb
from netloom.dataplane.foreign import ForeignFirewalls
from netloom.dataplane.links import Links
from netloom.dataplane.neighbours import Neighbours
from netloom.dataplane.netlink import Netlink
from netloom.dataplane.nft import Nft
from netloom.dataplane.routes import Routes
from netloom.dataplane.shaping import Shapings
from netloom.dataplane.sysctls import Sysctls
from netloom.errors import DataplaneError
from netloom.model.desired import Desired, Engine, Filter, SenderKey, Tunnel, TunnelKey, is_finisher
from netloom.reconcile import Changes, Driver, Outcome
from netloom.tunnel.ebpf import Formers, Programs, Senders, Store, Tunnels

_NAMED = 3  # entries of a table, of either sign
_ORDER = (
    *("links", "shaping", "sysctls", "addresses", "filter", "passages"),
    *("senders", "formers", "tunnels", "programs"),  # who sends from an address before this one is known by it first
    *("forwarders", "believed", "forwarded"),
    *("neighbours", "fdb", "routes"),
)


_OF_TUNNELS = {
    "tunnels": (Engine.EBPF, "tunnels"),
    "senders": (Engine.EBPF, "senders"),
    "formers": (Engine.EBPF, "senders"),
    "programs": (Engine.EBPF, "links"),
    "forwarders": (Engine.FORWARDER, "links"),
    "forwarded": (Engine.FORWARDER, "tunnels"),
    "believed": (Engine.FORWARDER, "senders"),
}
"""Driver → its engine, and the field of `Desired` that it takes that engine's part of."""

_RULES = frozenset(("filter", "passages"))
_OWN = frozenset(("links", "shaping", "sysctls", "addresses"))
"""Tables that other nodes have no part in: mostly the same is wanted as before."""
_SELDOM = _OWN | _OF_TUNNELS.keys()
"""And those of tunnels, where there are none: of what is in them nobody tells when others change it."""
_LARGE = frozenset(("routes", "neighbours", "fdb"))
"""Tables of thousands, of which the kernel tells what others write in them."""

_NEEDED_BY_ROUTES = frozenset(("addresses", "tunnels", "forwarded", "neighbours", "fdb"))
"""What is not wanted there any more goes when routes no longer need it; and what finishes packets, when no program sends any there."""


@dataclass(frozen=True, slots=True)
class Pass:
    """What one pass did.  `at`: seconds of the epoch.  `named`: by table, the first of the entries that it wrote and took away."""

    revision: int
    at: float
    milliseconds: float
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    named: Mapping[str, str] = field(default_factory=dict)

    @property
    def failures(self) -> tuple[DataplaneError, ...]:
        return tuple(failure for outcome in self.outcomes.values() for failure in outcome.failures)

    @property
    def changed(self) -> bool:
        return any(o.put or o.deleted for o in self.outcomes.values())

    @property
    def closed(self) -> bool:
        """Whether the rules stand that keep pods to what they may send."""
        return not self.outcomes["filter"].failures

    def __str__(self) -> str:
        tables = [
            f"{name}={outcome}" + (f" [{self.named[name]}]" if name in self.named else "")
            for name, outcome in self.outcomes.items()
            if str(outcome) != "same"
        ]
        return f"pass revision={self.revision} ms={self.milliseconds:.1f} {' '.join(tables) or 'same'}"


class Reconciler:
    """The drivers of one node's kernel tables, on one socket; for the thread that made it."""

    def __init__(self, kernel: Netlink, nft: Nft, forwarding: Forwarding) -> None:
        self._nft, self._foreign = nft, ForeignFirewalls()
        self._guarded = False
        """Whether our own rules stand: they drop what comes through the passages without being from a pod or a node."""
        self._rules: Filter | None = None
        """Those that stand, with passages for them through other firewalls."""
        self._standing: dict[str, Mapping[Any, Any]] = {}  # Any: each driver's own
        """What was wanted of `_OWN` tables when they last agreed with it."""
        self._complete = False
        """Whether the last pass knew the whole cluster."""
        self.store = Store()
        self._routes = Routes(kernel)
        # Any: each driver has its own kinds of key and value; `Desired` has a field of nearly each one's name
        self._drivers: dict[str, Driver[Any, Any]] = {
            driver.name: driver
            for driver in (
                Links(kernel),
                Shapings(kernel),
                Sysctls(),
                Addresses(kernel),
                Tunnels(self.store),
                Senders(self.store),
                Formers(self.store),
                Programs(kernel, self.store),
                Forwarders(forwarding),
                Forwarded(forwarding),
                Believed(forwarding),
                Neighbours(kernel),
                Fdb(kernel),
                self._routes,
            )
        }

    def run(self, desired: Desired, revision: int, *, complete: bool, looking: bool = True) -> Pass:
        """`looking`: at all that the kernel has.  Not so, where only other nodes have changed since the last pass: then of most tables
        what was wanted is compared with what is wanted, if the last pass left them in order."""
        looking, self._complete = looking or not (complete and self._complete), complete
        start, at = time.perf_counter(), time.time()
        outcomes: dict[str, Outcome] = {}
        named: dict[str, str] = {}
        later: dict[str, Changes[Any, Any]] = {}  # Any: of each driver's keys
        for name in _ORDER:
            try:
                outcomes[name] = self._table(name, desired, named, later, complete=complete, looking=looking)
            except DataplaneError as e:  # the table could not be read
                outcomes[name] = Outcome(failures=(e,))
            if name == "links" and str(outcomes[name]) != "same":
                looking = True  # what was on an interface is gone with it
            if name == "filter":
                self._guarded = not outcomes[name].failures
        in_order = not (outcomes["filter"].failures or outcomes["passages"].failures)
        self._rules = desired.filter if in_order and complete else None
        for name, changes in reversed(later.items()):
            outcomes[name] += self._drivers[name].apply(changes)
        self._standing = {name: _wanted(name, desired) for name in _SELDOM if complete and not outcomes[name].failures}
        return Pass(revision, at, (time.perf_counter() - start) * 1000, outcomes, named)

    def passages(self, desired: Desired) -> Outcome:
        """Through other firewalls.  Some of them tell nobody that they were reloaded, so this is asked for more often."""
        return self._foreign.reconcile(desired.filter) if self._guarded else Outcome()

    def legacy_passages(self, desired: Desired) -> Outcome:
        """Through those that take seconds: no part of a pass, and for another thread."""
        return self._foreign.reconcile_legacy(desired.filter) if self._guarded else Outcome()

    def obstacles(self, desired: Desired) -> tuple[str, ...]:
        """What holds other nodes' tunnels up where no passage is made, in words; for the same thread."""
        return self._foreign.obstacles(desired.filter)

    def _table(
        self,
        name: str,
        desired: Desired,
        named: dict[str, str],
        later: dict[str, Changes[Any, Any]],  # Any: of each driver's keys
        *,
        complete: bool,
        looking: bool,
    ) -> Outcome:
        if name in _RULES and not looking and desired.filter == self._rules:
            return Outcome()
        if name == "filter":
            return self._nft.reconcile(desired.filter, complete=complete)
        if name == "passages":
            return self.passages(desired) if complete else Outcome()
        driver = self._drivers[name]
        wanted = _wanted(name, desired)
        if not looking and self._standing.get(name) == wanted and (name in _OWN or not wanted):
            return Outcome()
        changes = driver.since(wanted) if not looking and isinstance(driver, Entries) and name in _LARGE else None
        if changes is None:
            changes = driver.changes(wanted)
        if not complete:
            leading = self._routes.leading() if name == self._routes.name else frozenset()
            changes = Changes({key: value for key, value in changes.put.items() if key not in leading})
        if not changes:
            return Outcome()
        named[name] = _in_words(changes)
        if last := _last(name, changes):
            later[name] = Changes(delete=last)
            changes = replace(changes, delete=changes.delete - last)
        return driver.apply(changes) if changes else Outcome()


def _last(name: str, changes: Changes[Any, Any]) -> frozenset[Any]:  # Any: of each driver's keys
    """What is to be taken away at the end."""
    if name == "links":
        return frozenset(filter(is_finisher, changes.delete))
    return changes.delete - changes.put.keys() if name in _NEEDED_BY_ROUTES else frozenset()


def _wanted(name: str, desired: Desired) -> Mapping[Any, Any]:  # Any: of each driver's keys and values
    """Of tunnels, those that the driver's engine carries."""
    if name not in _OF_TUNNELS:
        return getattr(desired, name)  # type: ignore[no-any-return]  # a field of that name
    engine, table = _OF_TUNNELS[name]
    ours = {name: link for name, link in desired.links.items() if isinstance(link, Tunnel) and link.engine is engine}
    if table == "links":
        return ours
    wanted: Mapping[TunnelKey, object] | Mapping[SenderKey, object] = getattr(desired, table)
    return {key: value for key, value in wanted.items() if key.device in ours}


def _in_words(changes: Changes[Any, Any]) -> str:  # Any: of each driver's keys
    """The first few, so that a line of the log says what somebody else had changed."""
    signed = [("+", changes.put), ("-", changes.delete - changes.put.keys())]
    words = [f"{sign}{describe(key)}" for sign, keys in signed for key in islice(keys, _NAMED)]
    more = len(changes.put) + len(signed[1][1]) - len(words)
    return ", ".join(words) + (f" and {more} more" if more else "")
