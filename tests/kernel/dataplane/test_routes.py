"""Routes: each attribute that somebody else changes is repaired, and what is not ours is left alone."""

from __future__ import annotations

import errno
import ipaddress
from collections import ChainMap
from collections.abc import Mapping

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netloom.dataplane.netlink import Events, Netlink
from netloom.dataplane.routes import Routes
from netloom.model.desired import Route, RouteKey, RouteKind
from netloom.reconcile import Changes, Outcome, reconcile
from tests.kernel.iproute import run, shown

Table = Mapping[RouteKey, Route]


def key(prefix: str, metric: int) -> RouteKey:
    return RouteKey(ipaddress.ip_network(prefix), metric)


def via(gateway: str, *, device: str = "loom.vxlan", onlink: bool = True, source: str = "") -> Route:
    return Route(device, ipaddress.ip_address(gateway), onlink, ipaddress.ip_address(source) if source else None)


BLACKHOLE = Route(kind=RouteKind.BLACKHOLE)
WANTED: Table = {
    key("10.1.0.0/24", 65536): via("10.1.0.0", source="172.16.0.1"),
    key("10.2.0.0/24", 65537): via("172.16.0.2", device="up0", onlink=False),
    key("10.0.0.5/32", 0): Route("loom.vxlan"),
    key("10.0.0.0/24", 4294967040): BLACKHOLE,
    key("fd00:1::/64", 65536): via("fe80::1", source="2001:db8::1"),
    key("fd00:2::/64", 65537): via("2001:db8::2", device="up0", onlink=False),
    key("fd00::5/128", 1024): Route("loom.vxlan"),
    key("fd00::/64", 4294967040): BLACKHOLE,
}


@pytest.fixture
def routes(kernel: Netlink) -> Routes:
    return Routes(kernel)


def in_kernel() -> set[tuple[str, int]]:
    """Prefix and metric of our routes, as `ip` shows them."""
    found = shown("ip -4 route show proto 79") + shown("ip -6 route show proto 79")
    networks = ((ipaddress.ip_network(route["dst"]), route.get("metric", 0)) for route in found)
    return {(str(network), metric) for network, metric in networks}


def keys(table: Table) -> set[tuple[str, int]]:
    return {(str(prefix), metric) for prefix, metric in table}


def test_a_table_is_built_and_the_second_pass_writes_nothing(routes: Routes, kernel: Netlink) -> None:
    assert reconcile(routes, WANTED) == Outcome(put=len(WANTED))
    assert in_kernel() == keys(WANTED)
    events = Events()
    assert not routes.changes(WANTED)
    assert not Routes(kernel).changes(dict(WANTED))
    assert "routes" not in events.read().tables  # of the addresses that it has just got the kernel tells a moment later
    events.close()


def test_what_is_wanted_is_encoded_in_the_very_bytes_of_a_dump(routes: Routes) -> None:
    wanted = {key: route for key, route in WANTED.items() if route.device != "up0"}
    reconcile(routes, wanted)
    at = routes.resolve({"loom.vxlan"})
    assert routes.read(at).keys() == {routes.encode(key, route, at.get(route.device, 0)) for key, route in wanted.items()}


def test_what_the_kernel_notes_on_a_route_by_itself_is_no_difference(routes: Routes) -> None:
    reconcile(routes, WANTED)
    assert "linkdown" in run("ip route show proto 79 dev up0")  # a bridge without ports has no carrier
    assert not routes.changes(WANTED)


def test_ip_shows_what_was_asked_for(routes: Routes) -> None:
    reconcile(routes, WANTED)
    assert [r for r in shown("ip route show proto 79") if r["dst"] == "10.1.0.0/24"] == [
        {
            "dst": "10.1.0.0/24",
            "gateway": "10.1.0.0",
            "dev": "loom.vxlan",
            "prefsrc": "172.16.0.1",
            "metric": 65536,
            "flags": ["onlink"],
        }
    ]
    assert [(r["dev"], r["scope"]) for r in shown("ip route show proto 79") if r["dst"] == "10.0.0.5"] == [
        ("loom.vxlan", "link")
    ]
    assert {r["type"] for r in shown("ip -6 route show proto 79") if r["dst"] == "fd00::/64"} == {"blackhole"}


