"""Two nodes with a pod each, and a tunnel between them, for tests and benches.

    pod a ── eth0 ─ node a ─ loom.udp ═ up0 ──── up0 ═ loom.udp ─ node b ─ eth0 ── pod b
    10.244.1.2      10.244.1.1     192.0.2.1    192.0.2.2        10.244.2.1     10.244.2.2       and IPv6 beside it

    with pair() as (a, b):
        a.forward(), b.loop()           the forwarder at one end, the plain C loop (bench/udp_loop.c) at the other

Everything lies in namespaces of its own and ends with the block.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from netloom.dataplane import netns, tun
from netloom.errors import DataplaneError
from netloom.model.addresses import parse_address, parse_prefix
from netloom.tunnel.forwarder.client import Client, path
from netloom.tunnel.forwarder.messages import State
from tests.waiting import eventually

DEVICE, PORT = "loom.udp", 8285
PATIENCE = 30.0
NUMPY = (sys.executable, "-m", "netloom")
PLAIN = (sys.executable, "-c", "import sys; sys.modules['numpy'] = None; from netloom.cli import main; main()")
"""Without numpy, as if it were not installed."""
_GATEWAY_MAC = "ee:ee:ee:ee:ee:ee"
_SETTINGS = {
    "ipv4/ip_forward": "1",
    "ipv6/conf/all/forwarding": "1",
    "ipv4/conf/all/rp_filter": "0",
    "ipv4/conf/default/rp_filter": "0",
    "ipv6/conf/default/accept_dad": "0",
    "ipv6/conf/all/accept_dad": "0",
}


@dataclass(slots=True)
class Node:
    """`number`: 1 or 2.  `outer`: the family of outer packets."""

    number: int
    folder: str
    netns: int
    pod: int
    outer: int = 4
    mtu: int = 1472
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def address(self) -> str:
        return self.addresses[0] if self.outer == 4 else self.addresses[1]

    @property
    def addresses(self) -> tuple[str, str]:
        return f"192.0.2.{self.number}", f"2001:db8::{self.number}"

    @property
    def pod_addresses(self) -> tuple[str, str]:
        return f"10.244.{self.number}.2", f"fd00:{self.number}::2"

    @property
    def tunnel_addresses(self) -> tuple[str, str]:
        return f"10.244.{self.number}.1", f"fd00:{self.number}::1"

    @property
    def prefixes(self) -> tuple[str, str]:
        return f"10.244.{self.number}.0/24", f"fd00:{self.number}::/64"

    @property
    def other(self) -> Node:
        return Node(3 - self.number, self.folder, -1, -1, self.outer)

    @property
    def control(self) -> str:
        return path(f"{self.folder}/{self.number}", DEVICE)

    def forward(
        self, command: Sequence[str] = NUMPY, *, pin: str | None = None, port: int = PORT, also: Sequence[str] = ()
    ) -> State:
        """Starts a forwarder, or the successor of the one that runs, and tells it where the other node is."""
        before = self.pid
        words = [*command, "forwarder", "--device", DEVICE, "--local", self.address, "--port", str(port)]
        words += [word for address in also for word in ("--also", address)]
        self.start([*words, "--run-dir", f"{self.folder}/{self.number}"], pin=pin)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            assert self.processes[-1].poll() is None, Path(f"{self.folder}/{self.number}/log").read_text()
            if (state := self.state()) is not None and state.pid != before and state.pid == self.processes[-1].pid:
                if not state.number:
                    self.tell()
                eventually(self._carries)
                return state
            time.sleep(0.02)
        raise AssertionError(Path(f"{self.folder}/{self.number}/log").read_text())

    def _carries(self) -> bool:
        """Whether the kernel sends to the device, which it begins to some time after a process has taken it."""
        with netns.entered(self.netns):
            shown = subprocess.run(["ip", "link", "show", DEVICE], capture_output=True, text=True, check=True).stdout
        return ",UP" not in shown or "qdisc noop " not in shown

    def tell(self) -> None:
        peer = parse_address(self.other.address)
        own = parse_address(self.address)
        tunnels = {parse_prefix(text): peer for text in self.other.prefixes} | {
            parse_prefix(text): own for text in self.prefixes
        }
        with Client(self.control) as client:
            client.replace(tunnels, [peer], self.mtu)

    def loop(self, *, pin: str | None = None) -> None:
        """Starts the plain C loop, and returns when it is ready."""
        arguments = [udp_loop(), DEVICE, self.address, str(PORT), f"{self.other.prefixes[0]}={self.other.address}"]
        process = self.start(arguments, pin=pin, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        self.configure()

    def start(self, arguments: Sequence[str], *, pin: str | None, stdout: int | None = None) -> subprocess.Popen[bytes]:
        words = [*(("taskset", "-c", pin) if pin else ()), *arguments]
        with netns.entered(self.netns), open(f"{self.folder}/{self.number}/log", "ab") as log:
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=stdout or log, stderr=log)
        self.processes.append(process)
        return process

    def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Of every process that this node started."""
        for process in self.processes:
            process.send_signal(number)
            process.wait(PATIENCE)
            if process.stdout:
                process.stdout.close()
        self.processes.clear()

    def state(self, *, peers: bool = False) -> State | None:
        try:
            with Client(self.control) as client:
                return client.state(peers=peers)
        except DataplaneError:
            return None

    @property
    def pid(self) -> int | None:
        state = self.state()
        return state.pid if state else None

    def configure(self) -> None:
        """The device's addresses and routes, as the agent has them."""
        gateways = (self.other.tunnel_addresses[0], f"fe80::{self.other.number}")
        routes = [
            f"route replace {prefix} via {gateway} dev {DEVICE} onlink src {own}"
            for prefix, gateway, own in zip(self.other.prefixes, gateways, self.tunnel_addresses, strict=True)
        ]
        addresses = [
            *(
                f"address replace {a}/{n} dev {DEVICE}{' nodad' if n == 128 else ''}"
                for a, n in zip(self.tunnel_addresses, (32, 128), strict=True)
            )
        ]
        with netns.entered(self.netns):
            Path(f"/proc/sys/net/ipv4/conf/{DEVICE}/rp_filter").write_text("2")
            ip(f"link set {DEVICE} mtu {self.mtu} up", *addresses, *routes)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """The pod."""
        with netns.entered(self.pod):
            yield


