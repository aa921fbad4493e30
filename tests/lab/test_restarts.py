"""The agent may die at any time: packets go on, and what happened meanwhile is made up for."""

from __future__ import annotations

import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from netloom.lab import probes, sandboxes
from netloom.lab.cluster import Lab
from netloom.lab.probes import Place, Probe, Protocol
from netloom.lab.topology import one_switch
from tests.lab.conftest import Raise, settled
from tests.waiting import eventually, quick


class Traffic:
    """Packets from one place to another all the time, in a thread of its own; `lost` tells of those that failed, and when."""

    def __init__(self, source: Place, target: Place) -> None:
        self._probes = [Probe(source, target, a, protocol) for a in target.addresses for protocol in Protocol]
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.sent, self.lost = 0, list[str]()

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def go_on(self, packets: int = 50) -> None:
        """Returns when so many more have been sent."""
        enough = self.sent + packets
        eventually(lambda: self.sent >= enough)

    def _run(self) -> None:
        start = time.monotonic()
        while not self._end.wait(0.01):
            begun = time.monotonic() - start
            results = probes.run(self._probes, timeout=1.0)
            self.sent += len(results)
            self.lost += [
                f"{begun:.2f} s: {r.probe.protocol.name} {r.probe.address}: {r.problem}" for r in results if r.problem
            ]


def in_lab(lab: Lab, source: str, target: str, places: list[Place]) -> Traffic:
    by_name = {place.name: place for place in places}
    return Traffic(by_name[source], by_name[target])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_packets_go_on_while_agents_are_killed_and_started(bring_up: Raise, number: signal.Signals) -> None:
    lab = bring_up(one_switch(nodes=2, pods=2))
    assert settled(lab)
    with lab.places() as places, in_lab(lab, "pod-0", "pod-1", places) as traffic:
        for node in lab.topology.nodes:
            lab.stop_agent(node.name, number)
            traffic.go_on()
        lab.start_agents(lab.topology.nodes)
        traffic.go_on()
    assert traffic.lost == []
    assert settled(lab)


def test_a_pod_can_go_while_the_agent_is_down_and_its_address_is_free_afterwards(bring_up: Raise) -> None:
    lab = bring_up(one_switch(nodes=1, pods=2))
    gone = lab.topology.pods[0]
    lab.stop_agent("node-0", signal.SIGKILL)
    lab.detach((gone,))
    lab.start_agents(lab.topology.nodes)
    lab.attach((gone,))
    assert settled(lab)


def test_pods_are_served_at_once_after_a_restart(bring_up: Raise) -> None:
    lab = bring_up(one_switch(nodes=1, pods=1))
    [pod] = lab.topology.pods
    for _ in range(5):  # a busy machine is not quick each time
        lab.stop_agent("node-0")
        lab.start_agents(lab.topology.nodes)
        lab.detach((pod,))
        if quick(lambda: lab.attach((pod,)), 1.0, tries=1):
            break
    else:
        raise AssertionError("never within a second")
    assert settled(lab)


IMPATIENT = """
import os, subprocess, sys
done = subprocess.run(sys.argv[2:], stdout=subprocess.PIPE)
if os.environ["CNI_COMMAND"] == "ADD" and not os.path.exists(sys.argv[1]):
    open(sys.argv[1], "w").close()
    print('{"code": 11, "msg": "no answer within 2 s"}')
    sys.exit(1)
sys.stdout.buffer.write(done.stdout)
sys.exit(done.returncode)
"""
"""A plugin whose first ADD is carried out, while its caller is told to come again."""


def test_a_pod_that_an_agent_made_after_its_caller_had_given_up_is_made_again(
    bring_up: Raise, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lab = bring_up(one_switch(nodes=1, pods=1))
    lab.detach(lab.topology.pods)
    impatient = [sys.executable, "-c", IMPATIENT, str(tmp_path / "given-up"), *sandboxes.plugin()]
    monkeypatch.setattr(sandboxes, "plugin", lambda: impatient)
    lab.attach(lab.topology.pods)
    assert (tmp_path / "given-up").exists()
    assert settled(lab)
