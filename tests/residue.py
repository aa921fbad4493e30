"""The residue oracle: everything that a node's kernel and folders hold, as text, and what differs between two moments.

It asks `ip`, `bridge` and `nft`, never our own code: an oracle that shared the codec would share its mistakes.  What changes by
itself (counters, ages, handles, what a journal has grown by) is left out.

    before = baseline(machine)
    ...
    assert settled(machine, before) == []

A DEL answers before conntrack is flushed and the Endpoint is taken back: `baseline` looks when nothing of before is under way any
more, and `settled` looks until nothing differs, for a while.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any

from netloom.agent.watching import KINDS
from netloom.dataplane import netns
from netloom.datastore import Stored, connect
from netloom.ipam import journal_lines
from netloom.model.attachments import State
from netloom.model.resources import Endpoint
from tests.agent_process import Machine

Residue = frozenset[str]

_VOLATILE = {
    "handle",
    "bytes",
    "packets",
    "expires",
    "stats64",
    "stats",
    "used",
    "confirmed",
    "updated",
    "probes",
    "qdisc",
    "txqlen",
}
_VOLATILE |= {"ifindex", "valid_life_time", "preferred_life_time", "link_index", "cache-info", "metainfo"}
_VOLATILE |= {f"{name}_timer" for name in ("gc", "hello", "tcn", "topology_change", "hold", "message_age", "forward_delay")}
_COMMANDS = (
    ("link", "ip", "-j", "-d", "link", "show"),
    ("address", "ip", "-j", "address", "show"),
    ("route", "ip", "-j", "-4", "route", "show", "table", "all"),
    ("route", "ip", "-j", "-6", "route", "show", "table", "all"),
    ("rule", "ip", "-j", "-4", "rule", "show"),
    ("rule", "ip", "-j", "-6", "rule", "show"),
    ("neighbour", "ip", "-j", "neighbour", "show", "nud", "permanent"),
    ("fdb", "bridge", "-j", "fdb", "show"),
    ("nft", "nft", "-j", "list", "ruleset"),
    ("qdisc", "tc", "-j", "qdisc", "show"),
)
_PATIENCE = 30.0  # seconds
_TRANSIENT = {"journal", "journal.new", "notify"}  # a journal's content is read as attachments


def residue(machine: Machine) -> Residue:
    """As it is at this moment."""
    return kernel_residue(machine.netns) | frozenset((*_files(machine), *_datastore(machine), *_attachments(machine)))


def kernel_residue(namespace: int) -> Residue:
    """Of one network namespace."""
    with netns.entered(namespace):
        running = [(name, subprocess.Popen(command, stdout=subprocess.PIPE)) for name, *command in _COMMANDS]
    found = []
    for name, process in running:
        output, _ = process.communicate(timeout=20)
        found += [f"{name} {line}" for line in _lines(output)]
    return frozenset(found)


def baseline(machine: Machine) -> Residue:
    """When all that the agent was asked for is through: what earlier tests' pods have left does not go from it any more."""
    deadline = time.monotonic() + _PATIENCE
    while found := under_way(machine):
        assert time.monotonic() < deadline, found
        time.sleep(0.01)
    return residue(machine)


