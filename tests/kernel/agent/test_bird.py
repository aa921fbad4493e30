"""The agent and a real BIRD beside it: what is in the datastore is what BIRD does, and what becomes of it is said."""

from __future__ import annotations

import ipaddress
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from netloom.agent.state import BgpState
from netloom.bgp.applying import Place
from netloom.dataplane import netns
from netloom.lab import packages
from netloom.model.resources import Encapsulation, IPPoolSpec
from netloom.model.routing import Announced, BgpConfig, Session, Trust
from tests.agent_process import HASTY, Machine, running_machine
from tests.bird_pair import Node, wrapper
from tests.cni_calls import NATIVE, call
from tests.waiting import eventually

POOLS = {"plain": IPPoolSpec(cidr=ipaddress.ip_network("10.244.0.0/16"), encapsulation=Encapsulation.NONE)}
PEER, OWN = ipaddress.ip_address("192.168.77.2"), ipaddress.ip_address("192.168.77.1")
FAR = ipaddress.ip_network("203.0.113.0/24")
TOR = """
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {{name: tor}}
spec:
  peerIP: 192.168.77.2
  asNumber: {as_number}
{more}
"""


class OfAgent(Node):
    """The BIRD whose file the agent writes."""

    __slots__ = ()

    @property
    def place(self) -> Place:
        return Place(
            str(self.folder / "state/bird/bird.conf"), str(self.folder / "run/bird/bird.ctl"), str(self.folder / "bird")
        )


