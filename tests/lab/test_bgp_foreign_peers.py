"""Peers that are not BIRD: FRR, GoBGP and OpenBGPD hear and are heard; what ExaBGP says that nobody should reaches no pod's routing."""

from __future__ import annotations

import json
import os
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from netloom.lab import cluster
from netloom.lab.cluster import Lab
from netloom.lab.topology import one_switch
from netloom.model.resources import Encapsulation
from tests.daemons import unpacked
from tests.lab import speakers
from tests.lab.conftest import settled
from tests.lab.routing import bfd_is_up, blocks, established, peers, prefixes, routes, say
from tests.lab.test_bgp_loss import Manifest, configuration, declare, peer, withdraw
from tests.waiting import eventually

AS = 65001
OUTSIDE = ("192.168.100.1", "fd00:192:168:100::1")
NODES = {"node-0": ("192.168.100.11", "fd00:192:168:100::b"), "node-1": ("192.168.100.12", "fd00:192:168:100::c")}
LIMIT = 50


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Two nodes in a mesh; the router is the speaker's."""
    name = f"t{os.getpid()}-odd"
    topology = one_switch(name, nodes=2, pods=2, encapsulation=Encapsulation.NONE)
    try:
        made = cluster.up(msgspec.structs.replace(topology, bgp=True, resources=(configuration(),)))
        eventually(lambda: all(len(established(made, node)) == 2 for node in NODES), 60)
        assert settled(made)
        yield made
    finally:
        cluster.down(name)


@pytest.fixture
def peered(lab: Lab) -> Iterator[Lab]:
    """Both nodes have a session with the router for each family, by password."""
    secret: Manifest = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "fabric", "namespace": "kube-system"},
        "data": {"password": b64encode(b"not-so-secret").decode()},
    }
    password = {"secretKeyRef": {"name": "fabric", "key": "password"}}
    pools = {
        f"importV{p.cidr.version}": [{"cidr": str(p.cidr), "matchOperator": "In", "action": "Reject"}]
        for p in lab.topology.pools
    }
    no_pods: Manifest = {"apiVersion": "netloom.io/v1", "kind": "BGPFilter", "metadata": {"name": "no-pods"}, "spec": pools}
    declare(lab, secret, no_pods, *with_router(password=password))
    yield lab
    withdraw(lab, "BGPPeer", "outside-0", "outside-1")
    eventually(lambda: all(len(peers(lab, node)) == 2 for node in NODES))


def with_router(**spec: object) -> list[Manifest]:
    spec = {"prefixLimit": LIMIT, "filters": ["no-pods"], **spec}
    return [peer(f"outside-{i}", a, AS, **spec) for i, a in enumerate(OUTSIDE)]


def of_blocks(lab: Lab) -> set[str]:
    return {str(block) for there in blocks(lab).values() for block in there}


def outside(lab: Lab, node: str) -> set[str]:
    return {line.split(" proto bird")[0] for line in routes(lab, node) if " proto bird " in line}


def test_frr_learns_where_pods_are_and_tells_of_what_is_outside(peered: Lab, tmp_path: Path) -> None:
    lines = ["router bgp 65001", " bgp router-id 192.168.100.1", " no bgp ebgp-requires-policy", " no bgp network import-check"]
    for four, six in NODES.values():
        for address in (four, six):
            lines += [f" neighbor {address} remote-as 64512", f" neighbor {address} password not-so-secret"]
    lines += [" address-family ipv4 unicast", "  network 198.51.100.0/24", " exit-address-family"]
    lines += [" address-family ipv6 unicast", "  network 2001:db8:51::/64"]
    lines += [f"  neighbor {six} activate" for _, six in NODES.values()] + [" exit-address-family"]
    say(peered, "router", "ip", "address", "add", "198.51.100.1/32", "dev", "lo")
    say(peered, "router", "ip", "address", "add", "2001:db8:51::1/128", "dev", "lo")
    with speakers.frr(peered, "router", tmp_path, "\n".join(lines) + "\n"):
        eventually(lambda: prefixes(peered, "router", "proto", "bgp") == of_blocks(peered), 60)
        wanted = {"198.51.100.0/24 via 192.168.100.1 dev eth0", "2001:db8:51::/64 via fd00:192:168:100::1 dev eth0"}
        for node in NODES:
            eventually(lambda node=node: wanted <= outside(peered, node), 60)
        for pod in peered.topology.pods:
            four, six = (a.ip for a in peered.record.sandboxes[pod.name].addresses)
            say(peered, "router", "ping", "-c1", "-W10", "-I", "198.51.100.1", str(four))
            say(peered, "router", "ping", "-c1", "-W10", "-I", "2001:db8:51::1", str(six))


PATIENT = """bfd
 profile patient
  detect-multiplier 10
"""
"""It counts at the other end.  On a busy machine nobody is to be taken for dead."""


