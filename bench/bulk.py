"""Thousands of remote nodes: how long it takes to write them, and to find that nothing is to be done.

Each remote node is one route, one neighbour and one FDB entry of a VXLAN device.  Every round does the same work twice, side
by side: by our drivers, and by iproute2 (`ip -batch`, `bridge -batch`; to look, `ip route show`, `ip neigh show`, `bridge fdb
show`).  iproute2 writes the same routes with the same metrics, and (up to 10 000 nodes) once more without metrics, which is how
such routes are usually written: then the kernel searches a list that grows with them.  All of it happens in a namespace that
is gone at the end.

    python bench/bulk.py [NODES] [ROUNDS]      default: 5000 7
"""

from __future__ import annotations

import ipaddress
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

from netloom.dataplane import netns
from netloom.dataplane.fdb import Fdb
from netloom.dataplane.links import Links
from netloom.dataplane.neighbours import Neighbours
from netloom.dataplane.netlink import Events, Netlink, device, new_bridge, put_address, set_link
from netloom.dataplane.routes import Routes
from netloom.model.addresses import Mac
from netloom.model.desired import FdbKey, NeighbourKey, Route, RouteKey, Vxlan
from netloom.reconcile import reconcile

DEVICE = "loom.vxlan"
OWN = ipaddress.ip_address("10.255.255.255")
UNDERLAY = ipaddress.ip_interface("172.16.0.1/12")
WITHOUT_METRICS = 10_000  # above, a round would take minutes

Tables = list[Mapping[Any, Any]]  # routes, neighbours, FDB


def remote_nodes(count: int) -> Tables:
    prefixes = [ipaddress.ip_network((0x14000000 + (i << 8), 24)) for i in range(count)]
    gateways = [prefix.network_address for prefix in prefixes]
    macs = [Mac(f"66:00:{gateway.packed.hex(':')}") for gateway in gateways]
    return [
        {
            RouteKey(prefix, 65536 + i): Route(DEVICE, prefix.network_address, onlink=True, source=OWN)
            for i, prefix in enumerate(prefixes)
        },
        {NeighbourKey(DEVICE, gateway): mac for gateway, mac in zip(gateways, macs, strict=True)},
        {FdbKey(DEVICE, mac): ipaddress.ip_address(0xAC100100 + i) for i, mac in enumerate(macs)},
    ]


def batch_files(tables: Tables, folder: str, *, metrics: bool) -> list[list[str]]:
    """Commands that write the same with iproute2."""
    routes, neighbours, fdb = tables
    lines = {
        "ip": [
            f"route replace {key.prefix} via {route.gateway} dev {DEVICE} onlink src {OWN} proto 79"
            + (f" metric {key.metric}" if metrics else "")
            for key, route in routes.items()
        ]
        + [f"neigh replace {key.address} lladdr {mac} dev {DEVICE} nud permanent" for key, mac in neighbours.items()],
        "bridge": [f"fdb replace {key.mac} dev {DEVICE} dst {to} self permanent" for key, to in fdb.items()],
    }
    commands = []
    for tool, text in lines.items():
        path = os.path.join(folder, f"{tool}-{metrics}")
        with open(path, "w") as file:
            file.write("\n".join(text) + "\n")
        commands.append([tool, "-batch", path])
    return commands


def run(*commands: list[str]) -> None:
    for command in commands:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def build(kernel: Netlink) -> None:
    kernel.transact(new_bridge("up0", mac=Mac("66:00:00:00:00:01"), mtu=1500, index=50, up=True), put_address(50, UNDERLAY))
    vxlan = Vxlan(Mac("66:00:00:00:00:02"), 1450, 4096, 4789, UNDERLAY.ip, "up0")
    outcome = reconcile(Links(kernel), {DEVICE: vxlan})
    assert not outcome.failures, outcome.failures
    made = device(kernel, DEVICE)
    assert made
    kernel.transact(set_link(1, up=True), put_address(made.index, ipaddress.ip_interface(OWN)))


def write(drivers: list[Any], tables: Tables) -> None:
    for driver, want in zip(drivers, tables, strict=True):
        outcome = reconcile(driver, want)
        assert not outcome.failures, outcome.failures[:3]


def look(drivers: list[Any], tables: Tables) -> None:
    for driver, want in zip(drivers, tables, strict=True):
        assert not driver.changes(want)


def measure(kernel: Netlink, tables: Tables, rounds: int, folder: str) -> dict[str, float]:
    """Medians in milliseconds."""
    times: dict[str, list[float]] = {}

    def timed(name: str, work: Callable[..., object], *arguments: Any) -> None:
        start = time.perf_counter()
        work(*arguments)
        times.setdefault(name, []).append((time.perf_counter() - start) * 1000)

    nothing: Tables = [{}, {}, {}]
    tools = {"same metrics": batch_files(tables, folder, metrics=True)}
    if len(tables[0]) <= WITHOUT_METRICS:
        tools["no metrics"] = batch_files(tables, folder, metrics=False)
    shows = [["ip", "route", "show"], ["ip", "neigh", "show"], ["bridge", "fdb", "show"]]
    for _ in range(rounds):
        drivers = [Routes(kernel), Neighbours(kernel), Fdb(kernel)]
        timed("write", write, drivers, tables)
        timed("look first", look, drivers, tables)
        events = Events()
        timed("look", look, drivers, tables)
        timed("show", run, *shows)
        timed("look routes", look, drivers[:1], tables[:1])
        timed("show routes", run, shows[0])
        assert not events.read(), "a pass with nothing to do wrote something"
        events.close()
        timed("delete", write, drivers, nothing)
        for name, commands in tools.items():
            timed(f"batch, {name}", run, *commands)
            write(drivers, nothing)
    return {name: statistics.median(values) for name, values in times.items()}


def report(medians: Mapping[str, float], count: int) -> None:
    print(f"{count} remote nodes, 3 objects each; medians in ms")
    for name, value in medians.items():
        print(f"  {name:24s}{value:10.1f}")
    pairs = [("write", name) for name in medians if name.startswith("batch")]
    for ours, theirs in [*pairs, ("look routes", "show routes"), ("look", "show")]:
        print(f"  {ours + ' / ' + theirs:40s}{medians[ours] / medians[theirs]:8.2f}")


def main() -> None:
    count, rounds = (int(argument) for argument in (sys.argv[1:] + ["5000", "7"][len(sys.argv) - 1 :])[:2])
    tables = remote_nodes(count)
    node = netns.create()
    with netns.entered(node), Netlink() as kernel, tempfile.TemporaryDirectory() as folder:
        build(kernel)
        report(measure(kernel, tables, rounds, folder), count)


if __name__ == "__main__":
    main()
