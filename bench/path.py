"""From pod to pod on one host: ours beside Go's `bridge`, in the same run.

    python bench/path.py [--rounds 15] [--milliseconds 20]

First what a packet meets is compared: devices, their offload attributes, routes, netfilter's hooks.  Then it is measured (carry.c),
pinned to one CPU, round by round in turn (`measuring`).

    ping-pong   one byte there and back over TCP, between two processes (TCP_RR)
    packets     UDP packets of 64 bytes in a second, as far as the receiver's socket
"""

from __future__ import annotations

import argparse
import ipaddress
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # the machine that tests use

from bench import seen
from bench.measuring import Carry, Comparison, Contestant, Workload, report, take_turns
from netloom.dataplane import netns
from netloom.model.resources import Encapsulation, IPPoolSpec
from tests.agent_process import Machine, machine, running_machine
from tests.cni_calls import NATIVE, OTHERS, call

VERSION = "1.0.0"  # the newest that Debian's plugins know
SUBNET = "10.99.0.0/16"
POOLS = {"v4": IPPoolSpec(cidr=ipaddress.IPv4Network("10.98.0.0/16"), encapsulation=Encapsulation.NONE, nat_outgoing=True)}
SLICES = 15

BRIDGE = {"type": "netloom", "wiring": "bridge", "bridge": "br0", "subnet": SUBNET}
ROUTED = {"type": "netloom"}
_HOST_LOCAL = {"type": "host-local", "ranges": [[{"subnet": SUBNET}]], "routes": [{"dst": "0.0.0.0/0"}]}
DOCKER_LIKE = {"bridge": "br0", "isGateway": True, "ipMasq": True, "hairpinMode": True}

COMPARISONS = (
    Comparison("pingpong", "bridge", "go bridge", 0.92, surely=True),
    Comparison("packets", "bridge", "go bridge"),
    Comparison("packets", "routed", "bridge", 1.1),
    Comparison("packets", "routed", "go bridge"),
    Comparison("pingpong", "routed", "go bridge"),
)


def attach(who: Contestant, place: Machine, plugin: str, config: Mapping[str, object]) -> None:
    named = {"cniVersion": VERSION, "name": who.name.replace(" ", "-"), "type": Path(plugin).name, **config}
    for pod in who.pods:
        with netns.entered(place.netns):
            answer = call(plugin, "ADD", place.run_dir, pod.container_id, pod.path, named)
        if not answer.ok:
            raise SystemExit(f"{who.name}: {answer.stdout.decode()[:300]}")
        who.address = answer.addresses[0].partition("/")[0]


@contextmanager
def all_attached() -> Iterator[tuple[Contestant, ...]]:
    """Two pods of each, on a machine of their own."""
    with ExitStack() as stack:
        plain = stack.enter_context(machine())
        docker_like = DOCKER_LIKE | {"ipam": _HOST_LOCAL | {"dataDir": f"{plain.folder}/host-local"}}
        found = []
        for name, place, plugin, config in (
            ("bridge", stack.enter_context(running_machine({})), NATIVE, BRIDGE),
            ("go bridge", plain, f"{OTHERS}/bridge", docker_like),
            ("routed", stack.enter_context(running_machine(POOLS)), NATIVE, ROUTED),
        ):
            who = Contestant(name, place.netns, [stack.enter_context(place.sandbox()) for _ in range(2)])
            attach(who, place, plugin, config)
            found.append(who)
        yield tuple(found)


def carrying(carry: Carry, name: str, milliseconds: int) -> Workload:
    return Workload(name, lambda who: carry(name, who, milliseconds), SLICES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--milliseconds", type=int, default=20, help="of a slice")
    options = parser.parse_args()
    with all_attached() as found, tempfile.TemporaryDirectory(prefix="nl-bench-") as folder:
        carry = Carry(folder)
        workloads = [carrying(carry, name, options.milliseconds) for name in ("pingpong", "packets")]
        ours, theirs = (seen.of_pod(who.pods[0].netns, who.place) for who in found[:2])
        same = seen.compare((found[0].name, found[1].name), ours, theirs)
        take_turns(found, workloads, options.rounds)
        kept = report(found, workloads, COMPARISONS)
    sys.exit(0 if same and kept else 1)


if __name__ == "__main__":
    main()
