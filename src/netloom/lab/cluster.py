"""A lab that runs: `up` brings a topology to life, `down` leaves nothing behind, `Lab` is what stands in between.

    up     record → namespaces and cables → datastore with what is declared → BIRDs → agents, all at once → pods by CNI → responder
    down   processes → namespaces (and with them every link, route and rule) → files

Whatever is made was recorded or marked before, so `down` removes the remains of an `up` that died anywhere; an `up` that
fails, or is interrupted, takes everything down by itself.  No DEL is called for the pods: their interfaces go with the namespaces.
"""

from __future__ import annotations

import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import msgspec
import yaml

from netloom.dataplane import netns
from netloom.errors import ConfigError, NotFound
from netloom.lab import birds, daemons, packages, probes, processes, record, sandboxes, stores, underlay
from netloom.lab.inside import addresses_inside, marked_namespaces
from netloom.lab.probes import Kind, Place
from netloom.lab.record import Record, Sandbox, folder, namespace_path
from netloom.lab.topology import Node, Pod, Topology
from netloom.model.addresses import Address
from netloom.tunnel.ebpf import forget

RESPONDER_PORT = 8080
_GRACE = 5.0
_AT_ONCE = 8  # CNI calls; a kubelet has about as many

Say = Callable[[str, float], None]
"""Told of each step when it is done: what, and how many seconds it took."""


def up(topology: Topology, say: Say = lambda what, seconds: None) -> Lab:
    """Raises NetloomError; nothing is left behind then."""
    with record.locked(topology.name):
        if os.path.exists(folder(topology.name, "lab.json")):
            name = topology.name
            raise ConfigError(f"lab {name!r} is there already", hint=f"netloom lab down {name}, or another name: --name")
        try:
            _take_down(topology.name, keep_folder=True)  # what an earlier lab of this name may have left without a record
            return _bring_up(topology, say)
        except BaseException:
            with _undisturbed():
                _take_down(topology.name)
            raise


def down(name: str) -> bool:
    """Whether there was anything.  As often as you like."""
    with record.locked(name), _undisturbed():
        return _take_down(name)


def open_lab(name: str | None = None) -> Lab:
    """The lab of that name, or the only one.  Raises NotFound, ConfigError."""
    return Lab(record.read(record.the_only_one(name)))


def _bring_up(topology: Topology, say: Say) -> Lab:
    step = _Steps(say)
    record.write(Record(topology=topology))
    lab = Lab(Record(topology=topology))
    underlay.build(topology)
    stores.prepare(topology)
    step.done(f"{_count(topology.nodes, 'node')} on {_count(topology.switches, 'switch')}")
    lab.start_birds()
    lab.start_agents(topology.nodes)
    step.done(_count(topology.nodes, "agent") + " ready")
    lab.attach(topology.pods)
    lab.start_responder()
    step.done(_count(topology.pods, "pod") + " by CNI")
    lab.keep(complete=True)
    return lab


class _Steps:
    def __init__(self, say: Say) -> None:
        self._say, self._since = say, time.monotonic()

    def done(self, what: str) -> None:
        now = time.monotonic()
        self._say(what, now - self._since)
        self._since = now


def _count(things: tuple[object, ...], word: str) -> str:
    plural = "es" if word.endswith("ch") else "s"
    return f"{len(things)} {word}{plural if len(things) != 1 else ''}"


def datastore_of(lab: str) -> str:
    """Where a lab's cluster is declared, if it has no etcd."""
    return stores.file_of(lab)


def _take_down(name: str, *, keep_folder: bool = False) -> bool:
    there = processes.end(name, _GRACE, "agent") + stores.end(name) + processes.end(name, _GRACE) > 0
    for path in {*_recorded_namespaces(name), *marked_namespaces(name)}:
        there |= os.path.exists(path)
        _forget_tunnels(path)
        netns.take_name(path)
    there |= bool(os.listdir(folder(name)))
    if not keep_folder:
        record.remove_folder(name)
    return there


def _forget_tunnels(path: str) -> None:
    """What is pinned for a node lies in a file system that the whole machine shares."""
    try:
        descriptor = netns.open_netns(path)
    except OSError:  # a name without a namespace
        return
    forget(netns.identify(descriptor).inode)
    os.close(descriptor)


def _recorded_namespaces(name: str) -> Iterator[str]:
    """Among them those whose name was made and not yet bound to anything."""
    try:
        known = record.read(name)
    except (ConfigError, NotFound):  # none, or unreadable: the marks in the namespaces are left to go by
        return
    for place in known.places():
        yield namespace_path(name, place)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Interruptions wait: half a clean-up is worse than none."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@dataclass(slots=True)
