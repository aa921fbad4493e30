"""One node's programs and another's forwarder are on the same wire: each takes the other for one of its own.  Over a veth, where checksums
are not finished and packets not cut before they cross, as never on a real wire."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from netloom.dataplane import netns, tun
from netloom.model.desired import Carrier
from tests.kernel.tunnel.ebpf.nodes import Agent, Way, agents, desired
from tests.kernel.tunnel.forwarder.carrying import answered, carried
from tests.tunnel_pair import DEVICE, NUMPY, PLAIN, Node


@pytest.fixture(scope="module", params=[(4, NUMPY), (6, PLAIN)], ids=["over IPv4, with numpy", "over IPv6, without"])
def beside(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Agent, Node]]:
    version, command = request.param
    way = Way(Carrier.UDP, version)
    folder: Path = tmp_path_factory.mktemp("bpf")
    with agents(way, folder) as (a, b):
        a.make(desired(way, a.node))
        with netns.entered(b.node.netns):
            tun.create(DEVICE)
        b.node.configure()
        b.node.forward(command)
        yield a, b.node


@pytest.mark.parametrize("size", [0, 56, 1400, 4000])
def test_pings_of_every_size_pass(beside: tuple[Agent, Node], size: int) -> None:
    a, b = beside
    for sender, receiver in ((a.node, b), (b, a.node)):
        for address in receiver.pod_addresses:
            assert answered(sender, address, size)


def test_streams_arrive_as_they_were_sent(beside: tuple[Agent, Node]) -> None:
    a, b = beside
    for sender, receiver in ((a.node, b), (b, a.node)):
        for address in receiver.pod_addresses:
            assert carried(sender, receiver, address, 4 << 20)
