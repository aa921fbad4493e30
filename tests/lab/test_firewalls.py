"""Other firewalls on the nodes: pods reach each other through them, and again after each was flushed or reloaded."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from netloom.dataplane import netns
from netloom.lab.checks import prove
from netloom.lab.cluster import Lab
from netloom.lab.probes import Kind
from netloom.lab.record import folder
from netloom.lab.topology import one_switch
from netloom.model.attachments import Wiring
from tests import firewalld
from tests.lab.conftest import SETTLE, Raise, settled

DROP = (["-P", "FORWARD", "DROP"],)
DOCKER = (
    ["-P", "FORWARD", "DROP"],
    ["-N", "DOCKER-USER"],
    ["-N", "DOCKER-ISOLATION-STAGE-1"],
    ["-A", "DOCKER-USER", "-j", "RETURN"],
    ["-A", "FORWARD", "-j", "DOCKER-USER"],
    ["-A", "FORWARD", "-j", "DOCKER-ISOLATION-STAGE-1"],
)
FLUSH = (["-F"],)
LETS_NOBODY_IN = (
    ["-A", "INPUT", "-i", "lo", "-j", "ACCEPT"],
    ["-A", "INPUT", "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "ACCEPT"],
    ["-P", "INPUT", "DROP"],
)
SOMEBODYS_OWN = """table inet theirs { chain in { type filter hook input priority 0; policy drop; iif lo accept;
 ct state established,related accept; icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept; tcp dport 22 accept; }; }"""


def on_nodes(lab: Lab, variant: str, commands: Sequence[Sequence[str]]) -> None:
    for node in lab.topology.nodes:
        with lab.namespace(node.name) as namespace, netns.entered(namespace):
            for program in (f"iptables-{variant}", f"ip6tables-{variant}"):
                for command in commands:
                    subprocess.run([program, "-w", *command], check=True, capture_output=True)


@pytest.mark.parametrize("rules", [DROP, DOCKER], ids=["forward drop", "docker"])
@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_pods_reach_each_other_beside_another_firewall_and_after_its_reload(
    bring_up: Raise, variant: str, rules: Sequence[Sequence[str]]
) -> None:
    wiring = Wiring.ROUTED if variant == "nft" else Wiring.BRIDGE
    lab = bring_up(one_switch(nodes=2, pods=3, wiring=wiring))
    assert settled(lab)
    on_nodes(lab, variant, rules)
    assert list(settled(lab).problems()) == []
    on_nodes(lab, variant, FLUSH)
    assert list(settled(lab).problems()) == []


def closed_pods(lab: Lab, good: Callable[[list[str]], bool] = lambda problems: not problems) -> list[str]:
    """Who does not reach a pod, as soon as that is `good`; or after a while.  Whom nodes let in themselves is their administrator's."""
    deadline = time.monotonic() + SETTLE
    while True:
        with lab.places() as places:
            results = prove(places, timeout=1.0).results
        to_pods = [result for result in results if result.probe.target.kind is Kind.POD and result.problem]
        problems = [f"{r.probe.source.name} → {r.probe.target.name} {r.probe.protocol.value}: {r.problem}" for r in to_pods]
        if good(problems) or time.monotonic() > deadline:
            return problems


def status(lab: Lab, node: str) -> str:
    """`netloom status` of that node's agent."""
    config = {"NETLOOM_CONFIG": folder(lab.name, node, "agent.yaml")}
    command = [sys.executable, "-m", "netloom", "status"]
    with lab.namespace(node) as namespace, netns.entered(namespace):
        return subprocess.run(command, env=os.environ | config, capture_output=True, text=True, check=False).stdout


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_tunnels_pass_nodes_that_let_nobody_in(bring_up: Raise, variant: str) -> None:
    lab = bring_up(one_switch(nodes=2, pods=4))
    for reload in ((), FLUSH):
        on_nodes(lab, variant, [*reload, *LETS_NOBODY_IN])
        assert closed_pods(lab) == []
    wait_for(lambda: status(lab, "node-0"), "all is well")


def test_a_ruleset_of_somebodys_own_that_drops_tunnels_is_named_with_the_command_that_helps(bring_up: Raise) -> None:
    lab = bring_up(one_switch(nodes=2, pods=4))
    assert settled(lab)
    nodes = [node.name for node in lab.topology.nodes]
    for node in nodes:
        with lab.namespace(node) as namespace, netns.entered(namespace):
            subprocess.run(["nft", SOMEBODYS_OWN], check=True)
    assert any("pod-0 → pod-1 tcp" in problem for problem in closed_pods(lab, bool))
    for node in nodes:
        said = wait_for(
            lambda node=node: status(lab, node), "inet theirs in drops what other nodes' tunnels send (UDP port 4789)"
        )
        assert "all is well" not in said
        command = said.partition("can help: ")[2].partition(";")[0]
        with lab.namespace(node) as namespace, netns.entered(namespace):
            subprocess.run(command.split(), check=True)
    assert closed_pods(lab) == []
    wait_for(lambda: status(lab, "node-0"), "all is well")


def wait_for(said: Callable[[], str], words: str) -> str:
    deadline = time.monotonic() + SETTLE
    while words not in (text := said()):
        assert time.monotonic() < deadline, text
        time.sleep(0.2)
    return text


def test_pods_reach_each_other_with_firewalld_on_their_nodes_and_after_its_reload(bring_up: Raise, tmp_path: Path) -> None:
    root = firewalld.unpacked()
    lab = bring_up(one_switch(nodes=2, pods=4))
    with ExitStack() as stack:
        running = []
        for node in lab.topology.nodes:
            (tmp_path / node.name).mkdir()
            with lab.namespace(node.name) as namespace, netns.entered(namespace):
                running.append(stack.enter_context(firewalld.running(root, tmp_path / node.name)))
        assert closed_pods(lab) == []
        for act in ("--reload", "--complete-reload"):
            for daemon in running:
                assert daemon.command(act).returncode == 0
            assert closed_pods(lab) == [], act
        wait_for(lambda: status(lab, "node-1"), "all is well")  # while it reloads, firewalld drops by a table of its own
