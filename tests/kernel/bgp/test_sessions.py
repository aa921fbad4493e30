"""Sessions between real BIRDs: what each field does, and what is said of a session that is not up."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_network

import pytest

from netloom.bgp.status import bfd, routes
from netloom.bgp.wording import trouble
from netloom.dataplane import netns
from netloom.model.addresses import Address
from netloom.model.routing import (
    Announced,
    Bfd,
    BgpConfig,
    Change,
    Community,
    FilterRule,
    Match,
    NextHop,
    RouteFilter,
    Secret,
    Session,
    Trust,
)
from tests.bird_pair import AS, Node
from tests.waiting import eventually

Pair = tuple[Node, Node]
PASSWORD = Secret("mesh", "password")


@pytest.fixture
def up(nodes: Pair) -> Pair:
    a, b = nodes
    both(nodes)
    eventually(lambda: a.established(b) and b.established(a))
    return nodes


def both(nodes: Pair, of_a: BgpConfig | None = None, of_b: BgpConfig | None = None) -> None:
    a, b = nodes
    a.apply(of_a or a.config(a.session(b)))
    b.apply(of_b or b.config(b.session(a)))


def words(node: Node, other: Node, session: Session) -> str:
    """As if it had been down for long."""
    peer = node.peer(other)
    return trouble(session, replace(peer, since=1.0) if peer else None, time.time())


def seen(node: Node) -> dict[str, tuple[str, ...]]:
    """Destinations that the other one told, with the communities."""
    found, _ = routes(node.bird.control.ask("show route all"), 1000)
    return {route.destination: route.communities for route in found if route.protocol.startswith("mesh_")}


# what is wrong


def test_they_expect_another_as(up: Pair) -> None:
    a, b = up
    session = b.session(a)
    both(up, a.config(a.session(b, remote_as=64999)))
    expected = f"refused: they expect another AS, we send {AS}"
    eventually(lambda: words(b, a, session) == expected)
    ours = "refused by us: they send another AS, we expect 64999"
    eventually(lambda: words(a, b, a.session(b, remote_as=64999)) == ours)


def test_a_password_that_differs_is_silence(up: Pair) -> None:
    a, b = up
    a.secrets[PASSWORD], b.secrets[PASSWORD] = "one", "other"
    try:
        both(up, a.config(a.session(b, password=PASSWORD)), b.config(b.session(a, password=PASSWORD)))
        told = a.session(b, password=PASSWORD)
        eventually(lambda: "the TCP-MD5 password differs" in words(a, b, told))
        b.secrets[PASSWORD] = "one"
        b.apply(b.config(b.session(a, password=PASSWORD)))
        eventually(lambda: a.established(b))
    finally:
        a.secrets.clear()
        b.secrets.clear()


def test_nobody_listens_there(up: Pair) -> None:
    a, b = up
    both(up, a.config(a.session(b, port=1790)), b.config(b.session(a, passive=True)))
    told = a.session(b, port=1790)
    eventually(lambda: words(a, b, told).startswith("nobody listens on 192.0.2.2 port 1790"))


def test_they_do_not_know_us(up: Pair) -> None:
    a, b = up
    both(up, None, b.config())
    eventually(lambda: words(a, b, a.session(b)).startswith(("refused: they know no peer", "closed by them")))


def test_their_administrator_has_shut_it_down(up: Pair) -> None:
    a, b = up
    b.bird.control.ask('disable mesh_a "rack is moved: State: UP"')
    try:
        expected = "closed by them: their administrator has shut it down; they say 'rack is moved: State: UP'"
        eventually(lambda: words(a, b, a.session(b)) == expected)
    finally:
        b.bird.control.ask("enable mesh_a")


def test_two_of_one_router_id(up: Pair) -> None:
    a, b = up
    both(up, a.config(a.session(b, hold_time=60), router_id=IPv4Address("192.0.2.2")))
    ours = "refused by us: they have the same router ID as this node, or none"
    theirs = "refused: they have a peer with our router ID already, or have it themselves"
    eventually(lambda: words(a, b, a.session(b)) in (ours, theirs))


def test_the_link_is_down(up: Pair) -> None:
    a, b = up
    try:
        b.ip("link", "set", "up0", "down")
        eventually(lambda: words(a, b, a.session(b)) == "the link to 192.0.2.2 is down")
    finally:
        b.ip("link", "set", "up0", "up")
        b.ip("-6", "address", "replace", f"{b.address6}/64", "dev", "up0", "nodad")


def test_more_hops_than_ttl_security_lets_through(up: Pair) -> None:
    """The other end sends with the TTL of a neighbour that expects none of this."""
    a, b = up
    strict = a.session(b, ttl=1)
    both(up, a.config(strict), b.config(b.session(a, passive=True)))
    eventually(lambda: "they are more than 1 hop away (ttlSecurity)" in words(a, b, strict))
    both(up, a.config(strict), b.config(b.session(a, ttl=1)))
    eventually(lambda: a.established(b))


def test_a_silent_peer_by_its_hold_time(up: Pair) -> None:
    a, b = up
    quick: dict[str, object] = {"hold_time": 3, "keepalive_time": 1, "restart_time": None}
    both(up, a.config(a.session(b, **quick)), b.config(b.session(a, **quick)))
    eventually(lambda: a.established(b) and a.peer(b).hold_time == 3)  # type: ignore[union-attr]  # established
    timers = "\n".join(text for _, text in a.bird.control.ask("show protocols all mesh_b"))
    assert re.search(r"Keepalive timer: +[\d.]+/1$", timers, re.MULTILINE), timers
    b.stop(signal.SIGSTOP)
    try:
        eventually(lambda: words(a, b, a.session(b, **quick)).startswith("they said nothing for 3 s, the hold time"))
        eventually(lambda: "10.244.2.0" not in a.ip("route"))
    finally:
        b.stop(signal.SIGCONT)


def test_bfd_hears_nothing(up: Pair) -> None:
    a, b = up
    watched: dict[str, object] = {"bfd": Bfd(100, 5), "restart_time": None}
    both(up, a.config(a.session(b, **watched)), b.config(b.session(a, **watched)))
    eventually(lambda: a.established(b) and bfd(a.bird.control.ask("show bfd sessions")) == {"192.0.2.2": "Up"})
    b.stop(signal.SIGSTOP)
    try:
        eventually(lambda: words(a, b, a.session(b, **watched)) == "BFD hears nothing from 192.0.2.2")
        eventually(lambda: "10.244.2.0" not in a.ip("route"))
    finally:
        b.stop(signal.SIGCONT)


def test_a_family_that_the_peer_does_not_carry(up: Pair) -> None:
    a, b = up
    both(up, None, b.config(b.session(a, families=(4,))))
    expected = "they carry no IPv6 routes here: they need a session of that family"
    eventually(lambda: words(a, b, a.session(b)) == expected)


def test_more_prefixes_than_the_limit(up: Pair) -> None:
    a, b = up
    blocks = tuple(Announced(ip_network(f"10.244.{n}.0/26"), "IPBlock") for n in range(10, 20))
    limited = a.session(b, limit=5)
    both(up, a.config(limited), b.config(b.session(a), announced=blocks))
    eventually(lambda: "more than 5 prefixes came" in words(a, b, limited))


# what is told and believed


def test_pods_blocks_get_a_route_of_birds(up: Pair) -> None:
    a, _ = up
    eventually(lambda: "10.244.2.0/26 via 192.0.2.2 dev up0 proto bird metric 700" in a.ip("route"))
    eventually(lambda: "fd00:244::2:0/122 via fd00:2::2 dev up0 proto bird metric 700" in a.ip("-6", "route"))


def test_nothing_else_is_told(up: Pair) -> None:
    """Not the links' prefixes, not other routes of the host, not what the agent put there."""
    a, b = up
    a.ip("route", "add", "203.0.113.0/24", "dev", "up0", "proto", "static")
    a.ip("route", "add", "10.244.77.0/26", "dev", "up0", "proto", "79")
    try:
        eventually(lambda: "203.0.113.0/24" in str(a.bird.control.ask("show route")))
        assert "10.244.77.0" not in str(a.bird.control.ask("show route"))
        eventually(lambda: set(seen(b)) == {"10.244.1.0/26", "fd00:244::1:0/122"})
    finally:
        a.ip("route", "del", "203.0.113.0/24")
        a.ip("route", "del", "10.244.77.0/26")


