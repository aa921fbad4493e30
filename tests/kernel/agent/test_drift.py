"""Somebody else changes what is ours: it is repaired at once, the log names it, and nothing else changes.

Each act is a line of iproute2 or nft, or a sysctl.  {routed} and {bridged} stand for the host interfaces of the two pods, {v4}
and {v6} for the routed pod's addresses, {b4} for the bridged one's, {tunnel} for the node's own address, {gateway} for the
bridge's, {block} for the node's block.
"""

from __future__ import annotations

import ipaddress
import re
import time
from collections.abc import Iterator

import pytest

from netloom.model.resources import Node
from tests.agent_process import NODE, running_machine
from tests.cni_calls import NATIVE, Runtime
from tests.kernel.agent.conftest import FOREIGN_RULES, Place, place_of
from tests.residue import Residue, differences
from tests.waiting import eventually

REMOTE, FLAT, REMOTE6 = "10.244.7.0/26", "10.50.7.0/26", "fd00:244::700/122"
METRIC = 975793  # of routes to remote-2: calc.metrics

ACTS = {
    # routes
    "a pod's route is deleted": ("ip route del {v4}", "{v4}/32"),
    "a pod's IPv6 route is deleted": ("ip route del {v6}", "{v6}/128"),
    "a pod's route is taken over": ("ip route replace {v4} dev other0 proto static", "{v4}/32"),
    "a pod's route gets a rival": ("ip route append {v4} dev other0 scope link proto 79", "{v4}/32"),
    "a route to a node goes another way": (
        f"ip route replace {FLAT} via 192.168.77.99 dev eth0 metric {METRIC} proto 79",
        FLAT,
    ),
    "a route to a node loses its source": (
        f"ip route replace {REMOTE} via 10.244.7.0 dev loom.vxlan onlink metric {METRIC} proto 79",
        REMOTE,
    ),
    "a route to a node gets an MTU": (
        f"ip route replace {REMOTE} via 10.244.7.0 dev loom.vxlan onlink src {{tunnel}} mtu 1000 metric {METRIC} proto 79",
        REMOTE,
    ),
    "an IPv6 route to a node is deleted": (f"ip route del {REMOTE6}", REMOTE6),
    "the blackhole is deleted": ("ip route del blackhole {block}", "{block}"),
    "the blackhole becomes a route": ("ip route replace unreachable {block} metric 4294967040 proto 79", "{block}"),
    "a route under our protocol is added": ("ip route add 198.18.0.0/24 dev other0 proto 79", "-198.18.0.0/24"),
    "all routes of ours are flushed": ("ip route flush proto 79", "routes=+6"),
    # neighbours
    "a node's neighbour entry is deleted": ("ip neighbour del 10.244.7.0 dev loom.vxlan", "loom.vxlan 10.244.7.0"),
    "a node's neighbour entry gets another MAC": (
        "ip neighbour replace 10.244.7.0 lladdr 02:00:00:00:00:0b dev loom.vxlan nud permanent",
        "loom.vxlan 10.244.7.0",
    ),
    "a node's neighbour entry may age": (
        "ip neighbour replace 10.244.7.0 lladdr 66:00:00:00:00:02 dev loom.vxlan nud stale",
        "loom.vxlan 10.244.7.0",
    ),
    "a pod's neighbour entry is deleted": ("ip neighbour del {v4} dev {routed}", "{routed} {v4}"),
    "a bridged pod's neighbour entry is deleted": ("ip neighbour del {b4} dev loom.br0", "loom.br0 {b4}"),
    "a neighbour entry is added": (
        "ip neighbour add 10.244.9.0 lladdr 02:00:00:00:00:0c dev loom.vxlan nud permanent",
        "-loom.vxlan 10.244.9.0",
    ),
    # forwarding entries
    "a forwarding entry is deleted": ("bridge fdb del 66:00:00:00:00:02 dev loom.vxlan", "66:00:00:00:00:02"),
    "a forwarding entry leads elsewhere": (
        "bridge fdb replace 66:00:00:00:00:02 dev loom.vxlan dst 192.168.77.66 self permanent",
        "66:00:00:00:00:02",
    ),
    "what nobody knows is flooded to a node": (
        "bridge fdb append 00:00:00:00:00:00 dev loom.vxlan dst 192.168.77.66 self permanent",
        "-loom.vxlan 00:00:00:00:00:00",
    ),
    "a forwarding entry is added": (
        "bridge fdb add 02:00:00:00:00:0d dev loom.vxlan dst 192.168.77.66 self permanent",
        "-loom.vxlan 02:00:00:00:00:0d",
    ),
    # addresses
    "the tunnel address is deleted": ("ip address del {tunnel}/32 dev loom.vxlan", "loom.vxlan {tunnel}/32"),
    "the bridge loses its gateway address": ("ip address del {gateway} dev loom.br0", "loom.br0 {gateway}"),
    "the tunnel device gets an address": ("ip address add 198.18.1.1/24 dev loom.vxlan", "-loom.vxlan 198.18.1.1/24"),
    "a pod's host end gets an address": ("ip address add 198.18.1.1/32 dev {routed}", "-{routed} 198.18.1.1/32"),
    # links
    "the tunnel device goes down": ("ip link set loom.vxlan down", "+loom.vxlan"),
    "the tunnel device gets another MTU": ("ip link set loom.vxlan mtu 1300", "+loom.vxlan"),
    "the tunnel device gets another MAC": ("ip link set loom.vxlan address 02:00:00:00:00:0e", "+loom.vxlan"),
    "the tunnel device learns": ("ip link set loom.vxlan type vxlan learning", "+loom.vxlan"),
    "the tunnel device is deleted": ("ip link del loom.vxlan", "+loom.vxlan"),
    "a pod's host end goes down": ("ip link set {routed} down", "+{routed}"),
    "a pod's host end gets another MTU": ("ip link set {routed} mtu 1400", "+{routed}"),
    "a pod's host end gets another MAC": ("ip link set {routed} address 02:00:00:00:00:0f", "+{routed}"),
    "a pod's host end gets another alias": ("ip link set {routed} alias mine", "+{routed}"),
    "a pod's host end is put on a bridge": ("ip link set {routed} master other0", "+{routed}"),
    "a pod's host end makes IPv6 addresses": ("ip link set {routed} addrgenmode eui64", "+{routed}"),
    "a bridged pod leaves its bridge": ("ip link set {bridged} nomaster", "+{bridged}"),
    "a bridge port gets no frame back": ("bridge link set dev {bridged} hairpin off", "+{bridged}"),
    "the bridge goes down": ("ip link set loom.br0 down", "+loom.br0"),
    "the bridge is deleted": ("ip link del loom.br0", "+loom.br0"),
    "a link is added under a name of ours": ("ip link add loomdeadbeef type bridge", "-loomdeadbeef"),
    # rules
    "the whole ruleset is flushed": ("nft flush ruleset", "inet netloom was changed by nft"),
    "the table is deleted": ("nft delete table inet netloom", "inet netloom was changed by nft"),
    "the bridge table is deleted": ("nft delete table bridge netloom", "bridge netloom was changed by nft"),
    "a chain is flushed": ("nft flush chain inet netloom from-pod", "inet netloom was changed by nft"),
    "a chain is added": ("nft add chain inet netloom mine", "inet netloom was changed by nft"),
    "a rule is added": ("nft insert rule inet netloom prerouting accept", "inet netloom was changed by nft"),
    "a pool's element is deleted": (
        "nft delete element inet netloom pools4 {{ 10.244.0.0/16 }}",
        "inet netloom was changed by nft",
    ),
    "a set is flushed": ("nft flush set inet netloom sources4", "inet netloom was changed by nft"),
    # sysctls
    "forwarding is switched off": ("net/ipv4/ip_forward=0", "+net/ipv4/ip_forward"),
    "IPv6 forwarding is switched off": ("net/ipv6/conf/all/forwarding=0", "+net/ipv6/conf/all/forwarding"),
    "the uplink checks paths strictly": ("net/ipv4/conf/eth0/rp_filter=1", "+net/ipv4/conf/eth0/rp_filter"),
    "a pod's host end checks paths": ("net/ipv4/conf/{routed}/rp_filter=1", "+net/ipv4/conf/{routed}/rp_filter"),
    "the uplink does not forward": ("net/ipv4/conf/eth0/forwarding=0", "+net/ipv4/conf/eth0/forwarding"),
    "the tunnel device does not forward": ("net/ipv4/conf/loom.vxlan/forwarding=0", "+net/ipv4/conf/loom.vxlan/forwarding"),
    "the bridge does not forward": ("net/ipv4/conf/loom.br0/forwarding=0", "+net/ipv4/conf/loom.br0/forwarding"),
    "a pod's host end does not forward": ("net/ipv4/conf/{routed}/forwarding=0", "+net/ipv4/conf/{routed}/forwarding"),
    "a pod's host end answers for others": ("net/ipv4/conf/{routed}/proxy_arp=1", "+net/ipv4/conf/{routed}/proxy_arp"),
}


