"""Points 37 to 50 and 77 to 79 of the CNI checklist: what ADD makes, gives and refuses."""

from __future__ import annotations

import ipaddress
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from netloom.dataplane import netns
from tests.agent_process import ADDRESSES, Machine, Sandbox
from tests.cni_calls import CONFIG, KUBERNETES, Answer, Document, Runtime, finish
from tests.residue import addresses_in_use, baseline, settled
from tests.waiting import eventually

WIRINGS = ("routed", "bridge")
TINY = {**CONFIG, "ipv4Pools": ["z-tiny"], "ipv6Pools": []}


def row(point: int, sentence: str, *values: object) -> Any:
    return pytest.param(*values, id=f"{point:02}: {sentence}")


@contextmanager
def attached(runtime: Runtime, sandbox: Sandbox, config: Document = CONFIG, **call: Any) -> Iterator[Answer]:
    answer = runtime("ADD", sandbox, config, **call)
    assert answer.ok, answer
    try:
        yield answer
    finally:
        assert runtime("DEL", sandbox, config, **call).ok


def ip(namespace: int, *arguments: str) -> Any:
    with netns.entered(namespace):
        done = subprocess.run(["ip", "-j", *arguments], check=True, capture_output=True)
    return json.loads(done.stdout or b"[]")


def reaches(namespace: int, address: str) -> bool:
    with netns.entered(namespace):
        ping = ["ping", "-n", "-q", "-c", "1", "-W", "10", address]
        return subprocess.run(ping, check=False, capture_output=True).returncode == 0


@pytest.mark.parametrize("wiring", WIRINGS)
def test_37_an_interface_with_the_addresses_that_the_result_tells(runtime: Runtime, sandbox: Sandbox, wiring: str) -> None:
    with attached(runtime, sandbox, CONFIG | {"wiring": wiring, "mtu": 1400}) as answer:
        (eth0,) = ip(sandbox.netns, "address", "show", "eth0")
        told = answer.document["interfaces"][1]
        assert (eth0["operstate"], eth0["mtu"], eth0["address"]) == ("UP", 1400, told["mac"])
        assert [f"{a['local']}/{a['prefixlen']}" for a in eth0["addr_info"]] == answer.addresses
        gateways = [entry["gateway"] for entry in answer.document["ips"]]
        shown = [route["gateway"] for v in ("-4", "-6") for route in ip(sandbox.netns, v, "route", "show", "default")]
        assert shown == gateways


@pytest.mark.parametrize("wiring", WIRINGS)
def test_37_pods_and_their_node_reach_each_other(
    runtime: Runtime, machine: Machine, sandbox: Sandbox, other: Sandbox, wiring: str
) -> None:
    config = CONFIG | {"wiring": wiring}
    with attached(runtime, sandbox, config) as one, attached(runtime, other, config) as two:
        for mine, yours, node in zip(one.addresses, two.addresses, ADDRESSES, strict=True):
            assert reaches(sandbox.netns, yours.partition("/")[0])
            assert reaches(sandbox.netns, str(node.ip))
            assert reaches(machine.netns, mine.partition("/")[0])


@pytest.mark.parametrize("wiring", WIRINGS)
def test_an_interface_that_is_too_small_for_ipv6_serves_ipv4(
    runtime: Runtime, machine: Machine, sandbox: Sandbox, wiring: str
) -> None:
    small = CONFIG | {"wiring": wiring, "bridge": "loom.small", "mtu": 1000}
    with attached(runtime, sandbox, small | {"ipv6Pools": []}) as answer:
        assert reaches(machine.netns, answer.addresses[0].partition("/")[0])
    refused = runtime("ADD", sandbox, small)
    assert refused.error == 7 and "IPv6 needs 1280" in refused.document["msg"]


def test_a_pod_without_a_listed_pool_of_a_family_has_no_address_of_it(runtime: Runtime, sandbox: Sandbox) -> None:
    with attached(runtime, sandbox, CONFIG | {"ipv6Pools": []}) as answer:
        assert len(answer.addresses) == 1
    with attached(runtime, sandbox, CONFIG | {"ipv4Pools": []}) as answer:
        assert len(answer.addresses) == 1


def test_38_a_name_that_is_taken_is_an_error_and_costs_nothing(either: Runtime, machine: Machine, sandbox: Sandbox) -> None:
    with netns.entered(sandbox.netns):
        subprocess.run(["ip", "link", "add", "eth0", "type", "veth", "peer", "name", "x"], check=True)
    before = baseline(machine)
    assert either("ADD", sandbox).error >= 100
    assert settled(machine, before) == []
    assert [link["ifname"] for link in ip(sandbox.netns, "link")] == ["lo", "x", "eth0"]


