"""What leaves the pools, and what comes in by VXLAN: real sockets through a node.

inside ── loom000000000aa   node   up0 ── away
"""

from __future__ import annotations

import ipaddress
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from netloom.dataplane import netns
from netloom.dataplane.nft import Nft
from netloom.model.addresses import Mac
from netloom.model.desired import Filter, Outer, Source
from tests.kernel.arriving import received
from tests.waiting import eventually

MAC = Mac("0a:58:0a:f4:00:02")
POD = {4: "10.244.0.2", 6: "fd00:10:244::2"}
UPLINK = {4: "192.0.2.1", 6: "2001:db8::1"}
AWAY = {4: "192.0.2.9", 6: "2001:db8::9"}
STRANGER = {4: "192.0.2.66", 6: "2001:db8::66"}
IN_A_POOL = {4: "10.245.0.9", 6: "fd00:10:245::9"}
POOLS = frozenset(map(ipaddress.ip_network, ("10.244.0.0/16", "10.245.0.0/16", "fd00:10:244::/64", "fd00:10:245::/64")))
NATTED = frozenset(map(ipaddress.ip_network, ("10.244.0.0/16", "fd00:10:244::/64")))
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
PROBE = 9478
VXLAN = 4789
BGP = 179
BFD = 3784


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def sysctl(path: str, value: str) -> None:
    Path("/proc/sys/net", path).write_text(value)


def pair(name: str, inside: int, peer: str) -> None:
    ip("link", "add", name, "type", "veth", "peer", "name", peer, "netns", f"/proc/{os.getpid()}/fd/{inside}")
    ip("link", "set", name, "up")


@pytest.fixture
def away(node: int, pod: int) -> Iterator[int]:
    """The namespace beyond the uplink; the node forwards between it and the pod."""
    fd = netns.create()
    for space in (node, pod, fd):
        with netns.entered(space):
            sysctl("ipv6/conf/default/accept_dad", "0")
    pair("loom000000000aa", pod, "eth0")
    pair("up0", fd, "eth0")
    sysctl("ipv4/ip_forward", "1")
    sysctl("ipv6/conf/all/forwarding", "1")
    for version, length in ((4, "24"), (6, "64")):
        ip("address", "add", f"{UPLINK[version]}/{length}", "dev", "up0")
        ip("route", "add", POD[version], "dev", "loom000000000aa")
        ip("neigh", "add", POD[version], "lladdr", MAC, "dev", "loom000000000aa")
    with netns.entered(fd):
        ip("link", "set", "eth0", "up")
        for addresses, length in ((AWAY, ("24", "64")), (STRANGER, ("24", "64")), (IN_A_POOL, ("32", "128"))):
            ip("address", "add", f"{addresses[4]}/{length[0]}", "dev", "eth0")
            ip("address", "add", f"{addresses[6]}/{length[1]}", "dev", "eth0")
        ip("route", "add", "10.244.0.0/16", "via", UPLINK[4])
        ip("route", "add", "fd00:10:244::/64", "via", UPLINK[6])
    for version in (4, 6):
        ip("route", "add", IN_A_POOL[version], "via", AWAY[version])
    host = subprocess.run(
        ["ip", "-br", "link", "show", "loom000000000aa"], capture_output=True, text=True, check=True
    ).stdout.split()[2]
    with netns.entered(pod):
        ip("link", "set", "eth0", "address", MAC, "up")
        for version, gateway in ((4, "169.254.1.1"), (6, "fe80::1")):
            ip("address", "add", POD[version], "dev", "eth0")
            ip("neigh", "add", gateway, "lladdr", host, "dev", "eth0")
            ip(f"-{version}", "route", "add", "default", "via", gateway, "dev", "eth0", "onlink")
    for space in (node, pod, fd):
        wait_for_addresses(space)
    yield fd
    os.close(fd)


