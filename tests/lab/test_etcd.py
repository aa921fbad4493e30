"""A lab whose datastore is an etcd of three members on machines of their own, over the wire with TLS."""

from __future__ import annotations

import http.client
import signal
import socket
from pathlib import Path

from netloom.agent.state import STATE_PATH, AgentState, decode
from netloom.lab import processes
from netloom.lab.cluster import Lab
from netloom.lab.manifest import load
from netloom.lab.record import folder
from tests.lab.conftest import Raise, settled
from tests.waiting import eventually

EXAMPLE = str(Path(__file__).parents[2] / "examples/etcd.yaml")


def state(lab: Lab, node: str) -> AgentState:
    connection = http.client.HTTPConnection("agent", timeout=10)
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.sock.connect(folder(lab.name, node, "run/netloom.sock"))
        connection.request("GET", STATE_PATH)
        return decode(connection.getresponse().read())
    finally:
        connection.close()


def send(lab: Lab, member: str, number: signal.Signals) -> None:
    with processes.found(lab.name, "etcd", member) as found:
        assert len(found) == 1
        found[0].signal(number)


def connected(lab: Lab) -> set[bool]:
    return {state(lab, node.name).datastore.connected for node in lab.topology.nodes}


def test_pods_talk_and_come_while_members_go(bring_up: Raise) -> None:
    """One of three, and nobody notices for long; two of three, and pods come from claimed blocks."""
    lab = bring_up(load(EXAMPLE))
    assert settled(lab)
    eventually(lambda: connected(lab) == {True})
    processes.end(lab.name, 5.0, "etcd", "etcd-0", signal.SIGKILL)
    eventually(lambda: connected(lab) == {True})
    send(lab, "etcd-1", signal.SIGSTOP)
    eventually(lambda: connected(lab) == {False}, 60.0)
    lab.detach(lab.topology.pods[:1])
    lab.attach(lab.topology.pods[:1])
    assert settled(lab)
    send(lab, "etcd-1", signal.SIGCONT)
    eventually(lambda: connected(lab) == {True}, 60.0)
    assert settled(lab)
