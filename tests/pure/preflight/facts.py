"""Facts of a clean host, to be changed in one thing."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

from netloom.config import Settings
from netloom.findings import Finding
from netloom.footprint.runtimes import Runtime
from netloom.ipam.audit import Records
from netloom.model.host import Uplink
from netloom.model.resources import AnyResource
from netloom.preflight.facts import Facts, Neighbours, Permission, Room
from netloom.preflight.judging import judge

ETH0 = Uplink("eth0", 1500, (ipaddress.ip_interface("192.0.2.1/24"),), default=True)
ETH1 = Uplink("eth1", 1500, (ipaddress.ip_interface("198.51.100.1/24"),), default=True)
SWITCHES = {
    "net/ipv4/ip_forward": "0",
    "net/ipv4/conf/all/rp_filter": "2",
    "net/ipv4/conf/eth0/rp_filter": "2",
    "net/ipv6/conf/all/forwarding": "0",
    "net/ipv6/conf/all/disable_ipv6": "0",
    "net/bridge/bridge-nf-call-iptables": "1",
}
CLEAN = Facts(
    settings=Settings(node_name="a"),
    release="6.1.0",
    refused={},
    switches=SWITCHES,
    read_only=False,
    configured={},
    links=(),
    uplinks={"eth0": ETH0},
    default=("eth0",),
    chains=(),
    legacy={},
    runtime=Runtime(),
    networks=(),
    plugins=(),
    put=None,
    udp=frozenset(),
    tracked=(100, 65536),
    neighbours=(Neighbours(4, 10, 1024), Neighbours(6, 10, 1024)),
    rooms=(Room("/run/netloom", 1 << 30, 100_000),),
    descriptors=0,
    permissions=(Permission("/run/netloom", 0, 0o700),),
    now=1_800_000_000.0,
    skew=0.0,
    managers=frozenset(("systemd-udevd",)),
    link_file=False,
)


def with_cluster(facts: Facts, *resources: AnyResource) -> Facts:
    return replace(facts, cluster=Records.of(1, resources))


def found(facts: Facts) -> dict[str, tuple[Finding, ...]]:
    """The checks that found something."""
    return {name: findings for name, findings in judge(facts).items() if findings}
