"""Beside Flannel: `net-conf.json` applies, and pods reach those of a node that is Flannel's in all but name, there and back."""

from __future__ import annotations

import ipaddress
import json
import subprocess
import sys
import urllib.request

import pytest

from netloom.dataplane import netns
from netloom.model.addresses import Mac
from netloom.model.resources import Node, NodeSpec
from tests.agent_process import running_machine
from tests.crossing import digests, ping
from tests.flannel import SUBNET, flannel_node
from tests.kernel.agent.conftest import Place, place_of
from tests.waiting import eventually

HEALTH = "127.0.0.1:9477"
CASES = [
    ({"Type": "vxlan"}, "auto"),
    ({"Type": "vxlan", "DirectRouting": True}, "auto"),
    ({"Type": "host-gw"}, "auto"),
    ({"Type": "udp"}, "forwarder"),
    ({"Type": "udp"}, "auto"),
]


def published(place: Place, *, tunnel: bool) -> NodeSpec | None:
    """What our node says of itself, once it has a tunnel address where it needs one."""
    found = place.store.get("Node", "node-0")
    assert found is not None and isinstance(found.resource, Node)
    return found.resource.spec if found.resource.spec.tunnel_address(4) or not tunnel else None


def counted(place: Place, direction: str) -> float:
    """Bytes of the tunnel, as /metrics tells."""
    with netns.entered(place.machine.netns), urllib.request.urlopen(f"http://{HEALTH}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    start = f'netloom_tunnel_peer_bytes_total{{device="loom.udp",direction="{direction}",node="flannel"}}'
    return next(float(line.split()[-1]) for line in lines if line.startswith(start))


def added(place: Place) -> str | None:
    """A pod of ours, once the agent knows of the pool.  Each try is a sandbox of its own."""
    name = f"ours{len(place.pods)}"
    return name if place.add(name).ok else None


@pytest.mark.parametrize(
    ("backend", "engine"), CASES, ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value.values()))
)
def test_pods_of_ours_and_of_flannels_reach_each_other(backend: dict[str, object], engine: str) -> None:
    kind = "host-gw" if backend.get("DirectRouting") else str(backend["Type"])  # they are neighbours
    with (
        running_machine({}, tunnelEngine=engine, healthAddress=HEALTH) as machine,
        place_of(machine) as place,
        flannel_node(machine, kind, place.store) as theirs,
    ):
        config = json.dumps({"Network": "10.244.0.0/16", "SubnetLen": 24, "Backend": backend})
        applied = subprocess.run(
            [sys.executable, "-m", "netloom", "apply", "-f", "-", "--datastore", machine.datastore],
            input=config,
            text=True,
            capture_output=True,
        )
        assert applied.returncode == 0, applied.stderr
        name = eventually(lambda: added(place))
        eventually(lambda: str(SUBNET) in place.run("ip route show"))
        address = place.addresses[name][0]
        node = eventually(lambda: published(place, tunnel=kind != "host-gw"))
        block = next(
            b.resource.spec.cidr for b in place.store.list("IPBlock").items if b.resource.spec.claims[0].node == "node-0"
        )
        theirs.learn("192.168.77.1", block, node.tunnel_address(4), Mac(node.vtep_mac or ""))
        ours = ipaddress.ip_address(address)
        ping(theirs.pod, ours)
        ping(place.pods[name].netns, theirs.address)
        for source, target, to in (
            (theirs.pod, place.pods[name].netns, ours),
            (place.pods[name].netns, theirs.pod, theirs.address),
        ):
            sent, received = digests(source, target, to, size=8 << 20)
            assert sent == received
        if kind == "udp":
            assert counted(place, "received") > 8 << 20
