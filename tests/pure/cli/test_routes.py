"""`get routes -o wide`: whose each route is, and why it leads where it does."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from netloom.agent.state import KernelRoute, PoolState
from netloom.cli.routes import wide

POOLS = (
    PoolState(name="plain", cidr=ip_network("10.244.0.0/16"), encapsulation="None"),
    PoolState(name="near", cidr=ip_network("10.245.0.0/16"), encapsulation="VXLANCrossSubnet"),
    PoolState(name="tunnel", cidr=ip_network("10.246.0.0/16"), encapsulation="IPIP"),
)


@pytest.mark.parametrize(
    ("destination", "pool", "why"),
    [
        ("10.244.2.0/26", "plain", "by BGP: packets cross as they are"),
        ("10.245.2.0/26", "near", "by BGP, to a neighbour: VXLANCrossSubnet tunnels only what crosses a router"),
        ("10.246.2.0/26", "tunnel", "by BGP, until this node is ready for IPIP"),
        ("0.0.0.0/0", "", "by BGP"),
    ],
)
def test_birds_routes_are_named_with_their_pools(destination: str, pool: str, why: str) -> None:
    route = KernelRoute(
        destination=ip_network(destination), via=ip_address("192.0.2.2"), device="eth0", metric=700, protocol=12
    )
    (row,) = wide((), [route], POOLS)
    assert (row[4], row[5], row[6], row[9]) == ("bird", "bird", pool, why)
