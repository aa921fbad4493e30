"""The capability `bandwidth`: what a pod receives and sends is held to a rate, from the first packet to the last, and it goes with the
pod.  (Kills at every point of an ADD and a DEL: tests/crash/test_points.py.)"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from netloom.dataplane import netns
from netloom.model.attachments import ifb_name
from tests.agent_process import Machine, Sandbox
from tests.cni_calls import CONFIG, Answer, Document, Runtime
from tests.kernel.monitors import watched
from tests.kernel.transfers import speed
from tests.residue import kernel_residue, quiet_residue
from tests.waiting import eventually

WIRINGS = ("routed", "bridge")
RATE = 20_000_000
LIMITS = {"ingressRate": RATE, "ingressBurst": 400_000, "egressRate": RATE, "egressBurst": 400_000}


def limited(wiring: str = "routed", **limits: Any) -> Document:
    return CONFIG | {"wiring": wiring, "runtimeConfig": {"bandwidth": limits or LIMITS}}


@pytest.fixture(params=WIRINGS)
def config(request: pytest.FixtureRequest) -> Document:
    return limited(request.param)


@pytest.fixture
def pod(runtime: Runtime, sandbox: Sandbox, config: Document) -> Iterator[Document]:
    """Its result; detached afterwards."""
    answer = runtime("ADD", sandbox, config)
    assert answer.ok, answer
    yield answer.document
    assert runtime("DEL", sandbox, config).ok


def tc(machine: Machine, *arguments: str) -> Any:  # Any: what `tc -j` prints
    """Nothing of an interface that has just gone."""
    with netns.entered(machine.netns):
        done = subprocess.run(["tc", "-j", *arguments], capture_output=True, check=False)
    assert done.returncode == 0 or b"Cannot find device" in done.stderr, done
    return json.loads(done.stdout or b"[]")


def shown(machine: Machine) -> dict[str, list[Any]]:
    """By interface: kind, and rate and burst in bytes, of all qdiscs that somebody made; and where what arrives is led."""
    found: dict[str, list[Any]] = {}
    for one in tc(machine, "qdisc", "show"):
        if one["handle"] != "0:":
            options = one["options"]
            found.setdefault(one["dev"], []).append((one["kind"], options.get("rate"), options.get("burst")))
    for name, qdiscs in found.items():
        for rule in tc(machine, "filter", "show", "dev", name, "ingress"):
            qdiscs += [action["to_dev"] for action in rule.get("options", {}).get("actions", ())]
    return {name: sorted(qdiscs, key=str) for name, qdiscs in found.items()}


def wanted(result: Document) -> dict[str, list[Any]]:
    host = result["interfaces"][0]["name"]
    bucket = ("tbf", RATE // 8, 50_000)
    return {host: [("clsact", None, None), bucket, ifb_name(host)], ifb_name(host): [bucket]}


def comes_to(machine: Machine, expected: Mapping[str, list[Any]]) -> None:
    eventually(lambda: shown(machine) == expected)


def run(machine: Machine, command: str) -> None:
    with netns.entered(machine.netns):
        subprocess.run(command.split(), check=True, capture_output=True)


def address(result: Document, version: int) -> str:
    return str(next(ip["address"] for ip in result["ips"] if (":" in ip["address"]) == (version == 6))).partition("/")[0]


def test_what_a_pod_receives_and_sends_is_as_fast_as_was_asked_for(machine: Machine, sandbox: Sandbox, pod: Document) -> None:
    """Whoever measures has to get the processor for that, as often as it takes."""
    into = (machine.netns, sandbox.netns, address(pod, 6))
    out = (sandbox.netns, machine.outside, "192.168.77.2")
    for way in (into, out):
        eventually(lambda way=way: speed(*way, 0.7, 0.2) == pytest.approx(RATE, rel=0.15))


def test_a_rate_alone_is_enough_and_the_other_direction_is_free(runtime: Runtime, machine: Machine, sandbox: Sandbox) -> None:
    """High enough for the acknowledgements of what comes in."""
    rate = 160_000_000
    config = limited(egressRate=rate)
    result = runtime("ADD", sandbox, config).document
    assert shown(machine)[ifb_name(result["interfaces"][0]["name"])] == [("tbf", rate // 8, rate // 80)]
    eventually(lambda: speed(machine.netns, sandbox.netns, address(result, 4), 0.5, 0.1) > 2 * rate)
    assert runtime("DEL", sandbox, config).ok


def test_tc_shows_the_limits_when_add_has_answered_and_nothing_after_del(
    runtime: Runtime, machine: Machine, sandbox: Sandbox, config: Document
) -> None:
    before = kernel_residue(machine.netns)
    result = runtime("ADD", sandbox, config).document
    assert shown(machine) == wanted(result)
    with netns.entered(machine.netns):
        [ifb] = json.loads(subprocess.run(["ip", "-j", "link", "show", "type", "ifb"], capture_output=True, check=True).stdout)
        host = result["interfaces"][0]["name"]
        [veth] = json.loads(subprocess.run(["ip", "-j", "link", "show", host], capture_output=True, check=True).stdout)
    assert (ifb["ifname"], ifb["ifalias"]) == (ifb_name(host), veth["ifalias"])
    assert ifb["ifalias"].endswith(f" in={RATE}/400000 out={RATE}/400000")
    assert runtime("DEL", sandbox, config).ok
    assert shown(machine) == {}
    assert not [line for line in kernel_residue(machine.netns) - before if "loomq" in line]


@pytest.mark.parametrize(
    "limits",
    [
        {"IngressRate": RATE, "IngressBurst": 400_000, "EgressRate": 0, "EgressBurst": 0},
        {"ingressRate": RATE, "ingressBurst": 400_000, "egressRate": 0},
        {"ingressRate": RATE, "ingressBurst": 400_000},
    ],
    ids=["as containerd writes it", "0 is no limit", "what is missing, too"],
)
def test_one_direction_needs_no_second_device(runtime: Runtime, machine: Machine, sandbox: Sandbox, limits: Document) -> None:
    result = runtime("ADD", sandbox, limited(**limits)).document
    assert shown(machine) == {result["interfaces"][0]["name"]: [("tbf", RATE // 8, 50_000)]}
    assert runtime("DEL", sandbox).ok


def test_a_rate_that_is_none_is_refused_and_nothing_is_changed(either: Runtime, machine: Machine, sandbox: Sandbox) -> None:
    """Which ones are refused: tests/pure/cni/test_bandwidth.py."""
    before = kernel_residue(machine.netns)
    answer = either("ADD", sandbox, limited(ingressRate=-1))
    assert answer.error == 7
    assert answer.document["msg"].startswith("runtimeConfig.bandwidth: ingressRate: -1 is out of range")
    assert kernel_residue(machine.netns) == before


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        ("tc qdisc del dev {host} clsact", "{host} does not hold to its rate"),
        ("tc qdisc change dev {ifb} root tbf rate 1gbit burst 100kb limit 200kb", "{ifb} does not hold to its rate"),
        ("ip link set {ifb} down", "{ifb} is down: nothing that the pod sends passes"),
        ("ip link del {ifb}", "{ifb} does not hold to its rate"),
    ],
)
def test_what_others_change_fails_check_and_is_put_right(
    runtime: Runtime, machine: Machine, sandbox: Sandbox, damage: str, named: str
) -> None:
    config = limited()
    result = runtime("ADD", sandbox, config).document
    names = {"host": result["interfaces"][0]["name"], "ifb": ifb_name(result["interfaces"][0]["name"])}
    assert runtime("CHECK", sandbox, config, result=result) == Answer(0, b"")
    machine.send(signal.SIGSTOP)  # the check waits at the socket, so it comes before the repair
    run(machine, damage.format(**names))
    checking = runtime.begin("CHECK", sandbox, config | {"prevResult": result})
    time.sleep(0.05)
    machine.send(signal.SIGCONT)
    output, _ = checking.communicate(timeout=60)
    comes_to(machine, wanted(result))
    eventually(lambda: runtime("CHECK", sandbox, config, result=result).ok)
    assert not output or named.format(**names) in json.loads(output)["details"]
    assert runtime("DEL", sandbox, config).ok


@pytest.mark.parametrize("config", [limited("bridge")], ids=["bridge"])
def test_another_agent_finds_the_limits_right_and_touches_nothing(
    runtime: Runtime, machine: Machine, sandbox: Sandbox, pod: Document, config: Document, tmp_path: Path
) -> None:
    quiet_residue(machine)  # the kernel tells of the pod's own link a moment after the pod is there
    with watched(machine.netns, tmp_path) as told:
        machine.restart(signal.SIGKILL)
        quiet_residue(machine)
    assert told == []
    assert shown(machine) == wanted(pod)
    assert runtime("CHECK", sandbox, config, result=pod).ok


@pytest.mark.parametrize("config", [limited()], ids=["routed"])
def test_what_was_changed_while_no_agent_ran_is_put_right_at_the_start(
    machine: Machine, pod: Document, config: Document
) -> None:
    machine.end(signal.SIGKILL)
    host = pod["interfaces"][0]["name"]
    run(machine, f"ip link del {ifb_name(host)}")
    run(machine, f"tc qdisc del dev {host} root")
    run(machine, "ip link add loomq0123456789 type ifb")
    machine.start()
    comes_to(machine, wanted(pod))
    with netns.entered(machine.netns):
        assert b"loomq0123456789" not in subprocess.run(["ip", "-br", "link"], capture_output=True, check=True).stdout


@pytest.mark.parametrize("lost", ["DEL with no agent", "GC", "the sandbox is gone"])
def test_nothing_is_left_of_a_pod_that_is_gone(runtime: Runtime, machine: Machine, lost: str) -> None:
    config = limited("bridge")
    with machine.sandbox() as sandbox:
        assert runtime("ADD", sandbox, config).ok
        if lost == "DEL with no agent":
            machine.end(signal.SIGKILL)
            assert runtime("DEL", sandbox, config).ok
            machine.start()
    if lost == "GC":
        assert runtime("GC", sandbox, config | {"cni.dev/valid-attachments": []}).ok
    comes_to(machine, {})
    assert runtime("DEL", sandbox, config).ok


@pytest.mark.parametrize("config", [limited("bridge")], ids=["bridge"])
def test_a_lost_journal_is_made_anew_with_the_limits(
    runtime: Runtime, machine: Machine, sandbox: Sandbox, pod: Document, config: Document
) -> None:
    machine.end(signal.SIGKILL)
    os.unlink(f"{machine.run_dir}/journal")
    machine.start()
    comes_to(machine, wanted(pod))
    eventually(lambda: runtime("CHECK", sandbox, config, result=pod).ok)
