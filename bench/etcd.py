"""What etcd costs: one write, the first sync of a large cluster, an agent's memory, and a change's way into other nodes' kernels.

    python -m bench.etcd [PART...]                 calls sync memory kernels churn stopped; all of them where none is named

A real etcd each time, with its data on a tmpfs: one member for `calls` (no fsync counts there), `sync`, `memory` and `churn`; for
`kernels` three, with TLS, in a lab of 20 real agents.  Clients are processes in the namespace that they belong to.
"""

from __future__ import annotations

import ipaddress
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from queue import SimpleQueue
from typing import cast

import msgspec
from msgspec.structs import replace

from bench.agent import cpu, resident, settle
from bench.datastore import each_call, line, node
from netloom.agent.reaching import Reached
from netloom.agent.watching import Connection, Watcher
from netloom.config import Settings
from netloom.dataplane import netns
from netloom.datastore import connect
from netloom.datastore.etcd.store import EtcdDatastore
from netloom.errors import Conflict, NotFound, Unavailable
from netloom.ipam.blocks import slot_at
from netloom.lab import cluster, stores
from netloom.lab.record import namespace_path
from netloom.lab.topology import one_switch
from netloom.model.addresses import Mac
from netloom.model.resources import Endpoint, EndpointSpec, IPBlock, IPPool, IPPoolSpec, Metadata, Node
from netloom.model.snapshot import Snapshot
from tests import agent_process, etcd
from tests.agent_process import Machine
from tests.other_nodes import far_node, its_block

POOL = IPPool(metadata=Metadata(name="v4"), spec=IPPoolSpec(cidr=ipaddress.ip_network("10.0.0.0/8")))
SERVER = "192.168.77.2"
CHANGES = 200
_RTMGRP_IPV4_ROUTE = 0x40  # linux/rtnetlink.h


def main(parts: Sequence[str]) -> None:
    for part in parts or PARTS:
        print(f"\n{part}")
        PARTS[part]()


# Beside one server


def calls() -> None:
    with etcd.etcd() as server:
        print(run_in(etcd.loopback(), "_calls", f"etcd:{server.urls}"), end="")


def sync() -> None:
    with etcd.etcd() as server:
        target = f"etcd:{server.urls}"
        for nodes, blocks in ((1000, 4), (5000, 1), (5000, 4)):
            run_in(etcd.loopback(), "_fill", f"{target}?prefix=/n{nodes}x{blocks}", str(nodes), str(blocks))
            for _ in range(3):
                print(run_in(etcd.loopback(), "_sync", f"{target}?prefix=/n{nodes}x{blocks}"), end="")


def memory() -> None:
    for nodes, blocks in ((0, 0), (1000, 4)):
        with agent_on_etcd(nodes, blocks) as machine:
            settle(machine)
            print(
                f"agent, {nodes:5} nodes and {nodes * blocks:6} blocks: resident {resident(machine):6.1f} MiB   (promise: 120)"
            )


def churn() -> None:
    """What an agent spends for a change that does not concern it, beside few nodes and beside many."""
    for nodes in (100, 1000):
        with agent_on_etcd(nodes, 1) as machine:
            settle(machine)
            for what in ("endpoints", "nodes"):
                before = cpu(machine)
                run_in(machine.outside, "_churn", f"etcd:http://{SERVER}:2379", what)
                time.sleep(1.0)
                used = cpu(machine) - before
                print(f"{nodes:5} nodes, {CHANGES} changes of other nodes' {what}: {used / CHANGES * 1e3:6.2f} ms of CPU each")


def stopped() -> None:
    """Of three members the one that a watch comes from is stopped (SIGSTOP): until a change is there by another one."""
    with etcd.etcd(size=3) as server:
        for _ in range(3):
            with _running(etcd.loopback(), "_follow", f"etcd:{server.urls}") as follower:
                assert follower.stdin and follower.stdout
                url = follower.stdout.readline().strip()
                stopping = next(member for member in server.members if member.url == url)
                stopping.send(signal.SIGSTOP)
                begun = time.monotonic()
                others = ",".join(member.url for member in server.members if member is not stopping)
                run_in(etcd.loopback(), "_touch", f"etcd:{others}")
                follower.stdout.readline()
                print(f"a change after its server was stopped: {time.monotonic() - begun:5.1f} s   (promise: 15)")
                stopping.send(signal.SIGCONT)


