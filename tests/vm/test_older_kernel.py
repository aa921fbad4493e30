"""What the kernel ring says holds on an older kernel, too: of eBPF without TCX, where programs are attached by clsact, and of a link that is in
service only when a worker has been at it."""

from __future__ import annotations

import sys

from tests.vm.machine import Vm

_LINKS = "tests/kernel/dataplane/netlink/test_links.py"
STUCK = ("-o", "faulthandler_timeout=120")
"""In seconds: what then still runs is shown, line by line."""
RINGS = (
    "tests/kernel/bpf",
    f"{_LINKS}::test_the_first_packet_to_a_pod_arrives_once_its_link_is_in_service_and_its_address_is_local",
)


def test_the_engine_works_by_clsact_and_first_packets_arrive(vm: Vm) -> None:
    vm.run(sys.executable, "-m", "pytest", "-m", "not long", "-p", "no:cacheprovider", *STUCK, *RINGS, seconds=300)
