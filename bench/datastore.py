"""What the datastore costs: one write, the way of a change to another process, a list of a large cluster.

python bench/datastore.py [DIRECTORY]        on DIRECTORY's disk; default: /var/tmp
"""

from __future__ import annotations

import ipaddress
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from multiprocessing.connection import Connection

from netloom.datastore import Datastore
from netloom.datastore.memory import Memory, MemoryDatastore
from netloom.datastore.records import Record
from netloom.datastore.sqlite import SqliteDatastore
from netloom.model.addresses import Mac
from netloom.model.resources import AnyResource, Claim, IPBlock, IPBlockSpec, Metadata, Node, NodeSpec, encode

NODES, BLOCKS = 5000, 20000


def node(i: int) -> Node:
    spec = NodeSpec(
        id=f"{i:032x}",
        addresses=(ipaddress.ip_interface((0x0A640001 + i, 16)),),
        tunnel_addresses=(ipaddress.ip_address(0x0AF40000 + 64 * i),),
        vtep_mac=Mac("0a:00:00:00:00:01"),
    )
    return Node(metadata=Metadata(name=f"node-{i}", labels={"topology.kubernetes.io/zone": f"z{i % 3}"}), spec=spec)


def block(i: int) -> IPBlock:
    cidr = ipaddress.ip_network((0x0A000000 + 64 * i, 26))
    claim = Claim(cidr=cidr, node=f"node-{i % NODES}", node_id=f"{i % NODES:032x}")
    return IPBlock(metadata=Metadata(name=f"{cidr.network_address}-26"), spec=IPBlockSpec(cidr=cidr, claims=(claim,)))


def timed(call: Callable[..., object], *arguments: object) -> float:
    start = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - start


def line(what: str, seconds: list[float]) -> None:
    ranked = sorted(seconds)
    p99 = ranked[min(len(ranked) - 1, len(ranked) * 99 // 100)]
    print(f"{what:46} p50 {statistics.median(ranked) * 1e3:8.3f} ms   p99 {p99 * 1e3:8.3f} ms   n {len(ranked)}")


def each_call(store: Datastore) -> None:
    """How long those of one client take, one after the other."""
    revisions: dict[int, int] = {}

    def create(i: int) -> None:
        revisions[i] = store.create(node(i))

    line("create", [timed(create, i) for i in range(500)])
    line("update", [timed(store.update, node(i), revisions[i]) for i in range(500)])
    line("get", [timed(store.get, "Node", f"node-{i}") for i in range(500)])
    line("delete", [timed(store.delete, "Node", f"node-{i}") for i in range(500)])


def writes(path: str) -> None:
    with closing(SqliteDatastore(path)) as store:
        each_call(store)


def follow(pipe: Connection, path: str) -> None:
    watch = SqliteDatastore(path).watch(0)
    pipe.send(0.0)
    while True:
        if watch.next(None):
            pipe.send(time.monotonic())


def latency(path: str, watchers: int) -> None:
    """From a writer's call, and from its return, until the event is in a caller's hands in another process."""
    store = SqliteDatastore(path)
    context = multiprocessing.get_context("spawn")
    pipes, children = [], []
    for _ in range(watchers):
        ours, theirs = context.Pipe()
        children.append(context.Process(target=follow, args=(theirs, path), daemon=True))
        children[-1].start()
        pipes.append(ours)
    for pipe in pipes:
        pipe.recv()
    whole, after = [], []
    for i in range(300):
        time.sleep(0.005)
        start = time.monotonic()
        store.create(node(i))
        committed = time.monotonic()
        for pipe in pipes:
            arrived = pipe.recv()
            whole.append(arrived - start)
            after.append(max(0.0, arrived - committed))
    line(f"create → event in each of {watchers} processes", whole)
    line("    of it after the writer's call returned", after)
    for child in children:
        child.terminate()
        child.join()
    store.close()


def lists(path: str) -> None:
    store, memory = SqliteDatastore(path), Memory()
    resources: list[AnyResource] = [*(node(i) for i in range(NODES)), *(block(i) for i in range(BLOCKS))]
    records = [Record(i + 1, r.kind, r.key, encode(r)) for i, r in enumerate(resources)]
    with store._writing.transaction("IMMEDIATE") as db:
        db.executemany("INSERT INTO records (revision, kind, key, value) VALUES (?, ?, ?, ?)", records)
        db.execute("INSERT INTO log (revision, kind, key, value) VALUES (?, ?, ?, ?)", records[-1])
    memory.records = {(r.kind, r.key): r for r in records}
    line(f"list of {NODES} nodes and {BLOCKS} blocks, sqlite", [timed(store.list) for _ in range(5)])
    line("    the same from memory", [timed(MemoryDatastore(memory).list) for _ in range(5)])
    line("    of it the nodes alone, sqlite", [timed(lambda: store.list("Node")) for _ in range(5)])
    store.close()
    line("    open (quick_check of it all)", [timed(lambda: SqliteDatastore(path).close()) for _ in range(5)])


def main() -> None:
    parent = sys.argv[1] if len(sys.argv) > 1 else "/var/tmp"
    with tempfile.TemporaryDirectory(dir=parent) as directory:
        writes(f"{directory}/writes.db")
        for watchers in (1, 8):
            latency(f"{directory}/latency{watchers}.db", watchers)
        lists(f"{directory}/lists.db")


if __name__ == "__main__":
    main()
