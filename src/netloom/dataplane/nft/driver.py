"""The driver: keeps the kernel's tables as wanted, and is the one way by which pods' sources come and go.

`reconcile` builds what it does not know to be its own: the first time, and after somebody else has touched one of our tables
(`Events` tells).  Otherwise rules are as they were built, and only elements are compared, with what the kernel really holds.

`admit` and `expel` are on the path of ADD and DEL: one small transaction each, repeatable.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from netloom.dataplane.nft import ruleset
from netloom.dataplane.nft.events import Change, Events
from netloom.dataplane.nft.networks import TABLE as NETWORKS_TABLE
from netloom.dataplane.nft.networks import Networks
from netloom.dataplane.nft.nfnetlink import Nfnetlink
from netloom.dataplane.nft.objects import Count, add_elements, count_of, get_counters
from netloom.dataplane.nft.ports import TABLE as PORTS_TABLE
from netloom.dataplane.nft.ports import Ports
from netloom.dataplane.nft.sets import OWN_LINKS, TARGETS, keys, own_link_keys, source_keys
from netloom.dataplane.nft.tables import Tables
from netloom.errors import DataplaneError
from netloom.model.desired import Filter, Published, Source
from netloom.reconcile import Outcome

TABLES: Final = (*ruleset.TABLES, PORTS_TABLE, NETWORKS_TABLE)
"""All that are ours."""


class Nft:
    """Sockets of the calling thread's namespace; for one thread at a time.  `fileno` is readable when somebody else changed
    nftables: then call `foreign_changes`.  `record`: a file by which a successor knows what stands."""

    name = "nft"

    def __init__(self, record: str | None = None) -> None:
        self._kernel = Nfnetlink()
        self._rules = Tables(self._kernel, ruleset.TABLES, record)
        self._ports = Ports(self._kernel, None if record is None else f"{record}-ports")
        self._networks = Networks(self._kernel, None if record is None else f"{record}-networks")
        self._events = Events(own=self._kernel.port)
        self._untold: dict[Change, None] = {}

    def close(self) -> None:
        self._kernel.close()
        self._events.close()

    def fileno(self) -> int:
        return self._events.fileno()

    def foreign_changes(self) -> tuple[Change, ...]:
        """Which tables others have changed since the last call, and who.  If ours are among them, `reconcile` will rebuild, or has:
        what it has met with is told here, too, for nobody hears of it by the descriptor any more."""
        self._look()
        changes, self._untold = tuple(self._untold), {}
        return changes

    def reconcile(self, want: Filter, *, complete: bool = True) -> Outcome:
        """`complete` False: the cluster is known only as it was remembered.  What an earlier life of the agent built then stays,
        and pods' sources are added to it; it is built only where a table is missing, or somebody else has been at it."""
        self._look()
        networks = self._networks.reconcile(want, complete=complete)
        done = networks, self._reconcile(want, complete=complete), self._ports.reconcile(want.published)
        failures = tuple(failure for one in done for failure in one.failures)
        return Outcome(sum(one.put for one in done), sum(one.deleted for one in done), failures)

    def _reconcile(self, want: Filter, *, complete: bool) -> Outcome:
        if not complete and not self._rules.spoilt and self._stands_and_admits(want):
            return Outcome()
        form = "masquerading" if want.masquerade else "plain"  # the chain for it is there only where a pool wants it
        return self._rules.put_in_place(form, keys(want), lambda: ruleset.build(want))

    def admit(self, sources: Collection[Source], bridges: Collection[str] = (), published: Collection[Published] = ()) -> None:
        """From now on these may send, those behind a bridge by way of it, and these ports lead to them.  Fails, and opens nothing,
        where the tables are missing: reconcile, and try again."""
        wanted = source_keys(sources) | (own_link_keys(bridges) if bridges else {})
        batch = [message for definition, found in wanted.items() for message in add_elements(definition, found)]
        if published:
            self._ports.admit(published, batch)
        elif batch:
            self._kernel.transact(batch)

    def keep_apart(self, internal: Collection[str], isolated: Collection[str]) -> None:
        """These bridges, from now on: before anybody behind them is admitted."""
        self._networks.keep_apart(internal, isolated)

    def withdraw(self, published: Collection[Published], *, last: bool) -> None:
        """From now on these ports lead to no pod.  `last`: there are no others."""
        self._ports.expel(published, last=last)

    def publishes(self, published: Collection[Published]) -> bool:
        """Whether the kernel leads all of these ports to their pods."""
        return self._ports.holds(published)

    def published(self) -> frozenset[Published]:
        """The ports that the kernel leads to pods now, without their interfaces and networks: for who has lost the record of them."""
        return self._ports.published()

    def expel(self, sources: Collection[Source]) -> None:
        """From now on these are closed.  Where a table is missing, whoever builds it anew leaves them out."""
        self._rules.take_out(source_keys(sources))

    def admits(self, sources: Collection[Source]) -> bool:
        """Whether the kernel lets all of these send."""
        return self._rules.hold(source_keys(sources))

    def drops(self) -> Mapping[str, Count]:
        """Packets and bytes dropped since the ruleset was built, by family and reason: `inet spoofed`."""
        found: dict[str, Count] = {}
        for table in (*ruleset.TABLES, NETWORKS_TABLE):
            family = str(table).split()[0]
            for _, _, body in self._kernel.dump(get_counters(table)):
                name, count = count_of(body)
                found[f"{family} {name}"] = count
        return found

    def remove(self) -> None:
        """Takes everything of ours away."""
        for tables in (self._rules, self._ports.table, self._networks.table):
            tables.remove()

    def _look(self) -> None:
        changes = self._events.read()
        for tables in (self._rules, self._ports.table, self._networks):
            tables.notice(changes)
        self._untold |= dict.fromkeys(changes)

    def _stands_and_admits(self, want: Filter) -> bool:
        try:
            for definition in (*OWN_LINKS.values(), TARGETS):  # one of each table
                self._rules.read(definition)
            self.admit(want.sources, want.bridges)
        except DataplaneError:
            return False
        return True
