"""BGP at size: rendering, from a commit to BIRD, from a new block to everybody's kernel, and how soon a dead node is noticed.

    python -m bench.bgp [NODES]

The first figure is of one function.  The others are of a lab: NODES agents and BIRDs on one switch, in a full mesh, all on this machine.
A new block is claimed by adding a pod where no address is free; it is timed from the plugin's start until the kernel of each other node
says that it has the route.  A node dies by its cable; timed is the last route to it that goes, on every other node.
"""

from __future__ import annotations

import ipaddress
import os
import selectors
import socket
import statistics
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import msgspec

from netloom.bgp.control import Control
from netloom.bgp.rendering import render
from netloom.dataplane import netns
from netloom.datastore import Datastore, connect
from netloom.errors import Unavailable
from netloom.lab import birds, cluster
from netloom.lab.cluster import Lab, datastore_of
from netloom.lab.record import folder
from netloom.lab.topology import Switch, one_switch
from netloom.model.addresses import Prefix
from netloom.model.bgp_configuration import BGPConfiguration, BGPConfigurationSpec
from netloom.model.bgp_peer import BGPPeer, BGPPeerSpec
from netloom.model.bgp_session import BfdSpec
from netloom.model.resources import Encapsulation, IPPoolSpec, Metadata
from netloom.model.routing import Announced, Bfd, BgpConfig, Session, Trust
from tests.cni_calls import NATIVE, call
from tests.lab.routing import bfd, blocks, established, prefixes, say

LAB = "bench-bgp"
ROUNDS = 10
DEATHS = 5
COMMITS = 20
PATIENCE = 60.0
POOL = IPPoolSpec(cidr=ipaddress.ip_network("10.244.0.0/16"), block_size=30, encapsulation=Encapsulation.NONE)
_ROUTES_OF_4 = 0x40  # RTMGRP_IPV4_ROUTE, linux/rtnetlink.h
_NEW, _DELETED = 24, 25  # RTM_NEWROUTE, RTM_DELROUTE
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_BIRD = 12  # RTPROT_BIRD


def main(nodes: int) -> None:
    rendering()
    with running(nodes) as lab:
        begun = time.monotonic()
        wait(lambda: all(len(established(lab, node.name)) == nodes - 1 for node in lab.topology.nodes))
        print(
            f"a mesh of {nodes} nodes     {time.monotonic() - begun:8.1f} s     until every session is up, from the end of `lab up`"
        )
        commits(lab)
        new_blocks(lab)
        deaths(lab)


def rendering(peers: int = 1000, count: int = 5000) -> None:
    own = [*ipaddress.ip_network("10.0.0.0/8").subnets(new_prefix=26)][:count]
    sessions = tuple(
        Session(
            name=f"mesh_node_{i}",
            origin="BGPConfiguration default",
            address=ipaddress.ip_address("172.16.0.0") + i,
            remote_as=64512,
            local_as=64512,
            families=(4,),
            bfd=Bfd(),
            restart_time=None,
            trust=Trust.POOLS,
        )
        for i in range(peers)
    )
    config = BgpConfig(
        node="node-0",
        router_id=ipaddress.IPv4Address("172.31.0.1"),
        local_as=64512,
        announced=tuple(Announced(block, "a block of this node") for block in own),
        own=tuple(own),
        pools=(ipaddress.ip_network("10.0.0.0/8"),),
        plain=(ipaddress.ip_network("10.0.0.0/8"),),
        subnets=(ipaddress.ip_network("172.16.0.0/12"),),
        sessions=sessions,
    )
    times = []
    for _ in range(20):
        begun = time.perf_counter()
        text = render(config, {})
        times.append(time.perf_counter() - begun)
    print(
        f"render                 {statistics.median(times) * 1000:8.1f} ms    {peers} peers, {count} blocks, {len(text) >> 10} KiB,"
        f" median of {len(times)}, best {min(times) * 1000:.1f} (promise: 20)"
    )


