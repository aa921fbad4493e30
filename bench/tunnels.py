"""From a pod of one node to a pod of another: each tunnel of ours beside what it has to stand comparison with, in the same run.

    python bench/tunnels.py [--rounds 15] [--milliseconds 20] [--only by-hand,wire,loop,forwarder,many,start]

by-hand     plain routes and VXLAN of ours beside the same configured with `ip`: what a packet meets is compared, then the speed.  The
            promise is about the same hooks: beside what by hand has the rules, too, without which a pod may send from any address
wire        IPIP and UDP by eBPF beside kernel VXLAN (pods routed, and on a bridge as Flannel has them) and plain routes, over an uplink that neither segments nor merges, as between
            machines: packets are cut before the wire, and merged by GRO behind it
loop        UDP by eBPF beside a plain C loop (udp_loop.c), all on one CPU
forwarder   the forwarder beside that loop, and towards it
many        1 000 other nodes beside one
start       loading the programs and attaching them

Two nodes are namespaces joined by a veth pair; ours have real agents, and pods by the CNI plugin.

    stream      one TCP stream of 400 MB, or for a second (iperf3), in Gbit/s
    ping-pong   one byte there and back over TCP, both ends on one CPU (carry.c)
    packets     UDP packets of 64 bytes in a second, as far as the receiver's socket (carry.c)
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # the machines that tests use

import msgspec

from bench import seen
from bench.measuring import CPU, Carry, Comparison, Contestant, Workload, report, take_turns
from netloom.dataplane import netns
from netloom.dataplane.links import Links
from netloom.datastore import connect
from netloom.model.desired import Carrier, Tunnel
from netloom.model.resources import Encapsulation, IPPoolSpec, Node
from netloom.reconcile import reconcile
from netloom.tunnel.forwarder.client import Client, path
from tests import daemons, tunnel_pair
from tests.agent_process import Machine, Sandbox, machine, neighbour, running_machine
from tests.cni_calls import NATIVE, call
from tests.kernel.tunnel.ebpf.nodes import Way, agents, desired
from tests.other_nodes import far_node
from tests.waiting import eventually

POOL = ipaddress.IPv4Network("10.240.0.0/12")
MANY = 1000
ELSEWHERE = ipaddress.IPv4Network("10.255.0.0/16")
"""Of the pool: where the blocks of so many other nodes are."""
SOON = 50
"""Milliseconds, to load and attach."""
RETRANSMITS = 500
"""Within 5 s of a stream."""

CNI = {"cniVersion": "1.0.0", "name": "pods", "type": "netloom"}
IPERF = ("iperf3", "libiperf0", "libsctp1")
IPERF_PORT = "5202"  # 5201 is carry.c's
GULP, SECOND = ("-n", "400M"), ("-t", "1")
ANY_CPU, ONE_CPU = "0,1", f"{CPU},{CPU}"

WIRE = {
    **dict.fromkeys(("tx-tcp-segmentation", "tx-tcp-ecn-segmentation", "tx-tcp-mangleid-segmentation"), False),
    **dict.fromkeys(("tx-tcp6-segmentation", "tx-udp-segmentation", "tx-ipxip4-segmentation", "tx-ipxip6-segmentation"), False),
    **dict.fromkeys(("tx-udp_tnl-segmentation", "tx-udp_tnl-csum-segmentation"), False),
    "rx-gro": True,
}
"""Offloads of the uplink: the kernel cuts packets before it, and merges those that arrive."""


# Pairs of nodes


@contextmanager
def ours(
    name: str, encapsulation: Encapsulation, others: int = 0, engine: str = "auto", wiring: str = "routed"
) -> Iterator[Contestant]:
    """`others`: how many more nodes the cluster has."""
    with ExitStack() as stack:
        here = stack.enter_context(
            running_machine({"v4": IPPoolSpec(cidr=POOL, encapsulation=encapsulation)}, tunnelEngine=engine)
        )
        there = stack.enter_context(neighbour(here, tunnelEngine=engine))
        pods = [stack.enter_context(node.sandbox()) for node in (here, there)]
        addresses = [attached(node, pod, wiring) for node, pod in zip((here, there), pods, strict=True)]
        if others:
            declare(here, others)
            eventually(lambda: routes(here.netns) >= others)
        eventually(lambda: reaches(pods[0], addresses[1]))
        processes = [forwarder(node) for node in (here, there)] if engine == "forwarder" else []
        yield Contestant(name, here.netns, pods, addresses[1], processes, there.netns)


def forwarder(node: Machine) -> int:
    with Client(path(node.run_dir, tunnel_pair.DEVICE)) as client:
        return client.state().pid


def attached(node: Machine, pod: Sandbox, wiring: str) -> str:
    with netns.entered(node.netns):
        answer = call(NATIVE, "ADD", node.run_dir, pod.container_id, pod.path, {**CNI, "wiring": wiring})
    if not answer.ok:
        raise SystemExit(f"ADD: {answer.stdout.decode()[:300]}")
    return answer.addresses[0].partition("/")[0]


def declare(node: Machine, others: int) -> None:
    """Nodes of the datastore alone, each with a block."""
    datastore = connect(node.datastore)
    try:
        for number, slot in zip(range(1, others + 1), ELSEWHERE.subnets(new_prefix=26), strict=False):
            for resource in far_node(number, [slot]):
                datastore.create(_with_an_agent(resource) if isinstance(resource, Node) else resource)
    finally:
        datastore.close()


def _with_an_agent(node: Node) -> Node:
    return msgspec.structs.replace(node, spec=msgspec.structs.replace(node.spec, machine="far away"))


def routes(place: int) -> int:
    with netns.entered(place):
        return subprocess.run(["ip", "route"], capture_output=True, text=True, check=True).stdout.count("10.255.")


def reaches(pod: Sandbox, address: str) -> bool:
    with netns.entered(pod.netns):
        return (
            subprocess.run(["ping", "-n", "-q", "-c", "1", "-W", "1", address], capture_output=True, check=False).returncode
            == 0
        )


@contextmanager
def by_hand(name: str, *, vxlan: bool, guarded: bool = False) -> Iterator[Contestant]:
    """The same with `ip`, as somebody would do it who knows how; `guarded`: and with `nft`."""
    with ExitStack() as stack:
        made = stack.enter_context(machine())
        places = made.netns, made.outside
        pods = [stack.enter_context(made.sandbox()) for _ in places]
        for number, (place, pod) in enumerate(zip(places, pods, strict=True), 1):
            configure(place, pod, number, vxlan=vxlan)
            if guarded:
                with netns.entered(place):
                    subprocess.run(["nft", "-f", "-"], input=GUARD.format(own=number, other=3 - number), text=True, check=True)
        eventually(lambda: reaches(pods[0], "10.244.2.2"))
        yield Contestant(name, places[0], pods, "10.244.2.2", other_place=places[1])


GUARD = """
table inet guard {{
    set sources {{ typeof iifname . ether saddr . ip saddr; elements = {{ "pod0" . 0a:58:0a:f4:00:0{own} . 10.244.{own}.2 }} }}
    set nodes {{ type ipv4_addr; elements = {{ 192.168.77.{other} }} }}
    chain prerouting {{
        type filter hook prerouting priority raw
        iifname . ether saddr . ip saddr @sources accept
        iifname "pod*" drop
        iifname "vxlan0" ip saddr 10.244.{own}.0/26 drop
    }}
    chain input {{
        type filter hook input priority filter
        udp dport 4789 ip saddr != @nodes drop
    }}
}}
"""
"""Pods send from their own address, VXLAN comes from nodes, and no packet in it from a pod of this one."""


def configure(place: int, pod: Sandbox, number: int, *, vxlan: bool) -> None:
    other, mtu = 3 - number, 1450 if vxlan else 1500
    mac = "0a:58:0a:f4:00:0{}".format
    pod0 = f"pod0 address ee:ee:ee:ee:ee:ee mtu {mtu}"
    eth0 = f"eth0 address {mac(number)} mtu {mtu} netns /proc/{os.getpid()}/fd/{pod.netns}"
    vxlan0 = f"vxlan0 address 66:00:00:00:00:0{number} mtu {mtu}"
    as_ours = f"id 4096 dev eth0 local 192.168.77.{number} dstport 4789 nolearning udp6zerocsumrx"
    node = [
        f"link add {pod0} type veth peer name {eth0}",
        "link set pod0 up",
        f"route add 10.244.{number}.2 dev pod0",
        f"neighbour add 10.244.{number}.2 lladdr {mac(number)} dev pod0",
    ]
    if vxlan:
        node += [
            f"link add {vxlan0} type vxlan {as_ours}",
            f"address add 10.244.{number}.0/32 dev vxlan0",
            "link set vxlan0 up",
            f"neighbour add 10.244.{other}.0 lladdr 66:00:00:00:00:0{other} dev vxlan0",
            f"route add 10.244.{other}.0/26 via 10.244.{other}.0 dev vxlan0 onlink src 10.244.{number}.0",
        ]
    else:
        node.append(f"route add 10.244.{other}.0/26 via 192.168.77.{other} dev eth0")
    with netns.entered(place):
        ip(*node)
        if vxlan:
            fdb = f"fdb add 66:00:00:00:00:0{other} dev vxlan0 dst 192.168.77.{other}"
            subprocess.run(["bridge", *fdb.split()], check=True)
        for name in ("eth0", *(["vxlan0"] if vxlan else [])):
            Path(f"/proc/sys/net/ipv4/conf/{name}/rp_filter").write_text("2")
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    with netns.entered(pod.netns):
        ip(
            "link set lo up",
            "link set eth0 up",
            f"address add 10.244.{number}.2/32 dev eth0",
            "route add 169.254.1.1 dev eth0",
            "route add default via 169.254.1.1 dev eth0 onlink",
            "neighbour add 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee dev eth0",
        )


def ip(*lines: str) -> None:
    subprocess.run(["ip", "-batch", "-"], input="\n".join(lines), text=True, check=True)


@contextmanager
def in_user_space(name: str, *kinds: str) -> Iterator[Contestant]:
    """A pair whose tunnel is a process at each end: `forward` or `loop`."""
    with tunnel_pair.pair() as nodes:
        for node, kind in zip(nodes, kinds, strict=True):
            getattr(node, kind)()
        pods = [Sandbox("", node.pod, f"/proc/{os.getpid()}/fd/{node.pod}") for node in nodes]
        processes = [process.pid for node in nodes for process in node.processes]
        address = nodes[1].pod_addresses[0]
        eventually(lambda: reaches(pods[0], address))
        yield Contestant(name, nodes[0].netns, pods, address, processes)


# What is measured


class Stream:
    """iperf3, unpacked out of its Debian package.  Beside bits a second it notes retransmitted segments, and what the whole machine's
    CPUs did meanwhile: of user space, of the kernel and of its interrupts."""

    def __init__(self, stack: ExitStack) -> None:
        root = daemons.unpacked(*IPERF)
        self._program, self._environment = str(root / "usr/bin/iperf3"), daemons.environment(root)
        self._stack = stack
        self._serving: dict[int, subprocess.Popen[bytes]] = {}

    def __call__(self, who: Contestant, cpus: str, amount: Sequence[str]) -> float:
        """Gbit/s.  `cpus`: of the sender and the receiver; `amount`: as iperf3 has it."""
        pin(who, cpus)
        self._serve(who.pods[1])
        busy = busy_seconds()
        with netns.entered(who.pods[0].netns):
            done = self._run("-c", who.address, "-p", IPERF_PORT, *amount, "-A", cpus, "-J")
        busy = busy_seconds() - busy
        end = json.loads(done.stdout).get("end", {})
        if "sum_received" not in end:
            raise SystemExit(f"{who.name}, stream: {done.stdout.decode()[-300:]}")
        who.figures.setdefault("retransmits", []).append(end["sum_sent"]["retransmits"])
        who.figures.setdefault("CPU", []).append(busy / end["sum_received"]["bytes"] * 1e9)
        return float(end["sum_received"]["bits_per_second"]) / 1e9

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([self._program, *arguments], env=self._environment, capture_output=True, timeout=30, check=False)

    def _serve(self, pod: Sandbox) -> None:
        namespace = os.fstat(pod.netns).st_ino  # as long as a server is in it, it is no other's
        if namespace in self._serving:
            return
        with netns.entered(pod.netns):
            server = subprocess.Popen(
                [self._program, "-s", "-p", IPERF_PORT, "--forceflush"],
                env=self._environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        self._serving[namespace] = server
        self._stack.callback(server.wait)
        self._stack.callback(server.kill)
        assert server.stdout is not None
        while b"listening" not in (line := server.stdout.readline()):
            if not line:
                raise SystemExit("iperf3 -s ended before it listened")


def busy_seconds() -> float:
    user, nice, system, _, _, interrupts, soft_interrupts = map(int, Path("/proc/stat").read_text().split()[1:8])
    return (user + nice + system + interrupts + soft_interrupts) / os.sysconf("SC_CLK_TCK")


def pin(who: Contestant, cpus: str) -> None:
    for process in who.processes:
        for task in os.listdir(f"/proc/{process}/task"):
            os.sched_setaffinity(int(task), set(map(int, cpus.split(","))))


@dataclass(frozen=True, slots=True)
class Tools:
    carry: Carry
    stream: Stream
    rounds: int
    milliseconds: int

    def streaming(self, slices: int = 3) -> Workload:
        return Workload("stream", lambda who: self.stream(who, ANY_CPU, GULP), slices=slices, unit=" Gbit/s")

    def streaming_for_a_second(self, cpus: str = ANY_CPU) -> Workload:
        """For those that are slow."""
        return Workload("stream", lambda who: self.stream(who, cpus, SECOND), unit=" Gbit/s")

    def carrying(self, name: str, cpus: str = ANY_CPU) -> Workload:
        """`cpus`: of processes that carry it; both ends are on one in any case."""

        def measure(who: Contestant) -> float:
            pin(who, cpus)
            return self.carry(name, who, self.milliseconds)

        return Workload(name, measure, slices=8)


# What is promised


def by_hand_or_not(tools: Tools) -> bool:
    kept = True
    for encapsulation, name, vxlan in ((Encapsulation.NONE, "host-gw", False), (Encapsulation.VXLAN, "vxlan", True)):
        with (
            ours(name, encapsulation) as mine,
            by_hand(f"{name} by hand", vxlan=vxlan) as theirs,
            by_hand(f"{name} by hand, guarded", vxlan=vxlan, guarded=True) as guarded,
        ):
            kept &= seen.compare((mine.name, guarded.name), *map(met, (mine, guarded)))
            workloads = [tools.streaming(slices=5), tools.carrying("pingpong")]
            take_turns([mine, theirs, guarded], workloads, tools.rounds)
            pairs = [(mine, theirs, 0.92), (mine, guarded, 0.92), (guarded, theirs, None)]
            comparisons = [
                Comparison(each.name, one.name, other.name, least, surely=True)
                for one, other, least in pairs
                for each in workloads
            ]
            kept &= report([mine, theirs, guarded], workloads, comparisons)
    return kept


def met(who: Contestant) -> dict[str, object]:
    """What a packet meets from pod to pod.  It meets no hook of bridges and of ARP."""
    assert who.other_place is not None
    here, there = (seen.of_pod(pod.netns, place) for pod, place in zip(who.pods, (who.place, who.other_place), strict=True))
    hooks = {hook for hook in here.pop("hooks") | there.pop("hooks") if hook.startswith(("inet ", "ip "))}
    arriving = {f"there: {what}": value for what, value in there.items()}
    return here | seen.of_way(who.place, who.address) | arriving | {"hooks": hooks}


def over_a_wire(tools: Tools) -> bool:
    with ExitStack() as stack:
        found = [
            stack.enter_context(ours(name, encapsulation))
            for name, encapsulation in (
                ("host-gw", Encapsulation.NONE),
                ("vxlan", Encapsulation.VXLAN),
                ("ipip", Encapsulation.IPIP),
                ("udp", Encapsulation.UDP),
            )
        ]
        found.append(stack.enter_context(ours("vxlan, bridge", Encapsulation.VXLAN, wiring="bridge")))
        for who in found:
            for place in (who.place, who.other_place):
                assert place is not None
                with netns.entered(place):
                    seen.switch("eth0", WIRE)
        eventually(lambda: runs_early(found[3]))  # as soon as its agent has seen that segments come cut
        early = runs_early(found[3])
        print(f"\nUDP is unpacked {'before' if early else 'after'} GRO")
        workloads = [tools.streaming(), tools.carrying("pingpong")]
        take_turns(found, workloads, tools.rounds)
        return report(
            found,
            workloads,
            (
                Comparison("stream", "ipip", "host-gw", 0.7),
                Comparison("stream", "ipip", "vxlan", 1.0),
                Comparison("stream", "udp", "host-gw", 0.55),
                Comparison("stream", "udp", "vxlan", 1.1 if early else 0.8),
                Comparison("stream", "udp", "vxlan, bridge", 1.1 if early else 0.8),
                Comparison("pingpong", "ipip", "vxlan", 1.05),
                Comparison("pingpong", "udp", "vxlan"),
                Comparison("pingpong", "ipip", "host-gw"),
            ),
        )


def runs_early(who: Contestant) -> bool:
    """Whether the uplink's driver runs a program of its own."""
    assert who.other_place is not None
    with netns.entered(who.other_place):
        return any("xdp" in link for link in seen.links() if link["ifname"] == "eth0")