@contextmanager
def agent_on_etcd(nodes: int, blocks: int) -> Iterator[Machine]:
    """It is ready, and beside it are so many nodes, of so many blocks each."""
    with (
        agent_process.machine({}) as machine,
        etcd.etcd(places=[etcd.Place(machine.outside, SERVER)]) as server,
    ):
        machine.settings = {"datastore": f"etcd:{server.urls}"}
        agent_process.configure(machine)
        run_in(machine.outside, "_fill", f"etcd:{server.urls}", str(nodes), str(blocks))
        machine.start(60)
        yield machine


# In a lab


def kernels(nodes: int = 20, changes: int = 60) -> None:
    """From a writer's call on one node until the route stands in the kernels of all others."""
    topology = one_switch(f"bench{os.getpid()}", nodes=nodes, pods=0, etcd=3)
    cluster.up(topology)
    try:
        first, *others = (node.name for node in topology.nodes)
        with ExitStack() as stack:
            monitors = {stack.enter_context(_routes(topology.name, name)): name for name in others}
            time.sleep(10)  # all have heard of all
            namespace = netns.open_netns(namespace_path(topology.name, first))
            stack.callback(os.close, namespace)
            writer = stack.enter_context(_running(namespace, "_claim", topology.name, first))
            rounds = [each for number in range(changes) if (each := _one_change(writer, monitors, number))]
        line(f"in another kernel, {nodes} nodes (promise: 30, 150)", [seconds for each in rounds for seconds in each])
        line("    the first of them", [min(each) for each in rounds])
        line("    the last of them", [max(each) for each in rounds])
    finally:
        cluster.down(topology.name)


def _routes(lab: str, place: str) -> socket.socket:
    """What the kernel there tells of IPv4 routes."""
    namespace = netns.open_netns(namespace_path(lab, place))
    try:
        with netns.entered(namespace):
            made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
            made.bind((0, _RTMGRP_IPV4_ROUTE))
            return made
    finally:
        os.close(namespace)


def _one_change(writer: subprocess.Popen[str], monitors: Mapping[socket.socket, str], number: int) -> list[float]:
    """Seconds until it was in each; nothing where somebody has that block already."""
    prefix = ipaddress.ip_network((int(ipaddress.ip_address("10.244.0.0")) + 64 * (number * 7 + 1), 26))
    for monitor in monitors:
        _told(monitor)
    assert writer.stdin and writer.stdout
    writer.stdin.write(f"{prefix}\n")
    writer.stdin.flush()
    waiting, came = dict(monitors), list[float]()
    with selectors.DefaultSelector() as selector:
        for monitor in monitors:
            selector.register(monitor, selectors.EVENT_READ)
        begun = float(writer.stdout.readline())
        while begun and waiting:
            ready = selector.select(10)
            now = time.monotonic()
            assert ready, f"{prefix} has not come to {', '.join(waiting.values())}"
            for key, _ in ready:
                monitor = cast("socket.socket", key.fileobj)
                if prefix.network_address.packed in _told(monitor) and monitor in waiting:
                    del waiting[monitor]
                    came.append(now - begun)
    writer.stdin.write("\n")
    writer.stdin.flush()
    writer.stdout.readline()
    time.sleep(0.5)
    return came


def _told(monitor: socket.socket) -> bytes:
    told = b""
    with suppress(BlockingIOError):
        while True:
            told += monitor.recv(1 << 16)
    return told


# In processes of their own


def run_in(namespace: int, *arguments: str) -> str:
    """This module's command, in that namespace; what it says."""
    with netns.entered(namespace):
        command = [sys.executable, "-m", "bench.etcd", *arguments]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


