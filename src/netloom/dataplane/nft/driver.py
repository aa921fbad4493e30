"""The driver: keeps the kernel's tables as wanted, and is the one way by which pods' sources come and go.

`reconcile` builds everything in one transaction where it does not know the rules to be its own: the first time, and after somebody
else has touched one of our tables (`Events` tells).  No packet sees half of it.  Otherwise rules are as they were built,
and only elements are compared, with what the kernel really holds, and written where they differ.

`admit` and `expel` are on the path of ADD and DEL: one small transaction each, repeatable.  The kernel refuses a transaction that
deletes what is not there; where that may be, elements are added once more before they are deleted.
"""

from __future__ import annotations

import errno
from collections.abc import Collection, Mapping
from typing import Final

from netloom.dataplane.nft import ruleset
from netloom.dataplane.nft.events import Change, Events
from netloom.dataplane.nft.networks import TABLE as NETWORKS_TABLE
from netloom.dataplane.nft.networks import Networks
from netloom.dataplane.nft.networks import remove as remove_networks
from netloom.dataplane.nft.nfnetlink import Message, Nfnetlink
from netloom.dataplane.nft.objects import (
    Count,
    Set,
    add_elements,
    count_of,
    delete_elements,
    flush_set,
    get_counters,
    get_elements,
    keys_of,
)
from netloom.dataplane.nft.ports import TABLE as PORTS_TABLE
from netloom.dataplane.nft.ports import Ports
from netloom.dataplane.nft.ports import remove as remove_ports
from netloom.dataplane.nft.sets import OWN_LINKS, TARGETS, keys, own_link_keys, source_keys
from netloom.dataplane.nft.standing import Standing
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
        self._standing = Standing(self._kernel, ruleset.TABLES, record)
        self._ports = Ports(self._kernel, None if record is None else f"{record}-ports")
        self._networks = Networks(self._kernel, None if record is None else f"{record}-networks")
        self._events = Events(own=self._kernel.port)
        self._masquerade: bool | None = None
        """Whether the ruleset that stands has the masquerading chain; None where it is not known to be ours."""
        self._spoilt = False
        """Somebody else has changed our tables since they were built, and since we look."""

    def close(self) -> None:
        self._kernel.close()
        self._events.close()

    def fileno(self) -> int:
        return self._events.fileno()

    def foreign_changes(self) -> tuple[Change, ...]:
        """Which tables others have changed since the last call, and who.  If ours are among them, `reconcile` will rebuild."""
        changes = self._events.read()
        if any(change.concerns(table) for change in changes for table in ruleset.TABLES):
            self._masquerade, self._spoilt = None, True
        if any(change.concerns(PORTS_TABLE) for change in changes):
            self._ports.changed_by_others()
        if any(change.concerns(NETWORKS_TABLE) for change in changes):
            self._networks.changed_by_others()
        return changes

    def reconcile(self, want: Filter, *, complete: bool = True) -> Outcome:
        """`complete` False: the cluster is known only as it was remembered.  What an earlier life of the agent built then stays,
        and pods' sources are added to it; it is built only where a table is missing, or somebody else has been at it."""
        self.foreign_changes()
        networks = self._networks.reconcile(want.internal, want.isolated, want.pools, complete=complete)
        done = networks, self._reconcile(want, complete=complete), self._ports.reconcile(want.published)
        failures = tuple(failure for one in done for failure in one.failures)
        return Outcome(sum(one.put for one in done), sum(one.deleted for one in done), failures)

    def _reconcile(self, want: Filter, *, complete: bool) -> Outcome:
        if not complete and not self._spoilt and self._stands_and_admits(want):
            return Outcome()
        if self._masquerade is not bool(want.masquerade) and not self._is_standing(want):
            return self._build(want)
        try:
            return self._adjust(want)
        except DataplaneError:
            return self._build(want)

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
        found = source_keys(sources)
        for deleting in (delete_elements, _without) if found else ():
            try:
                self._kernel.transact([message for definition, gone in found.items() for message in deleting(definition, gone)])
            except DataplaneError as e:
                if e.errno != errno.ENOENT:
                    raise
            else:
                return

    def admits(self, sources: Collection[Source]) -> bool:
        """Whether the kernel lets all of these send."""
        try:
            return all(found <= self._read(definition) for definition, found in source_keys(sources).items())
        except DataplaneError as e:
            if e.errno == errno.ENOENT:  # the tables themselves are missing
                return False
            raise

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
        self._kernel.transact([*ruleset.remove(), *remove_ports(), *remove_networks()])
        self._masquerade = None

    def _build(self, want: Filter) -> Outcome:
        batch = ruleset.build(want)
        try:
            self._kernel.transact(batch)
        except DataplaneError as e:
            self._masquerade = None
            return Outcome(failures=(e,))
        self._masquerade, self._spoilt = bool(want.masquerade), False
        self._standing.put_down(batch)
        return Outcome(put=len(batch))

    def _is_standing(self, want: Filter) -> bool:
        """Whether an earlier life of ours has built it, and nobody has changed it since."""
        if self._masquerade is None and not self._spoilt and self._standing.is_of(ruleset.build(want)):
            self._masquerade = bool(want.masquerade)
        return self._masquerade is bool(want.masquerade)

    def _adjust(self, want: Filter) -> Outcome:
        batch: list[Message] = []
        put = deleted = 0
        for definition, wanted in keys(want).items():
            have = self._read(definition)
            if have == wanted:
                continue
            put, deleted = put + len(wanted - have), deleted + len(have - wanted)
            if definition.interval:
                batch += (flush_set(definition), *add_elements(definition, wanted))
            else:
                batch += (*add_elements(definition, wanted - have), *_without(definition, have - wanted))
        if batch:
            self._kernel.transact(batch)
        return Outcome(put, deleted)

    def _stands_and_admits(self, want: Filter) -> bool:
        try:
            for definition in (*OWN_LINKS.values(), TARGETS):  # one of each table
                self._read(definition)
            self.admit(want.sources, want.bridges)
        except DataplaneError:
            return False
        return True

    def _read(self, definition: Set) -> frozenset[bytes]:
        return keys_of(definition, [body for _, _, body in self._kernel.dump(get_elements(definition))])


def _without(definition: Set, found: Collection[bytes]) -> list[Message]:
    return [*add_elements(definition, found), *delete_elements(definition, found)]