def wait_for_addresses(space: int) -> None:
    """The kernel takes an IPv6 address into use when it has seen the link up, a moment later; and sends nothing through the end of a
    pair that was up first before it has."""
    tentative = ["ip", "-6", "-o", "address", "show", "tentative"]
    pairs = ["ip", "-br", "link", "show", "type", "veth"]
    with netns.entered(space):
        eventually(lambda: not subprocess.run(tentative, capture_output=True, check=True).stdout)
        eventually(lambda: b"DOWN" not in subprocess.run(pairs, capture_output=True, check=True).stdout)


def bound(space: int, address: str, port: int, kind: socket.SocketKind = socket.SOCK_DGRAM) -> socket.socket:
    with netns.entered(space):
        sock = socket.socket(FAMILY[ipaddress.ip_address(address).version], kind)
    sock.bind((address, port))
    sock.settimeout(10)
    return sock


def seen_source(pod: int, away: int, version: int, target: str, length: int = 5) -> str:
    """Whom the receiver takes for the sender of the pod's datagram."""
    with bound(away, target, 7000) as receiver, bound(pod, POD[version], 5000) as sender:
        sender.sendto(bytes(length), (target, 7000))
        datagram, source = receiver.recvfrom(65535)
        assert len(datagram) == length
        return str(source[0])


@pytest.fixture
def driver(away: int) -> Nft:
    nft = Nft()
    sources = frozenset(Source("loom000000000aa", MAC, ipaddress.ip_address(address)) for address in POD.values())
    vteps = frozenset(ipaddress.ip_address(address) for address in AWAY.values())
    nft.reconcile(Filter(sources=sources, pools=POOLS, masquerade=NATTED, vteps=vteps, outers=frozenset({Outer(17, VXLAN)})))
    return nft


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize("version", [4, 6])
def test_what_leaves_the_pools_takes_the_nodes_address(pod: int, away: int, version: int) -> None:
    assert seen_source(pod, away, version, AWAY[version]) == UPLINK[version]


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize("version", [4, 6])
def test_what_stays_inside_the_pools_keeps_its_own(pod: int, away: int, version: int) -> None:
    assert seen_source(pod, away, version, IN_A_POOL[version]) == POD[version]


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize("version", [4, 6])
def test_a_datagram_in_fragments_gets_out_through_conntrack(pod: int, away: int, version: int) -> None:
    assert seen_source(pod, away, version, AWAY[version], length=5000) == UPLINK[version]


@pytest.mark.parametrize("version", [4, 6])
def test_a_pool_without_masquerading_keeps_its_own(driver: Nft, pod: int, away: int, version: int) -> None:
    sources = frozenset(Source("loom000000000aa", MAC, ipaddress.ip_address(address)) for address in POD.values())
    driver.reconcile(Filter(sources=sources, pools=POOLS))
    assert seen_source(pod, away, version, AWAY[version]) == POD[version]


@pytest.mark.parametrize("version", [4, 6])
def test_vxlan_is_taken_from_nodes_and_from_nobody_else(driver: Nft, node: int, away: int, version: int) -> None:
    with bound(node, UPLINK[version], VXLAN) as vtep, bound(away, AWAY[version], 5000) as member:
        member.sendto(b"from a node", (UPLINK[version], VXLAN))
        assert vtep.recv(100) == b"from a node"
        with bound(away, STRANGER[version], 5000) as stranger:
            stranger.sendto(b"from a stranger", (UPLINK[version], VXLAN))
        assert received(vtep) == b""
        assert driver.drops()["inet outer"].packets == 1


def test_probes_are_taken_from_nodes_never_from_pods_and_few_from_strangers(
    driver: Nft, node: int, away: int, pod: int
) -> None:
    sources = frozenset(Source("loom000000000aa", MAC, ipaddress.ip_address(address)) for address in POD.values())
    vteps = frozenset(ipaddress.ip_address(address) for address in AWAY.values())
    driver.reconcile(Filter(sources=sources, pools=POOLS, vteps=vteps, probe_port=PROBE))
    with (
        bound(node, UPLINK[4], PROBE) as prober,
        bound(away, AWAY[4], PROBE) as member,
        bound(away, STRANGER[4], 5000) as stranger,
        bound(pod, POD[4], 5000) as own,
    ):
        own.sendto(b"from a pod of this node", (UPLINK[4], PROBE))
        for _ in range(1000):
            stranger.sendto(b"from a stranger", (UPLINK[4], PROBE))
        member.sendto(b"from a node", (UPLINK[4], PROBE))
        seen = []
        while b"from a node" not in seen:
            seen.append(prober.recv(100))
        while late := received(prober):  # the kernel may have put some of the strangers' off
            seen.append(late)
        assert b"from a pod of this node" not in seen
        assert 1 < len(seen) < 1000
        assert driver.drops()["inet probes"].packets == 1002 - len(seen)


