from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netloom.model.bgp_values import milliseconds, parse_as_number, parse_community, parse_duration, parse_peer


@pytest.mark.parametrize(
    ("value", "number"), [(64512, 64512), ("64512", 64512), ("1.10", 65546), ("0.7", 7), (4294967294, 4294967294)]
)
def test_an_as_number_is_plain_or_dotted(value: object, number: int) -> None:
    assert parse_as_number(value) == number


@pytest.mark.parametrize(
    "value",
    [
        0,
        -1,
        1 << 32,
        65535,
        4294967295,
        23456,
        "0.0",
        "1.65536",
        "65536.1",
        "01",
        "1.01",
        "",
        " 1",
        "1.2.3",
        "AS1",
        "٣",
        1.5,
        True,
        None,
    ],
)
def test_what_is_no_as_number_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="AS"):
        parse_as_number(value)


@given(st.integers(1, 65534), st.integers(0, 65535))
def test_dotted_and_plain_are_one_number(high: int, low: int) -> None:
    assert parse_as_number(f"{high}.{low}") == parse_as_number((high << 16) + low)


@pytest.mark.parametrize(
    ("text", "numbers"), [("65000:100", (65000, 100)), ("0:0", (0, 0)), ("65000:1:4294967295", (65000, 1, 4294967295))]
)
def test_a_community_is_standard_or_large(text: str, numbers: tuple[int, ...]) -> None:
    assert parse_community(text).numbers == numbers
    assert str(parse_community(text)) == text


@pytest.mark.parametrize(
    "text", ["", "1", "1:", ":1", "1:65536", "65536:1", "1:2:4294967296", "1:2:3:4", "01:1", "1:-1", "a:b", "1:1\n"]
)
def test_what_is_no_community_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="communit"):
        parse_community(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (90, "1m30s"),
        ("90s", "1m30s"),
        ("1h", "1h"),
        ("2m0s", "2m"),
        ("1500ms", "1s500ms"),
        ("1m30s", "1m30s"),
        (0, "0s"),
        ("0s", "0s"),
    ],
)
def test_a_duration_has_one_form(value: object, text: str) -> None:
    assert parse_duration(value) == text
    assert parse_duration(text) == text


@pytest.mark.parametrize("value", ["", "s", "1", "1d", "-1s", "1s1m", "1.5s", "٣s", -1, True, 1.5, None, "1s\n"])
def test_what_is_no_duration_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(value)


@given(st.integers(0, 1 << 32))
def test_a_duration_of_seconds_is_that_long(seconds: int) -> None:
    assert milliseconds(parse_duration(seconds % 100_000)) == seconds % 100_000 * 1000


@pytest.mark.parametrize(
    ("text", "address", "port"),
    [
        ("192.0.2.1", "192.0.2.1", 0),
        ("192.0.2.1:1790", "192.0.2.1", 1790),
        ("2001:db8::1", "2001:db8::1", 0),
        ("[2001:db8::1]:1790", "2001:db8::1", 1790),
        ("[2001:db8::1]", "2001:db8::1", 0),
    ],
)
def test_a_peer_is_an_address_and_perhaps_a_port(text: str, address: str, port: int) -> None:
    assert parse_peer(text) == (ip_address(address), port)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tor",
        "192.0.2.1:",
        "192.0.2.1:0",
        "192.0.2.1:65536",
        "192.0.2.1:x",
        "[2001:db8::1",
        "[2001:db8::1]:",
        "[2001:db8::1]179",
        "[192.0.2.1]:179",
        "224.0.0.1",
        "127.0.0.1",
        "0.0.0.0",
        "::",
        "255.255.255.255",
        "fe80::1",
        "fe80::1%eth0",
        "192.0.2.0/24",
        "1;2",
    ],
)
def test_what_is_no_peer_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # each reason is another one
        parse_peer(text)
