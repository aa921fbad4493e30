"""Contestants that take turns, and what may be said of them: the common part of benches of the path of a packet.

A round has several short slices of each contestant in turn, so that a noisy minute hits everybody, and the best slice counts: what else
goes on can only take away.  Contestants are compared by their ratio in each round.  The lower bound is one of the rounds' median that
holds with 95 %, whatever the distribution: the order statistic that the binomial distribution names.
"""

from __future__ import annotations

import math
import statistics
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.agent_process import Sandbox

CONFIDENCE = 0.95
CPU = 1
"""What is pinned to one CPU is pinned to this one."""


@dataclass(slots=True)
class Contestant:
    """Packets go from the first pod to `address`, the second's.  `place`: the namespace of the first one's node; `other_place`: of
    the second one's, if that is another.  `processes`: what carries them in user space.  `figures`: workload → one value per round."""

    name: str
    place: int
    pods: Sequence[Sandbox] = ()
    address: str = ""
    processes: Sequence[int] = ()
    other_place: int | None = None
    figures: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Workload:
    """`measure`: one slice, and how much of it was done; more is better."""

    name: str
    measure: Callable[[Contestant], float]
    slices: int = 1
    unit: str = "/s"


@dataclass(frozen=True, slots=True)
class Comparison:
    """`least`: of the ratio's lower bound (or of its median, if not `surely`) is promised; None: nothing is."""

    workload: str
    ours: str
    theirs: str
    least: float | None = None
    surely: bool = False


class Carry:
    """carry.c, compiled into `folder`."""

    def __init__(self, folder: str) -> None:
        self._program = f"{folder}/carry"
        source = Path(__file__).with_name("carry.c")
        subprocess.run(["gcc", "-O2", "-Wall", "-o", self._program, str(source)], check=True)

    def __call__(self, workload: str, who: Contestant, milliseconds: int) -> float:
        """How often in a second, pinned to one CPU."""
        first, second = who.pods
        command = [self._program, workload, first.path, second.path, who.address, str(CPU), str(milliseconds)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{who.name}, {workload}: {done.stderr.strip()}")
        return float(done.stdout)


def take_turns(contestants: Sequence[Contestant], workloads: Sequence[Workload], rounds: int) -> None:
    for number in range(rounds):
        for each in workloads:
            order = contestants[:: 1 if number % 2 else -1]
            slices = [[each.measure(who) for who in order] for _ in range(each.slices)]
            for who, figures in zip(order, zip(*slices, strict=True), strict=True):
                who.figures.setdefault(each.name, []).append(max(figures))


def lower_bound(values: Sequence[float]) -> float:
    """Of the median.  The k-th smallest of n lies above it if fewer than k lie below: as if fewer than k of n coins showed heads."""
    n = len(values)
    unlikely, k = 1 / 2**n, 0
    while unlikely <= 1 - CONFIDENCE:
        k += 1
        unlikely += math.comb(n, k) / 2**n
    if not k:
        raise SystemExit(f"{n} rounds are too few to be sure by {CONFIDENCE:.0%}")
    return sorted(values)[k - 1]


def report(contestants: Sequence[Contestant], workloads: Sequence[Workload], comparisons: Sequence[Comparison]) -> bool:
    """Prints medians and ratios; whether all that is promised was held."""
    print(f"\n| median of rounds | {' | '.join(each.name for each in workloads)} |")
    print("|---" * (len(workloads) + 1) + "|")
    for who in contestants:
        print(f"| {who.name} | {' | '.join(_median(who.figures, each) for each in workloads)} |")
    print("\n| compared | median ratio | lower bound | promised |\n|---|---|---|---|")
    by_name = {who.name: who for who in contestants}
    kept = True
    for each in comparisons:
        pairs = zip(by_name[each.ours].figures[each.workload], by_name[each.theirs].figures[each.workload], strict=True)
        ratios = [a / b for a, b in pairs]
        median, bound = statistics.median(ratios), lower_bound(ratios)
        promised = "–"
        if each.least is not None:
            held = (bound if each.surely else median) >= each.least
            kept &= held
            promised = f"{'bound' if each.surely else 'median'} ≥ {each.least}: {'held' if held else 'MISSED'}"
        print(f"| {each.workload}, {each.ours} / {each.theirs} | {median:.3f} | {bound:.3f} | {promised} |")
    return kept


def _median(figures: Mapping[str, Sequence[float]], workload: Workload) -> str:
    value = statistics.median(figures[workload.name])
    return f"{value:.{0 if value >= 100 else 2}f}{workload.unit}"
