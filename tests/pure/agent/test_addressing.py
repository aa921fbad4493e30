from __future__ import annotations

import dataclasses
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netloom.agent.addressing import choose
from netloom.errors import ConfigError
from netloom.model.addresses import Interface
from netloom.model.host import Uplink


def interfaces(*texts: str) -> tuple[Interface, ...]:
    return tuple(ipaddress.ip_interface(text) for text in texts)


def uplinks(**addresses: tuple[str, ...]) -> dict[str, Uplink]:
    return {name: Uplink(name, 1500, interfaces(*texts)) for name, texts in addresses.items()}


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
