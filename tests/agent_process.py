"""One real agent on one machine of its own, for tests and benches.

    with running_machine() as machine:             a namespace, an uplink, a datastore with pools, an agent that is ready
        with machine.sandbox() as sandbox:         a pod's namespace, with a name as a runtime gives it
            call(NATIVE, "ADD", machine.run_dir, sandbox.container_id, sandbox.path)
        machine.end(signal.SIGKILL)
        machine.start()

Everything lies in one temporary folder and in namespaces that go with it.  The agent is the shipped one, started by its own
command; `command` puts something in front of it (a profiler).
"""

from __future__ import annotations

import http.client
import ipaddress
import itertools
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial

import yaml

from netloom.agent.passing import AFTER_DRIFT
from netloom.agent.state import STATE_PATH, AgentState, decode
from netloom.dataplane import netns
from netloom.dataplane.netlink import Netlink, device, new_veth, put_address, set_link
from netloom.datastore import connect
from netloom.ipam.allocator import GRACE
from netloom.lab import daemons, processes
from netloom.model.addresses import Interface, Mac
from netloom.model.resources import Encapsulation, IPPool, IPPoolSpec, Metadata
from netloom.tunnel.ebpf.store import forget
from tests.waiting import eventually

POOLS = {
    "v4": IPPoolSpec(cidr=ipaddress.ip_network("10.244.0.0/16"), encapsulation=Encapsulation.VXLAN, nat_outgoing=True),
    "v6": IPPoolSpec(cidr=ipaddress.ip_network("fd00:244::/48"), encapsulation=Encapsulation.VXLAN),
}
ADDRESSES: tuple[Interface, ...] = (ipaddress.ip_interface("192.168.77.1/24"), ipaddress.ip_interface("fd00:77::1/64"))
NODE = "node-0"

_LOOPBACK = 1
_AGENT = (sys.executable, "-m", "netloom", "agent", "--config")
_ALTERED = """
import netloom.agent.passing
netloom.agent.passing.AFTER_DRIFT = {repairs}
import netloom.agent.node, netloom.cli, netloom.ipam.allocator  # who needs that number takes it now
netloom.agent.node._UPKEEP = {upkeep}
netloom.ipam.allocator.Allocator.__init__.__kwdefaults__["grace"] = {grace}
netloom.cli.main()
"""


def altered(*, repairs: float = AFTER_DRIFT, upkeep: float = 5.0, grace: float = GRACE) -> tuple[str, ...]:
    """The agent, but other seconds pass between passes that repair what others change, between looks at claims, dead sandboxes and
    tombstones, and until a block that nobody needs is given back."""
    return sys.executable, "-c", _ALTERED.format(repairs=repairs, upkeep=upkeep, grace=grace), "agent", "--config"


PATIENT = altered(repairs=0.1, grace=3600.0)
"""It repairs quickly, and gives no block back while the tests last: what was claimed before a test is there after it."""
HASTY = altered(repairs=0.1, upkeep=0.3, grace=1.0)
"""What it looks after every few seconds it looks after at once."""

_GRACE = 15.0
_LAST = 60  # lines of a log
_GUARDS = 16
_numbers = itertools.count()
_there: dict[str, Machine] = {}


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A pod's namespace: `netns` by descriptor, `path` as CNI_NETNS names it."""

    container_id: str
    netns: int
    path: str


