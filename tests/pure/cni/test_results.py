from __future__ import annotations

import json
from typing import Any

import pytest

from netloom.cni.results import (
    VERSIONS,
    Dns,
    Result,
    decode_result,
    encode_error,
    encode_result,
    encode_versions,
    result,
)
from netloom.errors import CniError
from netloom.model.addresses import Mac, parse_address, parse_interface
from netloom.model.attachments import Attachment, AttachmentKey, NetnsId, State
from tests.pure.cni.calls import PREVIOUS

SANDBOX = "/var/run/netns/cni-1"
NO_DNS = Dns()


def attachment(addresses: tuple[str, ...], gateways: tuple[str, ...]) -> Attachment:
    return Attachment(
        key=AttachmentKey("blue", "6f3c0d", "eth0"),
        sequence=1,
        state=State.READY,
        netns=NetnsId(4, 1),
        host_interface="loom0123456789a",
        mac=Mac("0a:58:0a:01:00:09"),
        host_mac=Mac("ee:ee:ee:ee:ee:ee"),
        mtu=1450,
        addresses=tuple(parse_interface(a) for a in addresses),
        gateways=tuple(parse_address(g) for g in gateways),
    )


DUAL = attachment(("10.1.0.9/32", "fd00::9/128"), ("169.254.1.1", "fe80::1"))


def document(version: str, previous: Result | None = None, dns: Dns = NO_DNS) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(encode_result(result(DUAL, SANDBOX, dns, previous), version))
    return decoded


def expected(version: str, *, family: bool, mtu: bool) -> dict[str, Any]:
    host = {"name": "loom0123456789a", "mac": "ee:ee:ee:ee:ee:ee", "mtu": 1450}
    inside = {"name": "eth0", "mac": "0a:58:0a:01:00:09", "mtu": 1450, "sandbox": SANDBOX}
    v4 = {"version": "4", "address": "10.1.0.9/32", "gateway": "169.254.1.1", "interface": 1}
    v6 = {"version": "6", "address": "fd00::9/128", "gateway": "fe80::1", "interface": 1}
    return {
        "cniVersion": version,
        "interfaces": [i if mtu else {k: v for k, v in i.items() if k != "mtu"} for i in (host, inside)],
        "ips": [ip if family else {k: v for k, v in ip.items() if k != "version"} for ip in (v4, v6)],
        "routes": [{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}, {"dst": "::/0", "gw": "fe80::1"}],
    }


@pytest.mark.parametrize(
    ("version", "family", "mtu"),
    [
        pytest.param("0.3.1", True, False, id="30: 0.3.1 names the family"),
        pytest.param("0.4.0", True, False, id="30: 0.4.0 names the family"),
        pytest.param("1.0.0", False, False, id="30, 33: 1.0.0 names neither"),
        pytest.param("1.1.0", False, True, id="33: 1.1.0 names the mtu"),
    ],
)
def test_a_result_is_written_as_its_version_has_it(version: str, family: bool, mtu: bool) -> None:
    """Points 29, 30, 33, 39, 41, 42, 43."""
    assert document(version) == expected(version, family=family, mtu=mtu)


def test_a_pod_of_one_family_has_the_routes_of_that_family() -> None:
    single = attachment(("10.1.0.9/26",), ("10.1.0.1", "fe80::1"))
    found = json.loads(encode_result(result(single, SANDBOX, Dns(), None), "1.0.0"))
    assert found["ips"] == [{"address": "10.1.0.9/26", "gateway": "10.1.0.1", "interface": 1}]
    assert found["routes"] == [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}]


def test_dns_is_reported_only_where_it_was_configured() -> None:
    """Points 43, 44."""
    assert "dns" not in document("1.1.0")
    assert document("1.1.0", dns=Dns(nameservers=("10.0.0.10",)))["dns"] == {"nameservers": ["10.0.0.10"]}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_previous_result_passes_through_unchanged(version: str) -> None:
    """Points 36, 40."""
    previous: dict[str, Any] = {
        "cniVersion": version,
        "interfaces": [{"name": "veth1", "mac": "0a:00:00:00:00:01"}, {"name": "lo", "sandbox": "/n"}],
        "ips": [{"address": "10.9.0.2/24", "gateway": "10.9.0.1", "interface": 0}, {"address": "fd00::2/64"}],
        "routes": [{"dst": "10.9.7.1/16"}, {"dst": "::/0", "gw": "fd00::1"}],
        "dns": {"nameservers": ["10.9.0.1"], "domain": "d", "search": ["s"], "options": ["o"]},
    }
    if version.startswith("0."):
        for ip, family in zip(previous["ips"], "46", strict=True):
            ip["version"] = family
    if version == "1.1.0":
        previous["interfaces"][0] |= {"mtu": 1500, "socketPath": "/s", "pciID": "0000:00:1f.6"}
        previous["routes"][1] |= {"mtu": 1400, "advmss": 1360, "priority": 7, "table": 254, "scope": 0}
    assert json.loads(encode_result(decode_result(json.dumps(previous).encode()), version)) == previous


def test_behind_another_plugin_our_part_is_added_and_its_part_stays() -> None:
    """Points 36, 40, 42: our addresses point at our interface in the longer list."""
    found = document("1.1.0", previous=decode_result(json.dumps(PREVIOUS).encode()))
    ours = expected("1.1.0", family=False, mtu=True)
    assert found["interfaces"] == PREVIOUS["interfaces"] + ours["interfaces"]
    assert found["ips"] == PREVIOUS["ips"] + [ip | {"interface": 3} for ip in ours["ips"]]
    assert found["routes"] == PREVIOUS["routes"] + ours["routes"]
    assert found["dns"] == PREVIOUS["dns"]


def test_an_error_document_has_version_code_and_message() -> None:
    """Points 5, 6."""
    assert json.loads(encode_error(CniError(7, "mtu: is wrong"), "0.4.0")) == {
        "cniVersion": "0.4.0",
        "code": 7,
        "msg": "mtu: is wrong",
    }
    assert json.loads(encode_error(CniError(11, "later", "busy"), "1.1.0"))["details"] == "busy"


@pytest.mark.parametrize("text", ["x" * 100_000, "\udcff\ud800", '"\\\n\x00\x1b', "\u202e"])
def test_an_error_document_is_json_whatever_it_quotes(text: str) -> None:
    encoded = encode_error(CniError(999, text, text), "1.0.0")
    assert json.loads(encoded)["code"] == 999
    assert len(encoded) < 10_000


def test_the_version_document_lists_what_we_speak() -> None:
    """Points 27, 28."""
    assert json.loads(encode_versions("0.4.0")) == {
        "cniVersion": "0.4.0",
        "supportedVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"],
    }
