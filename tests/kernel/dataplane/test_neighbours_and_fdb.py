"""Neighbours and FDB entries: built, repaired, taken away; both families; what is not ours is left alone."""

from __future__ import annotations

import errno
import ipaddress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netloom.dataplane.entries import Entries
from netloom.dataplane.fdb import Fdb
from netloom.dataplane.links import Links
from netloom.dataplane.neighbours import Neighbours
from netloom.dataplane.netlink import Events, Netlink
from netloom.model.addresses import Mac
from netloom.model.desired import FdbKey, NeighbourKey, Vxlan
from netloom.reconcile import Outcome, reconcile
from tests.kernel.iproute import run, shown

A, B, C = Mac("66:00:00:00:01:01"), Mac("66:00:00:00:01:02"), Mac("66:00:00:00:01:03")


def neighbour(address: str, device: str = "loom.vxlan") -> NeighbourKey:
    return NeighbourKey(device, ipaddress.ip_address(address))


NEIGHBOURS = {neighbour("10.1.0.0"): A, neighbour("10.2.0.0"): B, neighbour("fe80::1"): A, neighbour("fd00::2"): B}
FDB = {FdbKey("loom.vxlan", A): ipaddress.ip_address("172.16.0.8"), FdbKey("loom.vxlan", B): ipaddress.ip_address("172.16.0.9")}


def permanent() -> dict[tuple[str, str], str]:
    found = shown("ip neigh show nud permanent") + shown("ip -6 neigh show nud permanent")
    return {(entry["dev"], entry["dst"]): entry["lladdr"] for entry in found}


def forwarding(device: str = "loom.vxlan") -> dict[str, str]:
    return {entry["mac"]: entry["dst"] for entry in shown(f"bridge fdb show dev {device}")}


def as_text(table: dict[Any, Any]) -> dict[Any, str]:
    return {(key[0], str(key[1])): str(value) for key, value in table.items()}


@pytest.mark.parametrize(("kind", "table"), [(Neighbours, NEIGHBOURS), (Fdb, FDB)])
def test_a_table_is_built_and_the_second_pass_writes_nothing(
    kernel: Netlink, kind: type[Entries[Any, Any]], table: dict[Any, Any]
) -> None:
    driver = kind(kernel)
    assert reconcile(driver, table) == Outcome(put=len(table))
    assert (
        (permanent() == as_text(table)) if kind is Neighbours else (forwarding() == {k.mac: str(v) for k, v in table.items()})
    )
    events = Events()
    assert not driver.changes(table)
    assert not kind(kernel).changes(dict(table))
    at = driver.resolve({"loom.vxlan"})
    assert driver.read(at).keys() == {driver.encode(key, value, at["loom.vxlan"]) for key, value in table.items()}
    assert driver.name not in events.read().tables
    events.close()


@pytest.mark.parametrize(
    "mutation",
    [
        "ip neigh replace 10.1.0.0 lladdr 66:00:00:00:09:09 dev loom.vxlan nud permanent",
        "ip neigh change 10.1.0.0 dev loom.vxlan nud reachable",
        "ip neigh del 10.1.0.0 dev loom.vxlan",
        "ip neigh add 10.7.0.0 lladdr 66:00:00:00:09:09 dev loom.vxlan nud permanent",
        "ip -6 neigh replace fe80::1 lladdr 66:00:00:00:09:09 dev loom.vxlan nud permanent",
        "ip -6 neigh del fd00::2 dev loom.vxlan",
        "ip -6 neigh add fd00::7 lladdr 66:00:00:00:09:09 dev loom.vxlan nud permanent",
        "ip neigh flush dev loom.vxlan nud permanent",
    ],
)
def test_a_mutated_neighbour_is_repaired(kernel: Netlink, mutation: str) -> None:
    neighbours = Neighbours(kernel)
    reconcile(neighbours, NEIGHBOURS)
    run(mutation)
    assert permanent() != as_text(NEIGHBOURS)
    assert not reconcile(neighbours, NEIGHBOURS).failures
    assert permanent() == as_text(NEIGHBOURS)
    assert not neighbours.changes(NEIGHBOURS)


@pytest.mark.parametrize(
    "mutation",
    [
        "bridge fdb replace 66:00:00:00:01:01 dev loom.vxlan dst 172.16.0.66 self permanent",
        "bridge fdb replace 66:00:00:00:01:01 dev loom.vxlan dst 172.16.0.8 port 99 self permanent",
        "bridge fdb replace 66:00:00:00:01:01 dev loom.vxlan dst 172.16.0.8 vni 99 self permanent",
        "bridge fdb replace 66:00:00:00:01:01 dev loom.vxlan dst 172.16.0.8 via up0 self permanent",
        "bridge fdb replace 66:00:00:00:01:01 dev loom.vxlan dst 172.16.0.8 self dynamic",
        "bridge fdb del 66:00:00:00:01:01 dev loom.vxlan",
        "bridge fdb add 66:00:00:00:09:09 dev loom.vxlan dst 172.16.0.66 self permanent",
        "bridge fdb add 00:00:00:00:00:00 dev loom.vxlan dst 172.16.0.66 self permanent",
    ],
)
def test_a_mutated_forwarding_entry_is_repaired(kernel: Netlink, mutation: str) -> None:
    fdb = Fdb(kernel)
    reconcile(fdb, FDB)
    before = run("bridge fdb show dev loom.vxlan")
    run(mutation)
    assert run("bridge fdb show dev loom.vxlan") != before
    assert not reconcile(fdb, FDB).failures
    assert sorted(run("bridge fdb show dev loom.vxlan").splitlines()) == sorted(before.splitlines())
    assert not fdb.changes(FDB)


