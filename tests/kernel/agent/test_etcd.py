"""An agent whose datastore is an etcd, over the wire with TLS: it serves its pods, goes on without it, and comes back."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from netloom.dataplane import netns
from tests import agent_process, etcd
from tests.agent_process import HASTY, Machine, Sandbox
from tests.cni_calls import NATIVE, Answer, call
from tests.waiting import eventually

SERVER = "192.168.77.2"  # the machine's other end of the uplink
POOLS = """
apiVersion: netloom.io/v1
kind: IPPool
metadata: {name: v4}
spec: {cidr: 10.244.0.0/16, encapsulation: VXLAN, natOutgoing: true}
"""


@dataclass(slots=True)
class Place:
    machine: Machine
    server: etcd.Etcd

    def netloom(self, *arguments: str, text: str = "") -> str:
        """The command line, in the node's namespace."""
        command = [sys.executable, "-m", "netloom", *arguments, "--config", f"{self.machine.folder}/agent.yaml"]
        with netns.entered(self.machine.netns):
            return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout

    def add(self, sandbox: Sandbox) -> Answer:
        return call(NATIVE, "ADD", self.machine.run_dir, sandbox.container_id, sandbox.path)

    def endpoints(self) -> int:
        return len(json.loads(self.netloom("get", "pods", "-A", "-o", "json"))["items"])


@pytest.fixture
def place() -> Iterator[Place]:
    with (
        agent_process.machine({}, HASTY) as machine,
        etcd.etcd(places=[etcd.Place(machine.outside, SERVER)], tls=True) as server,
    ):
        assert server.authority
        own = server.issue("node-0")
        machine.settings = {
            "datastore": f"etcd:{server.urls}",
            "etcdCaFile": server.authority.file,
            "etcdCertFile": own.certificate,
            "etcdKeyFile": own.key,
            "etcdPrefix": "/nets",
        }
        agent_process.configure(machine)
        place = Place(machine, server)
        Path(machine.folder, "pools.yaml").write_text(POOLS)
        place.netloom("apply", "-f", f"{machine.folder}/pools.yaml")
        machine.start()
        yield place


def test_pods_come_and_go_with_etcd_and_without(place: Place) -> None:
    machine, server = place.machine, place.server
    with machine.sandbox() as first, machine.sandbox() as second:
        assert place.add(first).ok
        eventually(lambda: place.endpoints() == 1)
        assert "/nets/Node/node-0" in server.ctl("get", "--prefix", "--keys-only", "/nets/")
        server.member().kill()
        eventually(lambda: not machine.state().datastore.connected)
        assert place.add(second).ok
        away = machine.state().datastore
        assert away.error is not None and server.urls in away.error
        machine.restart()
        assert not machine.state().datastore.connected
        server.member().start()
        eventually(lambda: machine.state().datastore.connected)
        eventually(lambda: place.endpoints() == 2)