def test_41_the_sandbox_is_named_as_the_runtime_named_it(runtime: Runtime, sandbox: Sandbox) -> None:
    roundabout = sandbox.path.replace("/netns/", "/./netns//")
    with attached(runtime, sandbox, path=roundabout) as answer:
        assert answer.document["interfaces"][1]["sandbox"] == roundabout


def test_43_dns_is_what_was_configured_and_only_that(runtime: Runtime, sandbox: Sandbox) -> None:
    """Points 44, 79."""
    with attached(runtime, sandbox) as answer:
        assert "nameservers" not in answer.document.get("dns", {})
    dns = {"nameservers": ["10.0.0.10"], "search": ["shop.local"]}
    with attached(runtime, sandbox, CONFIG | {"dns": dns}) as answer:
        assert answer.document["dns"] == dns
    capital = {"dns": {"Servers": ["10.0.0.11"], "Searches": None, "Options": ["ndots:2"]}}
    with attached(runtime, sandbox, CONFIG | {"dns": dns, "runtimeConfig": capital}) as answer:
        assert answer.document["dns"] == {"nameservers": ["10.0.0.11"], "options": ["ndots:2"]}


def test_40_what_plugins_before_us_said_stays_in_front(runtime: Runtime, sandbox: Sandbox) -> None:
    before = {
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "net1", "mac": "0a:00:00:00:00:01", "sandbox": sandbox.path}],
        "ips": [{"address": "10.7.0.2/24", "interface": 0}],
        "routes": [{"dst": "10.7.0.0/16"}],
    }
    with attached(runtime, sandbox, result=before) as answer:
        document = answer.document
        assert document["interfaces"][0] == before["interfaces"][0] and document["ips"][0] == before["ips"][0]
        assert document["routes"][0] == before["routes"][0]
        assert [entry["interface"] for entry in document["ips"]] == [0, 2, 2]


def test_48_thirty_at_once_share_no_address(either: Runtime, machine: Machine) -> None:
    sandboxes = [machine.make_sandbox() for _ in range(30)]
    try:
        answers = [finish(process) for process in [either.begin("ADD", sandbox) for sandbox in sandboxes]]
        assert all(answer.ok for answer in answers), [answer for answer in answers if not answer.ok]
        shown = addresses_in_use(sandbox.netns for sandbox in sandboxes)
        assert len(set(shown)) == len(shown) == 60
        assert sorted(shown) == sorted(a.partition("/")[0] for answer in answers for a in answer.addresses)
        removed = [finish(process) for process in [either.begin("DEL", sandbox) for sandbox in sandboxes]]
        assert all(answer == Answer(0, b"") for answer in removed)
    finally:
        for sandbox in sandboxes:
            machine.remove_sandbox(sandbox)


def test_49_a_second_add_fails_and_does_not_damage_the_first(either: Runtime, sandbox: Sandbox) -> None:
    with attached(either, sandbox) as first:
        assert either("ADD", sandbox).error >= 100
        assert either("CHECK", sandbox, result=first.document).ok


@pytest.mark.parametrize("wiring", WIRINGS)
def test_49_a_second_interface_has_addresses_of_its_own(runtime: Runtime, sandbox: Sandbox, wiring: str) -> None:
    config = CONFIG | {"wiring": wiring}
    with attached(runtime, sandbox, config) as first:
        with attached(runtime, sandbox, config, ifname="eth1") as second:
            assert not set(first.addresses) & set(second.addresses)
            assert runtime("CHECK", sandbox, config, result=second.document, ifname="eth1").ok
            assert runtime("CHECK", sandbox, config, result=first.document).ok
        assert runtime("CHECK", sandbox, config, result=first.document).ok


def test_two_networks_in_one_container_are_two_attachments(runtime: Runtime, sandbox: Sandbox) -> None:
    blue = CONFIG | {"name": "blue"}
    with attached(runtime, sandbox), attached(runtime, sandbox, blue, ifname="eth1") as second:
        assert runtime("DEL", sandbox, CONFIG, ifname="eth1").ok  # nothing of this network has that name
        assert runtime("CHECK", sandbox, blue, result=second.document, ifname="eth1").ok


# Asked for by name


def places(address: str) -> list[tuple[str, Document, str]]:
    return [
        ("runtimeConfig", {"runtimeConfig": {"ips": [f"{address}/24"]}}, ""),
        ("args.cni", {"args": {"cni": {"ips": [address]}}}, ""),
        ("CNI_ARGS", {}, f"IgnoreUnknown=1;IP={address}"),
    ]


