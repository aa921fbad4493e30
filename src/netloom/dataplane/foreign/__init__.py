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
That program waits for a lock which others hold for seconds, so it is for another thread than the one that does all the rest.
"""

from __future__ import annotations

from collections.abc import Collection

from netloom.dataplane.foreign import legacy
from netloom.dataplane.foreign.tables import Tables
from netloom.model.addresses import Prefix
from netloom.reconcile import Outcome


class ForeignFirewalls:
    """Of the calling thread's namespace.  Without pools, all that we ever put there is taken away."""

    name = "foreign"

    def __init__(self) -> None:
        self._tables = Tables()

    def close(self) -> None:
        self._tables.close()

    def reconcile(self, pools: Collection[Prefix]) -> Outcome:
        """The passages through nftables that `pools` need; for one thread at a time."""
        return self._tables.reconcile(pools)

    def reconcile_legacy(self, pools: Collection[Prefix]) -> Outcome:
        """The passage through iptables' legacy variant; may take seconds.  For one thread at a time, any one of this namespace."""
        return legacy.reconcile(pools)
