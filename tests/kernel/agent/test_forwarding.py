"""A host that forwards but tells new interfaces not to: `ip_forward` is 1, `conf.default.forwarding` and the uplink's are 0."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from netloom.dataplane import netns
from tests.agent_process import machine as made_machine
from tests.kernel.agent.conftest import BRIDGED, Place, place_of
from tests.kernel.iproute import run

OUTSIDE = "192.168.77.2", "fd00:77::2"
CLOSED = ("net/ipv4/conf/default/forwarding", "net/ipv4/conf/eth0/forwarding", "net/ipv6/conf/default/forwarding")


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with made_machine() as machine, place_of(machine) as made:
        made.write_sysctl("net/ipv4/ip_forward", "1")
        made.write_sysctl("net/ipv6/conf/all/forwarding", "1")
        for name in CLOSED:
            made.write_sysctl(name, "0")
        machine.start()
        for name, config in (("a", {}), ("b", {}), ("c", BRIDGED)):
            assert (made.add(name, config) if config else made.add(name)).ok
        yield made


@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
def test_pods_reach_each_other_and_what_is_outside(place: Place, family: int) -> None:
    with netns.entered(place.machine.outside):
        for name in place.pods:
            address = place.addresses[name][family]
            run(f"ip route add {address} via {('192.168.77.1', 'fd00:77::1')[family]}")
    for pod in place.pods:
        targets = [addresses[family] for name, addresses in place.addresses.items() if name != pod]
        with netns.entered(place.pods[pod].netns):
            for target in (*targets, OUTSIDE[family]):
                run(f"ping -n -q -c 1 -W 10 {target}")
    with netns.entered(place.machine.outside):
        for name in place.pods:
            run(f"ping -n -q -c 1 -W 10 {place.addresses[name][family]}")


def test_ipv6_does_not_ask_the_interface(place: Place) -> None:
    """So nothing has to be written for it at ADD."""
    place.write_sysctl(f"net/ipv6/conf/{place.links['a']}/forwarding", "0")
    with netns.entered(place.pods["a"].netns):
        run(f"ping -n -q -c 1 -W 10 {place.addresses['b'][1]}")


def test_what_new_interfaces_are_born_with_stays_the_hosts_own_affair(place: Place) -> None:
    assert place.sysctl("net/ipv4/conf/default/forwarding") == "0"
