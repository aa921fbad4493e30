"""Claims on an etcd cluster of three that is in trouble all the time, and what the brake costs an agent.

python bench/claims.py [NODES]        as root; default: 1000 nodes with 4 blocks each, by 16 processes
"""

from __future__ import annotations

import ipaddress
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from netloom.calc.brake import Brake, step
from netloom.model.resources import AnyResource, decode, encode
from netloom.model.snapshot import Snapshot
from tests.chaos.claims import contend
from tests.other_nodes import far_node, its_block
from tests.pure.ipam.making import pool

POOL = pool("p", "10.0.0.0/8")
SIZE = 5000


def cluster() -> Snapshot:
    slots = iter(ipaddress.IPv4Network("10.0.0.0/8").subnets(new_prefix=26))
    found: list[AnyResource] = []
    for number in range(SIZE):
        found += far_node(number, [next(slots)])
        found += (its_block(next(slots), f"remote-{number}", f"id-{number}") for _ in range(3))
    return Snapshot.of(1, [POOL, *found])


def timed(act: Callable[..., object], *arguments: object) -> float:
    start = time.perf_counter()
    act(*arguments)
    return (time.perf_counter() - start) * 1000


def brake() -> None:
    every = cluster()
    name = next(iter(every.nodes))
    node = every.nodes[name]
    labelled = msgspec.structs.replace(node, metadata=msgspec.structs.replace(node.metadata, labels={"rack": "r1"}))
    changes = {
        "a node says something else": every.updated(2, [("Node", name, labelled)]),
        "a block comes or goes": every.updated(2, [("IPBlock", next(iter(every.blocks)), None)]),
        "listed again, the same": Snapshot.of(2, [decode(encode(r)) for r in every.resources()]),
        "everything is gone": Snapshot(complete=True),
    }
    for what, now in changes.items():
        times = [timed(step, Brake(), every, now, "own", 0.0) for _ in range(20)]
        print(f"brake, {SIZE} nodes and {4 * SIZE} blocks, {what:<28} median {statistics.median(times):6.2f} ms")


def main() -> None:
    brake()
    nodes = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        outcome = contend(
            *(Path(folder),), processes=16, nodes=nodes, blocks=4, pool="10.0.0.0/13", seed=1, seconds=(1.0, 7.0), least=60.0
        )
    print(outcome)
    print(f"judged: {outcome.verdict}; disagreements: {list(outcome.faults) or 'none'}")


if __name__ == "__main__":
    main()
