"""What attaching and detaching a pod costs, beside Debian's Go plugins, in the same run.

    python bench/cni.py [--rounds 3] [--profile FILE]

One driver (driver.c, compiled here) calls all of them in the same way, so what it costs is in every figure.  The Go plugins work
in a namespace of their own that is made like ours, since an agent watches its own and would work along with them.  Ours is the
shipped path: an agent with journal, datastore, closed default and spoofing rules, its addresses claimed in blocks.

Measured per contestant and round: ADD and DEL one after the other, ADD and DEL fifty at once, ADD while 250 pods are there.
Medians of the rounds are compared; rounds are interleaved, so a noisy minute hits everybody.  `--profile` runs our agent's loop
under cProfile (it is slower then) and writes what it found.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # the machine that tests use

from netloom.cni.compiled import compiled
from netloom.dataplane import netns
from netloom.durable import write_durably
from tests.agent_process import Machine, machine, running_machine
from tests.cni_calls import NATIVE, OTHERS

SINGLE, CROWD, PRESENT = 100, 200, 250
FEW = 10  # of two families: the Go plugins wait there for duplicate address detection, nearly 2 s a pod
AT_ONCE = 50
VERSION = "1.0.0"  # the newest that Debian's plugins know

V4, V6 = "10.99.0.0/16", "fd00:99::/48"


@dataclass(slots=True)
class Contestant:
    """`config`: without version and name.  `few`: only some calls, one after the other.  `behind`: plugins that come after it in a
    chain, and their own configurations.  `figures`: name → one value per round."""

    name: str
    plugin: str
    config: Mapping[str, object]
    place: Machine
    few: bool = False
    behind: Sequence[tuple[str, Mapping[str, object]]] = ()
    figures: dict[str, list[float]] = field(default_factory=dict)

    def note(self, name: str, value: float) -> None:
        self.figures.setdefault(name, []).append(value)

    def median(self, name: str) -> float:
        return statistics.median(self.figures[name])


PROMISES = (
    # what, ours, theirs, figure, at least so many times better
    ("ADD p50, routed", "routed", "ptp", "add p50", 6.0),
    ("DEL p50, routed", "routed", "ptp", "del p50", 8.0),
    ("ADDs per second, 50 at once, routed", "routed", "ptp", "add rate", 4.0),
    ("ADD p50, bridge", "bridge", "go bridge", "add p50", 5.0),
    ("ADD p50, Python client", "routed, python", "ptp", "add p50", 1.0),
    ("ADD p50, Python client, bridge", "bridge, python", "go bridge", "add p50", 1.0),
)
COLUMNS = ("add p50", "add p99", "del p50", "add rate", "del rate", "add p50, 250 there", "add p99, 250 there")


def contestants(ours: Machine, plain: Machine) -> list[Contestant]:
    single: dict[str, object] = {"ipv6Pools": []}
    bridge: dict[str, object] = {"wiring": "bridge"}
    return [
        Contestant("routed", NATIVE, single, ours),
        Contestant("ptp", f"{OTHERS}/ptp", {"mtu": 1450, "ipam": _host_local(plain, V4)}, plain),
        Contestant("bridge", NATIVE, single | bridge, ours),
        Contestant("go bridge", f"{OTHERS}/bridge", _go_bridge("cni4", _host_local(plain, V4)), plain),
        Contestant("routed, python", f"{ours.folder}/netloom", single, ours),
        Contestant("bridge, python", f"{ours.folder}/netloom", single | bridge, ours),
        Contestant("routed, dual", NATIVE, {}, ours, few=True),
        Contestant("ptp, dual", f"{OTHERS}/ptp", {"mtu": 1450, "ipam": _host_local(plain, V4, V6)}, plain, few=True),
        Contestant("bridge, dual", NATIVE, bridge, ours, few=True),
        Contestant("go bridge, dual", f"{OTHERS}/bridge", _go_bridge("cni6", _host_local(plain, V4, V6)), plain, few=True),
    ]


def _host_local(place: Machine, *subnets: str) -> dict[str, object]:
    routes = [{"dst": "::/0" if ":" in subnet else "0.0.0.0/0"} for subnet in subnets]
    return {
        "type": "host-local",
        "ranges": [[{"subnet": subnet}] for subnet in subnets],
        "routes": routes,
        "dataDir": f"{place.folder}/host-local-{len(subnets)}",
    }


def _go_bridge(name: str, ipam: dict[str, object]) -> dict[str, object]:
    return {"bridge": name, "isGateway": True, "hairpinMode": True, "mtu": 1450, "ipam": ipam}


class Driver:
    """The compiled driver; `run` gives the seconds of each call, and of the whole."""

    def __init__(self, folder: str) -> None:
        self._path = f"{folder}/driver"
        self._configuration = f"{folder}/configuration"
        source = str(Path(__file__).with_name("driver.c"))
        subprocess.run(["gcc", "-O2", "-Wall", "-pthread", "-o", self._path, source], check=True)

    def run(self, who: Contestant, command: str, first: int, count: int, at_once: int) -> tuple[list[float], float]:
        chain = [(who.plugin, who.config), *who.behind]
        for place, (plugin, own) in enumerate(chain):
            kind = os.path.basename(plugin) if plugin.startswith(OTHERS) else "netloom"
            config = {"cniVersion": VERSION, "name": who.name.replace(", ", "-").replace(" ", "-"), "type": kind, **own}
            Path(f"{self._configuration}-{place}").write_text(json.dumps(config), encoding="ascii")
        plugins = ",".join(plugin for plugin, _ in chain)
        configurations = ",".join(f"{self._configuration}-{place}" for place in range(len(chain)))
        numbers = [str(number) for number in (first, count, at_once)]
        with netns.entered(who.place.netns):
            done = subprocess.run(
                [self._path, command, plugins, configurations, who.place.folder, *numbers],
                env={"NETLOOM_RUN_DIR": who.place.run_dir},
                capture_output=True,
                text=True,
                check=False,
            )
        if done.returncode:
            raise SystemExit(f"{who.name}, {command}: {done.stderr[:300]}")
        *calls, whole = (int(line) / 1e9 for line in done.stdout.split())
        time.sleep(0.3)  # what goes on after the answer (rcu, publishing) is nobody else's
        return calls, whole


def measure(driver: Driver, who: Contestant) -> None:
    """One round."""
    count = FEW if who.few else SINGLE
    added, _ = driver.run(who, "ADD", 0, count, 1)
    who.note("add p50", statistics.median(added) * 1e3)
    who.note("add p99", _p99(added) * 1e3)
    deleted, _ = driver.run(who, "DEL", 0, count, 1)
    who.note("del p50", statistics.median(deleted) * 1e3)
    if who.few:
        return
    for command in ("ADD", "DEL"):
        _, whole = driver.run(who, command, 0, CROWD, AT_ONCE)
        who.note(f"{command.lower()} rate", CROWD / whole)
    driver.run(who, "ADD", 0, PRESENT, AT_ONCE)
    added, _ = driver.run(who, "ADD", PRESENT, SINGLE // 2, 1)
    who.note("add p50, 250 there", statistics.median(added) * 1e3)
    who.note("add p99, 250 there", _p99(added) * 1e3)
    driver.run(who, "DEL", 0, PRESENT + SINGLE // 2, AT_ONCE)


def _p99(seconds: list[float]) -> float:
    return sorted(seconds)[min(len(seconds) - 1, len(seconds) * 99 // 100)]


@contextmanager
def pods(place: Machine) -> Iterator[None]:
    """Namespaces b0, b1, ...: the runtime's work, and not measured."""
    os.makedirs(f"{place.folder}/results")
    made = [place.make_sandbox(f"b{i}") for i in range(PRESENT + SINGLE // 2)]
    try:
        yield
    finally:
        for sandbox in made:
            place.remove_sandbox(sandbox)


def report(all_of_them: list[Contestant]) -> bool:
    print(f"\n| | {' | '.join(COLUMNS)} |")
    print("|---" * (len(COLUMNS) + 1) + "|")
    for who in all_of_them:
        cells = (_cell(who, column) for column in COLUMNS)
        print(f"| {who.name} | {' | '.join(cells)} |")
    print("\n| promise | ours | Go | times better | promised |\n|---|---|---|---|---|")
    by_name = {who.name: who for who in all_of_them}
    kept = True
    for what, ours, theirs, figure, least in PROMISES:
        if ours not in by_name or theirs not in by_name:
            continue
        a, b = by_name[ours].median(figure), by_name[theirs].median(figure)
        times = a / b if figure.endswith("rate") else b / a
        kept &= times >= least
        print(f"| {what} | {a:.2f} | {b:.2f} | {times:.1f} | {least:.1f}{'' if times >= least else ' MISSED'} |")
    return kept


def _cell(who: Contestant, column: str) -> str:
    if column not in who.figures:
        return ""
    return f"{who.median(column):.0f}/s" if column.endswith("rate") else f"{who.median(column):.2f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="contestants whose name has this text")
    parser.add_argument("--profile", metavar="FILE", help="cProfile of our agent's loop")
    options = parser.parse_args()
    agent = [sys.executable, *(["-m", "cProfile", "-o", options.profile] if options.profile else [])]
    command = [*agent, "-m", "netloom", "agent", "--config"]
    with ExitStack() as stack:
        ours = stack.enter_context(running_machine(command=command))
        plain = stack.enter_context(machine())
        write_durably(f"{ours.folder}/netloom", compiled(), mode=0o755)
        stack.enter_context(pods(ours))
        stack.enter_context(pods(plain))
        driver = Driver(stack.enter_context(tempfile.TemporaryDirectory(prefix="nl-bench-")))
        found = [who for who in contestants(ours, plain) if options.only in who.name]
        for number in range(options.rounds):
            for who in found:
                measure(driver, who)
                print(f"round {number + 1}: {who.name}", file=sys.stderr)
        ours.end()
        kept = report(found)
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
