"""Points 59 to 64 of the CNI checklist: CHECK passes while a pod is as ADD left it, and says what is not."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from netloom.dataplane import netns
from tests.agent_process import Machine, Sandbox
from tests.cni_calls import CONFIG, Answer, Document, Runtime
from tests.waiting import eventually

WIRINGS = ("routed", "bridge")
LENGTH = {"routed": "32", "bridge": "26"}


@pytest.fixture(params=WIRINGS)
def wired(request: pytest.FixtureRequest, runtime: Runtime, sandbox: Sandbox) -> Any:
    """Configuration and result of an attached sandbox; detached afterwards."""
    config = CONFIG | {"wiring": request.param}
    answer = runtime("ADD", sandbox, config)
    assert answer.ok, answer
    yield config, answer.document
    assert runtime("DEL", sandbox, config).ok


def command(namespace: int, text: str) -> None:
    with netns.entered(namespace):
        subprocess.run(text.split(), check=True, capture_output=True)


def v4(result: Document) -> str:
    return str(result["ips"][0]["address"])


def refused(answer: Answer, text: str) -> bool:
    assert answer.error in (3, 103), answer
    return text in answer.document["msg"] + answer.document.get("details", "")


@pytest.mark.parametrize("version", ["0.4.0", "1.0.0", "1.1.0"])
def test_63_it_passes_right_after_add_and_says_nothing(either: Runtime, sandbox: Sandbox, version: str) -> None:
    """Point 64."""
    config = CONFIG | {"cniVersion": version}
    result = either("ADD", sandbox, config).document
    assert either("CHECK", sandbox, config, result=result) == Answer(0, b"")
    assert either("DEL", sandbox, config).ok


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        pytest.param("ip address del {v4} dev eth0", "{v4}", id="60: an address is gone"),
        pytest.param("ip -6 address flush dev eth0", "{v6}", id="60: the IPv6 address is gone"),
        pytest.param("ip route del default", "IPv4 default route", id="60: a route is gone"),
        pytest.param("ip -6 route del default", "IPv6 default route", id="60: the IPv6 route is gone"),
        pytest.param("ip link set eth0 down", "eth0 is down", id="60: the interface is down"),
        pytest.param("ip link set eth0 address 0a:00:00:00:00:99", "MAC", id="60: another MAC"),
        pytest.param("ip link set eth0 name eth9", "no eth0", id="60: another name"),
        pytest.param("ip link del eth0", "gone", id="60: no interface"),
    ],
)
def test_what_is_damaged_inside_is_named(runtime: Runtime, sandbox: Sandbox, wired: Any, damage: str, named: str) -> None:
    config, result = wired
    texts = {"v4": v4(result), "v6": result["ips"][1]["address"]}
    if "down" in damage or "eth9" in damage:
        command(sandbox.netns, "ip link set eth0 down")
    command(sandbox.netns, damage.format(**texts))
    assert refused(runtime("CHECK", sandbox, config, result=result), named.format(**texts))


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param("ip link set {host} down", id="60: the host's end is down"),
        pytest.param("nft flush set inet netloom sources4", id="61: nothing may send"),
        pytest.param("nft delete table inet netloom", id="61: the rules are gone"),
        pytest.param("ip route flush proto 79", id="60: the node's routes are gone"),
        pytest.param("ip neighbour flush nud permanent", id="60: the node's neighbours are gone"),
    ],
)
def test_what_is_damaged_outside_is_put_right_and_until_then_named(
    runtime: Runtime, machine: Machine, sandbox: Sandbox, wired: Any, damage: str
) -> None:
    config, result = wired
    command(machine.netns, damage.format(host=result["interfaces"][0]["name"]))
    address = v4(result).partition("/")[0]
    eventually(lambda: reaches(machine, address) and passes(runtime("CHECK", sandbox, config, result=result)))


def passes(answer: Answer) -> bool:
    assert answer.ok or answer.error == 103, answer
    return answer.ok


def reaches(machine: Machine, address: str) -> bool:
    with netns.entered(machine.netns):
        ping = ["ping", "-n", "-q", "-c", "1", "-W", "0.2", address]
        return subprocess.run(ping, check=False, capture_output=True).returncode == 0


def test_60_a_host_interface_that_is_gone_is_named(runtime: Runtime, machine: Machine, sandbox: Sandbox, wired: Any) -> None:
    config, result = wired
    command(machine.netns, f"ip link del {result['interfaces'][0]['name']}")
    assert refused(runtime("CHECK", sandbox, config, result=result), "gone")


def test_62_what_later_plugins_changed_is_theirs(runtime: Runtime, sandbox: Sandbox, wired: Any) -> None:
    config, result = wired
    command(sandbox.netns, "ip address add 10.200.0.1/24 dev eth0")
    command(sandbox.netns, "ip route add 10.201.0.0/16 dev eth0")
    command(sandbox.netns, "ip link set eth0 mtu 1300 txqueuelen 99")
    result["ips"].append({"address": "10.200.0.1/24", "interface": 1})
    result["routes"].append({"dst": "10.201.0.0/16"})
    assert runtime("CHECK", sandbox, config, result=result).ok


def test_62_but_not_another_mac_with_which_the_pod_is_cut_off(runtime: Runtime, sandbox: Sandbox, wired: Any) -> None:
    config, result = wired
    command(sandbox.netns, "ip link set eth0 address 0a:00:00:00:00:77")
    result["interfaces"][1]["mac"] = "0A:00:00:00:00:77"
    assert refused(runtime("CHECK", sandbox, config, result=result), "gave it MAC 0a:00:00:00:00:77, and it may send from")


def test_60_a_gateway_whose_mac_is_forgotten_is_named(runtime: Runtime, sandbox: Sandbox) -> None:
    result = runtime("ADD", sandbox).document
    command(sandbox.netns, "ip neighbour del fe80::1 dev eth0")
    assert refused(runtime("CHECK", sandbox, result=result), "eth0 has forgotten the MAC of its gateway fe80::1")
    assert runtime("DEL", sandbox).ok


def test_59_a_result_of_somebody_else_is_refused(runtime: Runtime, sandbox: Sandbox, wired: Any) -> None:
    config, result = wired
    other = result | {"ips": [{"address": "10.244.200.200/32", "interface": 1}]}
    assert refused(runtime("CHECK", sandbox, config, result=other), v4(result))


def test_another_namespace_than_at_add_is_refused(runtime: Runtime, sandbox: Sandbox, other: Sandbox, wired: Any) -> None:
    config, result = wired
    assert refused(runtime("CHECK", sandbox, config, result=result, path=other.path), "another namespace")


def test_10_a_container_that_nobody_knows_is_code_3(either: Runtime, sandbox: Sandbox) -> None:
    result = {"cniVersion": "1.1.0", "interfaces": [], "ips": []}
    assert either("CHECK", sandbox, result=result).error == 3
