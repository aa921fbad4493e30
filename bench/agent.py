"""The agent at size: memory, idle CPU and passes with 5 000 remote nodes and 250 pods.

    python -m bench.agent [NODES] [PODS]

A real agent in a namespace of its own, with the other nodes as objects of its datastore and the pods made through the native CNI
client.  Printed: resident memory, CPU time over a quiet minute, the time from exec to ready, and the times of passes.
"""

from __future__ import annotations

import ipaddress
import os
import statistics
import sys
import time

from netloom.datastore import Datastore, connect
from netloom.ipam.blocks import slot_at
from netloom.model.resources import Encapsulation, IPPool, IPPoolSpec, Metadata
from tests.agent_process import Machine
from tests.agent_process import machine as prepared
from tests.cni_calls import NATIVE, call
from tests.other_nodes import far_node

QUIET = 60.0  # seconds
_UPKEEP = 7.0  # seconds; the agent's are 5
POOLS = {
    "v4": IPPoolSpec(cidr=ipaddress.ip_network("10.0.0.0/8"), encapsulation=Encapsulation.VXLAN, nat_outgoing=True),
    "v6": IPPoolSpec(cidr=ipaddress.ip_network("fd00:10::/48"), encapsulation=Encapsulation.VXLAN),
}


def main(nodes: int, pods: int) -> None:
    with prepared(POOLS) as machine:
        fill(connect(machine.datastore), nodes)
        start = time.perf_counter()
        machine.start(60)
        print(f"ready after            {time.perf_counter() - start:8.2f} s    with {nodes} nodes")
        settle(machine)
        print(f"resident, no pods      {resident(machine):8.1f} MiB")
        times = [add(machine) for _ in range(pods)]
        print(
            f"ADD, client included   {statistics.median(times) * 1000:8.2f} ms   median of {pods}, worst {max(times) * 1000:.1f} ms"
        )
        settle(machine)
        print(f"resident, {pods} pods    {resident(machine):8.1f} MiB   (promise: 90)")
        before = cpu(machine)
        time.sleep(QUIET)
        print(
            f"idle CPU               {(cpu(machine) - before) / QUIET * 100:8.2f} %    of a core over {QUIET:.0f} s (promise: 1)"
        )
        last = machine.state().last_pass
        if last is not None:
            print(f"a pass with no change  {last.milliseconds:8.1f} ms   {dict(last.tables)}")


def fill(store: Datastore, nodes: int) -> None:
    """Remote nodes with a block of each family."""
    pools = [IPPool(metadata=Metadata(name=name), spec=spec) for name, spec in POOLS.items()]
    for number in range(1, nodes + 1):
        for resource in far_node(number, [slot_at(pool, number) for pool in pools]):
            store.create(resource)


def add(machine: Machine) -> float:
    sandbox = machine.make_sandbox()
    start = time.perf_counter()
    answer = call(NATIVE, "ADD", machine.run_dir, sandbox.container_id, sandbox.path)
    assert answer.ok, answer
    return time.perf_counter() - start


def settle(machine: Machine) -> None:
    """Until the agent is in sync, and its last pass and the upkeep after it are over."""
    while True:
        state = machine.state()
        if state.in_sync_since and state.last_pass and time.time() - state.last_pass.at.timestamp() > _UPKEEP:
            return
        time.sleep(0.5)


def resident(machine: Machine) -> float:
    with open(f"/proc/{machine.pid}/status", encoding="ascii") as file:
        kilobytes = next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))
    return kilobytes / 1024


def cpu(machine: Machine) -> float:
    """Seconds of CPU that the agent has used."""
    with open(f"/proc/{machine.pid}/stat", encoding="ascii") as file:
        words = file.read().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main(*(int(word) for word in (*sys.argv[1:], *("5000", "250")[len(sys.argv) - 1 :])))
