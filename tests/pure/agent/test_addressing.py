from __future__ import annotations

import dataclasses
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netloom.agent.addressing import Choice, Steering
from netloom.agent.addressing import choose as choose_steered
from netloom.errors import ConfigError
from netloom.model.addresses import Interface
from netloom.model.detection import parse_detection
from netloom.model.host import Uplink


def interfaces(*texts: str) -> tuple[Interface, ...]:
    return tuple(ipaddress.ip_interface(text) for text in texts)


def uplinks(**addresses: tuple[str, ...]) -> dict[str, Uplink]:
    return {name: Uplink(name, 1500, interfaces(*texts)) for name, texts in addresses.items()}


def choose(found: dict[str, Uplink], default: list[str], setting: tuple[Interface, ...], **steering: object) -> Choice:
    return choose_steered(found, default, Steering(setting, **steering))  # type: ignore[arg-type]  # each test steers otherwise


TWO = uplinks(eth0=("10.0.2.15/24", "fd00::15/64"), eth1=("192.0.2.1/24",))


def test_the_setting_is_the_first_word() -> None:
    choice = choose(TWO, ["eth0"], interfaces("192.0.2.1/24"))
    assert choice.addresses == interfaces("192.0.2.1/24")
    assert choice.reason == "set by nodeAddresses"


def test_a_setting_that_no_interface_holds_is_refused_and_named() -> None:
    with pytest.raises(ConfigError, match=r"nodeAddresses: no interface holds 192.0.2.9") as caught:
        choose(TWO, ["eth0"], interfaces("192.0.2.9/24"))
    assert caught.value.hint == "ip -br address"


def test_without_a_setting_it_is_the_interface_of_the_default_route() -> None:
    choice = choose(TWO, ["eth1", "eth0"], ())
    assert choice.addresses == interfaces("192.0.2.1/24")
    assert choice.reason == "on eth1, the interface of the default route"


def test_a_default_route_of_an_interface_without_an_address_is_passed_over() -> None:
    assert choose(TWO, ["ppp0", "eth1"], ()).addresses == interfaces("192.0.2.1/24")


def test_the_first_global_address_of_each_family_is_taken() -> None:
    found = uplinks(eth0=("169.254.3.4/16", "fe80::1/64", "10.0.0.2/24", "10.0.0.3/24", "fd00::2/64", "fd00::3/64"))
    assert choose(found, ["eth0"], ()).addresses == interfaces("10.0.0.2/24", "fd00::2/64")


def test_an_interface_that_is_down_is_not_chosen_but_may_be_set() -> None:
    down = {name: dataclasses.replace(uplink, up=name != "eth0") for name, uplink in TWO.items()}
    assert choose(down, ["eth0"], ()).addresses == interfaces("192.0.2.1/24")
    assert choose(down, [], interfaces("10.0.2.15/24")).addresses == interfaces("10.0.2.15/24")


def test_the_only_interface_with_an_address_needs_no_default_route() -> None:
    found = uplinks(eth0=("10.0.0.2/24",), eth1=("fe80::1/64",))
    assert choose(found, [], ()).reason == "on eth0, the only interface with an address"


@pytest.mark.parametrize(("found", "seen"), [(TWO, "eth0, eth1"), ({}, "none"), (uplinks(eth0=("fe80::1/64",)), "none")])
def test_where_no_choice_is_clear_a_person_has_to_make_it(found: dict[str, Uplink], seen: str) -> None:
    with pytest.raises(ConfigError, match=f"interfaces with one: {seen}$") as caught:
        choose(found, [], ())
    assert "set nodeAddresses" in (caught.value.hint or "")


@given(st.lists(st.tuples(st.sampled_from(["eth0", "eth1", "eth2"]), st.ip_addresses()), max_size=6))
def test_the_order_in_which_interfaces_are_listed_does_not_matter(
    held: list[tuple[str, ipaddress.IPv4Address | ipaddress.IPv6Address]],
) -> None:
    names = sorted({name for name, _ in held})
    table = {n: Uplink(n, 1500, tuple(ipaddress.ip_interface(a) for m, a in held if m == n)) for n in names}
    turned = dict(reversed(table.items()))
    outcomes: list[object] = []
    for found in (table, turned):
        try:
            outcomes.append(choose(found, ["eth1"], ()).addresses)
        except ConfigError as e:
            outcomes.append(str(e))
    assert outcomes[0] == outcomes[1]


# People who say how


def by(text: str, found: dict[str, Uplink] = TWO, version: int = 4, **steering: object) -> Choice:
    return choose(found, ["eth0"], (), methods={version: parse_detection(text)}, **steering)


