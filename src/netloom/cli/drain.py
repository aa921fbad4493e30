"""netloom drain NODE: no new pod comes to a node, those that it has stay until their runtime takes them away, and what only passes it goes
other ways, where there are any (BGP).  A node that is empty then may be deleted.  With --undo it takes pods again.

This writes `spec.draining` of its Node, as `netloom apply` may, too.  Kubernetes has a drain of its own, which moves the pods; do that as well.
"""

from __future__ import annotations

import click
import msgspec

from netloom.cli.context import Context, connection
from netloom.cli.printing import clean, count
from netloom.datastore import Datastore
from netloom.errors import Conflict, NotFound
from netloom.model.resources import Endpoint, Node

_ATTEMPTS = 10  # its agent may write its Node at the same time


@click.command()
@click.argument("names", metavar="NODE...", nargs=-1, required=True)
@click.option("--undo", is_flag=True, help="It takes new pods again.")
@connection
@click.pass_obj
def drain(context: Context, names: tuple[str, ...], undo: bool) -> None:
    """Let no new pod come to a node, and traffic that only passes it go elsewhere.

    \b
    netloom drain node-2
    netloom drain node-2 --undo
    """
    with context.datastore() as datastore:
        for name in dict.fromkeys(names):
            changed = _set(datastore, name, draining=not undo)
            if undo:
                click.echo(clean(f"{name} takes new pods{'' if changed else ': it was not being drained'}"))
                continue
            left = sum(isinstance(e := s.resource, Endpoint) and e.spec.node == name for s in datastore.list("Endpoint").items)
            then = f"it has {count(left, 'pod')} left" if left else f"it has none left: netloom delete node {name}"
            click.echo(clean(f"{name} takes no new pods; {then}"))


def _set(datastore: Datastore, name: str, *, draining: bool) -> bool:
    """Whether that was news."""
    for _ in range(_ATTEMPTS):
        stored = datastore.get("Node", name)
        if stored is None:
            raise NotFound(f"there is no node {name}", hint="netloom get nodes")
        node = stored.resource
        assert isinstance(node, Node)  # the kind that was asked for
        if bool(node.spec.draining) is draining:
            return False
        spec = msgspec.structs.replace(node.spec, draining=draining or None)
        try:
            datastore.update(msgspec.structs.replace(node, spec=spec), stored.revision)
        except Conflict:
            continue
        return True
    raise Conflict(f"Node {name} was changed by others {_ATTEMPTS} times in a row", hint="try again")
