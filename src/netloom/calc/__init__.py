"""The calculation: `desired(snapshot, attachments, host)` says what this node's kernel should hold.

Pure: no clock, socket, log or environment, and nothing remembered.  A node's state has three parts: its pods (`pods`),
the other nodes (`remote`, by each pool's encapsulation), and the rules around them (`rules`).  What cannot be computed is
left out, which leaves it closed, and is said in `Desired.problems`.
"""

from __future__ import annotations

from collections.abc import Iterable

from netloom.calc.pods import pod
from netloom.calc.ports import localnet, needs_localnet
from netloom.calc.remote import Last, remote
from netloom.calc.rules import rules, sysctls
from netloom.calc.tables import Tables
from netloom.model.attachments import Attachment, State
from netloom.model.desired import Desired, Finisher
from netloom.model.host import Host
from netloom.model.snapshot import Snapshot

__all__ = ["Last", "desired", "pod", "remote"]


def desired(snapshot: Snapshot, attachments: Iterable[Attachment], host: Host, others: Tables | None = None) -> Desired:
    """`others`: what `remote(snapshot, host)` gave, if the caller still has it: thousands of entries that pods do not change."""
    tables = Tables(sysctls=sysctls(snapshot, host))  # written first: the host's own carry those of its interfaces along
    present = [a for a in attachments if a.state is not State.LEAVING]
    for attachment in present:
        tables.add(pod(attachment))
    others = others or remote(snapshot, host)
    leading = frozenset(name for name, link in others.links.items() if not isinstance(link, Finisher))
    wanted = rules(snapshot, present, host, leading, others.vteps, others.bgp)
    for interface in needs_localnet(wanted.published):
        tables.sysctls |= localnet(interface, on=True)
    return tables.over(others, wanted)
