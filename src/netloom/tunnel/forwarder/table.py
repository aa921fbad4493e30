"""Who is where: prefix → peer for what goes out, outer source → peer for what comes in.

The two belong together.  A datagram is believed if a known node has sent it; the packet in it, if its source is in one of that node's
own prefixes, or nobody's: from outside the cluster, passed on.  A peer is one object in both, so that is one comparison.  A node that
changes its address sends from the one before for a while, when its prefixes lead to the new one already: `former`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from netloom.model.addresses import Address, Prefix
from netloom.tunnel.forwarder.prefixes import Prefixes


class Peer:
    """Another node.  `where`: as sendto(2) is told.  `unfinished`: it leaves checksums to us; `finished`: how many packets were looked
    at for that in vain; `unlooked`: how many the next ones are that are not looked at."""

    __slots__ = ("address", "finished", "received", "received_bytes", "sent", "sent_bytes", "unfinished", "unlooked", "where")

    def __init__(self, address: Address, port: int) -> None:
        self.address = address
        self.where: tuple[str, int] = (str(address), port)
        self.sent = self.sent_bytes = self.received = self.received_bytes = 0
        self.unfinished, self.finished, self.unlooked = False, 0, 0


class Table:
    """`number` grows with each change: who knows it knows whether somebody else made one."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._peers: dict[Address, Peer] = {}
        self._used: Counter[Address] = Counter()
        self.tunnels: dict[Prefix, Address] = {}
        self.number = 0
        self.by_prefix: Prefixes[Peer] = Prefixes()
        self.by_sender: dict[str, Peer] = {}
        self.former: dict[Address, Address] = {}

    @property
    def senders(self) -> set[Address]:
        return {peer.address for peer in self.by_sender.values()}

    @property
    def peers(self) -> Collection[Peer]:
        return self._peers.values()

    def replace(self, tunnels: Mapping[Prefix, Address], senders: Mapping[Address, Address | None]) -> None:
        """With all there is to know; what is the same stays the same, with its counters."""
        self.change(
            {prefix: address for prefix, address in tunnels.items() if self.tunnels.get(prefix) != address},
            self.tunnels.keys() - tunnels.keys(),
            senders,
            self.senders - senders.keys(),
        )

    def change(
        self,
        put: Mapping[Prefix, Address],
        delete: Collection[Prefix],
        believe: Mapping[Address, Address | None] | None = None,
        disbelieve: Collection[Address] = (),
    ) -> None:
        """`believe`: senders, each with the address that it has now, if that is another."""
        for prefix, address in put.items():
            before = self.tunnels.get(prefix)
            self.tunnels[prefix] = address
            self.by_prefix.put(prefix, self._use(address))
            if before is not None:
                self._leave(before)
        for prefix in delete:
            if (before := self.tunnels.pop(prefix, None)) is not None:
                self.by_prefix.delete(prefix)
                self._leave(before)
        for address, present in (believe or {}).items():
            if str(address) not in self.by_sender:
                self.by_sender[str(address)] = self._use(address)
            self.former.pop(address, None)
            if present is not None:
                self.former[address] = present
        for address in disbelieve:
            self.former.pop(address, None)
            if self.by_sender.pop(str(address), None) is not None:
                self._leave(address)
        self.number += 1

    def _use(self, address: Address) -> Peer:
        self._used[address] += 1
        if (peer := self._peers.get(address)) is None:
            peer = self._peers[address] = Peer(address, self._port)
        return peer

    def _leave(self, address: Address) -> None:
        self._used[address] -= 1
        if not self._used[address]:
            del self._used[address], self._peers[address]