class Lab:
    """A lab that is there.  `record` is kept on disk with each change."""

    record: Record

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def topology(self) -> Topology:
        return self.record.topology

    def keep(self, **changes: object) -> None:
        self.record = msgspec.structs.replace(self.record, **changes)
        record.write(self.record)

    @contextmanager
    def namespace(self, place: str) -> Iterator[int]:
        """Its descriptor, for the time of the block."""
        if place not in self.record.places():
            there = ", ".join(self.record.places())
            raise NotFound(f"there is no {place!r} in lab {self.name!r}", hint=f"there are {there}")
        try:
            descriptor = netns.open_netns(namespace_path(self.name, place))
        except OSError as e:
            raise ConfigError(f"{place} has lost its namespace: {e.strerror}", hint=f"netloom lab down {self.name}") from e
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    # BIRDs

    def start_birds(self) -> None:
        """And a process that keeps them running.  Returns when those of routers are started; nodes' wait for their agents."""
        if not list(birds.of(self.topology)):
            return
        birds.prepare(self.topology)
        packages.bird()  # while somebody waits: unpacking it may take a minute
        keeper = daemons.Daemon(
            role="keeper",
            place="",
            arguments=[sys.executable, "-m", "netloom.lab.keeper", self.name],
            folder=folder(self.name),
            log=folder(self.name, "keeper.log"),
        )
        daemons.start(self.name, [keeper])

    def kill_bird(self, place: str, number: signal.Signals = signal.SIGKILL) -> None:
        """The keeper starts another one."""
        with processes.found(self.name, "bird", place) as running:
            for process in running:
                process.signal(number)

    # Agents

    def start_agents(self, nodes: tuple[Node, ...]) -> None:
        """All at once; returns when all are ready."""
        daemons.start(self.name, [self._agent(node) for node in nodes])

    def stop_agent(self, node: str, number: signal.Signals = signal.SIGTERM) -> None:
        """Sends the signal, and returns when the process is gone."""
        processes.end(self.name, _GRACE, "agent", node, number)

    def _agent(self, node: Node) -> daemons.Daemon:
        home = folder(self.name, node.name)
        for below in ("run", "state"):
            os.makedirs(f"{home}/{below}", mode=0o700, exist_ok=True)
        settings = {
            "nodeName": node.name,
            "nodeAddresses": [str(a) for a in self.topology.node_addresses(node)],
            **stores.settings(self.topology, node.name),
            "runDir": f"{home}/run",
            "stateDir": f"{home}/state",
            **self.topology.settings,
        }
        with open(f"{home}/agent.yaml", "w", encoding="utf-8") as file:
            yaml.safe_dump(settings, file, sort_keys=False)
        return daemons.Daemon(
            role="agent",
            place=node.name,
            arguments=[sys.executable, "-m", "netloom", "agent", "--config", f"{home}/agent.yaml"],
            folder=home,
            log=f"{home}/agent.log",
            namespace=namespace_path(self.name, node.name),
            environment=packages.bird().environment if self.topology.bgp else {},
        )

    # Pods

    def attach(self, pods: tuple[Pod, ...]) -> None:
        """ADD for each, several at a time.  The container IDs are recorded first."""
        made = {pod.name: Sandbox(container_id=secrets.token_hex(32)) for pod in pods}
        self.keep(sandboxes={**self.record.sandboxes, **made})
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = dict(zip((pod.name for pod in pods), pool.map(self._attach, pods), strict=True))
        self.keep(sandboxes={**self.record.sandboxes, **found})

    def _attach(self, pod: Pod) -> Sandbox:
        container_id = self.record.sandboxes[pod.name].container_id
        return Sandbox(container_id=container_id, addresses=sandboxes.add(self.name, pod, container_id, self.topology.wiring))

    def detach(self, pods: tuple[Pod, ...]) -> None:
        """DEL for each; the sandboxes stay, without an interface."""
        for pod in pods:
            sandboxes.delete(self.name, pod, self.record.sandboxes[pod.name].container_id, self.topology.wiring)
        self.keep(sandboxes={name: s for name, s in self.record.sandboxes.items() if name not in {p.name for p in pods}})

    def start_responder(self) -> None:
        """One process that answers in every pod, on TCP and UDP port RESPONDER_PORT."""
        with ExitStack() as stack:
            inside = {pod.name: stack.enter_context(self.namespace(pod.name)) for pod in self.topology.pods}
            if inside:
                responder = daemons.Daemon(
                    role="responder",
                    place="",
                    arguments=[
                        *(sys.executable, "-m", "netloom.lab.responder", "--port", str(RESPONDER_PORT)),
                        *(f"{name}={descriptor}" for name, descriptor in inside.items()),
                    ],
                    folder=folder(self.name),
                    log=folder(self.name, "responder.log"),
                    descriptors=tuple(inside.values()),
                )
                daemons.start(self.name, [responder])

    # For the checks

    @contextmanager
    def places(self) -> Iterator[list[Place]]:
        """Nodes and pods, with open descriptors for the time of the block."""
        with ExitStack() as stack:
            nodes = [self._node_place(node, stack.enter_context(self.namespace(node.name))) for node in self.topology.nodes]
            own = {node.name: node.own for node in nodes}
            pods = [
                self._pod_place(pod, stack.enter_context(self.namespace(pod.name)), own[pod.node]) for pod in self.topology.pods
            ]
            yield nodes + pods

    def _node_place(self, node: Node, namespace: int) -> Place:
        own: frozenset[Address] = frozenset(a.ip for a in addresses_inside(namespace))
        addresses = tuple(a.ip for a in self.topology.node_addresses(node))
        return Place(node.name, Kind.NODE, namespace, addresses, own, node.name)

    def _pod_place(self, pod: Pod, namespace: int, node_addresses: frozenset[Address]) -> Place:
        sandbox = self.record.sandboxes.get(pod.name)
        addresses = tuple(a.ip for a in sandbox.addresses) if sandbox else ()
        return probes.pod_place(pod.name, namespace, addresses, pod.node, node_addresses, self.topology.pools)
