"""The first minute with Netloom: a cluster is built, shown, proven and taken down before the newcomer's eyes."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from netloom.cli import lab_pictures as pictures
from netloom.cli.check import as_text

if TYPE_CHECKING:
    from netloom.lab.checks import Proof
    from netloom.lab.cluster import Lab
    from netloom.lab.probes import Result
    from netloom.lab.topology import Topology

SETTLE = 10.0
"""Seconds for the nodes to learn of each other's blocks; it takes a fraction of one."""


def tour(topology: Topology, *, keep: bool) -> bool:
    """Whether everything was proven."""
    from netloom.lab import cluster, report

    if cluster.down(topology.name):
        click.echo(f"(the lab {topology.name} that was kept is taken down first)\n")
    begun = time.monotonic()
    with _chapter(f"Building: {pictures.summary(topology)}"):
        lab = cluster.up(topology, pictures.say)
    try:
        ping = _first_ping(lab)
        reached = time.monotonic() - begun
        with _chapter("Nodes and pods"):
            click.echo(f"{pictures.nodes(lab)}\n\n{pictures.pods(lab)}")
        with _chapter(_title(topology)):
            click.echo(_routes(lab))
        with _chapter(f"First ping, {reached:.1f} s after the start"):
            click.echo(_sentence(ping))
        proof, seconds = _proof(lab)
        with _chapter(f"The rules of the Kubernetes network model, by {report.kinds_of_packets(proof)}"):
            click.echo(as_text(proof, with_matrix=True))
            click.echo(f"\n{len(proof.results) + len(proof.findings)} tries in {seconds:.1f} s")
    except BaseException:
        cluster.down(lab.name)
        raise
    _close(lab, begun, keep=keep)
    return bool(proof) and ping.problem is None


@contextmanager
def _chapter(title: str) -> Iterator[None]:
    click.echo(f"{title}\n")
    yield
    click.echo("")


def _first_ping(lab: Lab) -> Result:
    """From the first pod to one on another node, as soon as it works."""
    from netloom.lab import probes
    from netloom.lab.probes import Kind, Probe, Protocol

    with lab.places() as places:
        first, *others = [p for p in places if p.kind is Kind.POD]
        far = next(p for p in others if p.node != first.node)
        deadline = time.monotonic() + SETTLE
        while True:
            [result] = probes.run([Probe(first, far, far.addresses[0], Protocol.ICMP)], timeout=0.5)
            if result.problem is None or time.monotonic() > deadline:
                return result


def _sentence(ping: Result) -> str:
    probe = ping.probe
    way = f"{probe.source.name} on {probe.source.node} → {probe.target.name} ({probe.address}) on {probe.target.node}"
    return f"{way}: " + (f"NO, {ping.problem}" if ping.problem else f"ok, seen there as {ping.seen}")


def _proof(lab: Lab) -> tuple[Proof, float]:
    """Repeated until it holds or the nodes have had their time; the seconds are those of the last one."""
    from netloom.lab.checks import prove

    deadline = time.monotonic() + SETTLE
    while True:
        begun = time.monotonic()
        with lab.places() as places:
            proof = prove(places)
        if proof or time.monotonic() > deadline:
            return proof, time.monotonic() - begun


def _title(topology: Topology) -> str:
    node = topology.nodes[0].name
    if topology.bgp:
        return f"Routes of {node}: its own pods by its agent, the blocks of other nodes by BIRD"
    return f"Routes that the agent of {node} has made: its own pods, and the blocks of other nodes"


def _routes(lab: Lab) -> str:
    """In the words of iproute2, which whoever reads this knows.  BIRDs take a second or two to speak with each other."""
    from netloom.dataplane import netns

    lines = []
    with lab.namespace(lab.topology.nodes[0].name) as namespace, netns.entered(namespace):
        for proto in ("79", "bird") if lab.topology.bgp else ("79",):
            for family in ("-4", "-6"):
                command = ["ip", family, "route", "show", "proto", proto]
                deadline = time.monotonic() + SETTLE
                while not (shown := subprocess.run(command, capture_output=True, text=True, check=True).stdout):
                    if time.monotonic() > deadline:
                        break
                    time.sleep(0.05)
                lines += [f"$ {' '.join(command)}", *shown.splitlines()]
    return "\n".join(line.rstrip() for line in lines)


def _close(lab: Lab, begun: float, *, keep: bool) -> None:
    from netloom.lab import cluster

    if keep:
        click.echo(f"The lab stays up.  It took {time.monotonic() - begun:.1f} s.\n\n{pictures.next_steps(lab)}")
        return
    ending = time.monotonic()
    cluster.down(lab.name)
    now = time.monotonic()
    click.echo(f"Taken down in {now - ending:.1f} s: no namespace, process or file is left.  {now - begun:.1f} s in all.")