def test_frr_with_bfd_is_gone_as_soon_as_it_is_silent(peered: Lab, tmp_path: Path) -> None:
    """Long before its hold time, three minutes."""
    lines = ["router bgp 65001", " bgp router-id 192.168.100.1", " no bgp ebgp-requires-policy", " no bgp network import-check"]
    for address in (address for pair in NODES.values() for address in pair):
        lines += [f" neighbor {address} remote-as 64512", f" neighbor {address} bfd profile patient"]
    lines += [" address-family ipv4 unicast", "  network 198.51.100.0/24", " exit-address-family"]
    lines += [" address-family ipv6 unicast", "  network 2001:db8:51::/64"]
    lines += [f"  neighbor {six} activate" for _, six in NODES.values()] + [" exit-address-family"]
    told = {"198.51.100.0/24", "2001:db8:51::/64"}
    declare(peered, *with_router(bfd={"multiplier": 30}))
    with speakers.frr(peered, "router", tmp_path, "\n".join(lines) + "\n", PATIENT) as router:
        for node in NODES:
            eventually(lambda node=node: bfd_is_up(peered, node) and told <= prefixes(peered, node, "proto", "bird"), 60)
        router.stand_still()
        for node in NODES:
            eventually(lambda node=node: not told & prefixes(peered, node, "proto", "bird"), 60)
            errors = {each.error for each in peers(peered, node).values() if each.name.startswith("peer_outside")}
            assert errors == {"Error: BFD session down"}


def test_openbgpd_has_a_session_for_each_family(peered: Lab, tmp_path: Path) -> None:
    lines = ["AS 65001", "router-id 192.168.100.1", "fib-update no", *(f"listen on {address}" for address in OUTSIDE)]
    lines += ["network 198.51.100.0/24", "network 2001:db8:51::/64"]
    neighbour = "neighbor {} {{\n remote-as 64512\n tcp md5sig password not-so-secret\n}}"
    lines += [neighbour.format(address) for pair in NODES.values() for address in pair]
    lines += ["allow from any", "allow to any"]
    program = unpacked(*speakers.OPENBGPD) / "usr/sbin/bgpctl"
    with speakers.openbgpd(peered, "router", tmp_path, "\n".join(lines) + "\n") as speaker:
        own = {"198.51.100.0/24", "2001:db8:51::/64"}

        def heard() -> set[str]:
            answer = speaker.say(program, "-s", tmp_path / "bgpd.sock", "-j", "show", "rib")
            return {route["prefix"] for route in json.loads(answer).get("rib", ())} if answer.startswith("{") else set()

        eventually(lambda: heard() == of_blocks(peered) | own, 60)
        for node in NODES:
            eventually(lambda node=node: own <= prefixes(peered, node, "proto", "bird"), 60)
        assert list(settled(peered).problems()) == []


def test_gobgp_hears_the_same_and_nothing_else(peered: Lab, tmp_path: Path) -> None:
    families = {4: "ipv4-unicast", 6: "ipv6-unicast"}
    neighbours = [
        {
            "config": {"neighbor-address": address, "peer-as": 64512, "auth-password": "not-so-secret"},
            "afi-safis": [{"config": {"afi-safi-name": families[6 if ":" in address else 4]}}],
        }
        for pair in NODES.values()
        for address in pair
    ]
    program = unpacked(*speakers.GOBGP) / "usr/bin/gobgp"
    configuration = {"global": {"config": {"as": AS, "router-id": OUTSIDE[0], "port": 179}}, "neighbors": neighbours}
    with speakers.gobgp(peered, "router", tmp_path, configuration) as speaker:
        speaker.say(program, "global", "rib", "add", "198.51.100.0/24")
        speaker.say(program, "global", "rib", "add", "2001:db8:51::/64", "-a", "ipv6")
        own = {"198.51.100.0/24", "2001:db8:51::/64"}

        def heard() -> set[str]:
            answers = [speaker.say(program, "-j", "global", "rib", "-a", family) for family in ("ipv4", "ipv6")]
            return {prefix for answer in answers if answer.startswith("{") for prefix in json.loads(answer)}

        eventually(lambda: heard() == of_blocks(peered) | own, 60)
        eventually(lambda: own <= prefixes(peered, "node-0", "proto", "bird"))


@dataclass(frozen=True)
class Words:
    """What a family's addresses look like: `fine`, the n-th prefix that a router may tell of, and some that are nobody's to tell."""

    fine: Callable[[int], str]
    nobodys: tuple[str, ...]
    no_next_hops: tuple[str, ...]


WORDS = {
    4: Words(
        lambda number: f"198.51.{number}.0/24",
        ("169.254.1.1/32", "127.0.0.0/8", "240.0.0.0/4", "192.168.100.0/24"),
        ("203.0.113.7", "127.0.0.1", "224.0.0.5"),
    ),
    6: Words(
        lambda number: f"2001:db8:51:{number}::/64",
        ("fe80::/10", "::1/128", "fe80::ecee:eeff:feee:eeee/128", "fd00:192:168:100::/64"),
        ("2001:db8:ffff::7", "::1", "ff02::5"),
    ),
}


