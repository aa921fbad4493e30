"""Firewalls of others: when their chains are looked at, besides in each pass.

nftables, iptables-nft   every few seconds: some tell nobody that they were reloaded
iptables-legacy          then, too, and when what has to get through has changed; in a thread, for it may wait for others' lock
                         longer than anybody waits for the loop, or read long rulesets
"""

from __future__ import annotations

import asyncio
import logging

from netloom.agent.background import Background
from netloom.agent.passing import Passes
from netloom.agent.troubles import Troubles
from netloom.dataplane.foreign.gate import tunnels
from netloom.model.addresses import Prefix
from netloom.model.desired import Filter, Outer

log = logging.getLogger(__name__)


class Firewalls:
    """For the loop that made it."""

    def __init__(self, passes: Passes, background: Background, troubles: Troubles) -> None:
        self._passes, self._background, self._troubles = passes, background, troubles
        self._seen: Filter | None = None
        self._looking, self._wanted = False, (frozenset[Prefix](), frozenset[Outer](), frozenset[int]())

    def passed(self) -> None:
        """A pass that knew the whole cluster has ended."""
        want = self._passes.desired.filter
        seen, self._seen = self._seen, want
        if want == seen:
            return
        wanted = want.pools, want.taken_in, tunnels(want)
        if wanted != self._wanted:
            self._wanted = wanted
            self._begin_legacy()

    def look_after(self) -> None:
        if (outcome := self._passes.reconciler.passages(self._passes.desired)).put + outcome.deleted:
            log.info("passages through other firewalls %s", outcome)
        self._begin_legacy()

    def _begin_legacy(self) -> None:
        if not self._looking:
            self._looking = True
            self._background.begin("iptables-legacy", self._pass_legacy())

    async def _pass_legacy(self) -> None:
        loop, reconciler, desired = asyncio.get_running_loop(), self._passes.reconciler, self._passes.desired
        try:
            self._troubles.report("firewalls", *await loop.run_in_executor(None, reconciler.obstacles, desired))
            outcome = await loop.run_in_executor(None, reconciler.legacy_passages, desired)
        finally:
            self._looking = False
        if outcome.put:
            log.info("passages through iptables-legacy %s", outcome)
        if outcome.failures:
            raise outcome.failures[0]
