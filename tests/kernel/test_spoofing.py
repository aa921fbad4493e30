"""What a hostile pod can send raw, in both wirings, and limited to a rate in both: every lie is dropped and counted, every honest
frame arrives.

    pod A ── loom000000000aa   node   loom000000000bb ── pod B
                      (routes, or both ports of loom.br0)

A frame leaves pod A through a packet socket, so nothing in A's stack corrects it.  It is dropped when a counter of our tables has
grown by one; it has arrived when a packet socket in pod B sees it.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from netloom.dataplane import netns
from netloom.dataplane.netlink import Netlink, new_bridge, new_ifb, set_link
from netloom.dataplane.nft import Nft
from netloom.dataplane.shaping import Shapings
from netloom.model.addresses import Mac
from netloom.model.desired import Filter, Limit, Outer, Shaping, Source
from netloom.reconcile import reconcile
from tests.kernel import frames as f
from tests.waiting import eventually

PORT_A, PORT_B = "loom000000000aa", "loom000000000bb"
MAC_A, MAC_B = Mac("0a:58:0a:f4:00:02"), Mac("0a:58:0a:f4:00:03")
A4, B4, A6, B6 = "10.244.0.2", "10.244.0.3", "fd00:10:244::2", "fd00:10:244::3"
A_LINK, B_LINK = "fe80::858:aff:fef4:2", "fe80::858:aff:fef4:3"
NODE4, NODE6 = "10.244.0.1", "fd00:10:244::1"
AWAY4, AWAY6 = "198.51.100.7", "2001:db8:ffff::7"
NODE_MAC = Mac("ee:ee:ee:ee:ee:ee")
ALL_NODES, ALL_NODES_MAC = "ff02::1", "33:33:00:00:00:01"
MARK = b"netloom-spoofing-test-mark"
ETH_P_ALL = 3

SOURCES = tuple(
    Source(interface, mac, ipaddress.ip_address(address))
    for interface, mac, addresses in ((PORT_A, MAC_A, (A4, A6, A_LINK)), (PORT_B, MAC_B, (B4, B6, B_LINK)))
    for address in addresses
)
POOLS = frozenset(map(ipaddress.ip_network, ("10.244.0.0/24", "fd00:10:244::/64")))


@dataclass(frozen=True)
class World:
    """`hop`: the MAC that a frame to pod B is sent to."""

    wiring: str
    node: int
    pod_a: int
    pod_b: int
    nft: Nft
    sender: socket.socket
    listener: socket.socket
    hop: str

    def drops(self) -> dict[str, int]:
        return {name: count.packets for name, count in self.nft.drops().items() if count.packets}

    def send(self, frame: bytes) -> None:
        self.sender.send(frame)

    def arrives(self, frame: bytes, patience: float = 10.0) -> bool:
        """Whether pod B sees the frame's last bytes, which routing does not change."""
        end = time.monotonic() + patience
        while (left := end - time.monotonic()) > 0:
            self.listener.settimeout(left)
            try:
                if frame[-20:] in self.listener.recv(4096):
                    return True
            except TimeoutError:
                return False
        return False

    def counted(self, before: dict[str, int]) -> dict[str, int]:
        """What the counters have grown by, as soon as one has."""
        now = eventually(lambda: now if (now := self.drops()) != before else None)
        return {name: now[name] - before.get(name, 0) for name in now if now[name] != before.get(name, 0)}


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def sysctl(path: str, value: str) -> None:
    Path("/proc/sys/net", path).write_text(value)


def packet_socket(netns_fd: int) -> socket.socket:
    """Of an interface whose other end is up, too, and seen to be: else the kernel takes what is sent there and forgets it."""
    command = ["ip", "-br", "link", "show", "eth0"]
    with netns.entered(netns_fd):
        eventually(lambda: b"UP" in subprocess.run(command, capture_output=True, check=True).stdout.split())
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        sock.bind(("eth0", ETH_P_ALL))
    return sock


def quiet_pod(pod: int, port: str, mac: str) -> None:
    """The pod's own kernel says nothing: no address, no IPv6."""
    ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", f"/proc/{os.getpid()}/fd/{pod}")
    with netns.entered(pod):
        sysctl("ipv6/conf/all/disable_ipv6", "1")
        ip("link", "set", "eth0", "address", mac, "up")


