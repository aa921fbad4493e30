"""Where datagrams of a UDP tunnel are unpacked: in the uplink's driver, before GRO, or by tc.  A cable between containers hands over many
packets as one, which is faster still, and which no driver does that runs a program."""

from __future__ import annotations

import ipaddress

from netloom.dataplane import netns, offloads
from netloom.model.resources import Encapsulation, IPPoolSpec
from tests.agent_process import PATIENT, running_machine
from tests.kernel.agent.conftest import place_of, remote_node
from tests.waiting import eventually

POOL = {"v4": IPPoolSpec(cidr=ipaddress.ip_network("10.244.0.0/16"), encapsulation=Encapsulation.UDP)}


def test_a_cable_that_cuts_nothing_is_left_to_tc_until_it_does() -> None:
    with running_machine(POOL, command=PATIENT) as machine, place_of(machine) as place:
        remote_node(place.store, 2, "10.244.2.0/26")
        eventually(lambda: "10.244.2.0/26 via" in place.run("ip route"))
        assert "xdp" not in place.run("ip link show eth0")
        with netns.entered(machine.netns):
            offloads.leave_checksums_to_the_kernel("eth0")  # nothing is cut there without
        eventually(lambda: "xdp" in place.run("ip link show eth0"))
