"""Registering: this node's Node object, written by the node itself; labels, annotations, and what people say in `spec` stay theirs.

A Node is made when the agent starts and there is none; one that a datastore has lost comes back as it was, with what people said of it:
by its labels it has its peers in BGP.  One that is deleted while the agent runs was deleted by somebody who
meant it: the node is out of the cluster, serves no ADD, and comes back by a restart of its agent.  One that carries another
incarnation belongs to another machine of the same name: nothing is written over it.

Two machines with one incarnation are copies of each other (an image was made of a machine that was a node): they would give out
the same addresses.  They are told from each other by their boot: a Node that shows another one again and again has two writers,
and then neither serves.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import msgspec

from netloom.agent.claiming import Claiming
from netloom.agent.moving import Moving
from netloom.calc.forms import tunnel_pools
from netloom.datastore import Datastore
from netloom.errors import Conflict, NotFound
from netloom.model.addresses import Address
from netloom.model.edited import differing
from netloom.model.host import Host
from netloom.model.resources import IPPool, Metadata, Node, NodeSpec
from netloom.model.snapshot import Snapshot

log = logging.getLogger(__name__)

_ATTEMPTS = 20  # at the Node, when others write it at the same time
_DISPUTES = 5  # times that another machine is seen in our Node


class Membership(enum.Enum):
    """A MEMBER serves ADD; UNKNOWN (the datastore was never reached) serves from its claims, as it did before."""

    UNKNOWN = "not known yet"
    MEMBER = "member"
    DELETED = "its Node object was deleted"
    TAKEN = "another machine has this node name"
    DOUBLE = "another Node has this node's identity: if it is this machine's old name, delete it; else remove node.json, a copy"
    CLONED = "another machine runs with this node's identity: remove node.json from one of them, and start its agent again"

    @property
    def serves(self) -> bool:
        return self in (Membership.UNKNOWN, Membership.MEMBER)


@dataclass(frozen=True, slots=True)
class _Situation:
    """What a registration depends on.  As long as it stays the same there is nothing to do.  `double`: another Node with our id."""

    node: Node | None
    double: str | None
    spec: NodeSpec
    tunnels: tuple[IPPool, ...]


class Registration:
    """This node's place in the cluster.  For the agent's loop; what blocks is done in `thread`."""

    def __init__(
        self,
        datastore: Datastore,
        thread: Executor,
        claiming: Claiming,
        name: str,
        node_id: str,
        machine: str = "",
        moving: Moving | None = None,
    ) -> None:
        self._datastore, self._thread, self._claiming = datastore, thread, claiming
        self._name, self._id, self._machine = name, node_id, machine
        self._moving = moving or Moving()
        self.membership = Membership.UNKNOWN
        self.tunnel_addresses: tuple[Address, ...] = ()
        self._done: _Situation | None = None
        """As it is when the datastore's answer to the last registration has come back: what differs from it is news."""
        self._node: Node | None = None
        self._seen: Node | None = None
        """The last that was this node."""
        self._nodes: Mapping[str, Node] = {}
        self._double: str | None = None
        """Among those nodes."""
        self._disputed = 0

    def heard(self, snapshot: Snapshot) -> None:
        """What this node has published before is true until it is registered: peers route by it."""
        changed, self._nodes = differing(snapshot.nodes, self._nodes), snapshot.nodes
        if self._double in changed or any(map(self._is_double, changed)):
            self._double = next(filter(self._is_double, snapshot.nodes), None)
        node = snapshot.nodes.get(self._name)
        if node is not None and node.spec.id == self._id:
            self._seen = node
        if self.membership is Membership.UNKNOWN and node is not None and node.spec.id == self._id:
            self.tunnel_addresses = node.spec.tunnel_addresses or self.tunnel_addresses

    def _is_double(self, name: str) -> bool:
        node = self._nodes.get(name)
        return node is not None and node.spec.id == self._id and name != self._name

    def forget(self) -> None:
        """Another store, or one that went back, may know nothing of this node; that is no deletion."""
        self.membership, self._done = Membership.UNKNOWN, None

    def due(self, snapshot: Snapshot, host: Host) -> bool:
        return bool(host.addresses) and snapshot.complete and self._situation(snapshot, host) != self._done

    async def register(self, snapshot: Snapshot, host: Host) -> None:
        """Makes the datastore say what this node is.  Raises NetloomError: it is still due."""
        situation = self._situation(snapshot, host)
        if situation.double is not None:
            self._become(Membership.DOUBLE)
        if self.membership is Membership.CLONED or situation.double is not None:
            self._done = situation
            return
        self._moving.writes(self._moving.word(snapshot, host))
        disputed = self._is_disputed(situation.node)
        await self._put(situation.spec, create=self.membership in (Membership.UNKNOWN, Membership.DOUBLE))
        if disputed:
            self._become(Membership.CLONED)  # and the other one will, for it has been written once more
        elif self.membership is Membership.MEMBER:
            self.tunnel_addresses, lacking = await self._claiming.own_addresses(situation.tunnels, self.tunnel_addresses)
            await self._put(situation.spec, create=False)
            if lacking is not None:
                raise lacking
        self._done = replace(situation, node=self._node)

    def _situation(self, snapshot: Snapshot, host: Host) -> _Situation:
        word = self._moving.word(snapshot, host)
        spec = NodeSpec(
            id=host.node_id,
            machine=self._machine,
            addresses=host.addresses,
            former=host.former,
            vtep_mac=host.vtep_mac,
            mtu=host.mtu,
            receives=word.receives,
            sends=word.sends,
            generation=word.generation,
        )
        return _Situation(snapshot.nodes.get(self._name), self._double, spec, tunnel_pools(snapshot, host))

    def _is_disputed(self, node: Node | None) -> bool:
        """Whether another machine writes our Node, too.  A snapshot that is a little behind shows another one as well, namely the
        last one; it does so once or twice."""
        if self.membership is Membership.MEMBER and node is not None and node.spec.id == self._id:
            self._disputed += node.spec.machine != self._machine
        return self._disputed > _DISPUTES

    def _become(self, membership: Membership) -> None:
        if membership is not self.membership:
            self.membership = membership
            log.info("node %s: %s", self._name, membership.value)

    async def _put(self, spec: NodeSpec, *, create: bool) -> None:
        spec = msgspec.structs.replace(spec, tunnel_addresses=self.tunnel_addresses)
        membership, self._node = await asyncio.get_running_loop().run_in_executor(
            self._thread, lambda: register(self._datastore, self._name, spec, create=create, seen=self._seen)
        )
        self._become(membership)


def register(
    datastore: Datastore, name: str, spec: NodeSpec, *, create: bool, seen: Node | None = None
) -> tuple[Membership, Node | None]:
    """Puts the node's spec in place, and gives the Node as it is now.  `create`: make the Node if there is none; `seen`: as it was."""
    for _ in range(_ATTEMPTS):
        stored = datastore.get("Node", name)
        try:
            if stored is None:
                if not create:
                    return Membership.DELETED, None
                said = seen or Node(metadata=Metadata(name=name))
                node = msgspec.structs.replace(said, spec=spec.of_people(said.spec))
                datastore.create(node)
                return Membership.MEMBER, node
            assert isinstance(stored.resource, Node)  # the kind that was asked for
            if stored.resource.spec.id not in ("", spec.id):
                return Membership.TAKEN, stored.resource
            node = msgspec.structs.replace(stored.resource, spec=spec.of_people(stored.resource.spec))
            if node != stored.resource:
                datastore.update(node, stored.revision)
        except (Conflict, NotFound):
            continue
        return Membership.MEMBER, node
    raise Conflict(f"Node {name} was changed by others {_ATTEMPTS} times in a row")