def routes(pods: dict[str, tuple[str, str, str]]) -> str:
    for family in ("4", "6"):
        sysctl({"4": "ipv4/ip_forward", "6": "ipv6/conf/all/forwarding"}[family], "1")
    for port, (mac, *addresses) in pods.items():
        ip("link", "set", port, "address", NODE_MAC, "up")
        for address in addresses:
            ip("route", "add", address, "dev", port, "proto", "79")
            ip("neigh", "add", address, "lladdr", mac, "dev", port, "nud", "permanent")
    ip("address", "add", f"{NODE4}/32", "dev", "lo")
    ip("address", "add", f"{NODE6}/128", "dev", "lo")
    return NODE_MAC


def bridge(pods: dict[str, tuple[str, str, str]]) -> str:
    with Netlink() as kernel:
        kernel.transact(new_bridge("loom.br0", mac=NODE_MAC, mtu=1500, up=True))
    ip("address", "add", f"{NODE4}/24", "dev", "loom.br0")
    ip("address", "add", f"{NODE6}/64", "dev", "loom.br0", "nodad")
    for port in pods:
        ip("link", "set", port, "master", "loom.br0", "up")
        ip("link", "set", port, "type", "bridge_slave", "hairpin", "on")
    return MAC_B


def limit(port: str) -> None:
    """What pod A sends goes by way of an ifb before any rule sees it."""
    with Netlink() as kernel:
        kernel.transact(new_ifb("loomq000000000a", mac=NODE_MAC, mtu=1500, index=99), set_link(99, up=True))
        bucket = Shaping(Limit(10**8, 10**6, 10**6))
        outcome = reconcile(Shapings(kernel), {port: Shaping(redirect="loomq000000000a"), "loomq000000000a": bucket})
    assert not outcome.failures


@pytest.fixture(scope="module", params=("routed", "bridged", "routed, limited", "bridged, limited"))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    node, pod_a, pod_b = spaces = [netns.create() for _ in range(3)]
    with netns.entered(node):
        ip("link", "set", "lo", "up")
        nft = Nft()
        nft.reconcile(
            Filter(pools=POOLS, outers=frozenset({Outer(17, 4789)}), carried=frozenset({9000}), bridges=frozenset({"loom.br0"}))
        )
        quiet_pod(pod_a, PORT_A, MAC_A)
        quiet_pod(pod_b, PORT_B, MAC_B)
        pods = {PORT_A: (MAC_A, A4, A6), PORT_B: (MAC_B, B4, B6)}
        wiring, _, limited = request.param.partition(", ")
        hop = routes(pods) if wiring == "routed" else bridge(pods)
        if limited:
            limit(PORT_A)
        world = World(wiring, node, pod_a, pod_b, nft, packet_socket(pod_a), packet_socket(pod_b), hop)
        yield world
    nft.close()
    for sock in (world.sender, world.listener):
        sock.close()
    for space in spaces:
        os.close(space)


@pytest.fixture
def admitted(world: World) -> World:
    world.nft.admit(SOURCES)
    return world


def v4(source: str, target: str, protocol: int = f.UDP, payload: bytes | None = None, **more: object) -> bytes:
    return f.ipv4(source, target, protocol, f.udp(9, MARK) if payload is None else payload, **more)


def v6(source: str, target: str, protocol: int = f.UDP, payload: bytes | None = None) -> bytes:
    return f.ipv6(source, target, protocol, f.udp(9, MARK) if payload is None else payload)


@dataclass(frozen=True)
class Lie:
    """`routed` and `bridged`: the counter that tells.  None: the kernel itself drops it before any rule.
    Its source MAC is pod A's unless said otherwise; `to` None: to pod B, or whoever forwards to it."""

    what: str
    kind: int
    packet: bytes
    routed: str | None
    bridged: str | None
    mac: str = MAC_A
    to: str | None = None

    def frame(self, hop: str) -> bytes:
        return f.ethernet(self.mac, self.to or hop, self.kind, self.packet)


def spoofed4(what: str, packet: bytes, mac: str = MAC_A, to: str | None = None) -> Lie:
    return Lie(what, f.IPV4, packet, "inet spoofed", "bridge spoofed", mac, to)


def spoofed6(what: str, packet: bytes, mac: str = MAC_A, to: str | None = None) -> Lie:
    return Lie(what, f.IPV6, packet, "inet spoofed", "bridge spoofed", mac, to)


