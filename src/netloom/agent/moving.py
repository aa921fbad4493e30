"""Moving: this node's own part in going from one form to another (`calc.forms` says how it goes).

What has been offered or promised to others in a write that may have landed counts before the datastore shows it: a form is not closed
that others may already read in `receives`, and none is sent in that is being taken out of `sends`.  What nobody needs any more stays
open for a moment, for packets that are on their way.  As long as nothing is on its way, the same question has the very same answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from operator import is_

from netloom.calc import forms
from netloom.calc.forms import Word
from netloom.model.desired import Desired
from netloom.model.forms import Form
from netloom.model.host import Host
from netloom.model.snapshot import Snapshot
from netloom.reconcile import Outcome

GRACE = 3.0
"""Seconds that a packet may be on its way."""
_TABLES = frozenset(("filter", "tunnels", "senders", "formers", "programs", "forwarders", "forwarded", "believed"))
"""Without them, and a device, no form is received."""


class Moving:
    """For the loop.  `grace` in seconds."""

    def __init__(self, grace: float = GRACE) -> None:
        self._grace = grace
        self._word: Word | None = None
        self._written: list[Word] = []
        """What has been given to the datastore, and is not seen there yet."""
        self._open: frozenset[Form] = frozenset()
        self._fading: dict[Form, float] = {}
        self._rest: tuple[tuple[object, ...], Host] | None = None
        """What was asked last and answered, while nothing is under way."""

    def word(self, snapshot: Snapshot, host: Host) -> Word:
        """What is to be published; what is published already, until a pass by the whole cluster has shown more."""
        if self._word is None:
            own = forms.own_word(snapshot, host)
            return Word(own.receives, own.sends, own.generation) if own else Word()
        if self._written:
            last = self._written[-1]
            if last[:2] == self._word[:2]:
                return last
            return self._word._replace(generation=max(last.generation + 1, self._word.generation))
        return self._word

    def writes(self, word: Word) -> None:
        """It is going to be in the datastore, now or later."""
        if word not in self._written:
            self._written.append(word)
            self._rest = None

    def host(self, snapshot: Snapshot, host: Host, now: float) -> Host:
        """With what a pass at this moment has to mind."""
        asked = snapshot.nodes, snapshot.pools, snapshot.configurations, snapshot.complete, host
        if self._rest is not None and all(map(is_, asked, self._rest[0])):
            return self._rest[1]
        own = forms.own_word(snapshot, host)
        self._written = [word for word in self._written if word.generation > (own.generation if own else 0)]
        offered = frozenset(form for word in self._written for form in forms.parsed(word.receives))
        sent = frozenset(forms.parsed(own.sends)) if own else frozenset()
        leaving = frozenset(form for form in sent if any(str(form) not in word.sends for word in self._written))
        leftover = forms.leftover(snapshot, host)
        host = replace(host, moving=replace(host.moving, held=offered, leaving=leaving, leftover=leftover))
        needed = forms.opened(snapshot, host).keys()
        for form in (self._open | set(host.moving.devices.values())) - needed:
            self._fading.setdefault(form, now)
        self._fading = {form: since for form, since in self._fading.items() if form not in needed and now < since + self._grace}
        self._open = frozenset((*needed, *self._fading))
        made = replace(host, moving=replace(host.moving, held=offered | self._fading.keys()))
        self._rest = None if self._written or self._fading else (asked, made)
        return made

    def due(self, now: float) -> float | None:
        """Seconds until something is to be closed."""
        return max(0.0, min(self._fading.values()) + self._grace - now) if self._fading else None

    def passed(self, snapshot: Snapshot, host: Host, desired: Desired, outcomes: Mapping[str, Outcome]) -> None:
        """A pass by the whole cluster was made, and went so, by table."""
        failures = {table: outcome.failures for table, outcome in outcomes.items() if outcome.failures}
        refused = {failure.key for failure in failures.get("links", ())}
        up = {name for name in desired.links if name not in refused and not _TABLES & failures.keys()}
        stands = [form for form, device in forms.opened(snapshot, host).items() if not device or device in up]
        self._word = forms.word(snapshot, host, desired.uses, stands, routed="routes" not in failures)

    def forget(self) -> None:
        """The datastore is another one: what was written into the last counts for nobody."""
        self._word, self._written, self._rest = None, [], None
