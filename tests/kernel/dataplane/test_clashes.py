"""What others have that our tunnels want: found, named, and left as it is."""

from __future__ import annotations

import socket

import pytest

from netloom.dataplane.clashes import look
from netloom.dataplane.links import Links
from netloom.dataplane.netlink import Netlink
from netloom.reconcile import reconcile
from tests.kernel.dataplane.conftest import VXLAN
from tests.kernel.iproute import run

WANT = {"loom.vxlan": VXLAN}


@pytest.mark.usefixtures("kernel")
def test_our_own_tunnel_clashes_with_nothing() -> None:
    assert look(WANT) == []


@pytest.mark.usefixtures("kernel")
def test_a_foreign_tunnel_on_our_port_is_named() -> None:
    run("ip link add theirs type vxlan id 7 dstport 4789 local 172.16.0.1 dev up0 udp6zerocsumrx")
    run("ip link set theirs up")
    [found] = look(WANT)
    assert found.startswith("theirs speaks VXLAN on UDP port 4789, as loom.vxlan does")
    assert "vxlanPort" in found


def test_a_foreign_tunnel_with_our_vni_is_named_and_the_refusal_has_a_reason(kernel: Netlink) -> None:
    run("ip link delete loom.vxlan")
    run("ip link add theirs type vxlan id 4096 dstport 4789 local 172.16.0.1 dev up0 udp6zerocsumrx")
    assert reconcile(Links(kernel), WANT).failures
    [found] = look(WANT)
    assert found.startswith("theirs has VNI 4096 on UDP port 4789, which loom.vxlan needs; ip link delete theirs")
    run("ip link delete theirs")
    assert not reconcile(Links(kernel), WANT).failures
    assert look(WANT) == []


def test_a_process_on_our_port_is_named(kernel: Netlink) -> None:
    run("ip link delete loom.vxlan")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as theirs:
        theirs.bind(("", 4789))
        assert reconcile(Links(kernel), WANT).failures
        [found] = look(WANT)
        assert found.startswith("a process listens on UDP port 4789, which loom.vxlan needs; ss -ulpn sport = 4789")
    assert not reconcile(Links(kernel), WANT).failures