def quiet_residue(machine: Machine) -> Residue:
    """The same, and two looks, a quarter of a second apart, agree: what the kernel and others do by themselves is through, too."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        now = baseline(machine)
        time.sleep(0.25)
        changed = differences(now, residue(machine))
        if not changed:
            return now
        assert time.monotonic() < deadline, changed


def under_way(machine: Machine) -> list[str]:
    """What the agent has still to do: pods that come or leave, Endpoints that are not written or not taken back, a change of the
    datastore or of the kernel that no pass has followed.  Nothing, where no agent runs."""
    if machine.pid is None:
        return []
    state = machine.state()
    found = [f"{a.container_id} {a.interface} is {a.state.value}" for a in state.attachments if a.state is not State.READY]
    if state.pass_due:
        found.append("a pass")
    if state.datastore.connected:
        stored = [s for s in _resources(machine) if s.resource.kind in (*KINDS, "Endpoint")]
        specs = [s.resource.spec for s in stored if isinstance(s.resource, Endpoint)]
        published = {(s.network, s.container_id, s.interface) for s in specs if s.node == state.node}
        wanted = {(a.network, a.container_id, a.interface) for a in state.attachments}
        found += [f"the Endpoint of {' '.join(key)}" for key in published ^ wanted]
        latest = max((s.revision for s in stored if s.resource.kind in KINDS), default=0)
        if state.last_pass is None or state.last_pass.revision < latest:
            found.append(f"a pass that knows revision {latest}")
    return found


def settled(machine: Machine, before: Residue, allowed: Sequence[str] = (), seconds: float = _PATIENCE) -> list[str]:
    """What is left over (+) and what is missing (-) when nothing more happens; empty: the same as before.

    `allowed`: lines that hold one of these texts may come and go."""
    deadline = time.monotonic() + seconds
    while True:
        found = [line for line in differences(before, residue(machine)) if not any(text in line for text in allowed)]
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.02)


def differences(before: Residue, now: Residue) -> list[str]:
    return sorted([f"+ {line}" for line in now - before] + [f"- {line}" for line in before - now])


def addresses_in_use(namespaces: Iterable[int]) -> list[str]:
    """Every address of a pod, out of the pods' kernels: an address that comes twice was given out twice."""
    found = []
    for namespace in namespaces:
        with netns.entered(namespace):
            output = subprocess.run(["ip", "-j", "address", "show", "scope", "global"], capture_output=True, check=True).stdout
        found += [info["local"] for link in json.loads(output or b"[]") for info in link.get("addr_info", ())]
    return found


def blocks_of(machine: Machine) -> list[str]:
    """Names of the claimed slots, as the datastore has them."""
    return [line.split()[-1] for line in _datastore(machine) if " IPBlock " in line]


def _lines(output: bytes) -> Iterator[str]:
    document = json.loads(output or b"[]")
    for entry in document["nftables"] if isinstance(document, dict) else document:
        stripped = _stripped(entry)
        for element in _split_elements(stripped):
            yield json.dumps(element, sort_keys=True)


def _split_elements(entry: Any) -> Iterator[Any]:
    """A set with its elements one by one, so that a difference shows the element."""
    for kind in ("set", "map"):
        if isinstance(entry, dict) and isinstance(entry.get(kind), dict) and "elem" in entry[kind]:
            body = dict(entry[kind])
            for element in body.pop("elem"):
                yield {"element of": body.get("name"), "is": element}
            yield {kind: body}
            return
    yield entry


def _stripped(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _stripped(inner) for key, inner in value.items() if key not in _VOLATILE}
    return [_stripped(inner) for inner in value] if isinstance(value, list) else value


def _files(machine: Machine) -> Iterator[str]:
    for folder in (machine.run_dir, machine.state_dir):
        for place, _, names in os.walk(folder):
            for name in names:
                if name not in _TRANSIENT and not name.startswith("snapshot"):
                    yield f"file {os.path.relpath(f'{place}/{name}', machine.folder)}"


def _datastore(machine: Machine) -> Iterator[str]:
    for stored in _resources(machine):
        if stored.resource.kind in ("Endpoint", "IPBlock"):
            yield f"datastore {stored.resource.kind} {stored.resource.key}"


def _resources(machine: Machine) -> Sequence[Stored]:
    with closing(connect(machine.datastore)) as datastore:
        return datastore.list().items


def _attachments(machine: Machine) -> Iterator[str]:
    if os.path.exists(f"{machine.run_dir}/journal"):
        for key, one in journal_lines.read(f"{machine.run_dir}/journal").holdings.attachments.items():
            yield f"journal {' '.join(key)} {one.state.value} {' '.join(map(str, one.addresses))}"
