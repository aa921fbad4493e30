"""What CHECK looks at: each fault of a pod's interface has its words, on either side, in either wiring and family."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from _pytest.mark.structures import ParameterSet

from netloom.calc import pod as pod_tables
from netloom.calc.pods import BRIDGE_MAC
from netloom.cni.inspecting import inspect
from netloom.cni.results import ResultRoute
from netloom.dataplane import netns
from netloom.dataplane.netlink import Netlink
from netloom.model.addresses import parse_address, parse_interface
from netloom.model.attachments import Attachment, Wiring
from tests.kernel.cni.test_wiring import attach, attachment
from tests.kernel.iproute import run

ROUTED, BRIDGE, EITHER = (Wiring.ROUTED,), (Wiring.BRIDGE,), tuple(Wiring)
POD_FAULTS = [
    ("ip address del {v4} dev eth0", EITHER, "eth0 has lost {v4}"),
    ("ip address del {v6} dev eth0", EITHER, "eth0 has lost {v6}"),
    ("ip link set eth0 down", EITHER, "eth0 is down"),
    ("ip link set eth0 address 0a:58:00:00:00:09", EITHER, "eth0 has MAC 0a:58:00:00:00:09, expected 0a:58:0a:01:00:02"),
    ("ip route del default", EITHER, "the sandbox has no IPv4 default route"),
    ("ip -6 route del default", EITHER, "the sandbox has no IPv6 default route"),
    (
        "ip route replace blackhole default",
        EITHER,
        "the sandbox's IPv4 default route leads nowhere, expected via {gw4} dev eth0",
    ),
    ("ip -6 route add blackhole default metric 1", EITHER, "the sandbox's IPv6 default route leads nowhere"),
    ("ip -6 route add unreachable default metric 1", EITHER, "the sandbox's IPv6 default route leads nowhere"),
    ("ip route replace default via 10.1.0.9 dev eth0 onlink", EITHER, "the sandbox's IPv4 default route leads via 10.1.0.9"),
    ("ip -6 route replace default via fe80::9 dev eth0", EITHER, "the sandbox's IPv6 default route leads via fe80::9"),
    ("ip -6 route add default via fe80::9 dev eth0 metric 1", EITHER, "the sandbox's IPv6 default route leads via fe80::9"),
    ("ip route replace default dev lo", EITHER, "the sandbox's IPv4 default route leads via no gateway"),
    ("ip route del 169.254.1.1", ROUTED, "the sandbox has no route to its gateway 169.254.1.1"),
    ("ip -6 route del fe80::1", ROUTED, "the sandbox has no route to its gateway fe80::1"),
    ("ip route replace blackhole 169.254.1.1", ROUTED, "the sandbox's route to its gateway 169.254.1.1 leads nowhere"),
    ("ip neighbour del 169.254.1.1 dev eth0", ROUTED, "eth0 has forgotten the MAC of its gateway 169.254.1.1"),
    ("ip neighbour del fe80::1 dev eth0", ROUTED, "eth0 has forgotten the MAC of its gateway fe80::1"),
    (
        "ip neighbour replace 169.254.1.1 lladdr 0a:58:00:00:00:09 dev eth0 nud permanent",
        ROUTED,
        "eth0 takes 0a:58:00:00:00:09 for the MAC of its gateway 169.254.1.1, expected ee:ee:ee:ee:ee:ee",
    ),
    (
        "ip neighbour replace fe80::1 lladdr 0a:58:00:00:00:09 dev eth0 nud permanent",
        ROUTED,
        "eth0 takes 0a:58:00:00:00:09 for the MAC of its gateway fe80::1, expected ee:ee:ee:ee:ee:ee",
    ),
    ("ip neighbour replace 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee dev eth0 nud stale", ROUTED, "eth0 has forgotten the MAC"),
]
NODE_FAULTS = [
    ("ip link set {host} down", EITHER, "the host interface {host} is down"),
    ("ip link set {host} address 02:00:00:00:00:09", EITHER, "the host interface {host} has MAC 02:00:00:00:00:09, expected"),
    ("ip link set {host} mtu 1400", EITHER, "{host} has MTU 1400, expected 1450"),
    ("ip link set {host} alias mine", EITHER, "{host} does not say any more whose it is: its alias is 'mine'"),
    ("sysctl -w net.ipv4.conf.{host}.forwarding=0", EITHER, "net/ipv4/conf/{host}/forwarding is not 1"),
    ("sysctl -w net.ipv4.conf.{host}.rp_filter=1", EITHER, "net/ipv4/conf/{host}/rp_filter is not 0"),
    ("sysctl -w net.ipv6.conf.{host}.accept_ra=1", EITHER, "net/ipv6/conf/{host}/accept_ra is not 0"),
    ("sysctl -w net.ipv4.ip_forward=0", EITHER, "net/ipv4/ip_forward is not 1"),
    ("sysctl -w net.ipv6.conf.all.forwarding=0", EITHER, "net/ipv6/conf/all/forwarding is not 1"),
    ("ip route del 10.1.0.2", ROUTED, "the node has no route to 10.1.0.2/32 by {host}"),
    ("ip -6 route del fd00::2", ROUTED, "the node has no route to fd00::2/128 by {host}"),
    ("ip route replace blackhole 10.1.0.2", ROUTED, "the node has no route to 10.1.0.2/32 by {host}"),
    ("ip neighbour del 10.1.0.2 dev {at}", EITHER, "the node's {at} has forgotten the MAC of 10.1.0.2"),
    ("ip neighbour del fd00::2 dev {at}", EITHER, "the node's {at} has forgotten the MAC of fd00::2"),
    (
        "ip neighbour replace fd00::2 lladdr 02:00:00:00:00:09 dev {at} nud permanent",
        EITHER,
        "the node's {at} takes 02:00:00:00:00:09 for the MAC of fd00::2, expected 0a:58:0a:01:00:02",
    ),
    ("ip link set {host} nomaster", BRIDGE, "{host} is no port of loom.br0"),
    ("bridge link set dev {host} hairpin off", BRIDGE, "{host} sends nothing back"),
    ("ip address flush dev loom.br0", BRIDGE, "loom.br0 has lost 10.1.0.1/26"),
    ("ip address del fd00::1/122 dev loom.br0", BRIDGE, "loom.br0 has lost fd00::1/122"),
    ("ip link set loom.br0 down", BRIDGE, "the bridge loom.br0 is down"),
    ("ip link set loom.br0 address 02:00:00:00:00:09", BRIDGE, f"has MAC 02:00:00:00:00:09, expected {BRIDGE_MAC}"),
    ("ip link del loom.br0", BRIDGE, "loom.br0 is gone"),
    ("ip link del {host}", EITHER, "the host interface {host} is gone"),
]


def each(faults: list[tuple[str, tuple[Wiring, ...], str]]) -> list[ParameterSet]:
    return [
        pytest.param(kind, damage, words, id=f"{kind.value}: {damage}") for damage, kinds, words in faults for kind in kinds
    ]


@pytest.fixture
def kernel(node: int) -> Iterator[Netlink]:
    run("sysctl -w net.ipv4.ip_forward=1")
    run("sysctl -w net.ipv6.conf.all.forwarding=1")
    with Netlink() as netlink:
        yield netlink


def found(kernel: Netlink, one: Attachment, pod: int, told: list[ResultRoute] | None = None) -> list[str]:
    return inspect(kernel, one, pod_tables(one), pod, told=told)


def filled(text: str, one: Attachment) -> str:
    return text.format(
        host=one.host_interface,
        at=one.bridge or one.host_interface,
        v4=one.addresses[0],
        v6=one.addresses[1],
        gw4=one.gateways[0],
    )


@pytest.mark.parametrize(("kind", "damage", "words"), each(POD_FAULTS))
def test_a_fault_in_the_sandbox_is_named(kernel: Netlink, pod: int, kind: Wiring, damage: str, words: str) -> None:
    one = attach(kernel, attachment(2, kind), pod)
    assert found(kernel, one, pod) == []
    with netns.entered(pod):
        run(filled(damage, one))
    assert any(text.startswith(filled(words, one)) for text in found(kernel, one, pod)), found(kernel, one, pod)


@pytest.mark.parametrize(("kind", "damage", "words"), each(NODE_FAULTS))
def test_a_fault_on_the_node_is_named(kernel: Netlink, pod: int, kind: Wiring, damage: str, words: str) -> None:
    one = attach(kernel, attachment(2, kind), pod)
    assert found(kernel, one, pod) == []
    run(filled(damage, one))
    assert any(filled(words, one) in text for text in found(kernel, one, pod)), found(kernel, one, pod)


@pytest.mark.parametrize("kind", EITHER)
def test_what_others_add_is_no_fault(kernel: Netlink, pod: int, kind: Wiring) -> None:
    one = attach(kernel, attachment(2, kind), pod)
    with netns.entered(pod):
        run("ip route add 10.9.0.0/16 dev eth0")
        run(f"ip route change default via {one.gateways[0]} dev eth0 mtu 1300" + (" onlink" if kind is Wiring.ROUTED else ""))
        run("ip route add default via 10.1.0.9 dev eth0 onlink metric 50")
        run("ip -6 route add default via fe80::9 dev eth0 metric 2000")
        run("ip link set eth0 mtu 1300")
        run("ip address add 10.200.0.1/24 dev eth0")
    assert found(kernel, one, pod) == []


@pytest.mark.parametrize("kind", EITHER)
def test_what_later_plugins_say_that_they_did_to_routes_is_theirs(kernel: Netlink, pod: int, kind: Wiring) -> None:
    one = attach(kernel, attachment(2, kind), pod)
    ours = [
        ResultRoute(parse_interface(text), gateway) for text, gateway in zip(("0.0.0.0/0", "::/0"), one.gateways, strict=True)
    ]
    theirs = ResultRoute(parse_interface("::/0"), parse_address("fe80::9"))
    assert found(kernel, one, pod, ours) == []
    with netns.entered(pod):
        run("ip -6 route add default via fe80::9 dev eth0 metric 1")
    assert "leads via fe80::9" in found(kernel, one, pod, ours)[0]
    assert found(kernel, one, pod, [*ours, theirs]) == []
    with netns.entered(pod):
        run(f"ip -6 route del default via {one.gateways[1]}")
        run("ip route del default")
    assert found(kernel, one, pod, [*ours, theirs]) == [
        "the sandbox has no IPv4 default route",
        "the sandbox has no IPv6 default route",
    ]
    assert found(kernel, one, pod, [theirs]) == []


def test_no_fault_of_one_pod_is_another_ones(kernel: Netlink, pod: int) -> None:
    one = attach(kernel, attachment(2, Wiring.BRIDGE), pod)
    run("ip link add other0 type bridge")
    run("ip address add 192.0.2.1/24 dev loom.br0")
    run("sysctl -w net.ipv4.conf.loom/br0.route_localnet=1")  # while any pod on it publishes a port
    assert found(kernel, one, pod) == []