@dataclass(slots=True)
class Machine:
    """`netns`: the node's namespace; `outside`: the one at the other end of its uplink."""

    folder: str
    netns: int
    outside: int
    settings: Mapping[str, object] = field(default_factory=dict)
    command: Sequence[str] = _AGENT
    _numbers: dict[str, list[int]] = field(default_factory=dict)
    """Namespaces by the sandbox whose number they guard."""

    @property
    def run_dir(self) -> str:
        return f"{self.folder}/run"

    @property
    def state_dir(self) -> str:
        return f"{self.folder}/state"

    @property
    def datastore(self) -> str:
        return f"sqlite:{self.folder}/datastore.db"

    @property
    def lab(self) -> str:
        """What marks this machine's processes."""
        return os.path.basename(self.folder)

    def start(self, timeout: float = 30.0) -> None:
        """Returns when the agent says that it is ready; raises NetloomError with the end of its log."""
        daemons.start(self.lab, [self.daemon()], timeout)

    def daemon(self) -> daemons.Daemon:
        return daemons.Daemon(
            role="agent",
            place="",
            arguments=[*self.command, f"{self.folder}/agent.yaml"],
            folder=self.folder,
            log=f"{self.folder}/agent.log",
            namespace=f"/proc/self/fd/{self.netns}",
            environment={"PYTHONDONTWRITEBYTECODE": "1"},
        )

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Sends the signal and returns when the process is gone."""
        processes.end(self.lab, _GRACE, "agent", first=number)

    def send(self, number: signal.Signals) -> None:
        """SIGSTOP, SIGCONT: what does not end it."""
        with processes.found(self.lab, "agent") as agents:
            for agent in agents:
                agent.signal(number)

    @property
    def pid(self) -> int | None:
        """The agent's; None while there is none."""
        with processes.found(self.lab, "agent") as agents:
            return agents[0].pid if agents else None

    def restart(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.end(number)
        self.start()

    @property
    def has_log(self) -> bool:
        return os.path.exists(f"{self.folder}/agent.log")

    def log(self) -> str:
        with open(f"{self.folder}/agent.log", encoding="utf-8", errors="replace") as file:
            return file.read()

    def state(self) -> AgentState:
        """What the agent says of itself."""
        connection = http.client.HTTPConnection("agent", timeout=5)
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.sock.connect(f"{self.run_dir}/netloom.sock")
            connection.request("GET", STATE_PATH)
            return decode(connection.getresponse().read())
        finally:
            connection.close()

    @contextmanager
    def sandbox(self, container_id: str | None = None) -> Iterator[Sandbox]:
        """A namespace as a runtime makes one for a pod, until the block ends."""
        sandbox = self.make_sandbox(container_id)
        try:
            yield sandbox
        finally:
            self.remove_sandbox(sandbox)

    def make_sandbox(self, container_id: str | None = None) -> Sandbox:
        container_id = container_id or f"{os.getpid():x}c{next(_numbers):x}"
        path = f"{self.folder}/netns/{container_id}"
        descriptor = netns.create()
        netns.give_name(descriptor, path)
        return Sandbox(container_id, descriptor, path)

    def make_mortal(self, container_id: str | None = None) -> Sandbox:
        """A sandbox that is to be found dead when it was removed.  The kernel gives the lowest number that is free to whoever makes the next
        namespace, and for as long as that is there the number is in use: so lower ones become free at the same time."""
        lower = guards()
        sandbox = self.make_sandbox(container_id)
        self._numbers[sandbox.container_id] = lower
        return sandbox

    def remove_sandbox(self, sandbox: Sandbox) -> None:
        for lower in self._numbers.pop(sandbox.container_id, ()):
            os.close(lower)
        netns.take_name(sandbox.path)
        os.close(sandbox.netns)


def guards() -> list[int]:
    """Namespaces whose numbers are lower than that of the next one: others take them first."""
    return [netns.create() for _ in range(_GUARDS)]


def logs() -> list[tuple[str, str]]:
    """The ends of the agents' logs, of all machines that there are: what one wants to see of a test that failed."""
    return [(made.folder, "".join(made.log().splitlines(keepends=True)[-_LAST:])) for made in _there.values() if made.has_log]


@contextmanager
def _noted(made: Machine) -> Iterator[None]:
    """It is among `logs`; what goes wrong in the block is shown with the end of its log."""
    _there[made.folder] = made
    try:
        yield
    except Exception as e:
        for folder, log in logs():
            if folder == made.folder:
                e.add_note(f"{folder}/agent.log\n{log}")
        raise
    finally:
        del _there[made.folder]


@contextmanager
def running_machine(
    pools: Mapping[str, IPPoolSpec] = POOLS, command: Sequence[str] = _AGENT, **settings: object
) -> Iterator[Machine]:
    """`settings`: as in the agent's file, over what a test wants (no port, addresses are free at once)."""
    with machine(pools, command, **settings) as made:
        made.start()
        yield made


@contextmanager
def machine(pools: Mapping[str, IPPoolSpec] = POOLS, command: Sequence[str] = _AGENT, **settings: object) -> Iterator[Machine]:
    """The same, and no agent yet."""
    with ExitStack() as stack:
        folder = tempfile.mkdtemp(prefix="nl-", dir="/tmp")
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        node, outside = netns.create(), netns.create()
        stack.callback(os.close, node)
        stack.callback(os.close, outside)
        for below in ("run", "state", "netns"):
            os.mkdir(f"{folder}/{below}", 0o700)
        made = Machine(folder, node, outside, settings, command)
        stack.callback(_remove_names, folder)
        stack.callback(forget, netns.identify(made.netns).inode)
        stack.callback(_end_all, made)
        _join(node, outside)
        configure(made)
        _declare(made, pools)
        stack.enter_context(_noted(made))
        yield made


@contextmanager
def neighbour(other: Machine, **settings: object) -> Iterator[Machine]:
    """A second node of its cluster, at the other end of its uplink; it runs."""
    with ExitStack() as stack:
        folder = tempfile.mkdtemp(prefix="nl-", dir="/tmp")
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        for below in ("run", "state", "netns"):
            os.mkdir(f"{folder}/{below}", 0o700)
        own = {"nodeName": "node-1", "nodeAddresses": [str(_shifted(address, 1)) for address in ADDRESSES]}
        made = Machine(folder, other.outside, other.netns, {**own, "datastore": other.datastore, **settings}, other.command)
        stack.callback(_remove_names, folder)
        stack.callback(forget, netns.identify(made.netns).inode)
        stack.callback(_end_all, made)
        configure(made)
        stack.enter_context(_noted(made))
        made.start()
        yield made


def _end_all(made: Machine) -> None:
    """The agent first: it would start a forwarder again that ends."""
    made.end(signal.SIGKILL)
    processes.end(made.lab, _GRACE, "forwarder", first=signal.SIGKILL)


def _remove_names(folder: str) -> None:
    for name in os.listdir(f"{folder}/netns"):
        netns.take_name(f"{folder}/netns/{name}")


def configure(made: Machine) -> None:
    """Its agent's settings, as they are now."""
    settings = {
        "nodeName": NODE,
        "nodeAddresses": [str(address) for address in ADDRESSES],
        "datastore": made.datastore,
        "runDir": made.run_dir,
        "stateDir": made.state_dir,
        "healthAddress": "",
        "probePort": 0,  # most of the nodes around it exist in the datastore only
        "coolDown": 0.0,
        **made.settings,
    }
    with open(f"{made.folder}/agent.yaml", "w", encoding="utf-8") as file:
        yaml.safe_dump(settings, file)


def _declare(made: Machine, pools: Mapping[str, IPPoolSpec]) -> None:
    datastore = connect(made.datastore)
    try:
        for name, spec in pools.items():
            datastore.create(IPPool(metadata=Metadata(name=name), spec=spec))
    finally:
        datastore.close()


def _join(node: int, outside: int) -> None:
    """`eth0` of the node, with its addresses, and the other end with the next ones.  No duplicate address detection: it takes a
    second in which an address is not there yet.  And ends with different indexes: of those with the same one the kernel says up to a
    second later that they are up, and only then they have link-local addresses and routes."""
    for namespace in (node, outside):
        with netns.entered(namespace), open("/proc/sys/net/ipv6/conf/default/accept_dad", "w", encoding="ascii") as file:
            file.write("0")
    with Netlink(node) as kernel:
        macs = Mac("02:00:00:00:00:01"), Mac("02:00:00:00:00:02")
        kernel.transact(new_veth("eth0", "eth0", outside, mac=macs[0], peer_mac=macs[1], mtu=1500, index=10, peer_index=11))
    for namespace, next_one in ((node, 0), (outside, 1)):
        with Netlink(namespace) as kernel:
            uplink = device(kernel, "eth0")
            assert uplink is not None
            kernel.transact(
                set_link(_LOOPBACK, up=True),
                set_link(uplink.index, up=True),
                *(put_address(uplink.index, _shifted(address, next_one)) for address in ADDRESSES),
            )
    for namespace in (node, outside):
        eventually(partial(_is_up, namespace))


def _is_up(namespace: int) -> bool:
    """Whether `eth0` has a link-local address, which is the last that it gets."""
    with netns.entered(namespace), open("/proc/thread-self/net/if_inet6", encoding="ascii") as file:
        return any(line.startswith("fe80") and line.split()[-1] == "eth0" for line in file)


def _shifted(address: Interface, by: int) -> Interface:
    return ipaddress.ip_interface(f"{address.ip + by}/{address.network.prefixlen}")
