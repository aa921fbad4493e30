"""Beside the stock kernel's `ipip` device, as Flannel and Calico set it up: pods reach each other whichever engine of ours carries them."""

from __future__ import annotations

import ipaddress
from itertools import count

import pytest

from netloom.model.desired import Engine
from netloom.model.resources import Encapsulation, IPPoolSpec
from tests.agent_process import running_machine
from tests.crossing import digests, ping
from tests.flannel import SUBNET, flannel_node
from tests.kernel.agent.conftest import place_of
from tests.waiting import eventually

POOL = {
    "flannel": IPPoolSpec(
        cidr=ipaddress.ip_network("10.244.0.0/16"), block_size=24, encapsulation=Encapsulation.IPIP, nat_outgoing=True
    )
}
"""As it comes of Flannel's `net-conf.json`."""
OURS = "192.168.77.1"
PATIENCE = 120.0


@pytest.mark.parametrize("engine", [Engine.EBPF, Engine.KERNEL])
def test_pods_and_those_behind_a_stock_ipip_device_reach_each_other(engine: Engine) -> None:
    with (
        running_machine(POOL, tunnelEngine=engine.value) as machine,
        place_of(machine) as place,
        flannel_node(machine, "ipip", place.store) as theirs,
    ):
        names = map("ours-{}".format, count())
        assert eventually(lambda: place.add(next(names)).ok, PATIENCE)
        ours = next(reversed(place.addresses))
        eventually(lambda: f"{SUBNET} via" in place.run("ip route show"), PATIENCE)
        here, address = place.pods[ours].netns, ipaddress.ip_address(place.addresses[ours][0])
        [block] = [
            stored.resource.spec.cidr
            for stored in place.store.list("IPBlock").items
            if stored.resource.spec.claims[0].node == "node-0"
        ]
        theirs.learn(OURS, block, None, None)
        ping(here, theirs.address)
        ping(theirs.pod, address)
        for sent, received in (digests(here, theirs.pod, theirs.address), digests(theirs.pod, here, address)):
            assert received == sent
        ping(machine.netns, theirs.address)
        ping(theirs.namespace, address)
        assert ("ipip" in place.run("ip -d link show loom.ipip").split()) is (engine is Engine.KERNEL)