def hostile(lab: Lab, node: str, version: int) -> str:
    """Everything that no router should say to this node, and 50, which one may."""
    address, words = NODES[node][0 if version == 4 else 1], WORDS[version]
    own = [block for block in blocks(lab)[node] if block.version == version]
    others = [block for name, there in blocks(lab).items() if name != node for block in there if block.version == version]
    pods = [a.ip for sandbox in lab.record.sandboxes.values() for a in sandbox.addresses if a.version == version]
    [pool] = [pool.cidr for pool in lab.topology.pools if pool.cidr.version == version]
    taken = [
        *(str(prefix) for prefix in (*own, *others, pool, next(iter(pool.subnets())), *(next(iter(b.subnets())) for b in own))),
        *(f"{host}/{host.max_prefixlen}" for host in pods),
        *(f"{other[0 if version == 4 else 1]}/{32 if version == 4 else 128}" for other in NODES.values()),
        *words.nobodys,
    ]
    routes = [
        *(f"route {prefix} next-hop self;" for prefix in taken),
        *(f"route {words.fine(i)} next-hop {hop};" for i, hop in enumerate((address, *words.no_next_hops))),
        f"route {words.fine(10)} next-hop self as-path [ 65001 64512 65002 ];",
        f"route {words.fine(20)} next-hop self as-path [ {' '.join(['65001'] * 200)} ];",
        f"route {words.fine(30)} next-hop self community [ {' '.join(f'65001:{i}' for i in range(200))} ];",
        f"route {words.fine(50)} next-hop self attribute [ 0x99 0xc0 0x0102030405 ];",
        f"route {'0.0.0.0/0' if version == 4 else '::/0'} next-hop self;",
    ]
    return f"""neighbor {address} {{
        router-id 192.168.100.1; local-address {OUTSIDE[0 if version == 4 else 1]}; local-as {AS}; peer-as 64512;
        md5-password "not-so-secret";
        family {{ ipv{version} unicast; }}
        static {{ {chr(10).join(routes)} }}
    }}"""


def all_hostile(lab: Lab) -> list[str]:
    return [hostile(lab, node, version) for node in NODES for version in WORDS]


def test_what_nobody_should_say_reaches_no_pods_routing(peered: Lab, tmp_path: Path) -> None:
    before = {node: pod_routes(peered, node) for node in NODES}
    fine, bad = ({words.fine(i) for words in WORDS.values() for i in numbers} for numbers in ((50,), (0, 1, 2, 3, 10)))
    with speakers.exabgp(peered, "router", tmp_path, all_hostile(peered)):
        for node in NODES:
            eventually(lambda node=node: fine <= prefixes(peered, node, "proto", "bird"), 60)
            assert bad & prefixes(peered, node, "proto", "bird") == set()
            assert pod_routes(peered, node) == before[node]
        assert list(settled(peered).problems()) == []
    for node in NODES:
        eventually(lambda node=node: not fine & prefixes(peered, node), 60)
        assert pod_routes(peered, node) == before[node]


def pod_routes(lab: Lab, node: str) -> set[str]:
    """All but what a router may tell: prefixes outside, and a default route, which stands behind the one that is there."""
    may = ("198.51.", "2001:db8:51", "100.")
    return {
        line
        for line in routes(lab, node)
        if not line.startswith(may) and not (line[:7] == "default" and " proto bird " in line)
    }


FLOOD = """
import sys, time
for i in range({number}):
    print(f"announce route 100.{{64 + i // 65536}}.{{i // 256 % 256}}.{{i % 256}}/32 next-hop self", flush=True)
while True:
    time.sleep(60)
"""


def test_a_flood_ends_at_the_prefix_limit_and_the_agent_lives(peered: Lab, tmp_path: Path) -> None:
    before = {node: pod_routes(peered, node) for node in NODES}
    (tmp_path / "flood.py").write_text(FLOOD.format(number=2000))
    process = f"process flood {{ run /usr/bin/env python3 {tmp_path / 'flood.py'}; encoder text; }}"
    neighbours = [hostile(peered, node, 4).replace("static {", "api { processes [ flood ]; } static {") for node in NODES]
    with speakers.exabgp(peered, "router", tmp_path, [process, *neighbours]):
        for node in NODES:
            eventually(lambda node=node: "limit" in str([p.error for p in peers(peered, node).values()]), 60)
            assert len([p for p in prefixes(peered, node) if p.startswith("100.")]) <= LIMIT
            assert pod_routes(peered, node) == before[node]
        assert list(settled(peered).problems()) == []
    assert all(len(established(peered, node)) == 2 for node in NODES)