@pytest.fixture(scope="module")
def words(inhabited: Place) -> dict[str, str]:
    """What the placeholders of an act stand for."""
    bridged = ipaddress.ip_address(inhabited.addresses["bridged"][0])
    block = next(b.cidr for b in inhabited.machine.state().blocks if bridged in b.cidr)
    stored = inhabited.store.get("Node", NODE)
    assert stored is not None and isinstance(stored.resource, Node)
    return {
        "routed": inhabited.links["routed"],
        "bridged": inhabited.links["bridged"],
        "v4": inhabited.addresses["routed"][0],
        "v6": inhabited.addresses["routed"][1],
        "b4": inhabited.addresses["bridged"][0],
        "block": str(block),
        "tunnel": str(stored.resource.spec.tunnel_address(4)),
        "gateway": f"{block[1]}/{block.prefixlen}",
    }


@pytest.fixture(scope="module")
def sound(inhabited: Place) -> Residue:
    """What the machine holds when all is well."""
    return inhabited.quiet_residue()


@pytest.fixture(autouse=True)
def the_cluster_is_as_it_was(inhabited: Place, sound: Residue) -> Iterator[None]:
    """And no pass is due, which every repair leads to: what is changed in the middle of a pass is refused to it, and it says so at length."""
    yield
    assert _settled(inhabited, sound) == []
    eventually(lambda: not inhabited.machine.state().pass_due)