def dropped4(counter: str, what: str, packet: bytes) -> Lie:
    return Lie(what, f.IPV4, packet, f"inet {counter}", f"bridge {counter}")


def dropped6(counter: str, what: str, packet: bytes) -> Lie:
    return Lie(what, f.IPV6, packet, f"inet {counter}", f"bridge {counter}")


def discovery(what: str, source: str, message: bytes, *, bridged: str = "bridge discovery", target: str = ALL_NODES) -> Lie:
    to = ALL_NODES_MAC if target == ALL_NODES else None
    return Lie(what, f.IPV6, f.ipv6(source, target, f.ICMPV6, message), "inet discovery", bridged, to=to)


def arp(what: str, packet: bytes, mac: str = MAC_A, to: str | None = f.BROADCAST) -> Lie:
    return Lie(what, f.ARP, packet, "arp arp-spoofed", "bridge arp-spoofed", mac, to)


def inner4() -> bytes:
    """A packet from the other pod to the node, to be wrapped into a tunnel."""
    return v4(B4, NODE4)


def vxlan(vni: int) -> bytes:
    return bytes((8, 0, 0, 0)) + vni.to_bytes(3, "big") + b"\0" + f.ethernet(MAC_B, NODE_MAC, f.IPV4, inner4())


FORGED_SOURCES = [
    spoofed4("an address from elsewhere", v4(AWAY4, B4)),
    spoofed4("the other pod's address", v4(B4, NODE4)),
    spoofed4("the node's address", v4(NODE4, B4)),
    spoofed4("a neighbour's unused address", v4("10.244.0.99", B4)),
    spoofed4("no address", v4("0.0.0.0", "255.255.255.255"), to=f.BROADCAST),
    spoofed4("loopback as source", v4("127.0.0.1", B4)),
    spoofed4("a group as source", v4("224.0.0.1", B4)),
    spoofed4("the own address from a forged MAC", v4(A4, B4), mac="0a:58:00:00:00:99"),
    spoofed4("the other pod's address and MAC", v4(B4, NODE4), mac=MAC_B),
    spoofed4("the other pod's MAC", v4(A4, B4), mac=MAC_B),
    spoofed4("a forged TCP SYN", v4(AWAY4, B4, f.TCP, f.tcp_syn(80, MARK))),
    spoofed4("a forged echo request", v4(AWAY4, B4, f.ICMP, f.icmp(8, MARK))),
    spoofed4("a forged unknown protocol", v4(AWAY4, B4, 253, MARK)),
    spoofed4("a forged first fragment", v4(AWAY4, B4, fragment=0x2000)),
    spoofed4("a forged later fragment", v4(AWAY4, B4, payload=MARK, fragment=0x0010)),
    spoofed4("a forged packet to a group", v4(AWAY4, "224.0.0.251"), to="01:00:5e:00:00:fb"),
    spoofed6("an IPv6 address from elsewhere", v6(AWAY6, B6)),
    spoofed6("the other pod's IPv6 address", v6(B6, NODE6)),
    spoofed6("the other pod's link-local address", v6(B_LINK, B6)),
    spoofed6("a forged link-local address", v6("fe80::bad", B6)),
    spoofed6("no IPv6 address", v6("::", B6)),
    spoofed6("the own IPv6 address from a forged MAC", v6(A6, B6), mac="0a:58:00:00:00:99"),
    spoofed6("the other pod's IPv6 address and MAC", v6(B6, NODE6), mac=MAC_B),
    spoofed6("a forged IPv6 TCP SYN", v6(AWAY6, B6, f.TCP, f.tcp_syn(80, MARK))),
    spoofed6("a forged IPv6 fragment", v6(AWAY6, B6, f.FRAGMENT, f.fragment_header(f.UDP, 0, more=True) + f.udp(9, MARK))),
    spoofed6("a forged IPv6 echo request", v6(AWAY6, B6, f.ICMPV6, f.icmpv6(128, bytes(4) + MARK))),
    Lie("IPv6 loopback as source", f.IPV6, v6("::1", B6), None, "bridge spoofed"),
    Lie("an IPv4-mapped source", f.IPV6, v6(f"::ffff:{A4}", B6), None, "bridge spoofed"),
]

