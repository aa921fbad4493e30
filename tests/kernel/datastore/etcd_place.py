"""Where a store lives in etcd, for the contract's tests: a prefix of its own in a server that many tests use."""

from __future__ import annotations

import itertools

from netloom.datastore import Datastore, connect
from netloom.datastore.etcd import messages
from netloom.datastore.etcd.layout import Layout
from netloom.datastore.etcd.line import Line
from netloom.datastore.etcd.target import parse
from netloom.datastore.etcd.wire import number
from netloom.errors import Compacted

COMPACT = "/etcdserverpb.KV/Compact"
_numbers = itertools.count()


class EtcdPlace:
    """`servers`: URLs with commas."""

    def __init__(self, servers: str) -> None:
        self.target = f"{servers}?prefix=/place-{next(_numbers)}"
        target = parse(self.target)
        self.layout, self.line = Layout(target.prefix), Line(target.servers[0], target)
        self.clients: list[Datastore] = []

    def open(self) -> Datastore:
        self.clients.append(connect(f"etcd:{self.target}"))
        return self.clients[-1]

    def compact(self) -> None:
        revision = messages.found(self.line.ask(messages.RANGE, messages.find(b"\0"))).header.revision
        try:
            self.line.ask(COMPACT, number(1, revision))
        except Compacted:  # it was, up to here, before
            return

    def scribble(self, kind: str, key: str, value: bytes) -> None:
        self.put(self.layout.key(kind, key), value)

    def put(self, key: bytes, value: bytes) -> None:
        self.line.ask(messages.TXN, messages.transaction([], [messages.putting(key, value)], []))

    def remove(self, key: bytes) -> None:
        self.line.ask(messages.TXN, messages.transaction([], [messages.deleting(key)], []))

    def close(self) -> None:
        """All clients; the store remains."""
        for client in self.clients:
            client.close()
        self.clients.clear()

    def leave(self) -> None:
        self.close()
        self.line.close()