@contextmanager
def running(nodes: int) -> Iterator[Lab]:
    cluster.down(LAB)
    spec = BGPConfigurationSpec(node_mesh_bfd=BfdSpec())
    topology = msgspec.structs.replace(
        one_switch(LAB, nodes=nodes, pods=0),
        switches=(Switch(name="switch", subnets=(ipaddress.ip_network("192.168.100.0/24"),)),),
        pools=(POOL,),
        bgp=True,
        settings={"probeInterval": 0.0, "healthAddress": ""},
    )
    try:
        lab = cluster.up(topology)
        declare(lab, BGPConfiguration(metadata=Metadata(name="default"), spec=spec))
        yield lab
    finally:
        cluster.down(LAB)


@contextmanager
def store(lab: Lab) -> Iterator[Datastore]:
    datastore = connect(datastore_of(lab.name))
    try:
        yield datastore
    finally:
        datastore.close()


def declare(lab: Lab, resource: BGPConfiguration) -> None:
    with store(lab) as datastore:
        datastore.create(resource)


def wait(condition: Callable[[], bool], seconds: float = PATIENCE, pause: float = 0.05) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit("it does not come to that")
        time.sleep(pause)


def commits(lab: Lab) -> None:
    """A peer of the first node's is declared, and its BIRD knows it."""
    [bird] = [each for each in birds.of(lab.topology) if each.place == "node-0"]
    control = Control(bird.socket)
    in_file, in_bird = [], []
    with store(lab) as datastore:
        for i in range(COMMITS):
            name = f"bench-{i}"
            spec = BGPPeerSpec(node="node-0", peer_ip=f"192.168.100.{200 + i}", as_number=65000)
            begun = time.perf_counter()
            datastore.create(BGPPeer(metadata=Metadata(name=name), spec=spec))
            address = f"192.168.100.{200 + i}"
            written = 0.0
            while True:
                with open(bird.file, encoding="utf-8") as file:
                    if not written and address in file.read():
                        written = time.perf_counter() - begun
                if written and knows(control, i):
                    break
                time.sleep(0.001)
            in_file.append(written)
            in_bird.append(time.perf_counter() - begun)
            time.sleep(0.3)
    for what, times in (("commit → bird.conf", in_file), ("commit → BIRD", in_bird)):
        print(f"{what:22} {figures(times)}    of {len(times)} (promise: 100)")


def knows(control: Control, number: int) -> bool:
    try:
        return any(line.text.startswith(f"peer_bench_{number}") for line in control.ask("show protocols"))
    except Unavailable:
        return False


def figures(times: Sequence[float]) -> str:
    ordered = sorted(times)
    p99 = ordered[min(len(ordered) - 1, round(len(ordered) * 0.99))]
    return f"{statistics.median(ordered) * 1000:8.1f} ms    p99 {p99 * 1000:.1f} ms, worst {ordered[-1] * 1000:.1f} ms"


@dataclass(frozen=True, slots=True)
class Seen:
    """A kernel said that a route of BIRD's came or went."""

    node: str
    new: bool
    prefix: Prefix
    at: float


@contextmanager
def listening(lab: Lab) -> Iterator[list[Seen]]:
    """What all kernels say, with the time, for as long as the block lasts."""
    seen: list[Seen] = []
    end = threading.Event()
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        for node in lab.topology.nodes:
            with lab.namespace(node.name) as namespace, netns.entered(namespace):
                listener = stack.enter_context(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0))
            listener.bind((0, _ROUTES_OF_4))
            selector.register(listener, selectors.EVENT_READ, node.name)

        def listen() -> None:
            while not end.is_set():
                for key, _ in selector.select(0.1):
                    assert isinstance(key.fileobj, socket.socket)
                    now, data = time.perf_counter(), key.fileobj.recv(1 << 16)
                    seen.extend(Seen(key.data, new, prefix, now) for new, prefix in changes(data))

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield seen
        finally:
            end.set()
            thread.join()


