"""Bandwidth, as kubelet asks for it by a pod's annotations: netloom limits, with no other plugin in the list."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from netloom.dataplane import netns
from tests.runtime.containerd import Containerd
from tests.runtime.cri import Pod

SLOW = Pod("slow", annotations={"kubernetes.io/ingress-bandwidth": "10M", "kubernetes.io/egress-bandwidth": "20M"})
BURST = 2**29  # bytes: containerd asks for 2^32 - 1 bits


def buckets(runtime: Containerd) -> dict[str, Any]:
    """Bytes a second, and at once, by the beginning of the interface's name: host interfaces have a digit where ifbs have a q."""
    with netns.entered(runtime.inside.machine.netns):
        done = subprocess.run(["tc", "-j", "qdisc", "show"], capture_output=True, check=True)
    found = {one["dev"][:5]: one["options"] for one in json.loads(done.stdout) if one["kind"] == "tbf"}
    return {"out" if name == "loomq" else "in": (o["rate"], o["burst"]) for name, o in found.items()}


def test_the_annotations_of_a_pod_are_limits_until_it_is_removed(runtime: Containerd) -> None:
    runtime.write_network(runtime.version.conflist(capabilities={"bandwidth": True}))
    runtime.restart()  # it notices a new file in its own time
    try:
        pod = runtime.cri.run(SLOW)
        found = buckets(runtime)
        assert {way: rate for way, (rate, _) in found.items()} == {"in": 1_250_000, "out": 2_500_000}
        assert (
            0.99 * BURST < found["out"][1] <= BURST
        )  # of the other one, which takes 429 s to fill, tc shows the rest beyond 275 s
        pod.remove()
        assert buckets(runtime) == {}
    finally:
        runtime.write_network(runtime.version.conflist())
        runtime.restart()