TUNNELS = [
    dropped4("tunnels", "VXLAN", v4(A4, NODE4, payload=f.udp(4789, vxlan(4096)))),
    dropped4("tunnels", "VXLAN of Flannel", v4(A4, NODE4, payload=f.udp(8472, vxlan(1)))),
    dropped4("tunnels", "Flannel's udp", v4(A4, NODE4, payload=f.udp(8285, inner4()))),
    dropped4("tunnels", "a tunnel of the cluster's own port", v4(A4, NODE4, payload=f.udp(9000, inner4()))),
    dropped4("tunnels", "VXLAN to another pod", v4(A4, B4, payload=f.udp(4789, vxlan(4096)))),
    dropped4("tunnels", "VXLAN in a first fragment", v4(A4, NODE4, payload=f.udp(4789, vxlan(4096)), fragment=0x2000)),
    dropped4("tunnels", "IPIP", v4(A4, NODE4, f.IPIP, inner4())),
    dropped4("tunnels", "GRE", v4(A4, NODE4, f.GRE, bytes((0, 0, 8, 0)) + inner4())),
    dropped4("tunnels", "IPv6 in IPv4", v4(A4, NODE4, f.IPV6_IN_IP, v6(B6, NODE6))),
    dropped4("tunnels", "EtherIP", v4(A4, NODE4, 97, b"\x30\0" + MARK)),
    dropped4("tunnels", "L2TP", v4(A4, NODE4, 115, bytes(8) + MARK)),
    dropped6("tunnels", "VXLAN over IPv6", v6(A6, NODE6, payload=f.udp(4789, vxlan(4096)))),
    dropped6("tunnels", "IPv4 in IPv6", v6(A6, NODE6, f.IPIP, inner4())),
    dropped6("tunnels", "IPv6 in IPv6", v6(A6, NODE6, f.IPV6_IN_IP, v6(B6, NODE6))),
    dropped6("tunnels", "GRE over IPv6", v6(A6, NODE6, f.GRE, bytes((0, 0, 8, 0)) + inner4())),
    dropped6("tunnels", "a tunnel behind options", v6(A6, NODE6, f.OPTIONS, f.destination_options(f.IPIP) + inner4())),
    dropped6("tunnels", "headers cut short", v6(A6, B6, f.OPTIONS, b"\x3c\xff")),
]

ASTRAY = [
    dropped4("loopback", "the node's loopback", v4(A4, "127.0.0.1")),
    dropped4("source-routed", "a loose source route", v4(A4, B4, options=f.source_route(f.LSRR, AWAY4))),
    dropped4("source-routed", "a strict source route", v4(A4, B4, options=f.source_route(f.SSRR, AWAY4))),
    dropped4("discovery", "a redirect", v4(A4, B4, f.ICMP, f.icmp(5, v4(B4, AWAY4), code=1))),
    dropped6("source-routed", "a routing header", v6(A6, B6, f.ROUTING, f.routing_header(0, f.UDP, AWAY6) + f.udp(9, MARK))),
    dropped6(
        "source-routed", "a segment routing header", v6(A6, B6, f.ROUTING, f.routing_header(4, f.UDP, AWAY6) + f.udp(9, MARK))
    ),
    dropped6("loopback", "an IPv4-mapped target", v6(A6, f"::ffff:{B4}")),
    Lie("the node's IPv6 loopback", f.IPV6, v6(A6, "::1"), None, "bridge loopback"),
    dropped4("loopback", "TCP to the node's loopback", v4(A4, "127.0.0.1", f.TCP, f.tcp_syn(80, MARK))),
    dropped4(
        "source-routed", "TCP by a source route", v4(A4, B4, f.TCP, f.tcp_syn(80, MARK), options=f.source_route(f.LSRR, AWAY4))
    ),
    dropped6("loopback", "TCP to an IPv4-mapped target", v6(A6, f"::ffff:{B4}", f.TCP, f.tcp_syn(80, MARK))),
    dropped6(
        "source-routed",
        "TCP behind a routing header",
        v6(A6, B6, f.ROUTING, f.routing_header(0, f.TCP, AWAY6) + f.tcp_syn(80, MARK)),
    ),
    spoofed4("TCP with the other pod's MAC", v4(A4, B4, f.TCP, f.tcp_syn(80, MARK)), mac=MAC_B),
    spoofed6("IPv6 TCP as the other pod", v6(B6, NODE6, f.TCP, f.tcp_syn(80, MARK))),
]

