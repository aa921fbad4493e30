"""The links driver: what is made here, what is only repaired, what is taken away."""

from __future__ import annotations

import errno
import ipaddress
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netloom.dataplane.links import Links
from netloom.dataplane.netlink import Events, Netlink, device, devices, new_veth
from netloom.model.addresses import Mac
from netloom.model.desired import Bridge, Ifb, Link, Veth, Vxlan
from netloom.reconcile import Outcome, reconcile
from tests.kernel.dataplane.conftest import VXLAN
from tests.kernel.iproute import run, shown

HOST, POD = Mac("ee:ee:ee:ee:ee:ee"), Mac("0a:58:0a:f4:00:02")
WANTED: dict[str, Link] = {
    "loom.vxlan": VXLAN,
    "loom.br0": Bridge(Mac("66:00:00:00:00:07"), 1400),
    "loom0": Veth(HOST, 1400, "netloom n c eth0 10.0.0.2/32"),
    "loom1": Veth(Mac("0e:58:0a:00:00:03"), 1400, "netloom n d eth0 10.0.0.3/24", "loom.br0"),
}


@pytest.fixture
def links(kernel: Netlink, pod: int) -> Links:
    """As ADD leaves two pods."""
    for i in range(2):
        kernel.transact(new_veth(f"loom{i}", f"eth{i}", pod, mac=HOST, peer_mac=POD, mtu=1500))
    return Links(kernel)


def names(kernel: Netlink) -> set[str]:
    return {found.name for found in devices(kernel)} - {"lo", "up0"}


def test_what_is_wanted_is_made_or_repaired_and_the_second_pass_writes_nothing(links: Links, kernel: Netlink) -> None:
    assert reconcile(links, WANTED) == Outcome(put=3)  # the tunnel device stands already
    port = device(kernel, "loom1")
    bridge = device(kernel, "loom.br0")
    assert port and bridge and port.master == bridge.index and port.hairpin and port.up and not port.generates
    assert all(not link["addr_info"] for link in shown("ip addr show") if link["ifname"].startswith("loom"))
    events = Events()
    assert not links.changes(WANTED)
    assert "links" not in events.read().tables
    events.close()


@pytest.mark.parametrize(
    "mutation",
    [
        "ip link set loom0 address 66:00:00:00:09:09",
        "ip link set loom0 mtu 1300",
        "ip link set loom0 alias other",
        "ip link set loom0 down",
        "ip link set loom0 master loom.br0",
        "ip link set loom0 addrgenmode eui64",
        "ip link set loom1 nomaster",
        "ip link set loom1 master up0",
        "bridge link set dev loom1 hairpin off",
        "ip link set loom.br0 address 66:00:00:00:09:09",
        "ip link set loom.br0 mtu 1300",
        "ip link set loom.br0 down",
        "ip link set loom.br0 type bridge no_linklocal_learn 0",
        "ip link del loom.br0",
        "ip link set loom.vxlan address 66:00:00:00:09:09",
        "ip link set loom.vxlan mtu 1300",
        "ip link set loom.vxlan down",
        "ip link set loom.vxlan master loom.br0",
        "ip link set loom.vxlan type vxlan id 4096 local 172.16.0.9",
        "ip link set loom.vxlan type vxlan id 4096 dev loom.br0",
        "ip link set loom.vxlan type vxlan learning",
        "ip link del loom.vxlan",
        "ip link set loom.vxlan name other",
        "ip link add loomX type veth peer name loomY",
    ],
)
def test_a_mutated_link_is_repaired_in_one_pass(links: Links, kernel: Netlink, mutation: str) -> None:
    reconcile(links, WANTED)
    if mutation.endswith("name other"):
        run("ip link set loom.vxlan down")
    run(mutation)
    assert links.changes(WANTED)
    outcome = reconcile(links, WANTED)
    if mutation.endswith("name other"):  # it still holds VNI and port, so ours cannot be made
        assert [failure.errno for failure in outcome.failures] == [errno.EEXIST]
        run("ip link del other")
        outcome = reconcile(links, WANTED)
    assert not outcome.failures
    assert not links.changes(WANTED)
    assert names(kernel) == set(WANTED)


@pytest.mark.parametrize(
    "other",
    [
        replace(VXLAN, vni=4097),
        replace(VXLAN, port=8472),
        replace(VXLAN, local=ipaddress.ip_address("2001:db8::1")),
        replace(VXLAN, local=ipaddress.ip_address("172.16.0.9")),
        replace(VXLAN, parent="loom.br0", mtu=1350),
        replace(VXLAN, mtu=1280, mac=Mac("66:00:00:00:09:09")),
        Ifb(HOST, 1500, ""),
    ],
    ids=["vni", "port", "family", "local", "parent", "mtu and mac", "kind"],
)
def test_a_tunnel_device_becomes_another_one_and_back(links: Links, other: Link) -> None:
    reconcile(links, WANTED)
    for tunnel in (other, VXLAN):
        table = {**WANTED, "loom.vxlan": tunnel}
        assert reconcile(links, table) == Outcome(put=1)
        assert not links.changes(table)


