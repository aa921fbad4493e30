"""Standby: ways of BIRD's that this node keeps, behind BIRD's own, while sessions end or begin anew.

    another text would end sessions that are up ─▶ BIRD's routes, as routes of ours ─▶ a second ─▶ BIRD is told
                                                   └─ they go when BIRD leads there again, or after a quarter of a minute

Whoever tells BIRD to end a session loses its routes at that moment, and so does the other end; what is to take their place (a
reflector's word, the same session begun anew) may be a moment away, on either side.  The nodes of a cluster hear of such a change at about the
same time: the second is for those who are slower.

Behind means with a worse metric: BIRD's word counts wherever it has one, and a route of BIRD's that is replaced by another one, which BIRD
does by taking away and adding, is no gap either.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from netloom.agent.birds import held, key_of
from netloom.dataplane.netlink import Netlink, device_names
from netloom.dataplane.netlink.tables import RTPROT_BIRD, first_way, get_routes
from netloom.model.addresses import Prefix
from netloom.model.desired import Route

AHEAD = 1.0
"""Seconds between these routes and the word to BIRD."""
_LEAST, _MOST = 3.0, 15.0  # seconds that they stay; the most from when BIRD led there


class Standby:
    """For the loop.  `changed`: a pass is wanted.  `routes`: what is kept; of several next hops one; `placed`: what of
    them a pass has put in place."""

    def __init__(self, kernel: Netlink, changed: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._kernel, self._changed, self._clock = kernel, changed, clock
        self._begun: float | None = None
        self._sessions: frozenset[str] = frozenset()
        self._since: dict[Prefix, float] = {}
        """When BIRD was last seen to lead there."""
        self.routes: dict[Prefix, Route] = {}
        self.placed = self.routes

    @property
    def is_on(self) -> bool:
        return self._begun is not None

    @property
    def stands(self) -> bool:
        """Whether a pass has put all of them in place."""
        return self.placed is self.routes

    def begin(self, sessions: frozenset[str]) -> bool:
        """`sessions`: those that are going to end.  Whether BIRD has to wait: False, where their ways stand by already."""
        if self.is_on and sessions <= self._sessions:
            return False
        names = device_names(self._kernel)
        bodies = (body for version in (4, 6) for body in self._kernel.dump(get_routes(version, RTPROT_BIRD)))
        ways = (way for body in bodies if (way := first_way(body)) is not None)
        found = {
            prefix: Route(device=names[index], gateway=gateway, onlink=onlink)
            for prefix, gateway, index, onlink in ways
            if index in names
        }
        now = self._begun = self._clock()
        self._sessions |= sessions
        self._since |= dict.fromkeys(found, now)
        self.routes = self.routes | found
        self._changed()
        return True

    def look(self, wanted: Collection[str], established: Collection[str]) -> None:
        """Some time has passed, and BIRD has these sessions up of those that it should have."""
        now = self._clock()
        if self._begun is None or now < self._begun + _LEAST:
            return
        kept: dict[Prefix, Route] = {}
        if (self._sessions & set(wanted)) - set(established) or not self._leads_everywhere():
            kept = {prefix: route for prefix, route in self.routes.items() if now < self._since[prefix] + _MOST}
        if kept and len(kept) == len(self.routes):
            return
        self.routes = kept
        if not kept:
            self._begun, self._sessions, self._since = None, frozenset(), {}
        self._changed()

    def _leads_everywhere(self) -> bool:
        return {key_of(prefix) for prefix in self.routes} <= set(held(self._kernel))