NEIGHBOURS = [
    arp("an ARP answer for the gateway", f.arp(2, MAC_A, NODE4, MAC_B, B4), to=None),
    arp("a gratuitous ARP for the other pod", f.arp(1, MAC_A, B4, "00:00:00:00:00:00", B4)),
    arp("an ARP request as the other pod", f.arp(1, MAC_A, B4, "00:00:00:00:00:00", NODE4)),
    arp("an ARP answer with another MAC inside", f.arp(2, MAC_B, A4, NODE_MAC, NODE4)),
    arp("an ARP answer from another MAC outside", f.arp(2, MAC_A, A4, NODE_MAC, NODE4), mac=MAC_B),
    arp("an ARP probe", f.arp(1, MAC_A, "0.0.0.0", "00:00:00:00:00:00", B4)),
    discovery("a router advertisement", A_LINK, f.router_advertisement(MAC_A)),
    discovery("a forged router advertisement", "fe80::1", f.router_advertisement(MAC_A)),
    discovery("a router solicitation", A_LINK, f.icmpv6(133, bytes(4))),
    discovery("an IPv6 redirect", A_LINK, f.icmpv6(137, bytes(4) + ipaddress.ip_address(A_LINK).packed + bytes(16)), target=B6),
    discovery("an advertisement for the gateway", A6, f.neighbour(136, NODE6, MAC_A, flags=0x20000000)),
    discovery("an advertisement for the other pod", A6, f.neighbour(136, B6, MAC_A, flags=0x20000000)),
    discovery("an advertisement as the other pod", B6, f.neighbour(136, A6, MAC_A, flags=0x20000000)),
    discovery("a solicitation as the other pod", B6, f.neighbour(135, NODE6, MAC_A), bridged="bridge spoofed"),
    discovery("a solicitation from nowhere (DAD)", "::", f.neighbour(135, B6, MAC_A), bridged="bridge spoofed"),
]

OTHER_FRAMES = [
    Lie("a VLAN tag", f.VLAN, b"\0\x05\x08\0" + v4(A4, B4), None, "bridge foreign"),
    Lie("a priority tag on a forged source", f.VLAN, b"\0\0\x08\0" + v4(AWAY4, B4), "inet spoofed", "bridge foreign"),
    Lie("two VLAN tags", f.QINQ, b"\0\x05\x81\0\0\x06\x08\0" + v4(A4, B4), None, "bridge foreign"),
    Lie("an unknown protocol", 0x88B5, MARK, None, "bridge foreign"),
    Lie("RARP", 0x8035, f.arp(3, MAC_A, B4, MAC_A, B4), None, "bridge foreign", to=f.BROADCAST),
]

LIES = [*FORGED_SOURCES, *TUNNELS, *ASTRAY, *NEIGHBOURS, *OTHER_FRAMES]


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.what)
def test_a_lie_is_dropped_and_counted(admitted: World, lie: Lie) -> None:
    counter = lie.routed if admitted.wiring == "routed" else lie.bridged
    before = admitted.drops()
    frame = lie.frame(admitted.hop)
    admitted.send(frame)
    if counter:
        assert admitted.counted(before) == {counter: 1}
    assert not admitted.arrives(frame, patience=0.01 if counter else 0.05)


