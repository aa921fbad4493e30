"""Trying: a node that is sent packets already is sent them in another form only after one of ours has come there in it and was answered.

The answer may come back by any way.  Who answers neither in the new form nor in the one that is used now has no prober, or none that
we reach: then nothing speaks against the new one.  What did not come through is tried again and again.

Trials begin at a steady pace, in an order that is not every node's, and do not wait for one another: a node that is away takes seconds,
and all others have been tried meanwhile.  With 5 000 nodes all are tried in half a minute; each is asked as often by others.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping

from netloom.agent.probing import SMALL, Peer, Prober, Sight
from netloom.agent.probing.ways import Way, tunnel, underlay
from netloom.calc.forms import DIRECT, carries, opened, own_word, parsed, wanted_of_all
from netloom.model.forms import Form, Use
from netloom.model.host import Host
from netloom.model.snapshot import Snapshot

log = logging.getLogger(__name__)

_AT_ONCE, _GAP = 16, 0.08
"""Trials that begin together, and seconds until the next ones do: 200 a second are a twentieth of a processor at either end, and less
than any network carries.  A prober reads six times that."""
_NAMED = 3  # nodes
_RETRY = 1.0, 30.0  # seconds: first, longest
_QUICK = (0.3, 0.6, 0.9)  # seconds that each question waits

Pair = tuple[str, Form]
"""A node, and a form in which it is to be sent to."""


class Trials:
    """For the running loop.  `prober` None: nobody is asked, and everything counts as tried.  `changed` is called when something has
    been found out."""

    def __init__(self, sight: Callable[[], Sight | None], changed: Callable[[], None]) -> None:
        self.prober: Prober | None = None
        self._sight, self._changed = sight, changed
        self._passed: set[Pair] = set()
        self._under_way: dict[Pair, asyncio.Task[None]] = {}
        self._waiting: deque[tuple[Pair, Form]] = deque()
        self._pause: asyncio.TimerHandle | None = None
        """Until more may begin."""
        self._uses: Mapping[tuple[str, str], Use] = {}
        self._due: Mapping[Pair, Form] = {}
        """What waits to be tried by these uses, and what is used until then."""
        self._basis: tuple[object, ...] = ()
        self._untried: frozenset[Pair] = frozenset()
        self.refused: frozenset[Pair] = frozenset()

    @property
    def problems(self) -> Iterator[str]:
        for form in sorted({form for _, form in self.refused}, key=str):
            names = sorted(name for name, refused in self.refused if refused == form)
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            words = f"packets in {form} do not come to {', '.join(names[:_NAMED])}{more}: what is between is in the way, and the old form stays; "
            yield words + "`netloom undo` takes the change back"

    def untried(self, snapshot: Snapshot, host: Host, uses: Mapping[tuple[str, str], Use]) -> frozenset[Pair]:
        """`uses`: how others have been sent to until now."""
        if self.prober is None:
            return frozenset()
        known = tuple(opened(snapshot, host))
        basis = (uses, known, len(self._passed))
        if not self._basis or basis[0] is not self._basis[0] or basis[1:] != self._basis[1:]:
            used = {(name, use.form) for (name, _), use in uses.items() if use.form is not None}
            found = {(name, form) for name, _ in used for form in known} - used
            untried = frozenset(found - self._passed)
            self._basis, self._untried = basis, self._untried if untried == self._untried else untried
        return self._untried

    def begin(self, snapshot: Snapshot, host: Host, uses: Mapping[tuple[str, str], Use]) -> None:
        """What waits for nothing else is tried."""
        own = own_word(snapshot, host)
        if self.prober is None or own is None:
            return
        if uses is not self._uses:
            self._uses, self._due = uses, _due(uses)
            self._passed &= self._due.keys() | {(name, use.form) for (name, _), use in uses.items() if use.form is not None}
        if self.refused:
            known = opened(snapshot, host).keys()
            self.refused = frozenset((name, form) for name, form in self.refused if name in snapshot.nodes and form in known)
        waiting = [
            (pair, now)
            for pair, now in self._due.items()
            if pair not in self._passed and pair not in self._under_way and pair[1] in parsed(own.sends)
        ]
        random.shuffle(waiting)  # else all nodes would ask the same one at the same time
        self._waiting = deque(waiting)
        if self._pause is None:
            self._begin_some()

    def _begin_some(self) -> None:
        loop, self._pause = asyncio.get_running_loop(), None
        for _ in range(min(_AT_ONCE, len(self._waiting))):
            pair, now = self._waiting.popleft()
            self._under_way[pair] = loop.create_task(self._try(pair, now))
            self._pause = self._pause or loop.call_later(_GAP, self._begin_some)

    def stop(self) -> None:
        self._waiting.clear()
        if self._pause is not None:
            self._pause.cancel()
        for task in self._under_way.values():
            task.cancel()

    async def _try(self, pair: Pair, now: Form) -> None:
        delay = _RETRY[0]
        try:
            while (comes := await self._comes(pair, now)) is False:
                if pair not in self.refused:
                    log.warning("node %s: packets in %s do not come there, in %s they do: it stays so", *pair, now)
                    self.refused |= {pair}
                    self._changed()
                await asyncio.sleep(delay)
                delay = min(2 * delay, _RETRY[1])
            if comes and pair in self._due:
                self._passed.add(pair)
            self.refused -= {pair}
        except Exception:
            log.exception("a fault of our own, while it was tried whether packets come to %s in %s", *pair)
        finally:
            del self._under_way[pair]
            self._changed()

    async def _comes(self, pair: Pair, now: Form) -> bool | None:
        """None: it is not wanted any more."""
        name, form = pair
        sight = self._sight()
        node = sight.snapshot.nodes.get(name) if sight else None
        if sight is None or node is None or self.prober is None or form not in wanted_of_all(sight.snapshot, sight.host):
            return None
        peer, new, old = Peer(name, node.spec.id), self._way(sight, name, form), self._way(sight, name, now)
        if new is None:
            return True
        size = min(carries(form, sight.host), sight.pods or carries(form, sight.host))
        if await self.prober.ask(peer, new, max(size, SMALL), patience=_QUICK):
            return True
        if old is None or not await self.prober.ask(peer, old, SMALL, patience=_QUICK):
            return True
        return bool(await self.prober.ask(peer, new, max(size, SMALL), patience=_QUICK))  # its agent may have been away

    def _way(self, sight: Sight, name: str, form: Form) -> Way | None:
        spec = sight.snapshot.nodes[name].spec
        if form == DIRECT:
            return next(iter(underlay(sight.host, spec)), None)
        device = opened(sight.snapshot, sight.host).get(form)
        return tunnel(sight.host, spec, device) if device else None


def _due(uses: Mapping[tuple[str, str], Use]) -> Mapping[Pair, Form]:
    return {
        (name, use.next): use.form
        for (name, _), use in uses.items()
        if use.next is not None and use.form is not None and use.next != use.form
    }
