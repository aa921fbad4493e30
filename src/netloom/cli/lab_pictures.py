"""What a lab looks like in text: its tables, and what to type next."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import click

from netloom.cli.printing import count, table

if TYPE_CHECKING:
    from netloom.lab.cluster import Lab
    from netloom.lab.topology import Topology


def say(what: str, seconds: float) -> None:
    click.echo(f"  {seconds:5.2f} s   {what}")


def summary(t: Topology) -> str:
    plain = "BGP" if t.bgp else "host-gw"
    how = ", ".join(dict.fromkeys(plain if p.encapsulation.value == "None" else p.encapsulation.value for p in t.pools))
    return f"lab {t.name}: {count(len(t.nodes), 'node')}, {count(len(t.pods), 'pod')}, {how}, {t.wiring.value} wiring"


def nodes(lab: Lab) -> str:
    from netloom.lab import processes

    t = lab.topology
    with processes.found(lab.name, "agent") as running:
        agents = {process.place for process in running}
    rows = [
        (n.name, n.switch, *_by_family(t.node_addresses(n)), len(t.pods_on(n.name)), "up" if n.name in agents else "down")
        for n in t.nodes
    ]
    return table(("NODE", "SWITCH", "IPV4", "IPV6", "PODS", "AGENT"), rows)


def pods(lab: Lab) -> str:
    rows = []
    for pod in lab.topology.pods:
        sandbox = lab.record.sandboxes.get(pod.name)
        rows.append((pod.name, pod.node, *_by_family(sandbox.addresses if sandbox else ())))
    return table(("POD", "NODE", "IPV4", "IPV6"), rows)


def next_steps(lab: Lab) -> str:
    from netloom.lab import record

    program = sys.argv[0] if sys.argv[0].endswith("/netloom") and not shutil.which("netloom") else "netloom"
    which = "" if record.names() == [lab.name] else f"--lab {lab.name} "
    node = lab.topology.nodes[0].name
    lines = [f"check net {which}--matrix", f"lab exec {which}{node} -- netloom status", f"lab exec {which}{node} -- ip route"]
    if len(lab.topology.pods) > 1:
        lines.append(f"lab exec {which}{_call(lab)}")
    return "\n".join(("try", *(f"  {program} {line}" for line in (*lines, f"lab down {lab.name}"))))


def _call(lab: Lab) -> str:
    """From the first pod to one on another node, if there is one, by what this machine has."""
    from netloom.lab.cluster import RESPONDER_PORT

    first, *others = lab.topology.pods
    other = next((pod for pod in others if pod.node != first.node), others[0])
    address = lab.record.sandboxes[other.name].addresses[0].ip
    target = f"[{address}]" if address.version == 6 else address
    return f"{first.name} -- " + (f"curl -s {target}:{RESPONDER_PORT}" if shutil.which("curl") else f"ping -c 3 {address}")


def _by_family(addresses: tuple[object, ...]) -> tuple[str, str]:
    texts = [str(a) for a in addresses]
    return ",".join(t for t in texts if ":" not in t), ",".join(t for t in texts if ":" in t)
