"""Collecting: taking away attachments whose sandbox is no more, for which no DEL may ever come.

    GC       the runtime lists what is alive ─▶ what is not listed, and is dead ─▶ removed
    burying  links of attachments are gone   ─▶ those that are dead, and what could not be removed before ─▶ removed

A list may be wrong, and a link may be gone without its pod.  Whether a sandbox lives is therefore asked of this kernel, and what cannot
be found out lives.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection

from netloom.cni.lingering import Sandboxes, owners
from netloom.cni.messages import Collect
from netloom.cni.operations import Operations
from netloom.dataplane.netlink import Netlink, devices
from netloom.errors import CniError
from netloom.ipam.journal import Journal
from netloom.model.attachments import Attachment, State

log = logging.getLogger(__name__)


class Collector:
    """`look`: looks at the sandboxes that are alive now; it blocks, and is called in another thread."""

    def __init__(self, operations: Operations, journal: Journal, kernel: Netlink, look: Callable[[], Sandboxes]) -> None:
        self._operations, self._journal, self._kernel, self._look = operations, journal, kernel, look

    async def collect(self, request: Collect) -> None:
        """GC: what the runtime does not list goes, except what a living sandbox still uses; without a list, only the dead go.

        A list may be incomplete (two runtimes on one network), and taking a running pod's network is worse than keeping a dead
        one's: what is kept is said.  Raises the last CniError when all have been tried."""
        listed, present = request.valid or (), [a for k, a in self._journal.attachments.items() if k.network == request.network]
        unlisted = [a for a in present if (a.key.container_id, a.key.interface) not in listed]
        dead = await self._dead(unlisted)
        kept = [f"{a.key.interface} of {a.key.container_id}" for a in unlisted if a not in dead]
        if kept and request.valid is not None:
            log.warning("GC does not list %s, whose sandboxes are alive: kept", ", ".join(kept))
        await self._remove_each(dead)

    async def bury(self, links: Collection[str]) -> None:
        """Takes away attachments whose link is gone (named here) and whose sandbox is too: no DEL is coming for them.

        And tries again what could not be removed before.  Raises the last CniError when all have been tried."""
        present = self._journal.attachments.values()
        lost = await self._dead([a for a in present if a.host_interface in links and a.state is State.READY])
        for attachment in lost:
            log.info("%s of %s is gone with its sandbox", attachment.key.interface, attachment.key.container_id)
        await self._remove_each(lost, [a for a in present if a.state is State.LEAVING])

    async def _remove_each(self, dead: Collection[Attachment], others: Collection[Attachment] = ()) -> None:
        """`dead`: their sandboxes are no more."""
        refusal = None
        for attachment in (*dead, *others):
            try:
                await self._operations.remove(attachment, sandbox_gone=attachment in dead)
            except CniError as e:
                refusal = e
        if refusal:
            raise refusal

    async def _dead(self, attachments: Collection[Attachment]) -> list[Attachment]:
        """Those whose sandbox is no more.  The look is later than the list, so what is new is not taken for dead.

        A link that is there, under whatever name, proves that its sandbox is, whoever holds it: the kernel takes both ends with either's
        namespace.  And the kernel gives a namespace's number to the next one at once: one whose number another container's has by now
        is no more."""
        links = devices(self._kernel) if attachments else []
        names, owned = {link.name for link in links}, owners(links)
        linkless = [a for a in attachments if a.host_interface not in names and a.key not in owned]
        if not linkless:
            return []
        sandboxes = await asyncio.get_running_loop().run_in_executor(None, self._look)
        heirs = {a.netns: a.key.container_id for a in self._journal.attachments.values() if a.host_interface in names}
        return [
            a for a in linkless if not sandboxes.alive(a.netns) or heirs.get(a.netns, a.key.container_id) != a.key.container_id
        ]