@dataclass
class Rack:
    """A node with an agent and a BIRD, and a router outside that is a BIRD, too."""

    machine: Machine
    bird: OfAgent
    tor: Node

    def netloom(self, *arguments: str, given: str = "") -> tuple[int, str]:
        command = [sys.executable, "-m", "netloom", *arguments, "--run-dir", self.machine.run_dir]
        command += ["--datastore", self.machine.datastore]
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stdout + done.stderr

    def apply(self, manifest: str) -> None:
        path = Path(self.machine.folder, "manifest.yaml")
        path.write_text(manifest)
        code, words = self.netloom("apply", "-f", str(path))
        assert code == 0, words

    def state(self) -> BgpState:
        return self.machine.state().bgp

    def established(self) -> bool:
        """As BIRD says now."""
        return [peer.established for peer in self.bird.bird.peers().values()] == [True]

    def routes(self) -> str:
        with netns.entered(self.machine.netns):
            return subprocess.run(["ip", "route"], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def rack(tmp_path: Path) -> Iterator[Rack]:
    program = packages.bird()
    wrapper(tmp_path, program)
    block = ipaddress.ip_network("10.244.0.0/26")
    with running_machine(POOLS, HASTY, birdPath=str(tmp_path / "bird"), logLevel="info") as machine:
        own = OfAgent("node-0", Path(machine.folder), machine.netns, OWN, OWN, block, block, program)
        tor = Node("tor", tmp_path, machine.outside, PEER, PEER, FAR, FAR, program)
        wrapper(own.folder, program)
        session = Session("peer_node", "node", OWN, 64512, 65001, (4,), multihop=False, trust=Trust.ANYTHING)
        tor.write(
            BgpConfig(
                node="tor",
                router_id=ipaddress.IPv4Address(int(PEER)),
                local_as=65001,
                announced=(Announced(FAR, "the world"),),
                sessions=(session,),
            )
        )
        tor.start()
        try:
            yield Rack(machine, own, tor)
        finally:
            for node in (own, tor):
                if node.process is not None:
                    node.process.kill()
                    node.process.wait(30)


def speaking(rack: Rack, more: str = "") -> None:
    rack.apply(TOR.format(as_number=65001, more=more))
    eventually(lambda: os.path.exists(rack.bird.place.config))
    rack.bird.start("-R")
    eventually(rack.established)


def test_a_node_without_bgp_has_no_file_and_no_word_of_it(rack: Rack) -> None:
    assert not os.path.exists(f"{rack.machine.state_dir}/bird")
    assert rack.state() == BgpState(config=rack.bird.place.config, socket=rack.bird.place.socket)
    code, words = rack.netloom("bgp", "peers")
    assert code == 0 and "BGP is off" in words


def test_from_a_manifest_to_a_route_and_back(rack: Rack) -> None:
    with rack.machine.sandbox() as pod:
        assert call(NATIVE, "ADD", rack.machine.run_dir, pod.container_id, pod.path).ok
        speaking(rack)
        eventually(lambda: "203.0.113.0/24 via 192.168.77.2 dev eth0 proto bird metric 700" in rack.routes())
        (block,) = rack.machine.state().blocks
        eventually(lambda: str(block.cidr) in rack.tor.ip("route"))
        code, words = rack.netloom("bgp", "routes", "203.0.113.9")
        assert code == 0 and "203.0.113.0/24" in words and "BGPPeer tor" in words
        code, words = rack.netloom("bgp", "render")
        assert code == 0 and "# BGPPeer tor" in words
        assert rack.netloom("bgp", "diff") == (0, "")
        assert [session.origin for session in rack.state().sessions] == ["BGPPeer tor"]
        code, words = rack.netloom("bgp", "reset", "tor", "--soft")
        assert code == 0, words
        code, words = rack.netloom("bgp", "reset", "192.168.77.2")
        assert code == 0, words
        eventually(rack.established)
        assert rack.netloom("delete", "bgppeer", "tor", "--yes")[0] == 0
        eventually(lambda: "proto bird" not in rack.routes())
        eventually(lambda: not rack.state().sessions)


def test_a_bird_that_dies_is_said_and_told_again(rack: Rack) -> None:
    speaking(rack)
    eventually(lambda: str(FAR) in rack.routes())
    rack.bird.stop(signal.SIGKILL)
    eventually(lambda: "BIRD does not answer" in rack.state().away)
    assert str(FAR) in rack.routes(), "routes of a BIRD that died stay"
    eventually(lambda: any("BIRD" in problem.message for problem in rack.machine.state().problems))
    code, words = rack.netloom("bgp", "peers")
    assert code == 3 and "does not answer" in words
    rack.apply(TOR.format(as_number=65001, more="  holdTime: 33s"))
    eventually(lambda: "hold time 33;" in Path(rack.bird.place.config).read_text())
    rack.bird.start("-R")
    eventually(lambda: not rack.state().away)
    eventually(rack.established)
    assert str(FAR) in rack.routes()


def test_a_bird_that_stands_still_holds_no_pod_up(rack: Rack) -> None:
    speaking(rack)
    rack.bird.stop(signal.SIGSTOP)
    try:
        eventually(lambda: "stands still" in rack.state().away)
        with rack.machine.sandbox() as pod:
            assert call(NATIVE, "ADD", rack.machine.run_dir, pod.container_id, pod.path).ok
    finally:
        rack.bird.stop(signal.SIGCONT)
    eventually(lambda: not rack.state().away)


def test_what_is_wrong_with_a_session_is_a_problem_in_words(rack: Rack) -> None:
    rack.apply(TOR.format(as_number=65002, more=""))
    eventually(lambda: os.path.exists(rack.bird.place.config))
    rack.bird.start()
    said = "refused by us: they send another AS, we expect 65002"
    eventually(lambda: any(said in problem.message for problem in rack.machine.state().problems))
    code, words = rack.netloom("bgp", "peers")
    assert code == 1 and said in words
    assert said in rack.netloom("status")[1]


def test_a_password_is_taken_from_a_file_and_seen_nowhere(rack: Rack) -> None:
    more = "  password: {secretKeyRef: {name: fabric, key: password, optional: true}}"
    speaking(rack)
    good = Path(rack.bird.place.config).read_text()
    path = Path(rack.machine.state_dir, "secrets/fabric/password")
    path.parent.mkdir(parents=True)
    rack.apply(TOR.format(as_number=65001, more=more))
    eventually(lambda: "BGPPeer tor: its password is missing: key 'password' of secret 'fabric'" in rack.state().refused)
    assert Path(rack.bird.place.config).read_text() == good and rack.established()
    path.touch(0o644)
    path.write_text("canary-password\n")
    eventually(lambda: "others than root may read this password" in rack.state().refused)
    path.chmod(0o600)
    eventually(lambda: 'password "canary-password";' in Path(rack.bird.place.config).read_text())
    for arguments in (("bgp", "render"), ("bgp", "diff"), ("bgp", "peers", "-o", "json"), ("status", "-o", "json")):
        assert "canary" not in rack.netloom(*arguments)[1]
    assert "canary" not in rack.machine.log()


def test_an_agent_that_was_killed_finds_its_bird_again(rack: Rack) -> None:
    speaking(rack)
    log = rack.bird.folder / "log"
    told = log.read_text().count("Reconfigur")
    rack.machine.end(signal.SIGKILL)
    rack.machine.start()
    eventually(lambda: rack.state().bird)
    assert rack.established() and rack.state().refused == ""
    assert log.read_text().count("Reconfigur") == told, "what it has read already is not told again"


def test_a_node_that_drains_tells_its_peers(rack: Rack) -> None:
    with rack.machine.sandbox() as pod:
        assert call(NATIVE, "ADD", rack.machine.run_dir, pod.container_id, pod.path).ok
        speaking(rack)
        (block,) = rack.machine.state().blocks
        eventually(lambda: str(block.cidr) in rack.tor.ip("route"))
        assert rack.netloom("drain", "node-0")[0] == 0
        eventually(lambda: "(65535,0)" in str(rack.tor.bird.control.ask("show route all")))
        assert str(block.cidr) in rack.tor.ip("route"), "while it has pods they are reached"
        assert call(NATIVE, "DEL", rack.machine.run_dir, pod.container_id, pod.path).ok
        eventually(lambda: str(block.cidr) not in rack.tor.ip("route"))
        assert rack.netloom("drain", "node-0", "--undo")[0] == 0


def test_without_its_datastore_bird_is_left_alone_and_looked_at(rack: Rack) -> None:
    speaking(rack)
    eventually(lambda: str(FAR) in rack.routes())
    rack.machine.end()
    told = (rack.bird.folder / "log").read_text().count("Reconfigur")
    for path in Path(rack.machine.folder).glob("datastore.db*"):
        path.rename(f"{path}.away")
    rack.machine.start()
    eventually(lambda: [session.state for session in rack.state().sessions] == ["Established"])
    assert str(FAR) in rack.routes()
    assert (rack.bird.folder / "log").read_text().count("Reconfigur") == told