@contextmanager
def programs_alone(name: str, way: Way) -> Iterator[Contestant]:
    """The programs without an agent's rules: nobody asks what a pod sends, and nothing is tracked, as in a node that has the loop."""
    with tempfile.TemporaryDirectory(prefix="nl-bench-") as folder, agents(way, Path(folder) / "bpf") as pair:
        for agent in pair:
            want = desired(way, agent.node)
            links = {device: replace(link, early=False) for device, link in want.links.items() if isinstance(link, Tunnel)}
            agent.make(replace(want, links=links))  # as an agent has it on a cable like this
        nodes = [agent.node for agent in pair]
        pods = [Sandbox("", node.pod, f"/proc/{os.getpid()}/fd/{node.pod}") for node in nodes]
        address = nodes[1].pod_addresses[0]
        eventually(lambda: reaches(pods[0], address))
        yield Contestant(name, nodes[0].netns, pods, address, other_place=nodes[1].netns)


def beside_a_loop(tools: Tools) -> bool:
    """A node that has the loop asks nothing of what pods send; what is promised of the programs is measured without rules, too.  Plain
    routes say how much there is to gain at all."""
    with (
        ours("udp", Encapsulation.UDP) as mine,
        programs_alone("udp, no rules", Way(Carrier.UDP, 4)) as alone,
        in_user_space("C loop", "loop", "loop") as theirs,
        ours("host-gw", Encapsulation.NONE) as plain,
    ):
        workloads = [
            tools.streaming_for_a_second(ONE_CPU),
            *(tools.carrying(name, str(CPU)) for name in ("pingpong", "packets")),
        ]
        found = [mine, alone, theirs, plain]
        take_turns(found, workloads, max(5, tools.rounds // 3))
        least = {"stream": 5.0, "pingpong": 2.5, "packets": 2.3}
        comparisons = [Comparison(name, "udp, no rules", "C loop", ratio) for name, ratio in least.items()]
        comparisons += [Comparison(name, "udp", "C loop", ratio if name == "stream" else None) for name, ratio in least.items()]
        comparisons += [Comparison(name, "host-gw", "C loop") for name in least]
        return report(found, workloads, comparisons)


def forwarded(tools: Tools) -> bool:
    with (
        in_user_space("forwarder", "forward", "forward") as mine,
        in_user_space("C loop", "loop", "loop") as theirs,
        in_user_space("forwarder to C loop", "forward", "loop") as mixed,
    ):
        found = [mine, theirs, mixed]
        workloads = [tools.streaming_for_a_second(), tools.carrying("pingpong", str(CPU)), tools.carrying("packets")]
        take_turns(found, workloads, max(7, tools.rounds // 2))
        kept = report(
            found,
            workloads,
            (
                Comparison("stream", "forwarder", "C loop", 2.0),
                Comparison("packets", "forwarder", "C loop", 0.7),
                Comparison("pingpong", "forwarder", "C loop", 0.5),
                Comparison("stream", "forwarder to C loop", "C loop", 0.65),
            ),
        )
        print("\n| | CPU s/GB | retransmits in 5 s |\n|---|---|---|")
        spent = {who.name: statistics.median(who.figures["CPU"]) for who in found}
        again = {who.name: statistics.median(who.figures["retransmits"]) * 5 for who in found}
        for name, seconds in spent.items():
            print(f"| {name} | {seconds:.2f} | {again[name]:.0f} |")
        return (
            kept
            & promised("CPU a byte, forwarder / C loop", spent["forwarder"] / spent["C loop"], 0.6)
            & promised("the forwarder's retransmits in 5 s", again["forwarder"], RETRANSMITS)
        )


def promised(what: str, value: float, most: float) -> bool:
    print(f"\n{what}: {value:.3g}, promised ≤ {most:g}: {'held' if value <= most else 'MISSED'}")
    return value <= most


def among_many(tools: Tools) -> bool:
    kept = True
    for name, encapsulation, engine in (
        ("ipip", Encapsulation.IPIP, "ebpf"),
        ("udp", Encapsulation.UDP, "ebpf"),
        ("forwarder", Encapsulation.UDP, "forwarder"),
    ):
        with (
            ours(name, encapsulation, engine=engine) as few,
            ours(f"{name}, {MANY} more", encapsulation, MANY, engine) as many,
        ):
            workloads = [tools.carrying(each, str(CPU)) for each in ("pingpong", "packets")]
            take_turns([many, few], workloads, max(7, tools.rounds // 2))
            kept &= report([many, few], workloads, [Comparison(each.name, many.name, few.name, 0.95) for each in workloads])
    return kept


def started(tools: Tools) -> bool:
    kept = True
    for way in (Way(Carrier.IPIP, 4), Way(Carrier.UDP, 4)):
        took = []
        for _ in range(max(5, tools.rounds // 2)):
            with tempfile.TemporaryDirectory() as folder, agents(way, Path(folder)) as (agent, _):
                links = desired(way, agent.node).links
                tunnels = {name: link for name, link in links.items() if isinstance(link, Tunnel)}
                with netns.entered(agent.node.netns):
                    reconcile(Links(agent.kernel), links)
                    begun = time.perf_counter()
                    outcome = reconcile(agent.programs, tunnels)
                    took.append((time.perf_counter() - begun) * 1e3)
            if outcome.failures:
                raise SystemExit(f"{way}: {outcome.failures}")
        kept &= promised(f"{way}: ms to load and attach, median", statistics.median(took), SOON)
    return kept


def main() -> None:
    sections: dict[str, Callable[[Tools], bool]] = {
        "by-hand": by_hand_or_not,
        "wire": over_a_wire,
        "loop": beside_a_loop,
        "forwarder": forwarded,
        "many": among_many,
        "start": started,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--milliseconds", type=int, default=20, help="of a slice of ping-pong or packets")
    parser.add_argument("--only", default=",".join(sections), help="sections, with commas")
    options = parser.parse_args()
    wanted = options.only.split(",")
    if unknown := set(wanted) - sections.keys():
        parser.error(f"no section is called {', '.join(sorted(unknown))}")
    kept = True
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="nl-bench-"))
        tools = Tools(Carry(folder), Stream(stack), options.rounds, options.milliseconds)
        for name in wanted:
            begun = time.monotonic()
            print(f"\n## {name}")
            kept &= sections[name](tools)
            print(f"\n({time.monotonic() - begun:.0f} s)", flush=True)
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
