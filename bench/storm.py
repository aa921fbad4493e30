"""Pods by the hundred through a real containerd: how long all take, beside Go's `bridge` + `host-local`, in the same run.

    python bench/storm.py [--pods 200] [--at-once 20] [--containerd 1|2]

RunPodSandbox as kubelet calls it, from so many threads at once, then StopPodSandbox and RemovePodSandbox the same way.  Most of
the time is the runtime's own (shim, runc, snapshot), so what counts is that none fails, that none is like another, and that nothing is left.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))  # the machines that tests use

import grpc

from tests.agent_process import running_machine
from tests.runtime.containerd import V1, V2, Version, containerd
from tests.runtime.cri import Cri, Pod
from tests.runtime.enclosure import enclosure

GO_RANGES = [[{"subnet": "10.99.0.0/16"}], [{"subnet": "fd00:99::/64"}]]
SEEN_BY_KUBELET = 240.0  # seconds: its time limit for a call is two minutes


@dataclass(frozen=True)
class Figures:
    seconds: float
    calls: list[float]
    failed: int


def ours(version: Version) -> dict[str, Any]:
    return version.conflist(wiring="bridge", capabilities={"portMappings": True})


def go(version: Version) -> dict[str, Any]:
    routes = [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
    ipam = {"type": "host-local", "ranges": GO_RANGES, "routes": routes}
    plugins = [{"type": "bridge", "bridge": "br0", "isGateway": True, "ipMasq": True, "hairpinMode": True, "ipam": ipam}]
    # Debian's plugins speak 1.0.0 at most
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": plugins}


def at_once(threads: int, call: Callable[[str], object], names: Sequence[str]) -> Figures:
    def timed(name: str) -> float | None:
        begun = time.monotonic()
        try:
            call(name)
        except grpc.RpcError as e:
            print(f"    {name}: {e.details()}", file=sys.stderr)
            return None
        return time.monotonic() - begun

    begun = time.monotonic()
    with ThreadPoolExecutor(threads) as pool:
        calls = list(pool.map(timed, names))
    done = [call for call in calls if call is not None]
    return Figures(time.monotonic() - begun, done, len(calls) - len(done))


def measure(version: Version, conflist: dict[str, Any], pods: int, threads: int) -> list[str]:
    """A line for each phase, and one for what is left."""
    with running_machine() as machine, enclosure(machine) as inside, containerd(inside, version, conflist) as runtime:
        cri = Cri(runtime.socket, timeout=SEEN_BY_KUBELET)
        runtime.wait_for_network()
        made = at_once(threads, lambda name: cri.run(Pod(name)), [f"pod-{n}" for n in range(pods)])
        network = [(cri("PodSandboxStatus", pod_sandbox_id=one).status.network) for one in cri.sandboxes()]
        addresses = [address for one in network for address in (one.ip, *(more.ip for more in one.additional_ips))]
        removed = at_once(threads, cri.remove, cri.sandboxes())
        left = [*runtime.left(), *cri.sandboxes()]
        cri.close()
    return [
        f"RunPodSandbox           {_line(made)}   {len(addresses)} addresses, {len(set(addresses))} different",
        f"Stop, RemovePodSandbox  {_line(removed)}   {len(left)} left",
    ]


def _line(figures: Figures) -> str:
    calls = sorted(figures.calls) or [0.0]
    p50, p99 = statistics.median(calls), calls[min(len(calls) - 1, int(len(calls) * 0.99))]
    return f"{figures.seconds:6.1f} s in all   p50 {p50 * 1e3:6.0f} ms   p99 {p99 * 1e3:6.0f} ms   {figures.failed} failed"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pods", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=20)
    parser.add_argument("--containerd", choices=["1", "2"])
    wanted = parser.parse_args()
    for version in (V1, V2):
        if wanted.containerd in (None, version.name):
            for name, conflist in (("netloom", ours), ("Go bridge + host-local", go)):
                print(f"containerd {version.name}, {name}: {wanted.pods} pods, {wanted.at_once} at once")
                for line in measure(version, conflist(version), wanted.pods, wanted.at_once):
                    print(f"    {line}", flush=True)


if __name__ == "__main__":
    main()
