from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netloom.model.addresses import (
    Mac,
    Prefix,
    contains,
    host_prefix,
    link_local,
    mac_bytes,
    mac_text,
    parse_address,
    parse_interface,
    parse_mac,
    parse_prefix,
)
from tests.pure.model import strategies


@given(strategies.prefixes())
def test_a_prefix_is_read_as_it_is_printed(prefix: Prefix) -> None:
    assert parse_prefix(str(prefix)) == prefix


@pytest.mark.parametrize("text", ["10.0.0.1/8", "fd00::1/64", "10.0.0.255/31"])
def test_host_bits_are_refused_and_the_prefix_is_named(text: str) -> None:
    meant = ipaddress.ip_network(text, strict=False)
    with pytest.raises(ValueError, match=f"did you mean {meant}"):
        parse_prefix(text)


@pytest.mark.parametrize(
    "text", ["", "/", "10.0.0.0", "10.0.0.0/33", "10.0.0/8", "1/8", "fd00::/129", "10.0.0.0/8/8", "x/24", "010.0.0.0/8"]
)
def test_what_is_no_prefix_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_prefix(text)


def test_an_interface_needs_its_length() -> None:
    assert str(parse_interface("10.0.0.1/24")) == "10.0.0.1/24"
    with pytest.raises(ValueError, match="no prefix length"):
        parse_interface("10.0.0.1")


def test_an_address_has_no_zone() -> None:
    with pytest.raises(ValueError, match="has a zone"):
        parse_address("fe80::1%eth0")


@given(strategies.macs)
def test_a_mac_survives_bytes_and_capitals_and_dashes(text: str) -> None:
    mac = Mac(text)
    assert mac_text(mac_bytes(mac)) == parse_mac(text.upper().replace(":", "-")) == mac


@pytest.mark.parametrize(
    "text",
    ["", "0a:58", "00:00:00:00:00:00", "01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "0g:00:00:00:00:01", "a:58:0a:f4:00:02"],
)
def test_what_is_no_unicast_mac_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_mac(text)


def test_the_link_local_address_is_the_modified_eui_64() -> None:
    assert link_local(Mac("34:56:78:9a:bc:de")) == ipaddress.IPv6Address("fe80::3656:78ff:fe9a:bcde")  # RFC 2464, section 4


@given(strategies.prefixes(), strategies.prefixes())
def test_containing_is_what_the_first_and_last_address_say(outer: Prefix, inner: Prefix) -> None:
    ends = (inner.network_address, inner.broadcast_address)
    assert contains(outer, inner) == (outer.version == inner.version and all(end in outer for end in ends))


@given(strategies.any_address, st.integers(0, 128))
def test_an_address_lies_in_its_host_prefix_and_in_every_wider_one(address: ipaddress.IPv4Address, length: int) -> None:
    wider = (
        ipaddress.ip_network((int(address), min(length, address.max_prefixlen)), strict=False) if address.version == 4 else None
    )
    assert host_prefix(address).num_addresses == 1
    assert wider is None or contains(wider, host_prefix(address))