HOSTILE = (
    "10.244.1.0/26",
    "10.244.1.64/32",
    "10.244.1.5/32",
    "0.0.0.0/0",
    "127.0.0.0/8",
    "169.254.169.254/32",
    "203.0.113.0/24",
    "10.244.9.0/26",
)


@pytest.mark.parametrize(
    ("trust", "believed"),
    [
        (Trust.POOLS, {"10.244.1.64/32", "10.244.9.0/26"}),
        (Trust.ANYTHING, {"10.244.1.64/32", "10.244.9.0/26", "0.0.0.0/0", "203.0.113.0/24"}),
    ],
)
def test_own_blocks_and_nonsense_are_never_believed(up: Pair, trust: Trust, believed: set[str]) -> None:
    a, b = up
    told = tuple(Announced(ip_network(text), "odd") for text in HOSTILE)
    both(up, a.config(a.session(b, trust=trust)), b.config(b.session(a), announced=told))
    eventually(lambda: set(seen(a)) == believed)


def test_own_blocks_are_not_believed_even_where_a_filter_accepts_all(up: Pair) -> None:
    a, b = up
    told = tuple(Announced(ip_network(text), "odd") for text in HOSTILE)
    filters = {"all": RouteFilter({4: (FilterRule(True),)})}
    both(up, a.config(a.session(b, filters=("all",)), filters=filters), b.config(b.session(a), announced=told))
    eventually(lambda: "203.0.113.0/24" in seen(a))
    assert not {"10.244.1.0/26", "10.244.1.5/32"} & seen(a).keys()