@contextmanager
def _running(namespace: int, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    with netns.entered(namespace):
        command = [sys.executable, "-m", "bench.etcd", *arguments]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with child:
        try:
            yield child
        finally:
            child.kill()


def _calls(target: str) -> None:
    with closing(connect(target)) as store:
        each_call(store)


def _fill(target: str, nodes: str, blocks: str) -> None:
    """The pool, and nodes of so many blocks each."""
    with closing(connect(target)) as store, ThreadPoolExecutor(8) as pool:
        store.create(POOL)
        resources = (resource for number in range(1, int(nodes) + 1) for resource in _one(number, int(blocks)))
        for done in [pool.submit(store.create, resource) for resource in resources]:
            done.result()


def _one(number: int, blocks: int) -> Iterator[Node | IPBlock]:
    first, *more = (slot_at(POOL, number * blocks + i) for i in range(blocks))
    yield from far_node(number, [first])
    yield from (its_block(slot, f"remote-{number}", f"id-{number}") for slot in more)


def _follow(target: str) -> None:
    """Says which server it uses, and then each change."""
    store = EtcdDatastore(target.removeprefix("etcd:"))
    watch = store.watch(store.list().revision)
    watch.next(1)
    print(store._connection.line().server, flush=True)
    while True:
        with suppress(Unavailable):
            for event in watch.next(None):
                print(event.key, flush=True)


def _touch(target: str) -> None:
    """A change, as soon as there is somebody to take it."""
    while True:
        with suppress(Unavailable), closing(connect(target)) as store:
            store.create(node(time.time_ns() % 60_000))
            return


def _sync(target: str) -> None:
    """As an agent does it: connect, list each kind, decode, put together."""
    came, begun = SimpleQueue[float](), time.perf_counter()

    def on_change(snapshot: Snapshot, connection: Connection) -> None:
        if snapshot.complete:
            print(
                f"first sync of {len(snapshot.nodes):5} nodes and {len(snapshot.blocks):6} blocks"
                f" {time.perf_counter() - begun:6.2f} s   (promise: 2)",
                flush=True,
            )
            came.put(0)

    reached = Reached(target, known=True)
    Watcher(reached, Snapshot(), on_change, reached.renew).start()
    came.get()


def _claim(lab: str, node_name: str) -> None:
    """For each prefix that stdin names: claims it, and says when the call began; an empty line: gives it back."""
    topology = cluster.open_lab(lab).topology
    with closing(connect(msgspec.convert(stores.settings(topology, node_name), Settings).target)) as store:
        found = store.get("Node", node_name)
        assert found is not None and isinstance(found.resource, Node)
        block: IPBlock | None = None
        for text in sys.stdin:
            if text.strip():
                block, begun = (
                    its_block(ipaddress.ip_network(text.strip()), node_name, found.resource.spec.id),
                    time.monotonic(),
                )
                try:
                    store.create(block)
                except Conflict:
                    block, begun = None, 0.0
                print(begun, flush=True)
            else:
                with suppress(NotFound):
                    if block is not None:
                        store.delete("IPBlock", block.key)
                print("gone", flush=True)


def _churn(target: str, what: str) -> None:
    """Changes elsewhere, 20 in a second."""
    with closing(connect(target)) as store:
        begun = time.monotonic()
        for number in range(CHANGES):
            time.sleep(max(begun + number / 20 - time.monotonic(), 0))
            if what == "endpoints":
                spec = EndpointSpec(
                    node="remote-1",
                    container_id=f"c{number}",
                    network="pods",
                    interface="eth0",
                    host_interface="loom0",
                    mac=Mac("02:00:00:00:00:01"),
                )
                store.create(Endpoint(metadata=Metadata(namespace="default", name=f"e{number}"), spec=spec))
            else:
                found = store.get("Node", "remote-1")
                assert found is not None
                store.update(
                    replace(found.resource, metadata=Metadata(name="remote-1", labels={"n": str(number)})), found.revision
                )
        print(time.monotonic() - begun)


PARTS: dict[str, Callable[[], None]] = {
    "calls": calls,
    "sync": sync,
    "memory": memory,
    "kernels": kernels,
    "churn": churn,
    "stopped": stopped,
}
_WITHIN: dict[str, Callable[..., None]] = {
    "_calls": _calls,
    "_fill": _fill,
    "_sync": _sync,
    "_claim": _claim,
    "_churn": _churn,
    "_follow": _follow,
    "_touch": _touch,
}

if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1] in _WITHIN:
        _WITHIN[sys.argv[1]](*sys.argv[2:])
    else:
        main(sys.argv[1:])
