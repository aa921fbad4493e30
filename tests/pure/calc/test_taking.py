"""From the agent's routes to BIRD's and back, step by step: at each there is a way to every pod."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest

from netloom.calc import metrics
from netloom.calc.bgp.taking import BIRDS
from netloom.calc.remote import remote
from netloom.calc.tables import Tables
from netloom.model.addresses import Mac, Prefix
from netloom.model.desired import Route
from netloom.model.forms import Form, Method
from netloom.model.host import Host, Moving, Uplink
from netloom.model.resources import AnyResource, Node, convert
from netloom.model.snapshot import Snapshot
from tests.other_nodes import its_block, other_node

NEAR, FAR = ip_network("10.244.2.0/26"), ip_network("10.244.3.0/26")
ON = convert({"kind": "BGPConfiguration", "metadata": {"name": "default"}, "spec": {}})
PLAIN = ("None",)
DIRECT, VXLAN = Form(Method.NONE), Form(Method.VXLAN, 4096, 4789)
HOST = Host(
    node="n1",
    node_id="n1",
    addresses=(ip_interface("192.0.2.1/24"),),
    uplinks={"eth0": Uplink("eth0", 1500, (ip_interface("192.0.2.1/24"),))},
    vtep_mac=Mac("66:00:00:00:00:01"),
    blocks=(ip_network("10.244.1.0/26"),),
    tunnel_addresses=(ip_address("10.244.1.0"),),
)


def pool(encapsulation: str) -> AnyResource:
    return convert(
        {"kind": "IPPool", "metadata": {"name": "p"}, "spec": {"cidr": "10.244.0.0/16", "encapsulation": encapsulation}}
    )


def node(number: int, underlay: str, receives: tuple[str, ...]) -> Node:
    made = other_node(f"n{number}", f"n{number}", number, ip_interface(underlay), [ip_network(f"10.244.{number}.0/26")])
    return convert(
        {
            "kind": "Node",
            "metadata": {"name": made.name},
            "spec": {
                "id": made.spec.id,
                "addresses": [underlay],
                "tunnelAddresses": [str(a) for a in made.spec.tunnel_addresses],
                "vtepMac": made.spec.vtep_mac,
                "receives": list(receives),
                "sends": list(receives),
            },
        }
    )  # type: ignore[return-value]  # the kind that was asked for


def cluster(encapsulation: str, *more: AnyResource, receives: tuple[str, ...] = ("None", "VXLAN:4096:4789")) -> Snapshot:
    nodes = [node(1, "192.0.2.1/24", receives), node(2, "192.0.2.2/24", receives), node(3, "198.51.100.3/24", receives)]
    blocks = [its_block(ip_network(f"10.244.{n}.0/26"), f"n{n}", f"n{n}") for n in (1, 2, 3)]
    return Snapshot.of(1, [pool(encapsulation), *nodes, *blocks, *more])


def ways(tables: Tables) -> dict[Prefix, str]:
    """By device."""
    return {key.prefix: route.device for key, route in tables.routes.items() if route.gateway}


def host(**fields: Any) -> Host:
    devices = {"loom.vxlan": VXLAN}
    return replace(HOST, moving=Moving(devices=devices), **fields)


def test_what_is_birds_has_no_route_of_ours() -> None:
    tables = remote(cluster("None", ON), host())
    assert ways(tables) == {}
    assert set(tables.uses.values()) == {BIRDS}
    assert tables.problems == []


def test_without_bgp_neighbours_are_ours_as_ever() -> None:
    assert ways(remote(cluster("None", receives=PLAIN), host())) == {NEAR: "eth0"}


@pytest.mark.parametrize(("encapsulation", "near"), [("VXLANCrossSubnet", {}), ("VXLAN", {NEAR: "loom.vxlan"})])
def test_tunnels_are_the_agents_and_across_a_router_always(encapsulation: str, near: dict[Prefix, str]) -> None:
    assert ways(remote(cluster(encapsulation, ON), host())) == {**near, FAR: "loom.vxlan"}


def test_a_plain_route_of_ours_stays_until_birds_is_there() -> None:
    before = remote(cluster("None", receives=PLAIN), host())
    standing = frozenset(ways(before))
    beside = remote(cluster("None", ON, receives=PLAIN), host(lasting=standing))
    assert ways(beside) == {NEAR: "eth0"} == ways(before)
    assert beside.lasting == [NEAR]
    assert ways(remote(cluster("None", ON), host())) == {}


def test_a_tunnel_stays_until_birds_route_is_there_and_only_to_whom_it_led() -> None:
    """The far one no plain route of ours could reach."""
    standing = frozenset(ways(remote(cluster("VXLAN", ON), host())))
    assert standing == {NEAR, FAR}
    beside = remote(cluster("None", ON), host(lasting=standing))
    assert set(ways(beside)) == standing
    assert ways(beside)[FAR] == "loom.vxlan"
    assert ways(remote(cluster("None", ON), host(lasting=frozenset({FAR})))) == {FAR: "loom.vxlan"}


def test_bird_keeps_a_pool_that_goes_into_a_tunnel_node_by_node() -> None:
    led = frozenset({NEAR, FAR})
    not_ready = remote(cluster("VXLAN", ON, receives=("None",)), host(birds=led))
    assert not_ready.bgp is not None
    assert set(not_ready.bgp.plain) == led
    assert FAR not in ways(not_ready)
    assert {use.form for use in not_ready.uses.values()} == {DIRECT}
    ready = remote(cluster("VXLAN", ON), host(birds=led))
    assert ready.bgp is not None
    assert ready.bgp.plain == ()
    assert ways(ready) == {NEAR: "loom.vxlan", FAR: "loom.vxlan"}


def test_bird_keeps_what_is_beyond_a_router_when_only_neighbours_are_to_be_its_own() -> None:
    not_ready = remote(cluster("VXLANCrossSubnet", ON, receives=("None",)), host(birds=frozenset({NEAR, FAR})))
    assert not_ready.bgp is not None
    assert not_ready.bgp.plain == (FAR,)
    assert ways(not_ready) == {}
    ready = remote(cluster("VXLANCrossSubnet", ON), host(birds=frozenset({NEAR, FAR})))
    assert ready.bgp is not None
    assert ready.bgp.plain == ()
    assert ways(ready) == {FAR: "loom.vxlan"}


def test_when_bgp_ends_neighbours_have_a_route_of_ours_at_once() -> None:
    tables = remote(cluster("None", receives=PLAIN), host(birds=frozenset({NEAR})))
    assert ways(tables) == {NEAR: "eth0"}
    assert tables.bgp is None


def test_a_node_that_only_looks_like_a_neighbour_is_named_to_bird() -> None:
    far = {"n2": "a router stands between"}
    tables = remote(cluster("VXLANCrossSubnet", ON), host(far=far))
    assert tables.bgp is not None
    assert tables.bgp.tunnelled == (NEAR,)
    assert ways(tables) == {NEAR: "loom.vxlan", FAR: "loom.vxlan"}


def test_birds_ways_stand_by_behind_birds_own_but_into_our_own_blocks_and_out_of_no_link_that_is_down() -> None:
    via = Route("eth0", ip_address("192.0.2.2"))
    kept = {NEAR: via, FAR: replace(via, device="eth9"), ip_network("10.244.1.0/28"): via}
    found = {key: route for key, route in remote(cluster("None", ON), host(standby=kept)).routes.items() if route.gateway}
    [(key, route)] = found.items()
    assert (key.prefix, route) == (NEAR, via)
    assert 1023 < 65536 < key.metric < metrics.BLACKHOLE
    down = {"eth0": replace(HOST.uplinks["eth0"], up=False)}
    assert ways(remote(cluster("None", ON), host(standby=kept, uplinks=down))) == {}
