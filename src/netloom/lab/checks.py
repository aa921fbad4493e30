"""The four rules of the Kubernetes network model, proven by real packets between real namespaces.

    1  every pod reaches every other pod without NAT: the receiver sees the sender's own address
    2  nodes reach pods, and pods reach nodes (where natOutgoing says so, with their own node's address)
    3  a pod has a network stack of its own; the address on its eth0 is the one that others see
    4  the containers of a pod share that stack

Rules 1 and 2 are probes (TCP, UDP and ICMP, both families).  Rule 3 reads what a pod sees inside; that others see the same is
rule 1's probe.  For rule 4 a second process enters every sandbox, listens on its loopback, and must be found there by the first.

The input are plain values, so a lab and a live node are proven by the same code.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations

from netloom.dataplane import netns
from netloom.lab import probes
from netloom.lab.inside import addresses_inside
from netloom.lab.probes import Kind, Place, Probe, Protocol, Result
from netloom.model.addresses import Address
from netloom.model.attachments import NetnsId

INTERFACE = "eth0"


@dataclass(frozen=True, slots=True)
class Finding:
    """What rule 3 or 4 says about one pod; `problem` None: it holds."""

    rule: int
    pod: str
    problem: str | None


@dataclass(frozen=True, slots=True)
class Proof:
    results: tuple[Result, ...]
    findings: tuple[Finding, ...]

    def __bool__(self) -> bool:
        return not any(self.problems())

    def problems(self) -> Iterator[str]:
        """One line each, naming who, whom and why."""
        for result in self.results:
            if result.problem:
                p = result.probe
                yield f"{p.source.name} → {p.target.name} ({p.address}) {p.protocol.value}: {result.problem}"
        for finding in self.findings:
            if finding.problem:
                yield f"{finding.pod}: {finding.problem}"


def prove(places: Sequence[Place], timeout: float = 3.0) -> Proof:
    """Runs everything at once; a probe without an answer takes `timeout` seconds."""
    pods = [p for p in places if p.kind is Kind.POD]
    findings = (*own_stack(places), *shared_stack(pods, timeout))
    return Proof(tuple(probes.run(tuple(pairs(places)), timeout)), findings)


def pairs(places: Sequence[Place]) -> Iterator[Probe]:
    """Every pod with every pod and every node, both ways, in every family that both have.  Nodes among themselves are not ours."""
    for source, target in permutations(places, 2):
        if Kind.POD in (source.kind, target.kind):
            for address in target.addresses:
                if source.address(address.version):
                    yield from (Probe(source, target, address, protocol) for protocol in Protocol)


def rule_of(probe: Probe) -> int:
    return 1 if probe.source.kind is probe.target.kind is Kind.POD else 2


def own_stack(places: Sequence[Place]) -> Iterator[Finding]:
    """Rule 3: no namespace is shared with anybody, and the addresses inside are exactly those that others use."""
    holders: dict[NetnsId, str] = {}
    for place in sorted(places, key=lambda p: p.kind is Kind.POD):  # nodes first: a pod in a node's stack is the pod's problem
        holder = holders.setdefault(netns.identify(place.netns), place.name)
        if place.kind is Kind.POD:
            yield Finding(3, place.name, _stack_problem(place, holder))


def _stack_problem(pod: Place, holder: str) -> str | None:
    if holder != pod.name:
        return f"has no stack of its own: it shares that of {holder}"
    inside = {a.ip for a in addresses_inside(pod.netns, INTERFACE) if not a.is_link_local}
    if inside != set(pod.addresses):
        return f"{INTERFACE} shows {_listed(inside)} inside, others use {_listed(pod.addresses)}"
    return None


def _listed(addresses: Iterable[Address]) -> str:
    return " ".join(sorted(str(a) for a in addresses)) or "nothing"


def shared_stack(pods: Sequence[Place], timeout: float) -> Iterator[Finding]:
    """Rule 4: a second process in each sandbox listens on 127.0.0.1, and the first one finds it."""
    if not pods:
        return
    arguments = [f"{pod.name}={pod.netns}" for pod in pods]
    with subprocess.Popen(
        [sys.executable, "-m", "netloom.lab.responder", "--bind", "127.0.0.1", "--with-stdin", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[pod.netns for pod in pods],
        start_new_session=True,  # Ctrl-C is for us; it ends when its standard input does
    ) as container:
        try:
            assert container.stdout
            ports = container.stdout.readline().split()
            if len(ports) != len(pods):
                yield from (Finding(4, pod.name, "a second container could not listen on 127.0.0.1") for pod in pods)
            else:
                yield from (
                    Finding(4, pod.name, _loopback_problem(pod, int(port), timeout))
                    for pod, port in zip(pods, ports, strict=True)
                )
        finally:
            container.kill()


def _loopback_problem(pod: Place, port: int, timeout: float) -> str | None:
    with netns.entered(pod.netns):
        first = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    with first:
        first.settimeout(timeout)
        try:
            first.connect(("127.0.0.1", port))
            first.shutdown(socket.SHUT_WR)
            answer = first.recv(256).decode(errors="replace").strip()
        except OSError as e:
            return f"its containers do not see each other on 127.0.0.1: {e}"
    return None if answer.startswith(f"{pod.name} ") else f"127.0.0.1 is somebody else's: {answer!r}"