MANY = uplinks(
    docker0=("172.17.0.1/16",), eth0=("10.0.2.15/24", "fd00::15/64"), eth1=("192.0.2.1/24",), eth10=("198.51.100.1/24",)
)


@pytest.mark.parametrize(
    ("method", "address", "reason"),
    [
        ("first-found", "10.0.2.15/24", "on eth0, by ipAutodetectionMethod first-found"),
        ("interface=eth1", "192.0.2.1/24", "on eth1, by ipAutodetectionMethod interface=eth1"),
        ("interface=en.*,eth1.+", "198.51.100.1/24", "on eth10, by ipAutodetectionMethod interface=en.*,eth1.+"),
        ("skip-interface=eth0", "192.0.2.1/24", "on eth1, by ipAutodetectionMethod skip-interface=eth0"),
        ("cidr=203.0.113.0/24,198.51.100.0/24", "198.51.100.1/24", "on eth10, by ipAutodetectionMethod cidr=203.0.113.0/24,198.51.100.0/24"),
        ("iface=eth1", "192.0.2.1/24", "on eth1, by ipAutodetectionMethod iface=eth1"),
        ("iface=198.51.100.1", "198.51.100.1/24", "on eth10, by ipAutodetectionMethod iface=198.51.100.1"),
        (r"iface-regex=192\.0\..*", "192.0.2.1/24", r"on eth1, by ipAutodetectionMethod iface-regex=192\.0\..*"),
    ],
)  # fmt: skip
def test_a_rule_that_people_set_decides_for_its_family(method: str, address: str, reason: str) -> None:
    choice = by(method, MANY)
    assert choice.addresses == interfaces(address, "fd00::15/64")
    assert choice.reason == f"{reason}; on eth0, the interface of the default route"


def test_each_family_has_a_rule_of_its_own() -> None:
    found = uplinks(eth0=("10.0.2.15/24", "fd00::15/64"), eth1=("192.0.2.1/24", "2001:db8::1/64"))
    assert by("interface=eth1", found, 6).addresses == interfaces("10.0.2.15/24", "2001:db8::1/64")


def test_what_can_reach_an_address_is_what_the_kernel_says() -> None:
    destination = ipaddress.ip_address("203.0.113.7")
    assert (
        by("can-reach=203.0.113.7", reached={destination: ipaddress.ip_address("192.0.2.1")}).addresses[0].ip.packed
        == b"\xc0\0\2\1"
    )
    with pytest.raises(
        ConfigError, match=r"no address fits 'can-reach=203\.0\.113\.7'; there is 10\.0\.2\.15 of eth0, 192\.0\.2\.1 of eth1"
    ):
        by("can-reach=203.0.113.7")


def test_a_rule_that_nothing_fits_is_said_and_nothing_else_chosen() -> None:
    with pytest.raises(ConfigError, match=r"ipAutodetectionMethod: no address fits 'interface=bond0'"):
        by("interface=bond0")


def test_first_found_passes_over_other_programs_bridges_and_so_does_who_is_alone() -> None:
    beside = uplinks(docker0=("172.17.0.1/16",), ens3=("192.0.2.1/24",))
    assert by("first-found", beside).addresses == interfaces("192.0.2.1/24")
    assert choose(beside, [], ()).addresses == interfaces("192.0.2.1/24")
    assert choose(uplinks(docker0=("172.17.0.1/16",)), [], ()).addresses == interfaces("172.17.0.1/16"), "there is no other"


def test_what_was_passed_over_is_told() -> None:
    assert choose(TWO, ["eth0"], ()).passed_over == ("192.0.2.1 of eth1",)
    assert str(choose(TWO, ["eth0"], ())) == (
        "10.0.2.15/24, fd00::15/64: on eth0, the interface of the default route; passed over: 192.0.2.1 of eth1"
    )


# Where the other nodes are


def others(*texts: str) -> dict[str, object]:
    return {"others": [ipaddress.ip_address(text) for text in texts]}


def test_the_link_that_other_nodes_are_on_is_better_than_the_default_routes_if_none_is_there() -> None:
    """Vagrant: every machine's first interface is the same private network."""
    choice = choose(TWO, ["eth0"], (), **others("192.0.2.2", "192.0.2.3", "10.0.2.15"))
    assert choice.addresses == interfaces("192.0.2.1/24")
    assert "on eth1, whose link 2 other nodes are on; on that of eth0, the default route's, is none" in choice.reason


@pytest.mark.parametrize("seen", [("192.0.2.2", "10.0.2.16"), ("203.0.113.1",), ()])
def test_else_the_default_route_decides(seen: tuple[str, ...]) -> None:
    assert choose(TWO, ["eth0"], (), **others(*seen)).addresses == interfaces("10.0.2.15/24", "fd00::15/64")