def test_tunnelled_pools_are_not_birds_to_program(up: Pair) -> None:
    a, b = up
    both(up, a.config(a.session(b), plain=()))
    eventually(lambda: "10.244.2.0" not in a.ip("route"))
    eventually(lambda: "10.244.2.0/26" in seen(a))
    everyone = ip_network("10.244.0.0/16"), ip_network("fd00:244::/48")
    both(up, a.config(a.session(b), plain=(), neighbours=everyone))
    eventually(lambda: "10.244.2.0/26 via 192.0.2.2" in a.ip("route"))
    both(up, a.config(a.session(b), plain=(), neighbours=everyone, tunnelled=(b.block,)))
    eventually(lambda: "10.244.2.0" not in a.ip("route"))
    both(up, a.config(a.session(b), plain=(), neighbours=everyone, subnets=(ip_network("198.51.100.0/24"),)))
    eventually(lambda: "fd00:244::2:0" not in a.ip("-6", "route"))


def test_rules_of_a_filter(up: Pair) -> None:
    a, b = up
    tag = Community((64512, 7))
    rules = (
        FilterRule(True, ip_network("10.244.0.0/16"), Match.IN, (26, 26), changes=(Change(add_community=tag),)),
        FilterRule(False, ip_network("fd00:244::/48")),
    )
    filters = {"out": RouteFilter({}, {4: rules[:1], 6: rules[1:]})}
    both(up, a.config(a.session(b, filters=("out",)), filters=filters))
    eventually(lambda: seen(b) == {"10.244.1.0/26": ("64512:7",)})
    wanted = (FilterRule(False, communities=(tag,)),)
    both(
        up,
        a.config(a.session(b, filters=("out",)), filters=filters),
        b.config(b.session(a, filters=("in",)), filters={"in": RouteFilter({4: wanted})}),
    )
    eventually(lambda: seen(b) == {})


def test_a_priority_is_the_metric_in_the_kernel(up: Pair) -> None:
    a, b = up
    filters = {"near": RouteFilter({4: (FilterRule(True, changes=(Change(priority=600),)),)})}
    both(up, a.config(a.session(b, filters=("near",)), filters=filters))
    eventually(lambda: "10.244.2.0/26 via 192.0.2.2 dev up0 proto bird metric 600" in a.ip("route"))
    both(
        up,
        None,
        b.config(
            b.session(a, filters=("near",)),
            filters={"near": RouteFilter({}, {4: (FilterRule(True, b.block, Match.EQUAL, changes=(Change(priority=900),)),)})},
        ),
    )
    eventually(lambda: "10.244.2.0/26 via 192.0.2.2 dev up0 proto bird metric 900" in a.ip("route"))


def test_a_node_that_drains_says_so_and_then_is_silent(up: Pair) -> None:
    a, b = up
    both(up, a.config(a.session(b), draining=True))
    eventually(lambda: seen(b) == {"10.244.1.0/26": ("65535:0",), "fd00:244::1:0/122": ("65535:0",)})
    found, _ = routes(b.bird.control.ask("show route all"), 100)
    assert {route.preference for route in found if route.protocol == "mesh_a"} == {0}
    both(up, a.config(a.session(b), draining=True, withdrawn=True))
    eventually(lambda: seen(b) == {})
    assert a.established(b)


