"""A node that forwards between a pod and the world outside, so that a test can ask what passes.

10.244.0.2, fd00:10:244::2 ── pod0   node   up0 ── 192.0.2.9, 2001:db8::9
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netloom.dataplane import netns
from netloom.dataplane.foreign import ForeignFirewalls
from tests.kernel.arriving import received
from tests.kernel.dataplane.foreign.iptables import Variant
from tests.waiting import eventually

ENDS = {4: ("10.244.0.2", "192.0.2.9"), 6: ("fd00:10:244::2", "2001:db8::9")}
NODE = {4: "192.0.2.1", 6: "2001:db8::1"}
VXLAN = 4789
Passes = Callable[[int], tuple[bool, bool]]
TakesIn = Callable[..., bool]


@pytest.fixture(params=["nft", "legacy"])
def iptables(request: pytest.FixtureRequest) -> Variant:
    return Variant(request.param)


@pytest.fixture
def firewalls(node: int) -> Iterator[ForeignFirewalls]:
    made = ForeignFirewalls()
    yield made
    made.close()


@pytest.fixture
def away(node: int) -> Iterator[int]:
    """The world outside, by descriptor."""
    space = netns.create()
    sysctl("ipv6/conf/default/accept_dad", "0")
    _connect("up0", space, ("192.0.2.1/24", "2001:db8::1/64"), ("192.0.2.9/24", "2001:db8::9/64"))
    for one in (node, space):
        _wait_for_addresses(one)
    yield space
    os.close(space)


@pytest.fixture
def takes_in(node: int, away: int) -> TakesIn:
    """By address family and port: whether the node takes in what somebody outside sends it by UDP.  Neighbours know each other."""
    macs = [_mac_of(space, device) for space, device in ((node, "up0"), (away, "eth0"))]
    for space, device, mac, there in (
        (away, "eth0", macs[0], NODE),
        (node, "up0", macs[1], {v: e[1] for v, e in ENDS.items()}),
    ):
        with netns.entered(space):
            for address in there.values():
                subprocess.run(["ip", "neighbour", "replace", address, "lladdr", mac, "dev", device], check=True)
    return lambda version, port=VXLAN: _arrives(away, ENDS[version][1], node, NODE[version], port)


def _mac_of(space: int, device: str) -> str:
    with netns.entered(space):
        return subprocess.run(["ip", "-br", "link", "show", device], capture_output=True, text=True, check=True).stdout.split()[
            2
        ]


@pytest.fixture
def passes(node: int, pod: int, away: int) -> Passes:
    """By address family: whether a packet gets from the pod to the outside, and whether one gets back in on its own."""
    _connect("pod0", pod, ("10.244.0.1/24", "fd00:10:244::1/64"), ("10.244.0.2/24", "fd00:10:244::2/64"))
    sysctl("ipv4/ip_forward", "1")
    sysctl("ipv6/conf/all/forwarding", "1")

    def both_ways(version: int) -> tuple[bool, bool]:
        inside, outside = ENDS[version]
        return _arrives(pod, inside, away, outside, 7000), _arrives(away, outside, pod, inside, 7001)

    for space in (node, pod):
        _wait_for_addresses(space)
    return both_ways


def sysctl(path: str, value: str) -> None:
    Path("/proc/sys/net", path).write_text(value)


def _connect(device: str, space: int, here: tuple[str, str], there: tuple[str, str]) -> None:
    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True)

    with netns.entered(space):
        sysctl("ipv6/conf/default/accept_dad", "0")
    ip("link", "add", device, "type", "veth", "peer", "name", "eth0", "netns", f"/proc/{os.getpid()}/fd/{space}")
    ip("link", "set", device, "up")
    for address in here:
        ip("address", "add", address, "dev", device)
    with netns.entered(space):
        ip("link", "set", "eth0", "up")
        for address in there:
            ip("address", "add", address, "dev", "eth0")
        for address in here:
            ip("route", "add", "default", "via", address.split("/")[0])


def _wait_for_addresses(space: int) -> None:
    """The kernel takes an IPv6 address into use when it has seen the link up, a moment later; and sends nothing through the end of a
    pair that was up first before it has."""
    tentative = ["ip", "-6", "-o", "address", "show", "tentative"]
    pairs = ["ip", "-br", "link", "show", "type", "veth"]
    with netns.entered(space):
        eventually(lambda: not subprocess.run(tentative, capture_output=True, check=True).stdout)
        eventually(lambda: b"DOWN" not in subprocess.run(pairs, capture_output=True, check=True).stdout)


def _arrives(source_space: int, source: str, target_space: int, target: str, port: int) -> bool:
    """Each direction has ports of its own, so that conntrack takes neither for the answer to the other."""
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    with netns.entered(target_space):
        receiver = socket.socket(family, socket.SOCK_DGRAM)
    with netns.entered(source_space):
        sender = socket.socket(family, socket.SOCK_DGRAM)
    with receiver, sender:
        receiver.bind((target, port))
        sender.bind((source, port))
        sender.sendto(b"hello", (target, port))
        try:
            return received(receiver) == b"hello"
        except OSError:  # the firewall's rejection
            return False
