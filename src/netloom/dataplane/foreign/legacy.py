"""The passages in iptables' legacy variant, by its own program: the kernel replaces a whole table at a time there.

`iptables-legacy -S` alone would load the kernel's table and its hooks; whether it is in use is therefore read from /proc first.
What to do is computed from the listing (`commands`), then done, one program after the other; accepts come before
deletes, so nothing that may pass is held up in between.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Final

from netloom.dataplane.foreign import legacy_rules
from netloom.dataplane.foreign.fates import Fate
from netloom.dataplane.foreign.gate import DOCKER, FORWARD, GATES, INPUT_GATES, OWN_CHAIN, OWN_INPUT, gate, tunnels
from netloom.errors import DataplaneError
from netloom.model.addresses import Prefix
from netloom.model.desired import Filter, Outer
from netloom.reconcile import Outcome

PROGRAMS: Final = {4: "iptables-legacy", 6: "ip6tables-legacy"}
_TABLES: Final = {4: Path("/proc/thread-self/net/ip_tables_names"), 6: Path("/proc/thread-self/net/ip6_tables_names")}
_DEADLINE = 10
_WAIT_FOR_LOCK = "5"  # seconds


def reconcile(want: Filter) -> Outcome:
    done, failures, families = 0, [], tunnels(want)
    for version in PROGRAMS:
        path = program(version)
        if not path or not in_use(version):
            continue
        try:
            listing = _run(path, "-S").splitlines()
            pools = sorted(p for p in want.pools if p.version == version)
            for command in commands(listing, pools, sorted(want.taken_in) if version in families else ()):
                _run(path, *command)
                done += 1
        except DataplaneError as e:
            failures.append(e)
    return Outcome(put=done, failures=tuple(failures))


def listings() -> Iterator[tuple[int, list[str]]]:
    """By family, the lines of `-S`, where its table is in use and the program is there.  Raises DataplaneError."""
    for version in PROGRAMS:
        if (path := program(version)) and in_use(version):
            yield version, _run(path, "-S").splitlines()


def program(version: int) -> str | None:
    """Where it is; None: nowhere."""
    return shutil.which(PROGRAMS[version], path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def commands(listing: Collection[str], pools: list[Prefix], outers: Collection[Outer] = ()) -> Iterator[list[str]]:
    """What to run, given the lines of `-S` (in its order: policies, chains, rules).  `outers`: to take in."""
    chains = {line.split()[1]: line.endswith(" DROP") for line in listing if line.startswith(("-P ", "-N "))}
    rules = [
        line.replace("-p ipencap ", "-p 4 ") for line in listing if line.startswith("-A ")
    ]  # with /etc/protocols, or without
    chosen = gate(chains, pools, docker=f"-A {FORWARD} -j {DOCKER}" in rules)
    accepts = [["-A", OWN_CHAIN, end, str(pool), "-j", "ACCEPT"] for pool in pools for end in ("-s", "-d")]
    yield from _passage(chains, rules, OWN_CHAIN, GATES, chosen, accepts)
    accepts = [["-A", OWN_INPUT, *_condition(outer), "-j", "ACCEPT"] for outer in outers]
    yield from _passage(chains, rules, OWN_INPUT, INPUT_GATES, _input_gate(listing, chains, outers), accepts)


def _condition(outer: Outer) -> list[str]:
    """As `-S` shows it."""
    if not outer.port:
        return ["-p", str(outer.protocol)]
    return ["-p", outer.transport, "-m", outer.transport, "--dport", str(outer.port)]


def _input_gate(listing: Collection[str], chains: Collection[str], outers: Collection[Outer]) -> str | None:
    chain = INPUT_GATES[0]
    if chain not in chains:
        return None
    drops, closed = f"-P {chain} DROP" in listing, Fate.DROPPED
    fates = (legacy_rules.fate(listing, chain, one, drops=drops, until=closed, without=(OWN_INPUT,)) for one in outers)
    return chain if any(closed in fate for fate in fates) else None


def _passage(
    chains: Collection[str],
    rules: list[str],
    name: str,
    gates: Iterable[str],
    chosen: str | None,
    accepts: list[list[str]],
) -> Iterator[list[str]]:
    """The chain `name` with these rules, and one jump to it, in the gate that was chosen."""
    jump = f"-j {name}"
    if chosen:
        own = [rule for rule in rules if rule.startswith(f"-A {name} ")]
        if name not in chains:
            yield ["-N", name]
        yield from _accept(name, own, accepts)
        if f"-A {chosen} {jump}" not in rules:
            yield ["-I", chosen, "1", "-j", name]
    for chain in gates:
        jumps = rules.count(f"-A {chain} {jump}") - (chain == chosen)
        for _ in range(jumps):
            yield ["-D", chain, "-j", name]
    if not chosen and name in chains:
        yield ["-F", name]
        yield ["-X", name]


def _accept(name: str, own: list[str], wanted: list[list[str]]) -> Iterator[list[str]]:
    kept: set[str] = set()
    surplus = []
    for number, rule in enumerate(own, 1):
        if rule in kept or rule.split() not in wanted:
            surplus.append(number)
        kept.add(rule)
    yield from (rule for rule in wanted if " ".join(rule) not in kept)
    for number in reversed(surplus):
        yield ["-D", name, str(number)]


def in_use(version: int) -> bool:
    """Whether somebody filters by it; asking its program would load it."""
    try:
        return "filter" in _TABLES[version].read_text().split()
    except FileNotFoundError:
        return False


def _run(program: str, *arguments: str) -> str:
    name = Path(program).name
    try:
        done = subprocess.run(
            [program, "-w", _WAIT_FOR_LOCK, *arguments], capture_output=True, text=True, timeout=_DEADLINE, check=True
        )
    except subprocess.CalledProcessError as e:
        raise DataplaneError(name, " ".join(arguments), e.stderr.strip()) from e
    except (OSError, subprocess.TimeoutExpired) as e:
        raise DataplaneError(name, " ".join(arguments), str(e)) from e
    return done.stdout
