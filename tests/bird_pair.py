"""Two nodes with a BIRD each, on one link: what tests of sessions are made of.

    a (192.0.2.1, fd00:2::1) up0 ──── up0 b (192.0.2.2, fd00:2::2)

    with pair(folder) as (a, b):
        a.apply(a.config(a.session(b)))       renders, checks, writes, configures, as the agent does
        a.start()                             its BIRD; a.stop(signal) ends it

The programs are real ones (see netloom.lab.packages), run as root in namespaces of their own, and end with the block.
"""

from __future__ import annotations

import ipaddress
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from netloom.bgp import status
from netloom.bgp.applying import Bird, Place
from netloom.bgp.rendering import render
from netloom.dataplane import netns
from netloom.lab import packages
from netloom.model.addresses import Address, Prefix
from netloom.model.routing import Announced, BgpConfig, Secret, Session
from tests.waiting import eventually

AS = 64512
_LINKS = (
    "link add up0 type veth peer name up0 netns {other}",
    "address add {address}/24 dev up0",
    "-6 address add {address6}/64 dev up0 nodad",
    "link set up0 up",
    "link set lo up",
)


@dataclass(slots=True)
class Node:
    name: str
    folder: Path
    netns: int
    address: Address
    address6: Address
    block: Prefix
    block6: Prefix
    program: packages.Program
    process: subprocess.Popen[bytes] | None = None
    secrets: dict[Secret, str] = field(default_factory=dict)

    @property
    def place(self) -> Place:
        return Place(str(self.folder / "state/bird.conf"), str(self.folder / "bird.ctl"), str(self.folder / "bird"))

    @property
    def bird(self) -> Bird:
        """One that remembers nothing."""
        return Bird(self.place)

    def config(self, *sessions: Session, **fields: object) -> BgpConfig:
        plain = BgpConfig(
            node=self.name,
            router_id=ipaddress.IPv4Address(int(self.address)),
            local_as=AS,
            announced=(Announced(self.block, f"IPBlock {self.block}"), Announced(self.block6, f"IPBlock {self.block6}")),
            pools=(ipaddress.ip_network("10.244.0.0/16"), ipaddress.ip_network("fd00:244::/48")),
            plain=(ipaddress.ip_network("10.244.0.0/16"), ipaddress.ip_network("fd00:244::/48")),
            own=(self.block, self.block6),
            subnets=(ipaddress.ip_network("192.0.2.0/24"), ipaddress.ip_network("fd00:2::/64")),
            addresses=(self.address, self.address6),
            sessions=sessions,
        )
        return replace(plain, **fields)  # type: ignore[arg-type]  # fields of that class

    def session(self, other: Node, **fields: object) -> Session:
        plain = Session(
            name=f"mesh_{other.name}",
            origin=f"Node {other.name}",
            address=other.address,
            remote_as=AS,
            local_as=AS,
            families=(4, 6),
            source=self.address,
            multihop=False,
            hold_time=30,
        )
        return replace(plain, **fields)  # type: ignore[arg-type]  # fields of that class

    def text(self, config: BgpConfig | None) -> str:
        return render(config, self.secrets)

    def apply(self, config: BgpConfig | None) -> bool:
        return self.bird.apply(self.text(config))

    def write(self, config: BgpConfig) -> None:
        """The file alone."""
        path = Path(self.place.config)
        path.parent.mkdir(exist_ok=True)
        path.write_text(self.text(config))

    def start(self, *arguments: str) -> None:
        command = [self.program.path, "-f", "-c", self.place.config, "-s", self.place.socket, *arguments]
        with netns.entered(self.netns), (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, env=os.environ | self.program.environment, stdout=log, stderr=log)
        eventually(lambda: self.answers() or self._ended())

    def _ended(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()
        return False

    def answers(self) -> bool:
        try:
            return bool(self.bird.control.ask("show status"))
        except Exception:
            return False

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            if number not in (signal.SIGSTOP, signal.SIGCONT):
                self.process.wait(30)
                self.process = None

    def peer(self, other: Node) -> status.Peer | None:
        return self.bird.peers().get(f"mesh_{other.name}")

    def established(self, other: Node) -> bool:
        peer = self.peer(other)
        return peer is not None and peer.established

    def ip(self, *words: str) -> str:
        with netns.entered(self.netns):
            return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


def wrapper(folder: Path, program: packages.Program) -> None:
    """The program under one name that needs no environment, as an installed one is."""
    lines = [f"export {name}='{value}'" for name, value in program.environment.items()]
    path = folder / "bird"
    path.write_text("\n".join(("#!/bin/sh", *lines, f'exec {program.path} "$@"', "")))
    path.chmod(0o755)


@contextmanager
def pair(folder: Path) -> Iterator[tuple[Node, Node]]:
    program = packages.bird()
    with ExitStack() as stack:
        nodes = []
        for number, name in enumerate(("a", "b"), 1):
            home = folder / name
            home.mkdir()
            wrapper(home, program)
            namespace = netns.create()
            stack.callback(os.close, namespace)
            node = Node(
                name,
                home,
                namespace,
                ipaddress.ip_address(f"192.0.2.{number}"),
                ipaddress.ip_address(f"fd00:2::{number}"),
                ipaddress.ip_network(f"10.244.{number}.0/26"),
                ipaddress.ip_network(f"fd00:244::{number}:0/122"),
                program,
            )
            stack.callback(_kill, node)
            nodes.append(node)
        a, b = nodes
        _join(a, b)
        yield a, b


def _kill(node: Node) -> None:
    if node.process is not None:
        node.process.kill()
        node.process.wait(30)


def _join(a: Node, b: Node) -> None:
    for node, other in ((a, b), (b, a)):
        for line in _LINKS:
            if line.startswith("link add") and node is b:
                continue
            words = line.format(address=node.address, address6=node.address6, other=f"/proc/{os.getpid()}/fd/{other.netns}")
            with netns.entered(node.netns):
                subprocess.run(["ip", *words.split()], check=True, capture_output=True, text=True)
