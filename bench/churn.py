"""What a change elsewhere costs one agent, with few nodes and with many.

    python -m bench.churn [NODES...]

Another node claims a block and gives it back, again and again, slowly enough that each change is a pass of its own.  Printed: CPU time
of the agent for each change, and how long it took from the write until the kernel had the route, or had it no longer.
"""

from __future__ import annotations

import socket
import struct
import sys
import time

from bench.agent import POOLS, cpu, fill, settle
from netloom.dataplane import netns
from netloom.dataplane.netlink.tables import RTM_DELROUTE, RTM_NEWROUTE
from netloom.datastore import connect
from netloom.ipam.blocks import slot_at
from netloom.model.addresses import Prefix
from netloom.model.resources import IPPool, Metadata
from tests.agent_process import Machine
from tests.agent_process import machine as prepared
from tests.other_nodes import its_block

CHANGES = 100
PAUSE = 0.2  # seconds between two changes
RTMGRP_IPV4_ROUTE = 0x40  # linux/rtnetlink.h


def main(sizes: list[int]) -> None:
    print("| nodes | CPU for each change | kernel has it after, p50 | p99 |\n|---|---|---|---|")
    for nodes in sizes:
        with prepared(POOLS) as machine:
            fill(connect(machine.datastore), nodes)
            machine.start(60)
            settle(machine)
            spent, delays = churn(machine, nodes)
            delays.sort()
            at = {share: delays[int(share * (len(delays) - 1))] * 1000 for share in (0.5, 0.99)}
            print(f"| {nodes} | {spent * 1000:.1f} ms | {at[0.5]:.1f} ms | {at[0.99]:.1f} ms |", flush=True)


def churn(machine: Machine, nodes: int) -> tuple[float, list[float]]:
    store, pool = connect(machine.datastore), IPPool(metadata=Metadata(name="v4"), spec=POOLS["v4"])
    block = its_block(slot_at(pool, nodes + 10), "remote-1", "id-1")
    delays = []
    idle = idle_share(machine)
    begun, before = time.monotonic(), cpu(machine)
    with listening(machine) as events:
        for number in range(CHANGES):
            start = time.monotonic()
            if number % 2:
                store.delete("IPBlock", block.key)
            else:
                store.create(block)
            wait(events, RTM_DELROUTE if number % 2 else RTM_NEWROUTE, block.spec.cidr)
            delays.append(time.monotonic() - start)
            time.sleep(PAUSE)
    return (cpu(machine) - before - idle * (time.monotonic() - begun)) / CHANGES, delays


def listening(machine: Machine) -> socket.socket:
    """To what the kernel tells of IPv4 routes."""
    with netns.entered(machine.netns):
        events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    events.bind((0, RTMGRP_IPV4_ROUTE))
    events.settimeout(30)
    return events


def wait(events: socket.socket, kind: int, prefix: Prefix) -> None:
    while True:
        data = events.recv(65536)
        if struct.unpack_from("=H", data, 4)[0] == kind and prefix.network_address.packed in data:
            return


def idle_share(machine: Machine) -> float:
    """CPU that the agent takes when nothing happens: a share of a core."""
    before = cpu(machine)
    time.sleep(10)
    return (cpu(machine) - before) / 10


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or [20, 200, 1000])
