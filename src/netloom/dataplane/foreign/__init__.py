"""Other firewalls on this host: a passage through each of them for what pods need, and nothing else of theirs touched.

An accept in our own table is not final: a packet passes every table that hooks in on its way, and a drop in any of them wins.  So
the accept has to stand in *their* chain.  Where one of these stands in the way of what is forwarded

    ip filter, ip6 filter       the chain FORWARD has policy DROP, or Docker is there (iptables, nft or legacy variant)
    inet firewalld              always: its last rule rejects

there is one jump to a chain of our own, NETLOOM-FORWARD, that accepts from and to the pools: in DOCKER-USER, which Docker
leaves alone, else first in FORWARD, or in firewalld's filter_FORWARD.  And where there is a tunnel, and one of these may drop its
outer packets on their way into the node (by its policy, or by a rule: see `fates`)

    ip filter, ip6 filter       INPUT (iptables, ufw)
    inet firewalld              filter_INPUT

there is one jump to NETLOOM-INPUT, which accepts the tunnels' packets and probes.  A flush or a reload takes passages away; the next
pass puts them back.  Where a jump stands among other rules is not argued about: two programs that both insist on the first place
fight for ever.

The nft variant of iptables keeps its rules in nftables, in a form that can be written like any other, so both it and firewalld are
read and repaired through netlink in some 100 µs; only the legacy variant needs its program, and only where its table is in use.
That program waits for a lock which others hold for seconds, so it is for another thread than the one that does all the rest.
"""

from __future__ import annotations

import time
from typing import Final

from netloom.dataplane.foreign import legacy
from netloom.dataplane.foreign.obstacles import find
from netloom.dataplane.foreign.tables import Tables
from netloom.model.desired import Filter
from netloom.reconcile import Outcome

_REST: Final = 50
"""Times that a look for obstacles took, until the next one."""


class ForeignFirewalls:
    """Of the calling thread's namespace.  Of an empty `Filter`: all that we ever put there is taken away."""

    name = "foreign"

    def __init__(self) -> None:
        self._tables = Tables()
        self._obstacles: tuple[str, ...] = ()
        self._look_again = 0.0

    def close(self) -> None:
        self._tables.close()

    def reconcile(self, want: Filter) -> Outcome:
        """The passages through nftables that `want` needs; for one thread at a time."""
        return self._tables.reconcile(want)

    def reconcile_legacy(self, want: Filter) -> Outcome:
        """Those through iptables' legacy variant; may take seconds.  For one thread at a time, any one of this namespace."""
        return legacy.reconcile(want)

    def obstacles(self, want: Filter) -> tuple[str, ...]:
        """What drops other nodes' tunnels where no passage is made: a sentence each, with the command to type.  Like the former; a
        look that took long is not repeated soon."""
        now = time.monotonic()
        if now >= self._look_again:
            self._obstacles = tuple(find(want))
            self._look_again = now + _REST * (time.monotonic() - now)
        return self._obstacles
