"""Addresses and sysctls: built, repaired, and whose is left alone."""

from __future__ import annotations

import errno
import ipaddress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netloom.dataplane.addresses import Addresses
from netloom.dataplane.netlink import Events, Netlink
from netloom.dataplane.sysctls import Sysctls, write_sysctls
from netloom.errors import DataplaneError
from netloom.model.desired import AddressKey
from netloom.reconcile import Outcome, reconcile
from tests.kernel.iproute import run, shown


def key(address: str, device: str = "loom.vxlan") -> AddressKey:
    return AddressKey(device, ipaddress.ip_interface(address))


WANTED = dict.fromkeys([key("10.1.0.1/32"), key("10.99.0.1/24"), key("fe80::7/64"), key("fd00::1/128")])


def held(device: str = "loom.vxlan") -> set[AddressKey]:
    return {key(f"{a['local']}/{a['prefixlen']}", device) for a in shown(f"ip addr show dev {device}")[0]["addr_info"]}


def test_addresses_are_put_usable_at_once_and_the_second_pass_writes_nothing(kernel: Netlink) -> None:
    addresses = Addresses(kernel)
    assert reconcile(addresses, WANTED) == Outcome(put=4)
    assert held() == set(WANTED)
    assert "tentative" not in run("ip addr show dev loom.vxlan")
    assert "10.99.0.0/24 dev loom.vxlan" in run("ip route show")
    events = Events()
    assert not addresses.changes(WANTED)
    assert "addresses" not in events.read().tables
    events.close()


@pytest.mark.parametrize(
    "mutation",
    [
        "ip addr del 10.1.0.1/32 dev loom.vxlan",
        "ip addr flush dev loom.vxlan",
        "ip addr add 10.7.0.1/24 dev loom.vxlan",
        "ip addr add 10.1.0.1/24 dev loom.vxlan",
        "ip addr add 10.1.0.1 peer 10.1.0.9/32 dev loom.vxlan",
        "ip addr change 10.99.0.1/24 dev loom.vxlan valid_lft 900 preferred_lft 900",
        "ip addr change fd00::1/128 dev loom.vxlan valid_lft 900 preferred_lft 900",
        "ip addr del fd00::1/128 dev loom.vxlan",
        "ip addr add fd00::9/64 dev loom.vxlan",
        "ip link set loom.vxlan addrgenmode eui64",
        "ip addr replace 10.1.0.1/32 dev loom.vxlan scope host",
        "ip addr replace 10.99.0.1/24 dev loom.vxlan noprefixroute",
        "ip addr replace fd00::1/128 dev loom.vxlan metric 77",
    ],
)
def test_a_mutated_address_is_repaired_in_one_pass(kernel: Netlink, mutation: str) -> None:
    addresses = Addresses(kernel)
    reconcile(addresses, WANTED)
    before = lines("ip addr show dev loom.vxlan")
    if "scope" in mutation or "noprefixroute" in mutation:  # of a life address the kernel changes neither
        address = mutation.split()[3]
        run(f"ip addr del {address} dev loom.vxlan")
    run(mutation)
    assert lines("ip addr show dev loom.vxlan") != before or "addrgenmode" in mutation
    assert not reconcile(addresses, WANTED).failures
    assert lines("ip addr show dev loom.vxlan") == before
    assert not addresses.changes(WANTED)


def lines(command: str) -> list[str]:
    return sorted(line.strip() for line in run(command).splitlines())


def test_what_is_on_interfaces_of_others_is_left_alone(kernel: Netlink) -> None:
    others = held("up0")
    table = {key("10.50.0.1/24", "up0"): None}
    assert reconcile(Addresses(kernel), table) == Outcome(put=1)
    assert held("up0") == others | set(table)
    assert reconcile(Addresses(kernel), {}) == Outcome()


def test_an_address_without_its_device_fails_alone(kernel: Netlink) -> None:
    outcome = reconcile(Addresses(kernel), {key("10.3.0.1/32", "loom.gone"): None, **WANTED})
    assert outcome.put == 4
    assert [(f.key, f.errno) for f in outcome.failures] == [("loom.gone 10.3.0.1/32", errno.ENODEV)]


ANY = st.sampled_from(["10.1.0.1/32", "10.1.0.1/24", "10.1.0.2/24", "fe80::7/64", "fd00::1/64", "fd00::1/128"]).map(key)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(ANY, unique_by=lambda k: k.address.ip), min_size=2, max_size=4))
def test_any_addresses_become_any_others(kernel: Netlink, wanted: list[list[AddressKey]]) -> None:
    driver = Addresses(kernel)
    for keys in (*wanted, *reversed(wanted), wanted[-1], wanted[0]):
        table = dict.fromkeys(keys)
        assert not reconcile(driver, table).failures
        assert held() == set(keys)
        assert not driver.changes(table)


SYSCTLS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv4/conf/loom.vxlan/rp_filter": "2",
    "net/ipv6/conf/loom.vxlan/accept_ra": "0",
    "net/ipv4/ip_local_port_range": "20000 30000",
}


def test_sysctls_are_written_where_they_differ_and_nowhere_else(kernel: Netlink) -> None:
    sysctls = Sysctls()
    reconcile(sysctls, SYSCTLS)
    assert run("sysctl -n net.ipv4.conf.loom/vxlan.rp_filter") == "2\n"
    assert not sysctls.changes(SYSCTLS)
    run("sysctl -w net.ipv4.ip_forward=0")
    assert sysctls.changes(SYSCTLS).put == {"net/ipv4/ip_forward": "1"}
    assert reconcile(sysctls, SYSCTLS) == Outcome(put=1)
    assert not sysctls.changes(SYSCTLS)


def test_a_sysctl_that_does_not_exist_fails_alone(kernel: Netlink) -> None:
    outcome = reconcile(Sysctls(), {"net/ipv4/conf/loom.gone/rp_filter": "1", **SYSCTLS})
    assert [(f.key, f.errno) for f in outcome.failures] == [("net/ipv4/conf/loom.gone/rp_filter", errno.ENOENT)]
    assert not Sysctls().changes(SYSCTLS)


def test_a_switch_that_is_not_there_is_off(kernel: Netlink) -> None:
    run("ip link set loom.vxlan mtu 1000")  # too small for IPv6
    assert reconcile(Sysctls(), {**SYSCTLS, "net/ipv6/conf/loom.vxlan/disable_ipv6": "0"}).failures == ()
    assert not Sysctls().changes(SYSCTLS)
    write_sysctls({"net/ipv6/conf/loom.vxlan/accept_ra": "0"})


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "net/../../x", "net//x", ""])
def test_a_name_cannot_lead_out_of_the_tree(name: str) -> None:
    with pytest.raises(DataplaneError, match="not a path of names"):
        write_sysctls({name: "1"})