HONEST = {
    "UDP": (f.IPV4, v4(A4, B4)),
    "TCP": (f.IPV4, v4(A4, B4, f.TCP, f.tcp_syn(80, MARK))),
    "an echo request": (f.IPV4, v4(A4, B4, f.ICMP, f.icmp(8, MARK))),
    "a protocol of its own": (f.IPV4, v4(A4, B4, 253, MARK)),
    "a first fragment": (f.IPV4, v4(A4, B4, fragment=0x2000)),
    "a later fragment": (f.IPV4, v4(A4, B4, payload=MARK, fragment=0x0010)),
    "UDP from a tunnel's port": (f.IPV4, v4(A4, B4, payload=f.udp(9, MARK, source=4789))),
    "UDP over IPv6": (f.IPV6, v6(A6, B6)),
    "TCP over IPv6": (f.IPV6, v6(A6, B6, f.TCP, f.tcp_syn(80, MARK))),
    "an IPv6 echo request": (f.IPV6, v6(A6, B6, f.ICMPV6, f.icmpv6(128, bytes(4) + MARK))),
    "an IPv6 fragment": (f.IPV6, v6(A6, B6, f.FRAGMENT, f.fragment_header(f.UDP, 0, more=True) + f.udp(9, MARK))),
    "options before UDP": (f.IPV6, v6(A6, B6, f.OPTIONS, f.destination_options(f.UDP) + f.udp(9, MARK))),
}
ON_THE_LINK = {
    "an ARP request": (f.ARP, f.arp(1, MAC_A, A4, "00:00:00:00:00:00", B4), f.BROADCAST),
    "an ARP answer": (f.ARP, f.arp(2, MAC_A, A4, MAC_B, B4), MAC_B),
    "a gratuitous ARP": (f.ARP, f.arp(1, MAC_A, A4, "00:00:00:00:00:00", A4), f.BROADCAST),
    "a solicitation": (f.IPV6, f.ipv6(A6, ALL_NODES, f.ICMPV6, f.neighbour(135, B6, MAC_A)), ALL_NODES_MAC),
    "an advertisement": (f.IPV6, f.ipv6(A6, B6, f.ICMPV6, f.neighbour(136, A6, MAC_A)), MAC_B),
    "link-local UDP": (f.IPV6, f.ipv6(A_LINK, B_LINK, f.UDP, f.udp(9, MARK)), MAC_B),
}


@pytest.mark.parametrize("what", HONEST)
def test_an_honest_packet_arrives(admitted: World, what: str) -> None:
    kind, packet = HONEST[what]
    before = admitted.drops()
    frame = f.ethernet(MAC_A, admitted.hop, kind, packet)
    admitted.send(frame)
    assert admitted.arrives(frame)
    assert admitted.drops() == before


@pytest.mark.parametrize("world", ["bridged"], indirect=True)
@pytest.mark.parametrize("what", ON_THE_LINK)
def test_an_honest_neighbour_is_heard_on_a_bridge(admitted: World, what: str) -> None:
    kind, packet, to = ON_THE_LINK[what]
    frame = f.ethernet(MAC_A, to, kind, packet)
    before = admitted.drops()
    admitted.send(frame)
    assert admitted.arrives(frame)
    assert admitted.drops() == before


@pytest.mark.parametrize("what", HONEST)
def test_nobody_may_send_before_being_admitted_or_after_being_expelled(world: World, what: str) -> None:
    kind, packet = HONEST[what]
    world.nft.expel(SOURCES)
    before = world.drops()
    frame = f.ethernet(MAC_A, world.hop, kind, packet)
    world.send(frame)
    assert len(world.counted(before)) == 1
    assert not world.arrives(frame, patience=0.01)


def test_a_flood_of_forged_arp_leaves_all_neighbour_tables_as_they_are(admitted: World) -> None:
    def tables() -> list[str]:
        found = []
        for space in (admitted.node, admitted.pod_b):
            with netns.entered(space):
                found.append(subprocess.run(["ip", "neigh"], capture_output=True, text=True, check=True).stdout)
        return found

    before, dropped = tables(), sum(admitted.drops().values())
    for number in range(1000):
        victim = f"10.244.0.{number % 250 + 3}"
        admitted.send(f.ethernet(MAC_A, f.BROADCAST, f.ARP, f.arp(2, MAC_A, victim, MAC_B, B4)))
    assert sum(admitted.drops().values()) - dropped == 1000
    assert tables() == before


@pytest.mark.parametrize("world", ["bridged"], indirect=True)
@pytest.mark.parametrize("group", [f"01:80:c2:00:00:{last:02x}" for last in range(16)])
def test_a_bridge_does_not_learn_from_frames_that_no_rule_sees(admitted: World, group: str) -> None:
    """Frames to the reserved groups: one with the other pod's MAC would turn that pod's packets to pod A."""
    admitted.send(f.ethernet(MAC_B, group, 0x88CC, MARK))
    answer = f.ethernet(MAC_A, MAC_B, f.IPV4, v4(A4, B4))
    admitted.send(answer)
    assert admitted.arrives(answer)
    table = subprocess.run(["bridge", "fdb", "show", "br", "loom.br0"], capture_output=True, text=True, check=True).stdout
    assert f"{MAC_B} dev {PORT_A}" not in table
