"""From pod to pod on one host: ours beside Go's `bridge`, in the same run.

    python bench/path.py [--rounds 15] [--milliseconds 60]

First what a packet meets is compared: devices, their offload attributes, routes, netfilter's hooks.  Then it is measured (carry.c,
compiled here), pinned to one CPU, round by round in turn, so a noisy minute hits everybody.  A round has five short slices of each in
turn, and the fastest counts: what else goes on can only take away.

    ping-pong   one byte there and back over TCP, between two processes (TCP_RR)
    packets     UDP packets of 64 bytes in a second, as far as the receiver's socket

Contestants are compared by their ratio in each round.  The lower bound is one of the rounds' median that holds with 95 %, whatever
the distribution: the order statistic that the binomial distribution names.
"""

from __future__ import annotations

import argparse
import fcntl
import ipaddress
import json
import math
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))  # the machine that tests use

from netloom.dataplane import netns
from netloom.model.resources import Encapsulation, IPPoolSpec
from tests.agent_process import Machine, Sandbox, machine, running_machine
from tests.cni_calls import NATIVE, OTHERS, call

CPU = "1"
CONFIDENCE = 0.95
VERSION = "1.0.0"  # the newest that Debian's plugins know
SUBNET = "10.99.0.0/16"
POOLS = {"v4": IPPoolSpec(cidr=ipaddress.IPv4Network("10.98.0.0/16"), encapsulation=Encapsulation.NONE, nat_outgoing=True)}
WORKLOADS = ("pingpong", "packets")
SLICES = 5


@dataclass(frozen=True, slots=True)
class Comparison:
    """`least`: of the ratio's lower bound (or of its median, if not `surely`) is promised; None: nothing is."""

    workload: str
    ours: str
    theirs: str
    least: float | None = None
    surely: bool = False


COMPARISONS = (
    Comparison("pingpong", "bridge", "go bridge", 0.92, surely=True),
    Comparison("packets", "bridge", "go bridge"),
    Comparison("packets", "routed", "bridge", 1.1),
    Comparison("packets", "routed", "go bridge"),
    Comparison("pingpong", "routed", "go bridge"),
)

OWN_HOOKS = {"arp input 0", "bridge prerouting -300", "inet input 0", "inet prerouting -300", "inet forward 0"}
"""What is checked that Go's `bridge` does not look at: who sends a packet, by which tunnel it came, and from which network."""


@dataclass(slots=True)
class Contestant:
    """Two pods on one machine.  `figures`: workload → one value per round."""

    name: str
    plugin: str
    config: Mapping[str, object]
    place: Machine
    pods: list[Sandbox] = field(default_factory=list)
    address: str = ""
    figures: dict[str, list[float]] = field(default_factory=dict)

    def attach(self) -> None:
        config = {"cniVersion": VERSION, "name": self.name.replace(" ", "-"), "type": Path(self.plugin).name, **self.config}
        for pod in self.pods:
            with netns.entered(self.place.netns):
                answer = call(self.plugin, "ADD", self.place.run_dir, pod.container_id, pod.path, config)
            if not answer.ok:
                raise SystemExit(f"{self.name}: {answer.stdout.decode()[:300]}")
            self.address = answer.addresses[0].partition("/")[0]


def contestants(bridge: Machine, plain: Machine, routed: Machine) -> list[Contestant]:
    ipam = {"type": "host-local", "ranges": [[{"subnet": SUBNET}]], "routes": [{"dst": "0.0.0.0/0"}]}
    docker_like: dict[str, object] = {"bridge": "br0", "isGateway": True, "ipMasq": True, "hairpinMode": True}
    docker_like["ipam"] = ipam | {"dataDir": f"{plain.folder}/host-local"}
    return [
        Contestant("bridge", NATIVE, {"type": "netloom", "wiring": "bridge", "bridge": "br0", "subnet": SUBNET}, bridge),
        Contestant("go bridge", f"{OTHERS}/bridge", docker_like, plain),
        Contestant("routed", NATIVE, {"type": "netloom"}, routed),
    ]


# What a packet meets


def facts(who: Contestant) -> dict[str, Any]:  # JSON of iproute2, and what is made of it
    """Seen from the first pod and from its host; what is different for every pod (indexes, addresses) is left out."""
    with netns.entered(who.pods[0].netns):
        inside, features_inside = _links(), features("eth0")
        routes = _json("ip", "-j", "route")
    with netns.entered(who.place.netns):
        by_index = {str(link["ifindex"]): link for link in _links()}
        [eth0] = [link for link in inside if link["ifname"] == "eth0"]
        port = by_index[str(eth0["link_index"])]
        bridge = next((link for link in by_index.values() if link["ifname"] == port.get("master")), None)
        found: dict[str, Any] = {
            "devices in the pod": [_kind(link) for link in inside],
            "eth0": _attributes(eth0),
            "eth0's offloads": features_inside,
            "routes in the pod": [(route["dst"] == "default", "gateway" in route, route.get("scope")) for route in routes],
            "its other end": _attributes(port),
            "its other end's offloads": features(str(port["ifname"])),
            "hairpin": port.get("linkinfo", {}).get("info_slave_data", {}).get("hairpin"),
            "bridge": bridge and _attributes(bridge),
            "bridge's offloads": bridge and features(str(bridge["ifname"])),
            "hooks": hooks(),
        }
    return found


Link = dict[str, Any]


def _links() -> list[Link]:
    return _json("ip", "-d", "-j", "link")


def _json(*command: str) -> list[Link]:
    found: list[Link] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout or "[]")
    return found


def _kind(link: Link) -> object:
    info = link.get("linkinfo")
    return info.get("info_kind", link["link_type"]) if isinstance(info, dict) else link["link_type"]