def test_communities_and_services(up: Pair) -> None:
    a, b = up
    told = (
        Announced(a.block, "block", (Community((64512, 1)), Community((64512, 2, 3)))),
        Announced(ip_network("10.96.0.0/12"), "services"),
    )
    both(up, a.config(a.session(b), announced=told), b.config(b.session(a, trust=Trust.ANYTHING)))
    eventually(lambda: seen(b) == {"10.244.1.0/26": ("64512:1", "64512:2:3"), "10.96.0.0/12": ()})
    assert "10.244.1.0/26" not in a.ip("route"), "blackholes of blocks are the agent's"
    assert "10.96.0.0/12" not in a.ip("route"), "the host's own packets to services are not cut off"


def test_next_hops_and_other_as(up: Pair) -> None:
    a, b = up
    outside: dict[str, object] = {"multihop": False, "trust": Trust.ANYTHING}
    both(
        up,
        a.config(a.session(b, remote_as=65002, local_as=65001, next_hop=NextHop.SELF, **outside)),
        b.config(b.session(a, remote_as=65001, local_as=65002, allowed_local_as=1, **outside)),
    )
    eventually(lambda: a.established(b) and "10.244.1.0/26" in seen(b))
    found, _ = routes(b.bird.control.ask("show route all"), 100)
    assert {route.path for route in found if route.protocol == "mesh_a"} == {"65001"}
    eventually(lambda: "10.244.2.0/26 via 192.0.2.2" in a.ip("route"))


def test_a_next_hop_is_kept_where_it_is_asked_for(up: Pair) -> None:
    """b knows somebody behind a router beside it, and tells a, which tells b by a second session, as if that were beyond a router: by
    default a sends to itself what it passes on."""
    a, b = up
    of_a, of_b, router, behind = map(ip_address, ("192.0.2.7", "192.0.2.8", "192.0.2.99", "198.51.100.9"))
    outside: dict[str, object] = {"trust": Trust.ANYTHING, "families": (4,), "filters": ("all",)}
    filters = {"all": RouteFilter({}, {4: (FilterRule(True, ip_network(behind)),)})}
    a.ip("address", "add", f"{of_a}/24", "dev", "up0")
    b.ip("address", "add", f"{of_b}/24", "dev", "up0")
    try:
        far = b.session(a, name="peer_far", address=behind, multihop=True, via=router)
        there = b.session(a, remote_as=65001, local_as=65002, **outside)
        back = b.session(a, name="peer_back", address=of_a, source=of_b, remote_as=65001, local_as=65003, **outside)
        b.apply(b.config(far, there, replace(back, multihop=True, filters=()), filters=filters))
        for mode, told in ((NextHop.AUTO, of_a), (NextHop.KEEP, router), (NextHop.SELF, of_a)):
            heard = a.session(b, remote_as=65002, local_as=65001, **outside)
            on = a.session(b, name="peer_on", address=of_b, source=of_a, remote_as=65003, local_as=65001, **outside)
            a.apply(a.config(heard, replace(on, multihop=True, next_hop=mode), filters=filters))
            eventually(lambda told=told: next_hops(b, behind, "peer_back") == {str(told)})
        assert next_hops(a, behind, "mesh_b") == {str(router)}, "as it is nearer than b"
        b.apply(b.config(far, replace(there, next_hop=NextHop.SELF), filters=filters))
        eventually(lambda: next_hops(a, behind, "mesh_b") == {str(b.address)})
    finally:
        a.ip("address", "del", f"{of_a}/24", "dev", "up0")
        b.ip("address", "del", f"{of_b}/24", "dev", "up0")


def next_hops(node: Node, host: Address, session: str) -> set[str]:
    """As that session's peer told them."""
    lines = "\n".join(
        text.strip() for _, text in node.bird.control.ask(f"show route where net = {host}/32 protocol {session} all")
    )
    return set(re.findall(r"^BGP[._]next_hop: (.*)$", lines, re.MULTILINE))


def test_a_path_with_this_nodes_own_as_is_taken_as_often_as_is_allowed(up: Pair) -> None:
    a, b = up
    outside: dict[str, object] = {"multihop": False, "trust": Trust.ANYTHING}
    behind = {"twin": RouteFilter({}, {4: (FilterRule(True, b.block, Match.EQUAL, changes=(Change(prepend=(65001,)),)),)})}
    of_b = b.config(b.session(a, remote_as=65001, local_as=65002, filters=("twin",), **outside), filters=behind)
    both(up, a.config(a.session(b, remote_as=65002, local_as=65001, **outside)), of_b)
    eventually(lambda: a.established(b) and "fd00:244::2:0/122" in seen(a))
    assert "10.244.2.0/26" not in seen(a), "that would be a loop"
    both(up, a.config(a.session(b, remote_as=65002, local_as=65001, allowed_local_as=1, **outside)), of_b)
    eventually(lambda: "10.244.2.0/26" in seen(a))