def changes(data: bytes) -> Iterator[tuple[bool, Prefix]]:
    while len(data) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(data)
        body, data = data[_HEADER.size : length], data[(length + 3) & ~3 :]
        if kind not in (_NEW, _DELETED) or body[5] != _BIRD:  # rtm_protocol
            continue
        bits, attributes = body[1], body[12:]
        while len(attributes) >= 4:
            size, attribute = struct.unpack_from("=HH", attributes)
            if attribute == 1:  # RTA_DST
                yield kind == _NEW, ipaddress.ip_network((attributes[4:8], bits))
            attributes = attributes[(size + 3) & ~3 or 4 :]


def new_blocks(lab: Lab) -> None:
    times: list[float] = []
    sandboxes: list[str] = []
    try:
        with listening(lab) as seen:
            for i in range(ROUNDS):
                node = lab.topology.nodes[i % len(lab.topology.nodes)].name
                times += heard_of(lab, node, seen, sandboxes)
    finally:
        for path in sandboxes:
            netns.take_name(path)
    print(f"new block → kernels    {figures(times)}    {len(times)} times on other nodes (promise: p99 1000)")


def heard_of(lab: Lab, node: str, seen: Sequence[Seen], sandboxes: list[str]) -> list[float]:
    """Seconds until each other node has a route to the block that a new pod on this one needs."""
    begun = time.perf_counter()
    while not (fresh := new_block(lab, node, sandboxes)):
        begun = time.perf_counter()

    def first() -> Mapping[str, float]:
        return {s.node: s.at for s in reversed(seen) if s.prefix == fresh and s.new}

    wait(lambda: len(first()) == len(lab.topology.nodes) - 1)
    return [at - begun for at in first().values()]


def new_block(lab: Lab, node: str, sandboxes: list[str]) -> Prefix | None:
    """Of the pod that is added; None: its address is in one that the node had."""
    before = set(blocks(lab)[node])
    descriptor = netns.create()
    try:
        path = f"/run/netns/{lab.name}-extra-{len(sandboxes)}"
        netns.give_name(descriptor, path)
        sandboxes.append(path)
        config = {"cniVersion": "1.1.0", "name": "lab", "type": "netloom"}
        answer = call(NATIVE, "ADD", folder(lab.name, node, "run"), f"extra{len(sandboxes)}", path, config=config)
        assert answer.ok, answer
    finally:
        os.close(descriptor)
    return next(iter(set(blocks(lab)[node]) - before), None)


def deaths(lab: Lab) -> None:
    victims = [node.name for node in lab.topology.nodes if blocks(lab)[node.name]][:DEATHS]
    times = [seconds for victim in victims for seconds in death(lab, victim)]
    print(f"death → routes gone    {figures(times)}    BFD 300 ms × 3, {len(times)} times (promise: 1000)")


def death(lab: Lab, victim: str) -> list[float]:
    """Seconds until the last route to it has gone, on each other node; it lives again afterwards."""
    others = [node.name for node in lab.topology.nodes if node.name != victim]
    theirs = blocks(lab)[victim]
    wait(lambda: all(len(bfd(lab, node.name)) == 1 for node in lab.topology.nodes))
    with listening(lab) as seen:
        begun = time.perf_counter()
        say(lab, "switch", "ip", "link", "set", victim, "down")
        wait(lambda: gone(seen, others, theirs))
        times = [max(s.at for s in seen if s.node == n and s.prefix in theirs and not s.new) - begun for n in others]
    say(lab, "switch", "ip", "link", "set", victim, "up")
    wait(lambda: all({str(b) for b in theirs} <= prefixes(lab, node) for node in others))
    return times


def gone(seen: Sequence[Seen], nodes: Sequence[str], theirs: Sequence[Prefix]) -> bool:
    found: Mapping[tuple[str, Prefix], bool] = {(s.node, s.prefix): s.new for s in seen}
    return all(found.get((node, block)) is False for node in nodes for block in theirs)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