MUTATIONS = {
    "gateway": "ip route replace 10.1.0.0/24 via 10.1.0.9 dev loom.vxlan onlink proto 79 metric 65536 src 172.16.0.1",
    "device": "ip route replace 10.1.0.0/24 via 10.1.0.0 dev up0 onlink proto 79 metric 65536 src 172.16.0.1",
    "source": "ip route replace 10.1.0.0/24 via 10.1.0.0 dev loom.vxlan onlink proto 79 metric 65536",
    "metric": "ip route change 10.2.0.0/24 via 172.16.0.2 dev up0 proto 79 metric 7",
    "onlink": "ip route replace 10.2.0.0/24 via 172.16.0.2 dev up0 onlink proto 79 metric 65537",
    "kind": "ip route replace blackhole 10.2.0.0/24 proto 79 metric 65537",
    "unreachable": "ip route replace unreachable 10.2.0.0/24 proto 79 metric 65537",
    "protocol": "ip route replace 10.2.0.0/24 via 172.16.0.2 dev up0 proto static metric 65537",
    "scope": "ip route replace 10.0.0.5/32 dev loom.vxlan scope host proto 79",
    "mtu": "ip route replace 10.2.0.0/24 via 172.16.0.2 dev up0 proto 79 metric 65537 mtu 1000",
    "gone": "ip route del 10.0.0.5/32",
    "one more": "ip route append 10.2.0.0/24 via 172.16.0.3 dev up0 proto 79 metric 65537",
    "one before": "ip route prepend 10.2.0.0/24 via 172.16.0.3 dev up0 proto 79 metric 65537",
    "two paths": "ip route replace 10.2.0.0/24 proto 79 metric 65537 nexthop via 172.16.0.2 nexthop via 172.16.0.3",
    "flushed": "ip route flush proto 79",
    "not blackhole": "ip route replace 10.0.0.0/24 dev up0 proto 79 metric 4294967040",
    "gateway, v6": "ip route replace fd00:1::/64 via fe80::9 dev loom.vxlan onlink proto 79 metric 65536 src 2001:db8::1",
    "device, v6": "ip route replace fd00:1::/64 via fe80::1 dev up0 onlink proto 79 metric 65536 src 2001:db8::1",
    "source, v6": "ip route replace fd00:1::/64 via fe80::1 dev loom.vxlan onlink proto 79 metric 65536",
    "metric, v6": "ip route add fd00:2::/64 via 2001:db8::2 dev up0 proto 79 metric 7",
    "kind, v6": "ip route replace blackhole fd00:2::/64 proto 79 metric 65537",
    "expires, v6": "ip route replace fd00:2::/64 via 2001:db8::2 dev up0 proto 79 metric 65537 expires 900",
    "preference, v6": "ip route replace fd00:2::/64 via 2001:db8::2 dev up0 proto 79 metric 65537 pref high",
    "two paths, v6": "ip route append fd00:2::/64 via 2001:db8::3 dev up0 proto 79 metric 65537",
    "one more, v6": "ip route append fd00::5/128 dev up0 proto 79 metric 1024",
    "flushed, v6": "ip -6 route flush proto 79",
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_mutated_route_is_seen_and_repaired_in_one_pass(routes: Routes, mutation: str) -> None:
    reconcile(routes, WANTED)
    before = run("ip -4 route show proto 79") + run("ip -6 route show proto 79")
    mutate(MUTATIONS[mutation])
    assert run("ip -4 route show proto 79") + run("ip -6 route show proto 79") != before
    outcome = reconcile(routes, WANTED)
    assert (outcome.put or outcome.deleted) and not outcome.failures
    assert run("ip -4 route show proto 79") + run("ip -6 route show proto 79") == before
    assert not routes.changes(WANTED)


def mutate(command: str) -> None:
    """`ip` knows the family by the addresses, but not for every verb."""
    family = "-6" if "::" in command else "-4"
    words = command.split()
    if words[1] != "-6":
        words.insert(1, family)
    if "change" in words:  # another metric is another route: take the old one away
        run("ip -4 route del 10.2.0.0/24 metric 65537")
        words[words.index("change")] = "add"
    run(*words)


def test_routes_of_others_are_left_alone_even_for_the_same_prefix(routes: Routes) -> None:
    run("ip route add 10.1.0.0/24 dev up0 metric 5")
    run("ip route add 10.9.0.0/24 dev up0 proto bird")
    run("ip -6 route add fd00:9::/64 dev up0 proto static")
    run("ip route add 10.8.0.0/24 dev up0 proto 79 table 100")
    others = [run("ip route show table all"), run("ip -6 route show table all")]
    reconcile(routes, WANTED)
    reconcile(routes, {})
    assert [run("ip route show table all"), run("ip -6 route show table all")] == others


def test_a_route_without_its_device_fails_alone(routes: Routes) -> None:
    lost = key("10.3.0.0/24", 65540)
    outcome = reconcile(routes, {**WANTED, lost: via("10.3.0.0", device="loom.gone")})
    assert outcome.put == len(WANTED)
    assert [(f.key, f.errno) for f in outcome.failures] == [("10.3.0.0/24 65540", errno.ENODEV)]
    assert in_kernel() == keys(WANTED)
    assert routes.changes({**WANTED, lost: via("10.3.0.0", device="loom.gone")}).put.keys() == {lost}


def test_a_refused_route_names_the_kernels_reason_and_the_others_go_on(routes: Routes) -> None:
    lost = key("10.3.0.0/24", 65540)
    outcome = reconcile(routes, {lost: via("9.9.9.9", device="up0", onlink=False), **WANTED})
    assert outcome.put == len(WANTED)
    assert [failure.errno for failure in outcome.failures] == [errno.ENETUNREACH]
    assert "invalid gateway" in str(outcome.failures[0])


def test_a_block_that_moves_to_another_node_is_put_before_the_old_route_goes(routes: Routes) -> None:
    old, new = key("10.1.0.0/24", 65536), key("10.1.0.0/24", 70000)
    reconcile(routes, {old: via("10.1.0.0")})
    changes = routes.changes({new: via("10.7.0.0")})
    assert changes == Changes({new: via("10.7.0.0")}, frozenset({old}))
    monitor = Events()
    assert routes.apply(changes) == Outcome(put=1, deleted=1)
    assert monitor.read().tables.keys() == {"routes"}
    monitor.close()
    assert in_kernel() == keys({new: via("10.7.0.0")})


def test_taking_a_pods_route_away_twice_leaves_the_blackhole_below_it(routes: Routes) -> None:
    pod, block = key("10.0.0.5/32", 0), key("10.0.0.5/32", 4294967040)
    reconcile(routes, {pod: Route("loom.vxlan"), block: BLACKHOLE})
    for expected in (1, 0):
        assert routes.apply(Changes({}, frozenset({pod}))).deleted == expected
        assert in_kernel() == keys({block: BLACKHOLE})


def test_an_interface_that_comes_back_with_another_index_gets_its_routes_again(routes: Routes) -> None:
    table = {key("10.2.0.0/24", 65537): Route("loom.br0"), key("fd00:2::/64", 65537): Route("loom.br0")}
    for _ in range(2):
        run("ip link add loom.br0 type bridge")
        run("ip link set loom.br0 up")
        assert reconcile(routes, table).put == 2
        assert not routes.changes(table)
        run("ip link del loom.br0")
        assert len(routes.changes(table).put) == 2


PREFIXES = [ipaddress.ip_network(p) for p in ("10.1.0.0/24", "10.1.0.0/16", "10.0.0.5/32", "fd00:1::/64", "fd00::5/128")]


@st.composite
def tables(draw: st.DrawFn) -> Table:
    found = {}
    for prefix in draw(st.lists(st.sampled_from(PREFIXES), unique=True)):
        four = prefix.version == 4
        gateway = via(draw(st.sampled_from(["10.1.0.0", "10.1.0.1"] if four else ["fe80::1", "fe80::2"])))
        sourced = via("10.1.0.2", source="172.16.0.1") if four else via("fe80::3", source="2001:db8::1")
        for metric in draw(st.lists(st.sampled_from([0 if four else 1024, 65536, 65537]), min_size=1, max_size=2, unique=True)):
            found[RouteKey(prefix, metric)] = draw(
                st.sampled_from([gateway, sourced, Route("loom.vxlan"), Route("up0"), BLACKHOLE])
            )
    return found


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(tables(), min_size=2, max_size=4))
def test_any_table_becomes_any_other_in_any_order(routes: Routes, wanted: list[Table]) -> None:
    for table in (*wanted, *reversed(wanted), wanted[-1], wanted[0]):
        assert not reconcile(routes, table).failures
        assert in_kernel() == keys(table)
        assert not routes.changes(table)
        assert not routes.changes(dict(table))


