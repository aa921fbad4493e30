"""Progress: how far the cluster is on its way to the forms that its pools want, from what its nodes have published."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from netloom.calc.forms import parsed, wanted, wanted_of_all
from netloom.model.forms import Form
from netloom.model.host import Host
from netloom.model.resources import Node
from netloom.model.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Progress:
    """Of one pool.  `done` of `nodes` send nothing old any more.  `unready`: nodes that do not receive the new form yet.
    `sending`: others, with the old forms that they still send in."""

    pool: str
    want: Form
    done: int
    nodes: int
    unready: tuple[str, ...]
    sending: tuple[tuple[str, tuple[Form, ...]], ...]

    def words(self, silent: tuple[str, ...] = ()) -> str:
        """`silent`: nodes that answer nobody."""
        gone = {name: f"{name} (silent)" for name in silent}
        waits = [f"{gone.get(name, name)} does not receive it yet" for name in self.unready]
        waits += [f"{gone.get(name, name)} still sends {', '.join(map(str, old))}" for name, old in self.sending]
        more = len(waits) - _MOST
        waits = [*waits[:_MOST], f"and {more} more"] if more > 0 else waits
        return f"moving: pool {self.pool} to {self.want}, {self.done} of {self.nodes} nodes; {'; '.join(waits)}"


_MOST = 5  # nodes that are named


def progress(snapshot: Snapshot, host: Host) -> Iterator[Progress]:
    """Pools that are on their way.  Nodes that do not say are not counted.  `host`: for the numbers that the cluster does not say."""
    everything = set(wanted_of_all(snapshot, host))
    nodes = [node for _, node in sorted(snapshot.nodes.items()) if node.spec.receives]
    old = {node.name: tuple(f for f in parsed(node.spec.sends) if f not in everything) for node in nodes}
    for pool in snapshot.pools.values():
        if pool.spec.network:
            continue
        want = wanted(snapshot, host, pool)
        unready = tuple(node.name for node in nodes if not _receives(node, want))
        sending = tuple((name, forms) for name, forms in old.items() if forms and name not in unready)
        if unready or sending:
            yield Progress(pool.name, want, len(nodes) - len(unready) - len(sending), len(nodes), unready, sending)


def _receives(node: Node, form: Form) -> bool:
    return form in parsed(node.spec.receives)
