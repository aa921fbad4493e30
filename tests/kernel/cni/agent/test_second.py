"""A pod's second interface: what it is sent it answers by itself, and its result says what stands."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from netloom.dataplane import netns
from tests.agent_process import Machine, Sandbox
from tests.cni_calls import CONFIG, Document, Runtime
from tests.kernel.iproute import run, shown

UPLINK = {4: "192.168.77.1", 6: "fd00:77::1"}
RULES = ("ip -4 rule show", "ip -6 rule show")


@pytest.fixture(params=["routed", "bridge"])
def config(request: pytest.FixtureRequest) -> Document:
    return CONFIG | {"wiring": request.param}


@pytest.fixture
def both(config: Document, runtime: Runtime, sandbox: Sandbox) -> Iterator[tuple[Document, Document]]:
    """Results of eth0 and eth1."""
    answers = [runtime("ADD", sandbox, config, ifname=name) for name in ("eth0", "eth1")]
    assert all(answer.ok for answer in answers), answers
    yield answers[0].document, answers[1].document
    for name in ("eth1", "eth0"):
        assert runtime("DEL", sandbox, config, ifname=name).ok


def own_rules(sandbox: Sandbox) -> list[str]:
    with netns.entered(sandbox.netns):
        return [line for command in RULES for line in run(command).splitlines() if "30000:" in line]


def reaches(place: int, address: str) -> bool:
    with netns.entered(place):
        ping = ["ping", "-n", "-q", "-c", "1", "-W", "10", address]
        return subprocess.run(ping, check=False, capture_output=True).returncode == 0


def addresses(result: Document) -> list[str]:
    return [ip["address"].partition("/")[0] for ip in result["ips"]]


def test_the_result_names_the_routes_that_stand(both: Any, sandbox: Sandbox) -> None:
    first, second = both
    assert [route["dst"] for route in first["routes"]] == ["0.0.0.0/0", "::/0"]
    assert "routes" not in second
    with netns.entered(sandbox.netns):
        assert [(r["dev"], r["dst"]) for r in shown("ip route show default")] == [("eth0", "default")]


@pytest.mark.parametrize("where", ["node", "outside", "other"])
def test_both_interfaces_answer_whoever_asks(
    both: Any, runtime: Runtime, machine: Machine, sandbox: Sandbox, other: Sandbox, config: Document, where: str
) -> None:
    assert runtime("ADD", other, config).ok
    place = {"node": machine.netns, "outside": machine.outside, "other": other.netns}[where]
    for address in (*addresses(both[0]), *addresses(both[1])):
        route = ["ip", "route", "replace", address, "via", UPLINK[6 if ":" in address else 4]]
        if where == "outside":
            with netns.entered(machine.outside):
                run(*route)
        assert reaches(place, address), address
        if where == "outside":
            with netns.entered(machine.outside):
                run("ip", "route", "del", address)
    assert runtime("DEL", other, config).ok


def test_a_pod_that_chooses_the_second_address_goes_out_by_it(both: Any, sandbox: Sandbox) -> None:
    for address, target in zip(addresses(both[1]), ("192.168.77.1", "fd00:77::1"), strict=True):
        with netns.entered(sandbox.netns):
            run("ping", "-n", "-q", "-c", "1", "-W", "10", "-I", address, target)


def test_a_check_of_the_second_looks_at_its_own_table(both: Any, config: Document, runtime: Runtime, sandbox: Sandbox) -> None:
    assert runtime("CHECK", sandbox, config, result=both[0]).ok
    assert runtime("CHECK", sandbox, config, result=both[1], ifname="eth1").ok
    with netns.entered(sandbox.netns):
        run("ip rule del priority 30000")
        table = shown("ip -6 rule show priority 30000")[0]["table"]
        run(f"ip -6 route del default table {table}")
    refused = runtime("CHECK", sandbox, config, result=both[1], ifname="eth1")
    v4, _ = addresses(both[1])
    assert f"the sandbox has no rule that leads what is sent from {v4} into table {table}" in refused.document["details"]
    assert f"table {table} of the sandbox has no default route via " in refused.document["details"]
    assert runtime("CHECK", sandbox, config, result=both[0]).ok


@pytest.mark.parametrize("restarted", [False, True], ids=["", "by another agent"])
def test_its_rules_go_with_it_and_the_first_stays(
    runtime: Runtime, machine: Machine, sandbox: Sandbox, config: Document, restarted: bool
) -> None:
    first = runtime("ADD", sandbox, config).document
    assert runtime("ADD", sandbox, config, ifname="eth1").ok
    assert len(own_rules(sandbox)) == 2
    if restarted:
        machine.restart()
    assert runtime("DEL", sandbox, config, ifname="eth1").ok
    assert own_rules(sandbox) == []
    assert reaches(machine.netns, addresses(first)[0])
    assert runtime("CHECK", sandbox, config, result=first).ok
    assert runtime("DEL", sandbox, config).ok


def test_an_interface_of_somebody_else_may_be_the_first(
    runtime: Runtime, machine: Machine, sandbox: Sandbox, config: Document
) -> None:
    with netns.entered(sandbox.netns):
        for line in (
            "link add up0 type veth peer name up1",
            "link set up0 up",
            "link set up1 up",
            "address add 198.51.100.2/24 dev up0",
        ):
            run(f"ip {line}")
        run("ip route add default via 198.51.100.1")
    answer = runtime("ADD", sandbox, config)
    assert [route["dst"] for route in answer.document["routes"]] == ["::/0"]
    assert all(reaches(machine.netns, address) for address in addresses(answer.document))
    assert runtime("CHECK", sandbox, config, result=answer.document).ok
    assert runtime("DEL", sandbox, config).ok
    assert own_rules(sandbox) == []
