"""Other firewalls on this host: one passage for the pools' traffic through each of them, and nothing else of theirs touched.

An accept in our own table is not final: a packet passes every table that hooks forwarding, and a drop in any of them wins.  So the
accept has to stand in *their* chain.  Where one of these stands in the way of forwarding

    ip filter, ip6 filter       the chain FORWARD has policy DROP, or Docker is there (iptables, nft or legacy variant)
    inet firewalld              always: its last rule rejects

there is one jump to a chain of our own, NETLOOM-FORWARD, that accepts from and to the pools: in DOCKER-USER, which Docker
leaves alone, else first in FORWARD, or in firewalld's filter_FORWARD.  A flush or a reload takes it away; the next pass puts
it back.  Where it stands among other rules is not argued about: two programs that both insist on the first place fight for ever.

The nft variant of iptables keeps its rules in nftables, in a form that can be written like any other, so both it and firewalld are
read and repaired through netlink in some 100 µs; only the legacy variant needs its program, and only where its table is in use.
"""

from __future__ import annotations

from collections.abc import Collection

from netloom.dataplane.foreign import legacy
from netloom.dataplane.foreign.tables import Tables
from netloom.model.addresses import Prefix
from netloom.reconcile import Outcome


class ForeignFirewalls:
    """Of the calling thread's namespace; for one thread at a time."""

    name = "foreign"

    def __init__(self) -> None:
        self._tables = Tables()

    def close(self) -> None:
        self._tables.close()

    def reconcile(self, pools: Collection[Prefix]) -> Outcome:
        """The passages that `pools` need.  Without pools: takes away all that we ever put there."""
        outcomes = [self._tables.reconcile(pools), legacy.reconcile(pools)]
        return Outcome(
            put=sum(outcome.put for outcome in outcomes),
            deleted=sum(outcome.deleted for outcome in outcomes),
            failures=tuple(failure for outcome in outcomes for failure in outcome.failures),
        )