def ip(*lines: str) -> None:
    done = subprocess.run(["ip", "-batch", "-"], input="\n".join(lines), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{lines}: {done.stderr}"


@cache
def udp_loop() -> str:
    """The C loop, compiled."""
    folder = tempfile.mkdtemp(prefix="nl-loop-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    source = Path(__file__).parent.parent / "bench" / "udp_loop.c"
    subprocess.run(["gcc", "-O2", "-Wall", "-o", f"{folder}/udp_loop", str(source)], check=True)
    return f"{folder}/udp_loop"


@contextmanager
def pair(outer: int = 4, mtu: int = 0, *, persistent: bool = True) -> Iterator[tuple[Node, Node]]:
    """`mtu`: of the tunnel; 0: what fits.  `persistent`: the TUN devices are made, as the agent does."""
    with ExitStack() as stack:
        folder = tempfile.mkdtemp(prefix="nl-", dir="/tmp")
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        nodes = []
        for number in (1, 2):
            os.mkdir(f"{folder}/{number}", 0o700)
            spaces = netns.create(), netns.create()
            for each in spaces:
                stack.callback(os.close, each)
            nodes.append(Node(number, folder, *spaces, outer, mtu or (1472 if outer == 4 else 1452)))
        for node in nodes:
            stack.callback(node.end)
        a, b = nodes
        _join(a, b)
        for node in nodes:
            _attach_pod(node)
            if persistent:
                with netns.entered(node.netns):
                    tun.create(DEVICE)
                node.configure()
        yield a, b


def _path(descriptor: int) -> str:
    return f"/proc/{os.getpid()}/fd/{descriptor}"


def _settle(descriptor: int) -> None:
    with netns.entered(descriptor):
        for name, value in _SETTINGS.items():
            Path("/proc/sys/net", name).write_text(value)
        ip("link set lo up")


def _join(a: Node, b: Node) -> None:
    _settle(a.netns)
    _settle(b.netns)
    with netns.entered(a.netns):
        ip(f"link add up0 type veth peer name up0 netns {_path(b.netns)}")
    for node in (a, b):
        with netns.entered(node.netns):
            ip(f"address add {node.addresses[0]}/24 dev up0", f"address add {node.addresses[1]}/64 dev up0", "link set up0 up")


def _attach_pod(node: Node) -> None:
    _settle(node.pod)
    with netns.entered(node.netns):
        ip(
            f"link add pod0 address {_GATEWAY_MAC} mtu {node.mtu} type veth peer name eth0 mtu {node.mtu} netns {_path(node.pod)}",
            "link set pod0 up",
            "address add fe80::1/64 dev pod0",
            *(f"route add {address} dev pod0" for address in node.pod_addresses),
        )
    with netns.entered(node.pod):
        ip(
            "link set eth0 up",
            f"address add {node.pod_addresses[0]}/32 dev eth0",
            f"address add {node.pod_addresses[1]}/128 dev eth0",
            "route add 169.254.1.1 dev eth0",
            f"neighbour add 169.254.1.1 lladdr {_GATEWAY_MAC} dev eth0",
            "route add default via 169.254.1.1 dev eth0",
            "route add default via fe80::1 dev eth0",
        )