def test_setting_one_thing_does_not_touch_the_others(links: Links) -> None:
    """Setting a MAC, even to what it is, would make the kernel forget the neighbours."""
    reconcile(links, WANTED)
    run("ip neigh add 10.0.0.2 lladdr 66:00:00:00:09:09 dev loom0 nud permanent")
    run("ip link set loom0 mtu 1300")
    reconcile(links, WANTED)
    assert "10.0.0.2" in run("ip neigh show dev loom0")


def test_a_pods_link_is_never_made_here(links: Links, kernel: Netlink) -> None:
    table = {**WANTED, "loom2": Veth(HOST, 1400, "x")}
    outcome = reconcile(links, table)
    assert [(f.key, f.errno) for f in outcome.failures] == [("loom2", errno.ENODEV)]
    assert "only ADD makes it" in str(outcome.failures[0])
    assert names(kernel) == set(WANTED)


def test_unknown_links_of_ours_are_taken_away_together_and_links_of_others_never(links: Links, kernel: Netlink) -> None:
    run("ip link add cali1 type veth peer name cali2")
    run("ip link add br-loom type bridge")
    for i in range(5):
        run(f"ip link add loom-{i} type veth peer name x{i}")
    assert reconcile(links, {}) == Outcome(deleted=8)
    assert names(kernel) == {"cali1", "cali2", "br-loom"}


def test_a_bridge_named_by_the_user_is_made_and_repaired_but_not_taken_away(links: Links, kernel: Netlink) -> None:
    table: dict[str, Link] = {"cni0": Bridge(HOST, 1400)}
    assert reconcile(links, table).put == 1
    run("ip link set cni0 down")
    assert reconcile(links, table) == Outcome(put=1)
    reconcile(links, {})
    assert names(kernel) == {"cni0"}


def test_an_interface_of_somebody_else_is_not_replaced(links: Links, kernel: Netlink) -> None:
    run("ip link add cni0 type veth peer name cni1")
    outcome = reconcile(links, {"cni0": Bridge(HOST, 1400)})
    assert "is a veth interface, and not ours to replace" in str(outcome.failures[0])
    assert names(kernel) == {"cni0", "cni1"}


def test_a_device_of_somebody_else_under_a_tunnels_name_is_not_replaced(links: Links, kernel: Netlink) -> None:
    run("ip link delete loom.vxlan")
    run("ip link add loom.vxlan type bridge")
    outcome = reconcile(links, {"loom.vxlan": VXLAN})
    assert "is a bridge interface, and not ours to replace: ip link delete loom.vxlan" in str(outcome.failures[0])
    run("ip link delete loom.vxlan")
    assert reconcile(links, {"loom.vxlan": VXLAN}) == Outcome(put=1)


def test_a_tunnel_without_its_parent_fails_alone(links: Links) -> None:
    outcome = reconcile(links, {**WANTED, "loom.two": replace(VXLAN, vni=5, parent="eth9")})
    assert [(f.key, f.errno) for f in outcome.failures] == [("loom.two", errno.ENODEV)]
    assert "needs interface eth9" in str(outcome.failures[0])


TUNNELS = st.builds(
    Vxlan,
    mac=st.sampled_from([HOST, POD]),
    mtu=st.sampled_from([1280, 1430]),
    vni=st.sampled_from([1, 4096]),
    port=st.sampled_from([4789, 8472]),
    local=st.sampled_from(["172.16.0.1", "172.16.0.9", "2001:db8::1"]).map(ipaddress.ip_address),
    parent=st.just("up0"),
)
BRIDGES = st.builds(Bridge, mac=st.sampled_from([HOST, POD]), mtu=st.sampled_from([1280, 1430]))
TABLES = st.fixed_dictionaries({}, optional={"loom.vxlan": TUNNELS, "loom.br0": BRIDGES, "loom.three": BRIDGES})


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(TABLES, min_size=2, max_size=3))
def test_any_links_become_any_others(kernel: Netlink, wanted: list[Mapping[str, Link]]) -> None:
    driver = Links(kernel)
    for table in (*wanted, wanted[0]):
        assert not reconcile(driver, table).failures
        assert names(kernel) == set(table)
        assert not driver.changes(table)
