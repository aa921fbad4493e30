"""Registering: this node's Node object, written by the node itself; labels and annotations stay the people's.

A Node is made when the agent starts and there is none.  One that is deleted while the agent runs was deleted by somebody who
meant it: the node is out of the cluster, serves no ADD, and comes back by a restart of its agent.  One that carries another
incarnation belongs to another machine of the same name: nothing is written over it.
"""

from __future__ import annotations

import enum

import msgspec

from netloom.datastore import Datastore
from netloom.errors import Conflict, NotFound
from netloom.model.resources import Metadata, Node, NodeSpec


class Membership(enum.Enum):
    """Only a MEMBER serves ADD; UNKNOWN (the datastore was never reached) serves from its claims, as it did before."""

    UNKNOWN = "not known yet"
    MEMBER = "member"
    DELETED = "its Node object was deleted"
    TAKEN = "another machine has this node name"


def register(datastore: Datastore, name: str, spec: NodeSpec, *, create: bool) -> Membership:
    """Puts the node's spec in place.  `create`: make the Node if there is none."""
    while True:
        stored = datastore.get("Node", name)
        try:
            if stored is None:
                if not create:
                    return Membership.DELETED
                datastore.create(Node(metadata=Metadata(name=name), spec=spec))
            elif not isinstance(stored.resource, Node) or stored.resource.spec.id not in ("", spec.id):
                return Membership.TAKEN
            elif stored.resource.spec != spec:
                datastore.update(msgspec.structs.replace(stored.resource, spec=spec), stored.revision)
        except (Conflict, NotFound):
            continue
        return Membership.MEMBER