@pytest.mark.parametrize("wiring", WIRINGS)
@pytest.mark.parametrize("place", range(3), ids=["runtimeConfig", "args.cni", "CNI_ARGS"])
def test_77_an_address_asked_for_is_given(runtime: Runtime, sandbox: Sandbox, place: int, wiring: str) -> None:
    _, extra, args = places("10.244.9.77")[place]
    with attached(runtime, sandbox, CONFIG | {"wiring": wiring, "ipv6Pools": []} | extra, args=args) as answer:
        assert answer.addresses == ["10.244.9.77/32" if wiring == "routed" else "10.244.9.77/26"]


def test_78_the_runtime_is_heard_first(runtime: Runtime, sandbox: Sandbox) -> None:
    first, second, third = (places(f"10.244.9.{n}")[i] for i, n in enumerate((70, 71, 72)))
    with attached(runtime, sandbox, CONFIG | first[1] | second[1], args=third[2]) as answer:
        assert answer.addresses[0] == "10.244.9.70/32"
    with attached(runtime, sandbox, CONFIG | second[1], args=third[2]) as answer:
        assert answer.addresses[0] == "10.244.9.71/32"


@pytest.mark.parametrize(
    "address",
    [
        row(77, "outside every pool", "172.16.0.1"),
        row(77, "the node's own", "10.244.9.64"),
        row(77, "the gateway's", "10.244.9.65"),
        row(77, "the broadcast address", "10.244.9.127"),
        row(77, "loopback", "127.0.0.1"),
        row(77, "no address", "10.244.9.300"),
    ],
)
def test_an_address_that_cannot_be_given_is_refused_by_name(either: Runtime, sandbox: Sandbox, address: str) -> None:
    answer = either("ADD", sandbox, CONFIG | places(address)[0][1])
    assert not answer.ok and address in answer.document["msg"]


def test_77_an_address_in_use_is_refused_and_says_whose_it_is(runtime: Runtime, sandbox: Sandbox, other: Sandbox) -> None:
    with attached(runtime, sandbox, args=KUBERNETES) as first:
        taken = str(ipaddress.ip_interface(first.addresses[0]).ip)
        answer = runtime("ADD", other, CONFIG | places(taken)[0][1])
        assert not answer.ok
        assert taken in answer.document["msg"] and "shop/web-0" in answer.document["msg"]


def test_77_an_address_asked_for_is_free_as_soon_as_its_del_is_answered(
    runtime: Runtime, sandbox: Sandbox, other: Sandbox
) -> None:
    config = CONFIG | places("10.244.9.78")[0][1]
    for one in (sandbox, other, sandbox):
        with attached(runtime, one, config) as answer:
            assert answer.addresses[0] == "10.244.9.78/32"


@pytest.mark.parametrize(
    ("extra", "args"),
    [
        row(77, "runtimeConfig", {"runtimeConfig": {"mac": "0a:58:00:00:00:07"}}, ""),
        row(77, "args.cni", {"args": {"cni": {"mac": "0a:58:00:00:00:07"}}}, ""),
        row(77, "CNI_ARGS", {}, "MAC=0a:58:00:00:00:07"),
    ],
)
def test_a_mac_asked_for_is_given(runtime: Runtime, sandbox: Sandbox, extra: Document, args: str) -> None:
    with attached(runtime, sandbox, CONFIG | extra, args=args) as answer:
        assert answer.document["interfaces"][1]["mac"] == "0a:58:00:00:00:07"
        assert ip(sandbox.netns, "link", "show", "eth0")[0]["address"] == "0a:58:00:00:00:07"
        assert runtime("CHECK", sandbox, CONFIG | extra, result=answer.document, args=args).ok


def test_exhaustion_names_the_pool_and_the_figures_and_ends_with_a_del(runtime: Runtime, machine: Machine) -> None:
    """Point 73: STATUS of a network whose pools are empty says so."""
    sandboxes = [machine.make_sandbox() for _ in range(5)]
    try:
        answers = [runtime("ADD", sandbox, TINY) for sandbox in sandboxes]
        assert [answer.ok for answer in answers] == [True] * 4 + [False]
        assert answers[4].error == 101
        assert "z-tiny" in answers[4].document["msg"] and "4" in answers[4].document["msg"]
        assert runtime("STATUS", sandboxes[0], TINY).error == 50
        assert runtime("DEL", sandboxes[0], TINY).ok
        assert runtime("ADD", sandboxes[4], TINY).addresses == answers[0].addresses
        assert runtime("DEL", sandboxes[1], TINY).ok
        assert eventually(lambda: runtime("STATUS", sandboxes[0], TINY).ok)  # the kernel lets go of the link a little later
    finally:
        for sandbox in sandboxes:
            assert runtime("DEL", sandbox, TINY).ok
            machine.remove_sandbox(sandbox)
