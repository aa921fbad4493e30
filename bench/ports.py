"""What published ports cost, beside Go's `bridge` + `host-local` + `portmap`, in the same run.

    python bench/ports.py [--rounds 15] [--pods 20] [--milliseconds 50]

First ADD and DEL of a pod that publishes a port, as in cni.py; Go's masquerades, as ours does.  Then how many new connections per second
reach a pod from outside by its published port, while 10 ports are published and while 1000 are: by one of ten pods, or a hundred by
each.  The pod and the port that are reached came in the middle, so that half of each list of rules is before theirs.  One process has
both ends of a connection, so no wake-up is measured; conntrack is emptied in between.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # the machine that tests use

from bench.cni import VERSION, Contestant, Driver
from netloom.dataplane import netns
from tests.agent_process import ADDRESSES, Machine, Sandbox, machine, running_machine
from tests.cni_calls import NATIVE, OTHERS, Chain

CPU = "1"
SUBNET = "10.99.0.0/16"
PORT = 5201  # carry.c's
PODS = 10
FEW, MANY = 10, 1000
SLICES = 5  # of a round, in turn; the fastest counts
ADD_PROMISED = 10.0
SAME = 0.95
"""What counts as the same number of connections per second."""

Config = Mapping[str, object]


def ours(ports: Sequence[Mapping[str, object]]) -> list[tuple[str, Config]]:
    network: dict[str, object] = {"name": "net", "wiring": "bridge", "bridge": "br0", "subnet": SUBNET}
    return [(NATIVE, network | _wanted(ports))]


def go(folder: str, ports: Sequence[Mapping[str, object]]) -> list[tuple[str, Config]]:
    routes = [{"dst": "0.0.0.0/0"}]
    ipam = {"type": "host-local", "ranges": [[{"subnet": SUBNET}]], "routes": routes, "dataDir": f"{folder}/host-local"}
    bridge = {"bridge": "br0", "isGateway": True, "ipMasq": True, "hairpinMode": True, "ipam": ipam}
    return [(f"{OTHERS}/bridge", bridge), (f"{OTHERS}/portmap", _wanted(ports))]


def _wanted(ports: Sequence[Mapping[str, object]]) -> dict[str, object]:
    return {"runtimeConfig": {"portMappings": list(ports)}} if ports else {}


def mapping(host: int | str, container: int = 80) -> dict[str, object]:
    return {"hostPort": host, "containerPort": container, "protocol": "tcp"}


# ADD and DEL


def attaching(rounds: int, pods: int) -> bool:
    with ExitStack() as stack:
        own, plain = stack.enter_context(running_machine({})), stack.enter_context(machine({}))
        for place in (own, plain):
            Path(f"{place.folder}/results").mkdir()
            for number in range(pods):
                stack.callback(place.remove_sandbox, place.make_sandbox(f"b{number}"))
        found = [
            _contestant("netloom", ours([mapping("PORT")]), own),
            _contestant("go", go(plain.folder, [mapping("PORT")]), plain),
            _contestant("netloom, no port", ours([]), own),
            _contestant("go, no port", go(plain.folder, [])[:1], plain),
        ]
        driver = Driver(stack.enter_context(tempfile.TemporaryDirectory(prefix="nl-bench-")))
        for _, who in itertools.product(range(rounds), found):
            for command in ("ADD", "DEL"):
                calls, _ = driver.run(who, command, 0, pods, 1)
                who.note(command, statistics.median(calls) * 1e3)
    print("\n| p50 | ADD | DEL |\n|---|---|---|")
    for who in found:
        print(f"| {who.name} | {who.median('ADD'):.2f} ms | {who.median('DEL'):.2f} ms |")
    times = found[1].median("ADD") / found[0].median("ADD")
    held = times >= ADD_PROMISED
    print(f"\nADD with a port: {times:.1f} times faster, promised {ADD_PROMISED}{'' if held else ' MISSED'}")
    return held


def _contestant(name: str, chain: list[tuple[str, Config]], place: Machine) -> Contestant:
    [(plugin, config), *behind] = chain
    return Contestant(name, plugin, config, place, behind=behind)


# Connections


@dataclass(slots=True)
class Published:
    """A machine with so many ports; `target` is the pod that is reached."""

    name: str
    place: Machine
    ports: int
    target: Sandbox | None = None
    figures: list[float] = field(default_factory=list)

    def attach(self, stack: ExitStack, *, by_go: bool) -> None:
        for number in range(PODS):
            pod = stack.enter_context(self.place.sandbox())
            middle = number == PODS // 2
            each = self.ports // PODS if self.ports == MANY else self.ports * middle
            ports = [mapping(20000 + number * MANY + i) for i in range(each)]
            if middle:
                self.target = pod
                ports[each // 2] = mapping(PORT, PORT)
            chain = go(self.place.folder, ports) if by_go else ours(ports)
            plugins = [(plugin, {"type": Path(plugin).name, **config}) for plugin, config in chain]
            with netns.entered(self.place.netns):
                answer = Chain(self.place.run_dir, plugins, pod.container_id, pod.path, VERSION).add()
            if not answer.ok:
                raise SystemExit(f"{self.name}: {answer.stdout.decode()[:300]}")

    def measure(self, tool: str, milliseconds: int) -> float:
        assert self.target is not None
        outside = f"/proc/self/fd/{self.place.outside}"
        command = [tool, "connections", outside, self.target.path, str(ADDRESSES[0].ip), CPU, str(milliseconds)]
        done = subprocess.run(command, capture_output=True, text=True, pass_fds=[self.place.outside], check=False)
        if done.returncode:
            raise SystemExit(f"{self.name}: {done.stderr.strip()}")
        with netns.entered(self.place.netns):
            subprocess.run(["conntrack", "-F"], capture_output=True, check=True)
        return float(done.stdout)

    @property
    def median(self) -> float:
        return statistics.median(self.figures)


@contextmanager
def published() -> Iterator[list[Published]]:
    with ExitStack() as stack:
        found = []
        for by_go, ports in itertools.product((False, True), (FEW, MANY)):
            place = stack.enter_context(machine({}) if by_go else running_machine({}))
            found.append(Published(f"{'go' if by_go else 'netloom'}, {ports} ports", place, ports))
            found[-1].attach(stack, by_go=by_go)
        yield found


def connecting(rounds: int, milliseconds: int) -> bool:
    with published() as found, tempfile.TemporaryDirectory(prefix="nl-bench-") as folder:
        tool = f"{folder}/carry"
        subprocess.run(["gcc", "-O2", "-Wall", "-o", tool, str(Path(__file__).with_name("carry.c"))], check=True)
        for number in range(rounds):
            order = found[:: 1 if number % 2 else -1]
            slices = [[who.measure(tool, milliseconds) for who in order] for _ in range(SLICES)]
            for who, figures in zip(order, zip(*slices, strict=True), strict=True):
                who.figures.append(max(figures))
    print("\n| new connections to a published port | per second |\n|---|---|")
    for who in found:
        print(f"| {who.name} | {who.median:.0f} |")
    few, many = found[0].figures, found[1].figures
    ratio = statistics.median(b / a for a, b in zip(few, many, strict=True))
    held = ratio >= SAME
    print(f"\n{MANY} ports beside {FEW}: {ratio:.3f} of the connections, promised {SAME}{'' if held else ' MISSED'}", end="")
    print(f" (Go: {statistics.median(b / a for a, b in zip(found[2].figures, found[3].figures, strict=True)):.3f})")
    return held


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--pods", type=int, default=20, help="attached one after the other in a round")
    parser.add_argument("--milliseconds", type=int, default=50, help="of a slice of connecting")
    options = parser.parse_args()
    held = [attaching(options.rounds, options.pods), connecting(options.rounds, options.milliseconds)]
    sys.exit(0 if all(held) else 1)


if __name__ == "__main__":
    main()
