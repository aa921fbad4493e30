"""BIRD's ways, read from a real kernel and kept while sessions begin anew."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from netloom.agent.birds import BirdsRoutes
from netloom.agent.standby import Standby
from netloom.calc import metrics
from netloom.calc.tables import Tables
from netloom.dataplane.netlink import Netlink
from netloom.model.bgp_configuration import BGPConfiguration
from netloom.model.desired import Route, RouteKey
from netloom.model.host import Host
from netloom.model.resources import Encapsulation, IPPool, IPPoolSpec, Metadata
from netloom.model.snapshot import Snapshot
from tests.kernel.iproute import run

UPLINKS = (
    *("link add up0 type bridge", "link add up1 type bridge", "link set up0 up", "link set up1 up"),
    *("address add 192.0.2.1/24 dev up0", "address add 198.51.100.1/24 dev up1", "-6 address add fd00:2::1/64 dev up0 nodad"),
)
BIRDS = (
    "route add 10.244.2.0/26 via 192.0.2.2 proto bird metric 700",
    "route add 10.244.3.0/26 via 203.0.113.3 dev up0 onlink proto bird metric 700",
    "route add 10.244.4.0/26 proto bird metric 700 nexthop via 192.0.2.4 dev up0 nexthop via 198.51.100.4 dev up1",
    "-6 route add fd00:244:2::/64 via fd00:2::2 proto bird metric 700",
)
OTHERS = (
    "route add 10.244.9.0/26 via 192.0.2.9",
    "route add blackhole 10.244.8.0/26 proto bird",
    "route add 10.244.7.0/26 dev up0 proto bird",
)


ON = BGPConfiguration(metadata=Metadata(name=BGPConfiguration.NAME))
POOL = IPPool(
    metadata=Metadata(name="p"),
    spec=IPPoolSpec(cidr=ipaddress.ip_network("10.244.0.0/16"), encapsulation=Encapsulation.NONE),
)


@dataclass
class Watched:
    kernel: Netlink
    standby: Standby
    wishes: list[None]
    seconds: list[float]

    def after(self, seconds: float, wanted: set[str], established: set[str]) -> bool:
        """Whether anything stands by still."""
        self.seconds[0] += seconds
        self.standby.look(wanted, established)
        return bool(self.standby.routes)


@pytest.fixture
def watched(node: int) -> Iterator[Watched]:
    for line in (*UPLINKS, *BIRDS, *OTHERS):
        run(f"ip {line}")
    wishes, seconds = list[None](), [1000.0]
    with Netlink() as kernel:
        made = Watched(kernel, Standby(kernel, lambda: wishes.append(None), lambda: seconds[0]), wishes, seconds)
        made.standby.begin(frozenset({"mesh_b"}))
        yield made


def via(device: str, gateway: str, *, onlink: bool = False) -> Route:
    return Route(device, ipaddress.ip_address(gateway), onlink)


def test_only_what_bird_leads_to_somebody_is_kept_of_several_next_hops_one(watched: Watched) -> None:
    assert {str(prefix): route for prefix, route in watched.standby.routes.items()} == {
        "10.244.2.0/26": via("up0", "192.0.2.2"),
        "10.244.3.0/26": via("up0", "203.0.113.3", onlink=True),
        "10.244.4.0/26": via("up0", "192.0.2.4"),
        "fd00:244:2::/64": via("up0", "fd00:2::2"),
    }
    assert len(watched.wishes) == 1, "a pass is to put it in place"


def test_it_ends_when_the_sessions_are_up_again_and_bird_leads_everywhere(watched: Watched) -> None:
    up = {"mesh_b"}
    assert watched.after(2, up, up), "the other end may not have heard of it yet"
    assert watched.after(2, up, set()), "the session is not up again"
    run("ip route del 10.244.2.0/26 proto bird")
    assert watched.after(2, up, up), "the session is up, and has not told everything"
    run(f"ip {BIRDS[0]}")
    assert not watched.after(0, up, up)
    assert len(watched.wishes) == 2


def test_a_session_that_is_not_wanted_any_more_is_not_awaited(watched: Watched) -> None:
    assert not watched.after(4, {"peer_tor"}, set())


def test_what_never_comes_back_is_not_kept_for_ever(watched: Watched) -> None:
    run("ip route flush proto bird")
    assert watched.after(14, set(), set())
    assert not watched.after(2, set(), set())


def test_another_change_meanwhile_forgets_no_way_and_makes_none_stay_longer(watched: Watched) -> None:
    run("ip route del 10.244.2.0/26 proto bird")
    assert watched.after(8, {"mesh_b"}, set())
    assert not watched.standby.begin(frozenset({"mesh_b"})), "its ways stand by already"
    assert watched.standby.begin(frozenset({"mesh_c"}))
    assert len(watched.standby.routes) == 4
    assert watched.after(8, {"mesh_b"}, set())
    assert len(watched.standby.routes) == 3, "BIRD has not led there for a quarter of a minute"
    assert not watched.after(8, {"mesh_b"}, set())


def test_they_stand_once_a_pass_has_put_them_in_place(watched: Watched) -> None:
    assert not watched.standby.stands
    watched.standby.placed = watched.standby.routes
    assert watched.standby.stands


@pytest.mark.parametrize(("metric", "lasts"), [(70_000, True), (metrics.STANDBY + 7, False)])
def test_what_stands_by_is_no_way_of_the_agents_own(watched: Watched, metric: int, lasts: bool) -> None:
    """Neither as the last pass wanted it, nor where an agent that was killed has left it behind."""
    prefix = ipaddress.ip_network("10.244.5.0/26")
    cluster = Snapshot.of(1, [ON, POOL])
    last = Tables(routes={RouteKey(prefix, metric): via("up0", "192.0.2.2")})
    assert (prefix in BirdsRoutes(watched.kernel).host(cluster, Host("n", "n"), last).lasting) is lasts
    run(f"ip route add {prefix} via 192.0.2.2 proto 79 metric {metric}")
    assert (prefix in BirdsRoutes(watched.kernel).host(cluster, Host("n", "n"), None).lasting) is lasts
