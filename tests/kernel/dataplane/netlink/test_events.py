"""Events: what was touched, what is gone, and when too much happened."""

from __future__ import annotations

import ipaddress
import select
import threading
import time
from collections.abc import Iterator

import pytest

from netloom.dataplane.netlink import (
    Events,
    Netlink,
    Touched,
    delete_link,
    delete_route_by_key,
    indexes,
    new_bridge,
    new_veth,
    put_address,
    put_fdb,
    put_neighbour,
    put_route,
    set_link,
)
from netloom.model.addresses import Mac
from netloom.model.desired import Route, RouteKey, RouteKind
from tests.kernel.iproute import run

A, B = Mac("66:00:00:00:00:01"), Mac("66:00:00:00:00:02")
PREFIX = ipaddress.ip_network("10.0.0.0/24")
BLACKHOLE = Route(kind=RouteKind.BLACKHOLE)


@pytest.fixture
def kernel(node: int) -> Iterator[Netlink]:
    with Netlink() as netlink:
        netlink.transact(new_bridge("up0", mac=A, mtu=1500, index=50, up=True))
        yield netlink


def everything(events: Events) -> Touched:
    """Until nothing more is waiting."""
    found = Touched()
    while part := events.read():
        found.overrun |= part.overrun
        found.removed |= part.removed
        for table, touched in part.tables.items():
            found.tables.setdefault(table, set()).update(touched)
    return found


@pytest.mark.parametrize(
    ("command", "table", "interface"),
    [
        ("ip link set up0 mtu 1400", "links", 50),
        ("ip addr add 10.9.0.1/24 dev up0", "addresses", 50),
        ("ip -6 addr add fd00::1/64 dev up0", "addresses", 50),
        ("ip route add 10.1.0.0/24 dev up0 proto 79", "routes", 50),
        ("ip -6 route add fd00:1::/64 dev up0 proto 79", "routes", 50),
        ("ip route add blackhole 10.2.0.0/24 proto 79", "routes", 0),
        ("ip neigh add 10.0.0.1 lladdr 66:00:00:00:00:09 dev up0 nud permanent", "neighbours", 50),
        ("ip -6 neigh add fd00::9 lladdr 66:00:00:00:00:09 dev up0 nud permanent", "neighbours", 50),
        ("bridge fdb add 66:00:00:00:00:09 dev up0 self local", "fdb", 50),
    ],
)
def test_an_act_of_somebody_else_names_table_and_interface(kernel: Netlink, command: str, table: str, interface: int) -> None:
    events = Events()
    run(command)
    assert everything(events).tables[table] == {interface}
    events.close()


def test_routes_of_others_are_no_news_unless_they_may_have_replaced_ours(kernel: Netlink) -> None:
    events = Events()
    run("ip route add 10.1.0.0/24 dev up0 proto bird")
    run("ip route del 10.1.0.0/24 dev up0 proto bird")
    assert "routes" not in everything(events).tables
    kernel.transact(put_route(RouteKey(PREFIX, 7), BLACKHOLE, 0))
    events.read()
    run("ip route replace 10.0.0.0/24 dev up0 proto bird metric 7")
    assert everything(events).tables["routes"] == {50}
    events.close()


@pytest.mark.parametrize(("state", "news"), [("noarp", False), ("permanent", True)])
def test_neighbours_that_the_kernel_forgets_are_news_unless_they_are_multicast(kernel: Netlink, state: str, news: bool) -> None:
    run(f"ip neigh add 224.0.0.9 lladdr 01:00:5e:00:00:09 dev up0 nud {state}")
    events = Events()
    run("ip link set up0 down")
    assert ("neighbours" in everything(events).tables) is news
    events.close()


def test_what_our_own_socket_writes_is_no_news_but_for_links_and_fdb(kernel: Netlink) -> None:
    own: set[int] = set()
    events = Events(own=own)
    own.add(kernel.port)
    run("ip link add loom.vxlan type vxlan id 1 dstport 4789")
    at = indexes(kernel, ["loom.vxlan"])["loom.vxlan"]
    kernel.transact(
        put_address(50, ipaddress.ip_interface("10.0.0.1/24")),
        put_neighbour(50, ipaddress.ip_address("10.0.0.2"), B),
        put_fdb(at, B, ipaddress.ip_address("172.16.0.9")),
        put_route(RouteKey(PREFIX, 7), BLACKHOLE, 0),
        delete_route_by_key(RouteKey(PREFIX, 7)),
    )
    assert everything(events).tables.keys() <= {"links", "fdb", "sysctls"}  # a new link has sysctls
    own.clear()
    kernel.transact(put_route(RouteKey(PREFIX, 7), BLACKHOLE, 0))
    assert everything(events).tables["routes"] == {0}
    events.close()


@pytest.mark.parametrize(
    "name", ["ipv4/conf/up0/rp_filter", "ipv4/conf/up0/proxy_arp", "ipv4/ip_forward", "ipv6/conf/all/forwarding"]
)
def test_changed_sysctls_are_reported_where_the_kernel_tells(kernel: Netlink, name: str) -> None:
    events = Events()
    with open(f"/proc/sys/net/{name}", "w") as file:
        file.write("1")
    assert "sysctls" in everything(events).tables
    events.close()


def test_a_link_is_reported_gone_before_its_remover_gets_the_answer(kernel: Netlink, pod: int) -> None:
    """Who watches may be given the processor later than who removes; then nothing is known, and it is tried again."""
    assert any(is_seen_going_first(kernel, pod) for _ in range(50))


def is_seen_going_first(kernel: Netlink, pod: int) -> bool:
    kernel.transact(new_veth("loom0", "eth0", pod, mac=A, peer_mac=B, mtu=1500, index=77))
    events = Events()
    answered = []
    remover = threading.Thread(target=lambda: (kernel.transact(delete_link(77)), answered.append(time.perf_counter())))
    remover.start()
    removed: set[int] = set()
    while 77 not in removed:
        assert select.select([events], [], [], 60)[0]
        removed |= events.read().removed
    seen = time.perf_counter()
    remover.join()
    assert removed == {77}
    events.close()
    return seen < answered[0]


def test_a_port_that_leaves_its_bridge_is_not_gone(kernel: Netlink, pod: int) -> None:
    kernel.transact(new_veth("loom0", "eth0", pod, mac=A, peer_mac=B, mtu=1500, index=77, master=50))
    events = Events()
    kernel.transact(set_link(77, master=0))
    touched = everything(events)
    assert 77 in touched.tables["links"] and not touched.removed
    events.close()


def test_lost_events_are_reported_and_the_socket_goes_on(kernel: Netlink) -> None:
    events = Events(buffer=4096)
    kernel.send_many([put_route(RouteKey(PREFIX, 1 + i), BLACKHOLE, 0) for i in range(500)])
    assert everything(events).overrun
    kernel.transact(put_neighbour(50, ipaddress.ip_address("10.0.0.2"), B))
    touched = everything(events)
    assert touched.tables["neighbours"] == {50} and not touched.overrun
    events.close()


def test_a_burst_is_read_in_pieces_so_that_others_get_their_turn(kernel: Netlink) -> None:
    events = Events()
    kernel.send_many([put_route(RouteKey(PREFIX, 1 + i), BLACKHOLE, 0) for i in range(3000)])
    pieces = [events.read() for _ in range(4)]
    assert ["routes" in piece.tables for piece in pieces] == [True, True, True, False]
    assert not any(piece.overrun for piece in pieces)
    events.close()
