"""Points 51 to 58 of the CNI checklist: DEL succeeds, whatever has happened before."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from netloom.dataplane import netns
from tests.agent_process import Machine, Sandbox
from tests.cni_calls import CONFIG, KUBERNETES, Answer, Document, Runtime, environment, run
from tests.waiting import eventually

DONE = Answer(0, b"")


def ip(namespace: int, *arguments: str) -> None:
    with netns.entered(namespace):
        subprocess.run(["ip", *arguments], check=True, capture_output=True)


def added(runtime: Runtime, sandbox: Sandbox, config: Document = CONFIG, **call: Any) -> Document:
    answer = runtime("ADD", sandbox, config, **call)
    assert answer.ok, answer
    return answer.document


@pytest.mark.parametrize("wiring", ["routed", "bridge"])
def test_51_a_del_undoes_its_add(either: Runtime, sandbox: Sandbox, wiring: str) -> None:
    config = CONFIG | {"wiring": wiring}
    result = added(either, sandbox, config)
    assert either("DEL", sandbox, config, result=result) == DONE
    with netns.entered(sandbox.netns):
        shown = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True).stdout
    assert "eth0" not in shown


def test_52_again_is_a_success(either: Runtime, sandbox: Sandbox) -> None:
    result = added(either, sandbox)
    assert [either("DEL", sandbox, result=result) for _ in range(2)] == [DONE, DONE]
    assert either("DEL", sandbox) == DONE


def test_52_what_was_never_added_is_a_success(either: Runtime, sandbox: Sandbox) -> None:
    assert either("DEL", sandbox) == DONE


@pytest.mark.parametrize("path", ["", "/run/netns/gone", "/etc/passwd"], ids=["53: none", "53: gone", "53: something else"])
def test_the_namespace_need_not_be_there(either: Runtime, sandbox: Sandbox, path: str) -> None:
    added(either, sandbox)
    assert either("DEL", sandbox, path=path) == DONE


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({}, id="54: no result"),
        pytest.param({"prevResult": None}, id="54: an empty result"),
        pytest.param({"prevResult": {}}, id="54: a result without anything"),
        pytest.param({"prevResult": {"ips": [{"address": "not one"}]}}, id="54: a damaged result"),
        pytest.param({"cniVersion": "0.3.1"}, id="36: an older version"),
        pytest.param({"wiring": "bridge"}, id="another wiring than at ADD"),
        pytest.param({"mtu": "large", "ipMasq": True, "runtimeConfig": 5}, id="a configuration that no ADD would take"),
    ],
)
def test_the_configuration_may_have_lost_what_it_had(either: Runtime, sandbox: Sandbox, change: Document) -> None:
    added(either, sandbox, args=KUBERNETES)
    assert either("DEL", sandbox, CONFIG | change) == DONE


@pytest.mark.parametrize("wiring", ["routed", "bridge"])
@pytest.mark.parametrize("side", ["inside", "outside"])
def test_56_an_interface_that_somebody_else_removed_is_gone(
    runtime: Runtime, machine: Machine, sandbox: Sandbox, wiring: str, side: str
) -> None:
    config = CONFIG | {"wiring": wiring}
    result = added(runtime, sandbox, config)
    if side == "inside":
        ip(sandbox.netns, "link", "delete", "eth0")
    else:
        ip(machine.netns, "link", "delete", result["interfaces"][0]["name"])
    assert runtime("DEL", sandbox, config) == DONE


def test_56_a_namespace_that_is_really_gone_took_the_interface_along(runtime: Runtime, machine: Machine) -> None:
    with machine.sandbox() as sandbox:
        added(runtime, sandbox)
    assert runtime("DEL", sandbox) == DONE


def test_55_a_del_after_an_add_that_failed_is_a_success(either: Runtime, sandbox: Sandbox) -> None:
    ip(sandbox.netns, "link", "add", "eth0", "type", "veth", "peer", "name", "other")
    assert not either("ADD", sandbox).ok
    assert either("DEL", sandbox) == DONE
    with netns.entered(sandbox.netns):
        shown = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True).stdout
    assert "eth0@" in shown  # somebody else's, and still there


def test_a_late_del_of_an_old_sandbox_leaves_the_new_one_of_the_same_pod_alone(
    either: Runtime, machine: Machine, sandbox: Sandbox, other: Sandbox
) -> None:
    added(either, sandbox, args=KUBERNETES)
    new = added(either, other, args=KUBERNETES)
    assert either("DEL", sandbox, args=KUBERNETES) == DONE
    assert either("DEL", sandbox, args=KUBERNETES, path=other.path) == DONE  # a path that is used again
    assert either("CHECK", other, result=new, args=KUBERNETES).ok
    assert either("DEL", other, args=KUBERNETES) == DONE


def test_a_del_of_one_interface_leaves_the_other(runtime: Runtime, sandbox: Sandbox) -> None:
    first, _ = added(runtime, sandbox), added(runtime, sandbox, ifname="eth1")
    assert runtime("DEL", sandbox, ifname="eth1") == DONE
    assert runtime("CHECK", sandbox, result=first).ok
    assert runtime("DEL", sandbox) == DONE


def test_a_sandbox_can_be_attached_again_at_once(either: Runtime, sandbox: Sandbox) -> None:
    for _ in range(5):
        added(either, sandbox)
        assert either("DEL", sandbox) == DONE


def test_nothing_of_a_pod_is_left_in_connection_tracking(runtime: Runtime, machine: Machine, sandbox: Sandbox) -> None:
    result = added(runtime, sandbox)
    address = result["ips"][0]["address"].partition("/")[0]
    ip(machine.netns, "route", "add", "default", "via", "192.168.77.2")
    try:
        with netns.entered(sandbox.netns):
            subprocess.run(["ping", "-n", "-q", "-c", "1", "-W", "10", "192.168.77.2"], check=True, capture_output=True)
        assert address in connections(machine)
        assert runtime("DEL", sandbox) == DONE
        eventually(lambda: address not in connections(machine))
    finally:
        ip(machine.netns, "route", "delete", "default")


def connections(machine: Machine) -> str:
    with netns.entered(machine.netns):
        return subprocess.run(["conntrack", "-L"], capture_output=True, text=True, check=True).stdout


def test_a_del_without_its_container_is_refused(either: Runtime) -> None:
    answer = run(either.plugin, environment("DEL", either.run_dir), b'{"cniVersion":"1.1.0","name":"net"}')
    assert answer.error == 4