def test_interfaces_that_are_ignored_are_no_business_of_birds(up: Pair) -> None:
    a, b = up

    def knows_its_link() -> bool:
        return "192.0.2.0/24" in str(a.bird.control.ask("show route protocol uplinks"))

    eventually(knows_its_link)
    both(up, a.config(a.session(b), ignored=("up*",)))
    eventually(lambda: not knows_its_link())


def test_without_an_address_of_its_own_a_session_has_the_kernels_choice(up: Pair) -> None:
    a, b = up
    a.ip("address", "add", "192.0.2.7/24", "dev", "up0")
    a.ip("route", "add", str(b.address), "dev", "up0", "src", "192.0.2.7")
    try:
        seventh = b.session(a, address=ip_address("192.0.2.7"))
        both(up, a.config(a.session(b, source=None)), b.config(seventh))
        eventually(lambda: a.established(b))
        assert {line.split()[3].partition(":")[0] for line in sessions(b)} == {"192.0.2.7"}
    finally:
        a.ip("route", "del", str(b.address), "src", "192.0.2.7")
        a.ip("address", "del", "192.0.2.7/24", "dev", "up0")


def sessions(node: Node) -> list[str]:
    """Of TCP, to or from the port of BGP."""
    with netns.entered(node.netns):
        command = ["ss", "-Htn", "state", "established", "( sport = 179 or dport = 179 )"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def test_a_peer_that_restarts_is_waited_for_as_long_as_is_said(up: Pair) -> None:
    a, b = up
    outside: dict[str, object] = {"remote_as": 65002, "local_as": 65001, "trust": Trust.ANYTHING}
    back: dict[str, object] = {"remote_as": 65001, "local_as": 65002, "trust": Trust.ANYTHING}
    for seconds in (40, None):
        both(up, a.config(a.session(b, restart_time=seconds, **outside)), b.config(b.session(a, restart_time=seconds, **back)))
        eventually(lambda: a.established(b) and "10.244.2.0/26" in seen(a))
        b.stop(signal.SIGKILL)
        eventually(lambda: not a.established(b))
        if seconds:
            assert "10.244.2.0/26" in seen(a), "its routes are kept meanwhile"
        else:
            eventually(lambda: "10.244.2.0/26" not in seen(a))
        b.start("-R")
        eventually(lambda: a.established(b))


def test_a_way_to_a_peer_by_a_router(up: Pair) -> None:
    a, b = up
    behind = ip_address("198.51.100.9")
    b.ip("address", "add", f"{behind}/32", "dev", "lo")
    try:
        both(up, a.config(a.session(b, address=behind, multihop=True, via=b.address)), b.config(b.session(a, source=behind)))
        eventually(lambda: "198.51.100.9 via 192.0.2.2 dev up0 proto bird metric 700" in a.ip("route"))
        eventually(lambda: a.established(b))
    finally:
        b.ip("address", "del", f"{behind}/32", "dev", "lo")
    both(up)
    eventually(lambda: "198.51.100.9" not in a.ip("route"))


def test_sessions_on_own_addresses_only_and_another_port(up: Pair) -> None:
    a, b = up
    both(
        up,
        a.config(a.session(b, port=1179), listen=(a.address, a.address6), port=1179),
        b.config(b.session(a, port=1179), listen=(b.address, b.address6), port=1179),
    )
    eventually(lambda: a.established(b))
    assert listening(a, 1179) == {"192.0.2.1:1179"}


def listening(node: Node, port: int) -> set[str]:
    with netns.entered(node.netns):
        lines = subprocess.run(["ss", "-Htln"], check=True, capture_output=True, text=True).stdout.splitlines()
    return {line.split()[3] for line in lines if line.split()[3].endswith(f":{port}")}


def test_bgp_that_is_off_takes_its_routes_back(up: Pair) -> None:
    a, _ = up
    eventually(lambda: "proto bird" in a.ip("route") and "proto bird" in a.ip("-6", "route"))
    a.apply(None)
    eventually(lambda: "proto bird" not in a.ip("route") + a.ip("-6", "route"))