def _attributes(link: Link) -> dict[str, object]:
    names = ("mtu", "qdisc", "gso_max_size", "gso_max_segs", "tso_max_size", "tso_max_segs", "gro_max_size")
    return {"kind": _kind(link)} | {name: link.get(name) for name in names}


_SIOCETHTOOL, _GSSET_INFO, _GSTRINGS, _GFEATURES, _SS_FEATURES = 0x8946, 0x37, 0x1B, 0x3A, 4  # linux/ethtool.h
_NAME = 32


def features(interface: str) -> tuple[str, ...]:
    """Those that are on, as `ethtool -k` lists them; in the calling thread's namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        known = _ethtool(control, interface, struct.pack("=IIQI", _GSSET_INFO, 0, 1 << _SS_FEATURES, 0))
        (count,) = struct.unpack_from("=I", known, 16)
        names = _ethtool(control, interface, struct.pack("=III", _GSTRINGS, _SS_FEATURES, count) + bytes(_NAME * count))[12:]
        words = -(-count // 32)
        state = _ethtool(control, interface, struct.pack("=II", _GFEATURES, words) + bytes(16 * words))
    active = [struct.unpack_from("=I", state, 8 + 16 * word + 8)[0] for word in range(words)]
    on = (i for i in range(count) if active[i // 32] >> i % 32 & 1)
    return tuple(names[i * _NAME : (i + 1) * _NAME].rstrip(b"\0").decode() for i in on)


def _ethtool(control: socket.socket, interface: str, request: bytes) -> bytes:
    import ctypes

    buffer = ctypes.create_string_buffer(request, len(request))
    fcntl.ioctl(control, _SIOCETHTOOL, struct.pack("=16sQ16x", interface.encode(), ctypes.addressof(buffer)))
    return buffer.raw


def hooks() -> set[str]:
    """Base chains: family, hook, priority.  In the calling thread's namespace."""
    ruleset = json.loads(subprocess.run(["nft", "-j", "list", "chains"], capture_output=True, text=True, check=True).stdout)
    chains = (entry["chain"] for entry in ruleset["nftables"] if "chain" in entry)
    return {f"{c['family']} {c['hook']} {c['prio']}" for c in chains if "hook" in c}


def compare(ours: Contestant, theirs: Contestant) -> bool:
    """Prints what differs; whether it is only our own hooks."""
    mine, other = facts(ours), facts(theirs)
    print(f"\n| what a packet meets | {ours.name} | {theirs.name} |\n|---|---|---|")
    for what, value in mine.items():
        print(f"| {what} | same | same |" if value == other[what] else f"| {what} | {value} | {other[what]} |")
    own, others = (set(map(_without_family, found.pop("hooks") - OWN_HOOKS)) for found in (mine, other))
    return mine == other and own == others


def _without_family(hook: str) -> str:
    """A chain of `inet` sees what one of `ip` sees, and srcnat - 5 comes where srcnat would."""
    return hook.partition(" ")[2].replace("postrouting 95", "postrouting 100")


# What it costs


def measure(tool: str, who: Contestant, workload: str, milliseconds: int) -> float:
    first, second = who.pods
    command = [tool, workload, first.path, second.path, who.address, CPU, str(milliseconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{who.name}, {workload}: {done.stderr.strip()}")
    return float(done.stdout)


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


def report(all_of_them: Sequence[Contestant]) -> bool:
    print(f"\n| median of rounds | {' | '.join(WORKLOADS)} |")
    print("|---" * (len(WORKLOADS) + 1) + "|")
    for who in all_of_them:
        print(f"| {who.name} | {' | '.join(f'{statistics.median(who.figures[w]):.0f}/s' for w in WORKLOADS)} |")
    print("\n| compared | median ratio | lower bound | promised |\n|---|---|---|---|")
    by_name = {who.name: who for who in all_of_them}
    kept = True
    for each in COMPARISONS:
        pairs = zip(by_name[each.ours].figures[each.workload], by_name[each.theirs].figures[each.workload], strict=True)
        ratios = [a / b for a, b in pairs]
        median, bound = statistics.median(ratios), lower_bound(ratios)
        promised = "–"
        if each.least is not None:
            held = (bound if each.surely else median) >= each.least
            kept &= held
            promised = f"{'bound' if each.surely else 'median'} ≥ {each.least}{'' if held else ' MISSED'}"
        print(f"| {each.workload}, {each.ours} / {each.theirs} | {median:.3f} | {bound:.3f} | {promised} |")
    return kept


@contextmanager
def all_attached() -> Iterator[list[Contestant]]:
    with ExitStack() as stack:
        bridge, routed = (stack.enter_context(running_machine(pools)) for pools in ({}, POOLS))
        found = contestants(bridge, stack.enter_context(machine()), routed)
        for who in found:
            who.pods = [stack.enter_context(who.place.sandbox()) for _ in range(2)]
            who.attach()
        yield found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--milliseconds", type=int, default=60, help="of a slice")
    options = parser.parse_args()
    with all_attached() as found, tempfile.TemporaryDirectory(prefix="nl-bench-") as folder:
        tool = f"{folder}/carry"
        subprocess.run(["gcc", "-O2", "-Wall", "-o", tool, str(Path(__file__).with_name("carry.c"))], check=True)
        same = compare(found[0], found[1])
        for number in range(options.rounds):
            for workload in WORKLOADS:
                order = found[:: 1 if number % 2 else -1]
                slices = [[measure(tool, who, workload, options.milliseconds) for who in order] for _ in range(SLICES)]
                for who, figures in zip(order, zip(*slices, strict=True), strict=True):
                    who.figures.setdefault(workload, []).append(max(figures))
        kept = report(found)
    sys.exit(0 if same and kept else 1)


if __name__ == "__main__":
    main()
