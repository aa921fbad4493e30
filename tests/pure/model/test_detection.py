from __future__ import annotations

import pytest

from netloom.model.detection import DEFAULT, Rule, parse_detection


def test_nothing_said_is_the_default() -> None:
    assert parse_detection("") == DEFAULT
    assert parse_detection("default").rule is Rule.DEFAULT


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fastest", "'fastest' is none of default, first-found, interface"),
        ("interface", "interface wants a value: interface=…"),
        ("cidr=", "cidr wants a value"),
        ("first-found=eth0", "first-found stands alone"),
        ("interface=[", "'\\[' is no regular expression"),
        ("cidr=10.0.0.0/8,elsewhere", "'elsewhere' does not appear to be an IPv4 or IPv6 network"),
        ("can-reach=example.org", "can-reach takes an address, not 'example.org'"),
        ("kubernetes-internal-ip", "needs the Kubernetes API"),
    ],
)
def test_what_is_no_rule_is_refused_with_what_would_do(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_detection(text)


def test_hosts_bits_of_a_cidr_do_not_matter() -> None:
    assert [str(prefix) for prefix in parse_detection("cidr=10.1.2.3/8,fd00::1/64").prefixes] == ["10.0.0.0/8", "fd00::/64"]