@pytest.mark.parametrize(("act", "named"), ACTS.values(), ids=ACTS)
def test_a_change_by_others_is_repaired_and_named(
    inhabited: Place, words: dict[str, str], sound: Residue, act: str, named: str
) -> None:
    log = len(inhabited.machine.log())
    _do(inhabited, act.format(**words))
    wanted = named.format(**words)
    eventually(lambda: wanted in inhabited.machine.log()[log:])
    assert _settled(inhabited, sound) == []
    lines = inhabited.machine.log()[log:].splitlines()
    assert len(lines) <= 4, "a repair is told in few lines"
    assert not [line for line in lines if re.search("ERROR|WARNING", line)]


def test_a_change_is_repaired_while_pods_come_and_go_without_a_pause(inhabited: Place, words: dict[str, str]) -> None:
    log, deadline = len(inhabited.machine.log()), time.monotonic() + 30
    runtime = Runtime(inhabited.machine.run_dir, NATIVE)
    _do(inhabited, f"ip route del blackhole {words['block']}")
    with inhabited.machine.sandbox() as sandbox:
        while words["block"] not in inhabited.machine.log()[log:]:
            assert time.monotonic() < deadline
            assert runtime("ADD", sandbox).ok
            assert runtime("DEL", sandbox).ok


def test_what_the_kernel_tells_nobody_is_repaired_at_the_next_resync() -> None:
    with running_machine(resyncInterval=1.0) as machine, place_of(machine) as place:
        assert place.add("pod").ok
        wanted = {
            f"net/ipv6/conf/{place.links['pod']}/accept_ra": "0",
            f"net/ipv4/conf/{place.links['pod']}/route_localnet": "0",
        }
        for name in wanted:
            place.write_sysctl(name, "1")
        eventually(lambda: {name: place.sysctl(name) for name in wanted} == wanted)
        eventually(lambda: all(f"+{name}" in machine.log() for name in wanted))


def _do(place: Place, act: str) -> None:
    if re.fullmatch(r"[a-z0-9/._]+=\d", act):
        place.write_sysctl(*act.split("="))
        return
    place.run(*act.split())
    if act == "nft flush ruleset":
        place.run("nft", FOREIGN_RULES)


def _settled(place: Place, sound: Residue) -> list[str]:
    deadline = time.monotonic() + 30
    while (found := differences(sound, place.residue())) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found + _wrong_sysctls(place)


def _wrong_sysctls(place: Place) -> list[str]:
    wanted = {
        "net/ipv4/ip_forward": "1",
        "net/ipv6/conf/all/forwarding": "1",
        "net/ipv4/conf/eth0/rp_filter": "2",
        **{f"net/ipv4/conf/{link}/forwarding": "1" for link in ("eth0", "loom.vxlan", "loom.br0", place.links["routed"])},
        f"net/ipv4/conf/{place.links['routed']}/rp_filter": "0",
        f"net/ipv4/conf/{place.links['routed']}/proxy_arp": "0",
    }
    return [name for name, value in wanted.items() if place.sysctl(name) != value]
