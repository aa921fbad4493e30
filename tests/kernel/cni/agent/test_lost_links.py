"""Host ends that are not where ADD left them: renamed, moved, without their alias.  That says nothing of the pod: its address is free
only when the pod does not have it any more."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from netloom.dataplane import netns
from tests.agent_process import Machine, Sandbox
from tests.cni_calls import CONFIG, Answer, Document, Runtime
from tests.kernel.iproute import run

DONE = Answer(0, b"")
MOVED = "ip link set {host} netns /proc/{pid}/fd/{outside}"
ACTS = {
    "renamed": ("ip link set {host} down", "ip link set {host} name foo0"),
    "renamed, without its alias": ("ip link set {host} down", "ip link set {host} name foo0"),
    "moved into another namespace": (MOVED,),
}


def added(runtime: Runtime, sandbox: Sandbox, config: Document) -> Document:
    answer = runtime("ADD", sandbox, config)
    assert answer.ok, answer
    return answer.document


def act(machine: Machine, host: str, what: str) -> None:
    with netns.entered(machine.netns):
        for line in ACTS[what]:
            run(line.format(host=host, pid=os.getpid(), outside=machine.outside))
        if "alias" in what:
            run("ip", "link", "set", "foo0", "alias", "")


def interfaces(sandbox: Sandbox) -> str:
    with netns.entered(sandbox.netns):
        return run("ip -br address")


@pytest.mark.parametrize("wiring", ["routed", "bridge"])
@pytest.mark.parametrize("what", ACTS)
def test_a_del_takes_the_pods_address_all_the_same(
    runtime: Runtime, machine: Machine, sandbox: Sandbox, other: Sandbox, wiring: str, what: str
) -> None:
    config = CONFIG | {"wiring": wiring}
    result = added(runtime, sandbox, config)
    act(machine, result["interfaces"][0]["name"], what)
    assert runtime("DEL", sandbox, config) == DONE
    assert "eth0" not in interfaces(sandbox)
    asked = {"args": {"cni": {"ips": [ip["address"] for ip in result["ips"]]}}}
    assert [ip["address"] for ip in added(runtime, other, config | asked)["ips"]] == [ip["address"] for ip in result["ips"]]
    assert runtime("DEL", other, config) == DONE


def test_until_then_the_check_of_addresses_says_who_is_who(runtime: Runtime, machine: Machine, sandbox: Sandbox) -> None:
    result = added(runtime, sandbox, CONFIG)
    host, address = result["interfaces"][0]["name"], result["ips"][0]["address"].partition("/")[0]
    act(machine, host, "renamed")
    checked = check_of_addresses(machine)
    whose = f"pod default/{sandbox.container_id}"
    assert f"{whose} is attached and its interface {host} is not there" in checked
    assert f"interface foo0 says that it is the one of {whose} with {address}" in checked
    assert runtime("DEL", sandbox) == DONE
    assert "foo0" not in check_of_addresses(machine)


def check_of_addresses(machine: Machine) -> str:
    command = [sys.executable, "-m", "netloom", "ipam", "check", "--config", f"{machine.folder}/agent.yaml"]
    with netns.entered(machine.netns):
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def test_a_collection_leaves_a_running_pod_alone_whose_host_end_was_renamed(
    runtime: Runtime, machine: Machine, sandbox: Sandbox
) -> None:
    result = added(runtime, sandbox, CONFIG)
    act(machine, result["interfaces"][0]["name"], "renamed")
    assert runtime("GC", sandbox, CONFIG | {"cni.dev/valid-attachments": []}) == DONE
    assert "eth0" in interfaces(sandbox)
    assert runtime("DEL", sandbox) == DONE
