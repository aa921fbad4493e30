"""The ruleset as people read it: what `nft list ruleset` shows is kept beside this file, and nft accepts it as input."""

from __future__ import annotations

import ipaddress
import subprocess
from pathlib import Path

import pytest

from netloom.dataplane.nft import Nft
from netloom.model.addresses import Mac
from netloom.model.desired import IPIP, UDP, Filter, Outer, Source

GOLDEN = Path(__file__).with_name("ruleset.nft")

EXAMPLE = Filter(
    sources=frozenset(
        Source(f"loom0123456789{last}", Mac(f"0a:58:0a:f4:00:0{last}"), ipaddress.ip_address(address))
        for last, addresses in ((2, ("10.244.0.2", "fd00:10:244::2")), (3, ("10.244.0.3",)))
        for address in addresses
    ),
    pools=frozenset(map(ipaddress.ip_network, ("10.244.0.0/16", "10.245.0.0/16", "172.20.0.0/24", "fd00:10:244::/56"))),
    masquerade=frozenset(map(ipaddress.ip_network, ("10.244.0.0/16", "fd00:10:244::/56"))),
    blocks=frozenset(map(ipaddress.ip_network, ("10.244.0.0/26", "fd00:10:244::/122"))),
    vteps=frozenset(map(ipaddress.ip_address, ("192.0.2.1", "192.0.2.2", "2001:db8::1"))),
    outers=frozenset({Outer(UDP, 4790), Outer(IPIP)}),
    tunnels=frozenset({"loom.vxlan"}),
    probe_port=9478,
    bgp_port=179,
    bgp_peers=frozenset(map(ipaddress.ip_address, ("192.0.2.1", "192.0.2.254", "2001:db8::1"))),
    bgp_ports=frozenset({179, 1790}),
    bfd_ports=frozenset({3784}),
    bridges=frozenset({"loom.br0", "cni0"}),
)


def listing() -> str:
    return subprocess.run(["nft", "-s", "list", "ruleset"], capture_output=True, text=True, check=True).stdout


def _without_order(text: str) -> list[str]:
    """Elements of a hash set come in any order."""
    return sorted(line.strip(" \t,").removeprefix("elements = { ").removesuffix(" }") for line in text.splitlines())


@pytest.mark.usefixtures("node")
def test_the_ruleset_reads_as_written_down() -> None:
    Nft().reconcile(EXAMPLE)
    assert _without_order(listing()) == _without_order(GOLDEN.read_text())


@pytest.mark.usefixtures("node")
def test_nft_reads_what_it_shows() -> None:
    Nft().reconcile(EXAMPLE)
    subprocess.run(["nft", "-c", "-f", "-"], input="flush ruleset\n" + listing(), text=True, check=True)


@pytest.mark.usefixtures("node")
def test_without_masquerading_nothing_asks_for_conntrack() -> None:
    Nft().reconcile(Filter(pools=EXAMPLE.pools))
    assert "type nat" not in listing()
    assert "ct state" not in listing()


@pytest.mark.usefixtures("node")
def test_the_empty_filter_is_closed() -> None:
    Nft().reconcile(Filter())
    rules = listing()
    assert rules.count("policy accept") == rules.count(" hook ")
    assert 'iifname != "loom*" accept' in rules
    assert "iifname != @own-links goto from-pod" in rules
    assert 'counter name "spoofed" drop comment "any other source"' in rules