@pytest.mark.parametrize("version", [4, 6])
def test_a_connection_for_probes_is_taken_from_nodes_and_from_nobody_else(
    driver: Nft, node: int, away: int, pod: int, version: int
) -> None:
    """Who connects takes one of the few places that nodes need, and says no more."""
    sources = frozenset(Source("loom000000000aa", MAC, ipaddress.ip_address(address)) for address in POD.values())
    vteps = frozenset(ipaddress.ip_address(address) for address in AWAY.values())
    driver.reconcile(Filter(sources=sources, pools=POOLS, vteps=vteps, probe_port=PROBE))
    only_members_connect(driver, node, away, pod, version, PROBE, "inet probes")


@pytest.mark.parametrize("version", [4, 6])
def test_bgp_is_taken_from_peers_and_from_nobody_else(driver: Nft, node: int, away: int, pod: int, version: int) -> None:
    sources = frozenset(Source("loom000000000aa", MAC, ipaddress.ip_address(address)) for address in POD.values())
    peers = frozenset(ipaddress.ip_address(address) for address in AWAY.values())
    driver.reconcile(Filter(sources=sources, pools=POOLS, bgp_port=BGP, bgp_peers=peers, bgp_ports=frozenset({BGP})))
    only_members_connect(driver, node, away, pod, version, BGP, "inet bgp")


@pytest.mark.parametrize("version", [4, 6])
def test_no_pod_speaks_bgp_with_a_peer_in_its_nodes_name(driver: Nft, away: int, pod: int, version: int) -> None:
    """Masqueraded, it would come from the node's address, which the peer believes."""
    sources = frozenset(Source("loom000000000aa", MAC, ipaddress.ip_address(address)) for address in POD.values())
    peers = frozenset(ipaddress.ip_address(address) for address in AWAY.values())
    ports = frozenset({BGP})
    driver.reconcile(Filter(sources=sources, pools=POOLS, masquerade=NATTED, bgp_port=1790, bgp_peers=peers, bgp_ports=ports))
    with bound(away, AWAY[version], BGP, socket.SOCK_STREAM) as listener, begun(pod, POD[version], AWAY[version], BGP):
        listener.listen()
        eventually(lambda: driver.drops()["inet bgp"].packets > 0)
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.parametrize("version", [4, 6])
def test_bfd_is_taken_from_peers_and_from_nobody_else(driver: Nft, node: int, away: int, pod: int, version: int) -> None:
    """Who can say in a peer's name that it is down ends its session."""
    sources = frozenset(Source("loom000000000aa", MAC, ipaddress.ip_address(address)) for address in POD.values())
    peers, ports = frozenset(ipaddress.ip_address(address) for address in AWAY.values()), frozenset({BGP})
    guarded = Filter(
        sources=sources,
        pools=POOLS,
        masquerade=NATTED,
        bgp_port=BGP,
        bgp_peers=peers,
        bgp_ports=ports,
        bfd_ports=frozenset({BFD}),
    )
    driver.reconcile(guarded)
    with bound(node, UPLINK[version], BFD) as own, bound(away, AWAY[version], BFD) as peer:
        for space, address, to in (
            (away, STRANGER[version], UPLINK[version]),
            (pod, POD[version], UPLINK[version]),
            (pod, POD[version], AWAY[version]),
        ):
            before = driver.drops()["inet bgp"].packets
            with bound(space, address, 0) as stranger:
                stranger.sendto(b"from a stranger", (to, BFD))
            eventually(lambda before=before: driver.drops()["inet bgp"].packets > before)
        peer.sendto(b"from a peer", (UPLINK[version], BFD))
        assert own.recv(100) == b"from a peer"
        assert received(peer) == b""
        driver.reconcile(replace(guarded, bfd_ports=frozenset()))
        with bound(away, STRANGER[version], 0) as stranger:
            stranger.sendto(b"no affair of ours", (UPLINK[version], BFD))
        assert own.recv(100) == b"no affair of ours"


