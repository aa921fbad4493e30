"""Whatever stands in a datastore, BIRD reads what comes of it: one odd Node, or one BGPPeer that this node cannot have, keeps nobody from
the others.  From a seed, so that what fails fails again."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from ipaddress import ip_interface, ip_network
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from netloom.bgp.rendering import render
from netloom.calc import desired
from netloom.lab import packages
from netloom.model.host import Host, Uplink
from netloom.model.resources import AnyResource, convert
from netloom.model.routing import Secret
from netloom.model.snapshot import Snapshot
from tests.kernel.bgp.test_parsed import parsed

T = TypeVar("T")

FOURS = (
    "192.0.2.7",
    "192.0.2.254",
    "198.51.100.9",
    "169.254.1.1",
    "10.244.1.3",
    "127.0.0.1",
    "224.0.0.1",
    "0.0.0.0",
    "255.255.255.255",
)
SIXES = ("fd00::7", "2001:db8::9", "fe80::1", "::1", "ff02::1", "::", "::ffff:1.2.3.4", "fd00::")
OWN = (["192.0.2.1/24", "fd00::1/64"], ["192.0.2.1/24"], ["fd00::1/64"], ["192.0.2.1/32", "fd00::1/128"])
PASSWORD = {"secretKeyRef": {"name": "s", "key": "k"}}
OF_PEERS: dict[str, tuple[object, ...]] = {
    "nodeSelector": ("all()", "has(x)", "!has(x)"),
    "localASNumber": (64513, "1.10"),
    "nextHopMode": ("Auto", "Keep", "Self"),
    "sourceAddress": ("UseNodeIP", "None"),
    "maxRestartTime": ("0s", "4095s"),
    "keepaliveTime": ("1s",),
    "holdTime": ("3s", "90s", "65535s"),
    "numAllowedLocalASNumbers": (0, 255),
    "ttlSecurity": (0, 1, 254),
    "filters": (["a"], ["a.b", "a"]),
    "bfd": ({}, {"interval": "1m", "multiplier": 255}),
    "prefixLimit": (0, 1, 4294967295),
    "families": (["IPv4"], ["IPv6"], ["IPv4", "IPv6"]),
    "password": (PASSWORD,),
}
OF_THE_CLUSTER: dict[str, tuple[object, ...]] = {
    "asNumber": (65010,),
    "listenPort": (1, 1790),
    "bindMode": ("None", "NodeIP"),
    "serviceClusterIPs": ([{"cidr": "10.96.0.0/12"}, {"cidr": "fd01::/112"}], [{"cidr": "0.0.0.0/0"}]),
    "prefixAdvertisements": ([{"cidr": "::/0", "communities": ["1:2:3"]}],),
    "nodeMeshPassword": (PASSWORD,),
    "nodeMeshHoldTime": ("3s", "65535s"),
    "nodeMeshBFD": ({},),
    "ignoredInterfaces": (["docker0", "cali*"],),
}
OF_RULES: dict[str, tuple[object, ...]] = {
    "source": ("RemotePeers",),
    "interface": ("eth*", "a@b", "*.1"),
    "peerType": ("eBGP", "iBGP"),
    "communities": ({"values": ["65535:65535", "4294967295:0:1"]},),
    "asPathPrefix": ([64512, 4200000000],),
    "priority": (1, 2147483646),
    "prefixLength": ({}, {"min": 32}, {"max": 128}),
    "operations": (
        [{"addCommunity": {"value": "1:2:3"}}, {"prependASPath": {"prefix": [1, 2]}}, {"setPriority": {"value": 512}}],
    ),
}


class Chance(random.Random):
    def some(self, fields: dict[str, tuple[object, ...]]) -> dict[str, Any]:
        return {name: self.choice(values) for name, values in fields.items() if self.random() < 0.25}

    def address(self) -> str:
        return self.choice((*FOURS, *SIXES))

    def valid(self, make: Callable[[], T]) -> T:
        while True:
            try:
                return make()
            except msgspec.ValidationError:
                continue

    def peer(self, name: str) -> AnyResource:
        who = {"peerSelector": "all()"} if self.random() < 0.4 else {"peerIP": self.address(), "asNumber": 64999}
        return made("BGPPeer", name, {**self.some(OF_PEERS), **who})

    def rule(self, version: int) -> dict[str, Any]:
        prefix = self.choice(("0.0.0.0/0", "10.1.2.3/32") if version == 4 else ("::/0", "::ffff:0:0/96"))
        where = {"cidr": prefix, "matchOperator": self.choice(("In", "NotIn", "Equal", "NotEqual"))}
        return {"action": self.choice(("Accept", "Reject")), **self.some(OF_RULES), **(where if self.random() < 0.7 else {})}

    def filter(self, name: str) -> AnyResource:
        kinds = {"importV4": 4, "importV6": 6, "exportV4": 4, "exportV6": 6}
        return made("BGPFilter", name, {kind: [self.rule(version)] for kind, version in kinds.items() if self.random() < 0.5})

    def node(self, name: str) -> AnyResource:
        addresses = [f"{self.choice(FOURS)}/{self.choice((0, 24, 32))}", f"{self.choice(SIXES)}/{self.choice((0, 64, 128))}"]
        spec: dict[str, Any] = {"id": name, "addresses": self.sample(addresses, self.randint(0, 2))}
        if self.random() < 0.2:
            spec["bgp"] = {"routeReflectorClusterID": "224.0.0.1"}
        return made("Node", name, spec, {"x": "y"} if self.random() < 0.4 else {})

    def cluster(self) -> Iterator[AnyResource]:
        yield from (self.node(f"n{number}") for number in range(1, self.randint(3, 6)))
        yield made(
            "IPPool", "a", {"cidr": "10.244.0.0/16", "encapsulation": self.choice(("None", "VXLANCrossSubnet", "VXLAN"))}
        )
        yield from (self.valid(lambda name=name: self.filter(name)) for name in ("a", "a.b"))
        yield from (self.valid(lambda name=name: self.peer(name)) for name in ("p", "q")[: self.randint(0, 2)])
        yield self.valid(lambda: made("BGPConfiguration", "default", self.some(OF_THE_CLUSTER)))

    def host(self) -> Host:
        addresses = tuple(map(ip_interface, self.choice(OWN)))
        ipv6 = self.random() < 0.7 or any(a.version == 6 for a in addresses)
        uplinks = {"eth0": Uplink("eth0", 1500, addresses)}
        return Host(
            node="n1", node_id="n1", addresses=addresses, uplinks=uplinks, blocks=(ip_network("10.244.1.0/26"),), ipv6=ipv6
        )


def made(kind: str, name: str, spec: object, labels: dict[str, str] | None = None) -> AnyResource:
    return convert({"kind": kind, "metadata": {"name": name, "labels": labels or {}}, "spec": spec})


@pytest.mark.parametrize("clusters", [60, pytest.param(3000, marks=pytest.mark.long)])
def test_bird_reads_what_comes_of_any_cluster(program: packages.Program, tmp_path: Path, clusters: int) -> None:
    chance, path, spoken = Chance(clusters), tmp_path / "bird.conf", 0
    for _ in range(clusters):
        config = desired(Snapshot.of(1, chance.cluster()), [], chance.host()).bgp
        assert config is not None
        spoken += len(config.sessions)
        path.write_text(render(config, {Secret("s", "k"): "password"}, "n1"))
        assert parsed(program, path) == "", path.read_text()
    assert spoken > clusters // 2
