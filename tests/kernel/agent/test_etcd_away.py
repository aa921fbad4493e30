"""One agent and an etcd that is killed, restored from an older snapshot, and begun anew: what runs goes on, and nothing is forgotten."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from netloom.dataplane import netns
from netloom.lab.etcd import MEMBERS, program, url
from tests.agent_process import HASTY, NODE, Machine, machine
from tests.cni_calls import NATIVE, Answer, call
from tests.etcd import Etcd, Place, etcd
from tests.kernel.iproute import run
from tests.waiting import eventually

ROOT = Path(__file__).parent.parent.parent.parent
POOL = {
    "apiVersion": "netloom.io/v1",
    "kind": "IPPool",
    "metadata": {"name": "v4"},
    "spec": {"cidr": "10.244.0.0/16", "encapsulation": "VXLAN"},
}
_OTHER_NODE = """
import sys
from netloom.datastore import connect
from tests.kernel.agent.conftest import remote_node
store = connect(sys.argv[1])
for number in map(int, sys.argv[2:]):
    remote_node(store, number, f"10.244.{number}.0/26")
store.close()
"""


@dataclass(frozen=True, slots=True)
class Site:
    """A machine, and an etcd at the other end of its uplink."""

    machine: Machine
    etcd: Etcd
    target: str

    def outside(self, *command: str, stdin: str = "", code: int = 0) -> str:
        """A program beside the etcd: gRPC's threads stay in the namespace that they are born in."""
        with netns.entered(self.machine.outside):
            done = subprocess.run(command, cwd=ROOT, input=stdin, capture_output=True, text=True, timeout=60)
        assert done.returncode == code, done.stderr
        return done.stdout

    def declare(self) -> None:
        netloom = (sys.executable, "-m", "netloom", "apply", "-f", "-", "--datastore", self.target)
        eventually(lambda: self.outside(*netloom, stdin=json.dumps(POOL)))

    def other_nodes(self, *numbers: int) -> None:
        self.outside(sys.executable, "-c", _OTHER_NODE, self.target, *map(str, numbers))

    def add(self, name: str) -> Answer:
        sandbox = self.machine.make_sandbox(name)
        return call(NATIVE, "ADD", self.machine.run_dir, sandbox.container_id, sandbox.path)

    def leads_to(self, number: int) -> bool:
        with netns.entered(self.machine.netns):
            return f"10.244.{number}.0/26" in run("ip route")

    def keys(self, kind: str) -> list[str]:
        return self.etcd.ctl("get", "--prefix", "--keys-only", f"/netloom/{kind}/").split()

    @property
    def problems(self) -> str:
        return "\n".join(problem.message for problem in self.machine.state().problems)


@pytest.fixture
def site() -> Iterator[Site]:
    target = f"etcd:{url('192.168.77.2')}"
    with machine({}, HASTY, datastore=target) as made, ExitStack() as stack:
        running = stack.enter_context(etcd(places=[Place(made.outside, "192.168.77.2")]))
        found = Site(made, running, target)
        found.declare()
        made.start()
        assert found.add("first").ok
        yield found


HALF = '{"kind": "Node", "metadata": {"name": "remote-20"'
STRANGE = {
    "other/thing": "another program's",
    "loose": "a key without a kind",
    "Node/remote-20": HALF,
    "Node/future": '{"apiVersion": "netloom.io/v2", "kind": "Node", "metadata": {"name": "future"}, "spec": {}}',
    "Node/elsewhere": '{"apiVersion": "netloom.io/v1", "kind": "Node", "metadata": {"name": "somebody"}, "spec": {}}',
    "IPBlock/10-244-40-0-26": "[" * 1000,
    "IPPool/..%2f..": "null",
}


def test_what_others_put_below_the_prefix_is_named_and_the_rest_goes_on(site: Site) -> None:
    site.other_nodes(20)
    eventually(lambda: site.leads_to(20))
    for key, value in STRANGE.items():
        site.etcd.ctl("put", f"/netloom/{key}", value)
    watched = ("Node remote-20", "Node future", "Node elsewhere", "IPBlock 10-244-40-0-26", "IPPool ..%2f..")
    eventually(lambda: all(f"{name} cannot be read" in site.problems for name in watched))
    site.other_nodes(21)
    eventually(lambda: site.leads_to(21))
    assert site.leads_to(20), "as it was when it could be read last"
    assert site.add("meanwhile").ok and site.machine.state().ready
    shown = site.outside(
        *(sys.executable, "-m", "netloom", "status", "--datastore", site.target, "--run-dir", site.machine.run_dir), code=1
    )
    assert all(f"record {key.replace('loose', 'loose/')} cannot be read" in shown for key in STRANGE)

    site.machine.restart()
    eventually(lambda: all(f"{name} cannot be read" in site.problems for name in watched))
    assert site.leads_to(20) and site.add("again").ok
    for key in STRANGE:
        site.etcd.ctl("del", f"/netloom/{key}")
    eventually(lambda: "cannot be read" not in site.problems)


def is_connected(site: Site) -> bool:
    return site.machine.state().datastore.connected


def test_what_an_etcd_forgets_is_held_and_what_is_ours_is_declared_again(site: Site, tmp_path: Path) -> None:
    member = site.etcd.member()
    site.other_nodes(20, 21)
    eventually(lambda: site.leads_to(20) and site.leads_to(21))
    site.etcd.ctl("snapshot", "save", str(tmp_path / "older"))
    site.other_nodes(30)
    eventually(lambda: site.leads_to(30))
    claims = set(site.keys("IPBlock"))

    # away
    member.kill()
    eventually(lambda: not is_connected(site))
    assert site.add("meanwhile").ok and site.machine.state().ready
    assert site.leads_to(20) and site.leads_to(30)

    # back, and as it was some time ago
    member.wipe()
    restored = ("--name=member-0", f"--data-dir={site.etcd.folder}/member-0/data")
    cluster = url("192.168.77.2", MEMBERS)
    same = (f"--initial-cluster=member-0={cluster}", f"--initial-advertise-peer-urls={cluster}")
    site.outside(program("etcdctl"), "snapshot", "restore", str(tmp_path / "older"), *restored, *same)
    member.start()
    eventually(lambda: is_connected(site))
    eventually(lambda: site.machine.state().held == ("remote-30",))
    assert "no new block is claimed" in site.problems and "system brake release" in site.problems
    assert site.leads_to(30) and site.machine.state().ready
    eventually(lambda: claims - set(site.keys("IPBlock")) == {"/netloom/IPBlock/10-244-30-0-26"})
    site.other_nodes(30)
    eventually(lambda: not site.machine.state().held)

    # begun anew
    member.kill()
    member.wipe()
    member.start()
    eventually(lambda: "there is no datastore of Netloom" in (site.machine.state().datastore.error or ""))
    assert all(map(site.leads_to, (20, 21, 30))) and site.add("later").ok
    site.declare()
    eventually(lambda: is_connected(site))
    eventually(lambda: site.keys("Node") == [f"/netloom/Node/{NODE}"])
    eventually(lambda: len(site.keys("Endpoint")) == 3)
    assert site.machine.state().held == ("remote-20", "remote-21", "remote-30")
    assert all(map(site.leads_to, (20, 21, 30)))
