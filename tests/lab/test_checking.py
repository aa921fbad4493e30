"""`netloom check net` and `netloom lab`, as they are typed."""

from __future__ import annotations

import json
import subprocess
import sys

from click.shell_completion import ShellComplete

from netloom.cli.root import netloom as program
from netloom.lab.cluster import Lab
from netloom.lab.topology import one_switch
from tests.lab.conftest import Raise, settled


def netloom(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "netloom", *arguments], capture_output=True, text=True, check=False)


def inside(lab: Lab, place: str, *command: str) -> subprocess.CompletedProcess[str]:
    return netloom("lab", "exec", "--lab", lab.name, place, "--", *command)


def test_a_lab_is_proven_and_a_broken_one_is_a_clear_no(bring_up: Raise) -> None:
    lab = bring_up(one_switch(nodes=2, pods=2))
    assert settled(lab)
    good = netloom("check", "net", "--lab", lab.name, "-o", "json")
    assert (good.returncode, json.loads(good.stdout)["ok"]) == (0, True)
    inside(lab, "pod-1", "ip", "link", "set", "eth0", "down")
    bad = netloom("check", "net", "--lab", lab.name, "--timeout", "0.3")
    assert bad.returncode == 1
    assert "NO   pod-0 → pod-1" in bad.stdout


def test_a_node_without_a_lab_proves_its_own_pods(bring_up: Raise) -> None:
    lab = bring_up(one_switch(nodes=2, pods=4))
    assert settled(lab)
    found = inside(lab, "node-0", "netloom", "check", "net", "--node", "--matrix")
    assert found.returncode == 0, found.stderr
    assert "default/pod-0" in found.stdout
    assert "default/pod-2" in found.stdout
    assert "pod-1" not in found.stdout


def test_netloom_on_a_node_speaks_with_that_nodes_agent(bring_up: Raise) -> None:
    lab = bring_up(one_switch(nodes=2, pods=2))
    assert "agent 0.1.0 on node-1: ready" in inside(lab, "node-1", "netloom", "status").stdout


def test_a_lab_is_listed_and_shown(bring_up: Raise) -> None:
    lab = bring_up(one_switch(nodes=1, pods=1))
    listed = json.loads(netloom("lab", "ls", "-o", "json").stdout)
    assert {"lab": lab.name, "nodes": 1, "pods": 1, "state": "up"} in listed["items"]
    shown = json.loads(netloom("lab", "ls", lab.name, "-o", "json").stdout)
    assert (shown["kind"], list(shown["record"]["sandboxes"])) == ("Lab", ["pod-0"])


def test_the_shell_completes_labs_and_their_places(bring_up: Raise) -> None:
    lab = bring_up(one_switch(nodes=1, pods=2))
    completion = ShellComplete(program, {}, "netloom", "_NETLOOM_COMPLETE")

    def complete(*words: str) -> list[str]:
        return [item.value for item in completion.get_completions(list(words), "")]

    assert lab.name in complete("lab", "down")
    assert complete("lab", "exec", "--lab", lab.name) == ["switch", "router", "node-0", "pod-0", "pod-1"]
    assert complete("lab", "exec", "--lab", "none") == []


def test_a_command_inside_ends_with_its_own_exit_code(bring_up: Raise) -> None:
    lab = bring_up(one_switch(nodes=1, pods=1))
    assert inside(lab, "pod-0", "sh", "-c", "exit 7").returncode == 7
    assert inside(lab, "pod-9", "true").returncode == 1
    assert inside(lab, "pod-0", "no-such-program").returncode == 1


def test_the_tour_proves_its_lab_and_takes_it_down(lab_name: str) -> None:
    tour = netloom("lab", "try", "--name", lab_name, "--encapsulation", "host-gw", "--wiring", "bridge")
    assert tour.returncode == 0, tour.stdout + tour.stderr
    assert "ok  1  every pod reaches every other" in tour.stdout
    assert lab_name not in netloom("lab", "ls").stdout
