"""A node with an uplink `up0` in both families and a tunnel device, and drivers on one socket."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

import pytest

from netloom.dataplane.links import Links
from netloom.dataplane.netlink import Netlink, new_bridge, put_address, set_link
from netloom.model.addresses import Mac
from netloom.model.desired import Vxlan
from netloom.reconcile import reconcile

VXLAN = Vxlan(Mac("66:00:00:00:00:01"), 1430, 4096, 4789, ipaddress.ip_address("172.16.0.1"), "up0")


@pytest.fixture
def kernel(node: int) -> Iterator[Netlink]:
    with Netlink() as netlink:
        netlink.transact(
            new_bridge("up0", mac=Mac("66:00:00:00:00:02"), mtu=1500, index=50, up=True),
            set_link(1, up=True),
            put_address(50, ipaddress.ip_interface("172.16.0.1/16")),
            put_address(50, ipaddress.ip_interface("2001:db8::1/64")),
        )
        outcome = reconcile(Links(netlink), {"loom.vxlan": VXLAN})
        assert not outcome.failures
        yield netlink
