"""The residue oracle: everything that a node's kernel and folders hold, as text, and what differs between two moments.

It asks `ip`, `bridge` and `nft`, never our own code: an oracle that shared the codec would share its mistakes.  What changes by
itself (counters, ages, handles, what a journal has grown by) is left out.

    before = residue(machine)
    ...
    assert settled(machine, before) == []

A DEL answers before conntrack is flushed and the Endpoint is taken back, so `settled` looks until nothing differs, for a while.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from netloom.dataplane import netns
from netloom.datastore import connect
from netloom.ipam import journal_lines
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
_TRANSIENT = {"journal", "journal.new", "notify"}  # a journal's content is read as attachments


def residue(machine: Machine) -> Residue:
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


def settled(machine: Machine, before: Residue, allowed: Sequence[str] = (), seconds: float = 5.0) -> list[str]:
    """What is left over (+) and what is missing (-) when nothing more happens; empty: the same as before.

    `allowed`: lines that hold one of these texts may come and go."""
    deadline = time.monotonic() + seconds
    while True:
        found = [line for line in differences(before, residue(machine)) if not any(text in line for text in allowed)]
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.02)


def quiet_residue(machine: Machine) -> Residue:
    """When two looks, a quarter of a second apart, show the same: the passes and publications after a start are through."""
    deadline = time.monotonic() + 15
    while True:
        now = residue(machine)
        time.sleep(0.25)
        changed = differences(now, residue(machine))
        if not changed:
            return now
        assert time.monotonic() < deadline, changed


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
    datastore = connect(machine.datastore)
    try:
        for kind in ("Endpoint", "IPBlock"):
            for stored in datastore.list(kind).items:
                yield f"datastore {kind} {stored.resource.key}"
    finally:
        datastore.close()


def _attachments(machine: Machine) -> Iterator[str]:
    if os.path.exists(f"{machine.run_dir}/journal"):
        for key, one in journal_lines.read(f"{machine.run_dir}/journal").holdings.attachments.items():
            yield f"journal {' '.join(key)} {one.state.value} {' '.join(map(str, one.addresses))}"
