"""Registering: this node's Node object, written by the node itself; labels and annotations stay the people's.

A Node is made when the agent starts and there is none.  One that is deleted while the agent runs was deleted by somebody who
meant it: the node is out of the cluster, serves no ADD, and comes back by a restart of its agent.  One that carries another
incarnation belongs to another machine of the same name: nothing is written over it.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import msgspec

from netloom.agent.claiming import Claiming
from netloom.calc.encap import ENCAPS, vxlan
from netloom.datastore import Datastore
from netloom.errors import Conflict, NotFound
from netloom.model.addresses import Address
from netloom.model.host import Host
from netloom.model.resources import IPPool, Metadata, Node, NodeSpec
from netloom.model.snapshot import Snapshot

log = logging.getLogger(__name__)

_ATTEMPTS = 20  # at the Node, when others write it at the same time


class Membership(enum.Enum):
    """Only a MEMBER serves ADD; UNKNOWN (the datastore was never reached) serves from its claims, as it did before."""

    UNKNOWN = "not known yet"
    MEMBER = "member"
    DELETED = "its Node object was deleted"
    TAKEN = "another machine has this node name"


@dataclass(frozen=True, slots=True)
class _Situation:
    """What a registration depends on.  As long as it stays the same there is nothing to do."""

    node: Node | None
    spec: NodeSpec
    tunnels: tuple[IPPool, ...]


class Registration:
    """This node's place in the cluster.  For the agent's loop; what blocks is done in `thread`."""

    def __init__(self, datastore: Datastore, thread: Executor, claiming: Claiming, name: str, node_id: str) -> None:
        self._datastore, self._thread, self._claiming, self._name, self._id = datastore, thread, claiming, name, node_id
        self.membership = Membership.UNKNOWN
        self.tunnel_addresses: tuple[Address, ...] = ()
        self._done: _Situation | None = None
        """As it is when the datastore's answer to the last registration has come back: what differs from it is news."""
        self._node: Node | None = None

    def heard(self, snapshot: Snapshot) -> None:
        """What this node has published before is true until it is registered: peers route by it."""
        node = snapshot.nodes.get(self._name)
        if self.membership is Membership.UNKNOWN and node is not None and node.spec.id == self._id:
            self.tunnel_addresses = node.spec.tunnel_addresses or self.tunnel_addresses

    def forget(self) -> None:
        """Another store, or one that went back, may know nothing of this node; that is no deletion."""
        self.membership, self._done = Membership.UNKNOWN, None

    def due(self, snapshot: Snapshot, host: Host) -> bool:
        return bool(host.addresses) and snapshot.complete and self._situation(snapshot, host) != self._done

    async def register(self, snapshot: Snapshot, host: Host) -> None:
        """Makes the datastore say what this node is.  Raises NetloomError: it is still due."""
        situation = self._situation(snapshot, host)
        await self._put(situation.spec, create=self.membership is Membership.UNKNOWN)
        if self.membership is Membership.MEMBER:
            self.tunnel_addresses = await self._claiming.own_addresses(situation.tunnels, self.tunnel_addresses)
            await self._put(situation.spec, create=False)
        self._done = replace(situation, node=self._node)

    def _situation(self, snapshot: Snapshot, host: Host) -> _Situation:
        spec = NodeSpec(id=host.node_id, addresses=host.addresses, vtep_mac=host.vtep_mac, mtu=host.mtu)
        return _Situation(snapshot.nodes.get(self._name), spec, _tunnels(snapshot.pools.values()))

    async def _put(self, spec: NodeSpec, *, create: bool) -> None:
        spec = msgspec.structs.replace(spec, tunnel_addresses=self.tunnel_addresses)
        before = self.membership
        self.membership, self._node = await asyncio.get_running_loop().run_in_executor(
            self._thread, lambda: register(self._datastore, self._name, spec, create=create)
        )
        if self.membership is not before:
            log.info("node %s: %s", self._name, self.membership.value)


def _tunnels(pools: Iterable[IPPool]) -> tuple[IPPool, ...]:
    """Pools whose packets need this node's own address in them."""
    return tuple(sorted((p for p in pools if ENCAPS[p.spec.encapsulation][0] is vxlan), key=lambda p: p.name))


def register(datastore: Datastore, name: str, spec: NodeSpec, *, create: bool) -> tuple[Membership, Node | None]:
    """Puts the node's spec in place, and gives the Node as it is now.  `create`: make the Node if there is none."""
    for _ in range(_ATTEMPTS):
        stored = datastore.get("Node", name)
        try:
            if stored is None:
                if not create:
                    return Membership.DELETED, None
                node = Node(metadata=Metadata(name=name), spec=spec)
                datastore.create(node)
                return Membership.MEMBER, node
            assert isinstance(stored.resource, Node)  # the kind that was asked for
            if stored.resource.spec.id not in ("", spec.id):
                return Membership.TAKEN, stored.resource
            node = msgspec.structs.replace(stored.resource, spec=spec)
            if node != stored.resource:
                datastore.update(node, stored.revision)
        except (Conflict, NotFound):
            continue
        return Membership.MEMBER, node
    raise Conflict(f"Node {name} was changed by others {_ATTEMPTS} times in a row")