def test_entries_of_others_are_left_alone(kernel: Netlink) -> None:
    run("ip neigh add 172.16.0.77 lladdr 66:00:00:00:09:09 dev up0 nud permanent")
    run("ip neigh add 10.7.0.0 lladdr 66:00:00:00:09:09 dev loom.vxlan nud reachable")
    run("ip link add loom0 type veth peer name eth0")
    run("ip link set loom0 master up0")
    run("ip link add other type vxlan id 7 local 172.16.0.1 dev up0 dstport 4790")
    run("bridge fdb add 66:00:00:00:09:09 dev other dst 172.16.0.66 self permanent")
    others = [run("ip neigh show"), run("bridge fdb show")]
    for table in (NEIGHBOURS, {}):
        reconcile(Neighbours(kernel), table)
    for table in (FDB, {}):
        reconcile(Fdb(kernel), table)
    assert [run("ip neigh show"), run("bridge fdb show")] == others


def test_a_neighbour_is_put_on_another_interface_where_the_rest_is_left_alone(kernel: Netlink) -> None:
    neighbours = Neighbours(kernel)
    run("ip neigh add 172.16.0.77 lladdr 66:00:00:00:09:09 dev up0 nud permanent")
    table = {neighbour("172.16.0.5", "up0"): A}
    assert reconcile(neighbours, table) == Outcome(put=1)
    assert permanent().keys() == {("up0", "172.16.0.77"), ("up0", "172.16.0.5")}
    assert not neighbours.changes(table)


def test_a_tunnel_over_ipv6_has_ipv6_destinations_and_another_family_is_refused(kernel: Netlink) -> None:
    link = Vxlan(A, 1400, 4097, 4790, ipaddress.ip_address("2001:db8::1"), "up0")
    reconcile(Links(kernel), {"loom.six": link})
    fdb = Fdb(kernel)
    table = {FdbKey("loom.six", B): ipaddress.ip_address("2001:db8::9")}
    assert reconcile(fdb, table) == Outcome(put=1)
    assert forwarding("loom.six") == {B: "2001:db8::9"}
    assert not fdb.changes(table)
    outcome = reconcile(fdb, {**table, FdbKey("loom.six", C): ipaddress.ip_address("172.16.0.9")})
    assert [failure.errno for failure in outcome.failures] == [errno.EAFNOSUPPORT]


def test_an_entry_without_its_device_fails_alone(kernel: Netlink) -> None:
    for driver, table, lost in (
        (Neighbours(kernel), NEIGHBOURS, {neighbour("10.9.0.0", "loom.gone"): C}),
        (Fdb(kernel), FDB, {FdbKey("loom.gone", C): ipaddress.ip_address("172.16.0.9")}),
    ):
        outcome = reconcile(driver, {**table, **lost})  # type: ignore[arg-type]  # each pair fits together
        assert outcome.put == len(table)
        assert [failure.errno for failure in outcome.failures] == [errno.ENODEV]
        assert "no interface loom.gone" in str(outcome.failures[0])


ADDRESSES = st.sampled_from(["10.1.0.0", "10.2.0.0", "10.3.0.0", "fe80::1", "fd00::2"])
MACS = st.sampled_from([A, B, C])


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(ADDRESSES.map(neighbour), MACS), min_size=2, max_size=4))
def test_any_neighbours_become_any_others(kernel: Netlink, wanted: list[dict[NeighbourKey, Mac]]) -> None:
    driver = Neighbours(kernel)
    for table in (*wanted, *reversed(wanted), wanted[-1], wanted[0]):
        assert not reconcile(driver, table).failures
        assert permanent() == as_text(table)  # type: ignore[arg-type]  # each pair fits together
        assert not driver.changes(table)


DESTINATIONS = st.sampled_from(["172.16.0.8", "172.16.0.9"]).map(ipaddress.ip_address)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(MACS.map(lambda mac: FdbKey("loom.vxlan", mac)), DESTINATIONS), min_size=2, max_size=4))
def test_any_forwarding_table_becomes_any_other(kernel: Netlink, wanted: list[dict[FdbKey, Any]]) -> None:
    driver = Fdb(kernel)
    for table in (*wanted, *reversed(wanted), wanted[-1], wanted[0]):
        assert not reconcile(driver, table).failures
        assert forwarding() == {key.mac: str(value) for key, value in table.items()}
        assert not driver.changes(table)