def without_a_look(routes: Routes, table: Table) -> Outcome:
    """As a pass does it when only the wish has changed."""
    changes = routes.since(table)
    return routes.apply(routes.changes(table) if changes is None else changes)


def edited(table: Table, later: Table) -> Table:
    """`later`, made of a copy of `table`: keys that stay are the same objects in the same order."""
    found = {key: later[key] for key in table if key in later}
    return found | {key: value for key, value in later.items() if key not in found}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(tables(), tables()), min_size=2, max_size=4), st.booleans())
def test_any_table_becomes_any_other_without_a_look_at_the_kernel(
    routes: Routes, wanted: list[tuple[Table, Table]], editing: bool
) -> None:
    upper: Table = {}
    lower: Table = {}
    for step in (*wanted, *reversed(wanted), wanted[-1], wanted[0]):
        upper, lower = (edited(*each) if editing else each[1] for each in zip((upper, lower), step, strict=True))
        table = ChainMap({key: value for key, value in upper.items() if key not in lower}, lower)
        assert not without_a_look(routes, table).failures
        assert in_kernel() == keys(table)
        assert routes.since(table) == Changes(), "nothing is left to be done"
        assert not routes.changes(table), "nor for who looks"


def test_only_what_has_changed_is_written_and_nothing_is_read(routes: Routes, kernel: Netlink) -> None:
    reconcile(routes, WANTED)
    routes.changes(WANTED)
    one = key("10.1.0.0/24", 65536)
    later = {name: value for name, value in WANTED.items() if name != one}
    later |= {key("10.7.0.0/24", 65540): via("10.7.0.0"), key("fd00:1::/64", 65536): via("fe80::7")}
    run("ip route del 10.2.0.0/24 metric 65537")
    changes = routes.since(later)
    assert changes is not None
    assert changes.put.keys() == {key("10.7.0.0/24", 65540), key("fd00:1::/64", 65536)}
    assert changes.delete == {one}
    assert not routes.apply(changes).failures
    assert routes.changes(later).put.keys() == {key("10.2.0.0/24", 65537)}, "what others do is seen by who looks"


def test_who_has_not_agreed_with_the_kernel_has_to_look(routes: Routes) -> None:
    assert routes.since(WANTED) is None, "it has not been read yet"
    reconcile(routes, WANTED)
    assert not routes.changes(WANTED)
    assert routes.since(WANTED) == Changes()
    assert routes.since({**WANTED, key("10.9.0.0/24", 65540): Route("loom.none")}) is None, "an interface that nobody knows"
    refused = {**WANTED, key("10.9.0.0/24", 65540): via("10.99.0.1", onlink=False)}
    assert without_a_look(routes, refused).failures
    assert routes.since(WANTED) is None, "the kernel has refused something"
    assert not reconcile(routes, WANTED).failures
