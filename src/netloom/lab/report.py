"""A proof in words: one line per rule, a matrix of who reaches whom, and a line for each failure.  Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from netloom.lab.checks import Proof, rule_of
from netloom.lab.probes import Kind, Protocol, Result

RULES = {
    1: "every pod reaches every other, and is seen by its own address",
    2: "nodes reach pods, and pods reach nodes",
    3: "a pod has a stack of its own, and sees the address that others use",
    4: "the containers of a pod share that stack",
}


@dataclass(frozen=True, slots=True)
class RuleLine:
    """`good` of `total` things tried hold."""

    rule: int
    text: str
    good: int
    total: int

    def __str__(self) -> str:
        verdict = "ok " if self.good == self.total else "NO "
        return (
            f"{verdict} {self.rule}  {self.text:<68}  {self.good} of {self.total}"
            if self.total
            else (f"-   {self.rule}  {self.text:<68}  nothing to try")
        )


def rules(proof: Proof) -> list[RuleLine]:
    tried: dict[int, list[bool]] = defaultdict(list)
    for result in proof.results:
        tried[rule_of(result.probe)].append(result.problem is None)
    for finding in proof.findings:
        tried[finding.rule].append(finding.problem is None)
    return [RuleLine(rule, text, sum(tried[rule]), len(tried[rule])) for rule, text in RULES.items()]


def kinds_of_packets(proof: Proof) -> str:
    """`TCP, UDP and ICMP over IPv4 and IPv6`."""
    protocols = [p.name for p in Protocol if any(r.probe.protocol is p for r in proof.results)]
    versions = sorted({r.probe.address.version for r in proof.results})
    return f"{_and(protocols)} over {_and([f'IPv{version}' for version in versions])}"


MASQUERADED = "ok*"
FOOTNOTE = "*  seen by the address of its node: the pool says natOutgoing, and a node is outside the pools"


def matrix(proof: Proof) -> tuple[list[str], list[list[str]]]:
    """Headers and rows: from the first column to the others.

    `ok`: seen by its own address; `ok*`: see FOOTNOTE; `good/tried`; `.` where nothing was tried."""
    tried: dict[tuple[str, str], list[Result]] = defaultdict(list)
    names: dict[str, Kind] = {}
    for result in proof.results:
        source, target = result.probe.source, result.probe.target
        tried[source.name, target.name].append(result)
        names |= {source.name: source.kind, target.name: target.kind}
    order = sorted(names, key=lambda name: names[name] is Kind.POD)  # nodes first, otherwise as they came
    rows = [[source, *(_cell(tried.get((source, target), [])) for target in order)] for source in order]
    return ["FROM \\ TO", *order], rows


def is_masqueraded(result: Result) -> bool:
    return result.seen is not None and result.seen not in result.probe.source.own


def _cell(results: Sequence[Result]) -> str:
    if not results:
        return "."
    good = sum(result.problem is None for result in results)
    if good < len(results):
        return f"{good}/{len(results)}"
    return MASQUERADED if any(map(is_masqueraded, results)) else "ok"


def failures(proof: Proof, most: int = 20) -> list[str]:
    """At most `most` lines, and how many more there are."""
    found = list(proof.problems())
    more = [f"and {len(found) - most} more"] if len(found) > most else []
    return found[:most] + more


def _and(words: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(words[:-1]), *words[-1:]) if part)