def only_members_connect(driver: Nft, node: int, away: int, pod: int, version: int, port: int, counter: str) -> None:
    """To that port of the node: strangers and pods are dropped, and counted."""
    with ExitStack() as stack:
        listener = stack.enter_context(bound(node, UPLINK[version], port, socket.SOCK_STREAM))
        listener.listen()
        for space, address in ((away, STRANGER[version]), (pod, POD[version])):
            before = driver.drops()[counter].packets
            stack.enter_context(begun(space, address, UPLINK[version], port))
            eventually(lambda before=before: driver.drops()[counter].packets > before)
        with bound(away, AWAY[version], 0, socket.SOCK_STREAM) as member:
            member.connect((UPLINK[version], port))
            assert listener.accept()[1][0] == AWAY[version]
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()


def begun(space: int, address: str, to: str, port: int) -> socket.socket:
    """A connection that is being made."""
    stranger = bound(space, address, 0, socket.SOCK_STREAM)
    stranger.setblocking(False)
    with suppress(BlockingIOError):
        stranger.connect((to, port))
    return stranger


def test_a_node_that_leaves_is_a_stranger_at_once(driver: Nft, node: int, away: int) -> None:
    driver.reconcile(Filter(pools=POOLS, masquerade=NATTED, outers=frozenset({Outer(17, VXLAN)})))
    with bound(node, UPLINK[4], VXLAN) as vtep, bound(away, AWAY[4], 5000) as member:
        member.sendto(b"from a former node", (UPLINK[4], VXLAN))
        assert received(vtep) == b""


@pytest.mark.parametrize("version", [4, 6])
def test_no_packet_out_of_a_tunnel_is_from_a_pod_of_this_node(driver: Nft, pod: int, away: int, version: int) -> None:
    """A node among the members could lend its packets the address of a pod that it does not have."""
    neighbour = {4: "10.244.0.3", 6: "fd00:10:244::3"}[version]
    pair("loom.vxlan", away, "tunnel")
    sysctl("ipv4/conf/all/rp_filter", "0")
    sysctl("ipv4/conf/loom.vxlan/rp_filter", "0")
    own = subprocess.run(
        ["ip", "-br", "link", "show", "loom.vxlan"], capture_output=True, text=True, check=True
    ).stdout.split()[2]
    with netns.entered(away):
        ip("link", "set", "tunnel", "up")
        ip("address", "add", neighbour, "dev", "lo")
        ip("link", "set", "lo", "up")
        ip("route", "add", POD[version], "dev", "tunnel")
        ip("neigh", "add", POD[version], "lladdr", own, "dev", "tunnel")
    wait_for_addresses(away)
    blocks = frozenset(map(ipaddress.ip_network, ("10.244.0.0/26", "fd00:10:244::/122")))
    sources = frozenset(Source("loom000000000aa", MAC, ipaddress.ip_address(address)) for address in POD.values())
    driver.reconcile(
        Filter(
            sources=sources, pools=POOLS, blocks=blocks, outers=frozenset({Outer(17, VXLAN)}), tunnels=frozenset({"loom.vxlan"})
        )
    )
    with bound(pod, POD[version], 7000) as receiver:
        for source, arrives in ((IN_A_POOL[version], True), (neighbour, False)):
            with bound(away, source, 5000) as sender:
                sender.sendto(b"hello", (POD[version], 7000))
            if arrives:
                assert receiver.recvfrom(100)[1][0] == source
            else:
                assert received(receiver) == b""
    assert driver.drops()["inet outer"].packets == 1
