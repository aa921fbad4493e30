"""The table of checks.  Each is a pure function: facts → findings; nothing found is well."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from netloom.findings import Finding, Level
from netloom.preflight import firewalls, installed, kernel, limits, others
from netloom.preflight.facts import Facts, NotKnownError

CHECKS: Mapping[str, Callable[[Facts], Iterator[Finding]]] = {
    "kernel": kernel.features,
    "address": kernel.address,
    "forwarding": kernel.forwarding,
    "reverse-path": kernel.reverse_path,
    "ipv6": kernel.ipv6,
    "firewalls": firewalls.forward,
    "inbound": firewalls.inbound,
    "bridge-nf": firewalls.bridged,
    "networks": others.networks,
    "leftovers": others.leftovers,
    "tunnels": others.tunnels,
    "managers": others.managers,
    "mtu": limits.mtu,
    "connections": limits.connections,
    "neighbours": limits.neighbours,
    "clock": limits.clock,
    "space": limits.space,
    "descriptors": limits.descriptors,
    "files": installed.files,
    "runtime": installed.runtime,
    "directories": installed.directories,
}


def judge(facts: Facts) -> dict[str, tuple[Finding, ...]]:
    """By check.  One that needs what could not be found out says so, besides what it found before."""
    return {name: tuple(_findings(check, facts)) for name, check in CHECKS.items()}


def _findings(check: Callable[[Facts], Iterator[Finding]], facts: Facts) -> Iterator[Finding]:
    try:
        yield from check(facts)
    except NotKnownError as e:
        yield Finding(Level.UNKNOWN, f"cannot be found out: {e}", "try it as root")
