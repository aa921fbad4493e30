"""Elements of the maps, byte for byte as nft itself writes them (`nft --debug=netlink`)."""

from __future__ import annotations

import ipaddress

import pytest

from netloom.dataplane.nft.objects import add_elements, keys_of
from netloom.dataplane.nft.ports import SETS, keys
from netloom.model.desired import Published


def published(protocol: str, host: str | None, pod: str, beside: str) -> Published:
    where = ipaddress.ip_address(host) if host else None
    return Published(protocol, where, 8080, ipaddress.ip_address(pod), 80, "br0", ipaddress.ip_network(beside))


def elements(port: Published) -> dict[str, list[str]]:
    return {definition.name: [element.hex(" ", 4) for element in found] for definition, found in keys([port]).items()}


def test_a_port_of_every_address() -> None:
    assert elements(published("tcp", None, "10.0.0.2", "10.0.0.2/32")) == {
        "any4": ["06000000 1f900000 0a000002 00500000"],
        "hairpin4": ["0a000002 0a000002"],
    }


def test_a_port_of_one_address_and_a_pod_on_a_bridge() -> None:
    assert elements(published("udp", "192.0.2.1", "10.0.0.2", "10.0.0.0/26")) == {
        "ports4": ["11000000 c0000201 1f900000 0a000002 00500000"],
        "hairpin4": ["0a000002 0a000002"],
        "beside4": ["62723000 00000000 00000000 00000000 0a000000 62723000 00000000 00000000 00000000 0a00003f"],
    }


def test_the_same_in_ipv6() -> None:
    found = elements(published("sctp", "2001:db8::1", "fd00::2", "fd00::/122"))
    assert found["ports6"] == [
        "84000000 20010db8 00000000 00000000 00000001 1f900000 fd000000 00000000 00000000 00000002 00500000"
    ]
    assert found["beside6"][0].endswith("fd000000 00000000 00000000 0000003f")


@pytest.mark.parametrize("host", [None, "192.0.2.1"])
def test_what_is_written_is_what_is_read(host: str | None) -> None:
    """The kernel gives elements back in the form in which they were sent."""
    wanted = keys([published("tcp", host, "10.0.0.2", "10.0.0.0/26"), published("udp", host, "10.0.0.3", "10.0.0.0/26")])
    assert wanted.keys() <= set(SETS)
    for definition, found in wanted.items():
        assert keys_of(definition, [message.body for message in add_elements(definition, found)]) == found
