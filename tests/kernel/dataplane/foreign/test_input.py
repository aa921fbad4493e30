"""Passages for what a node takes in: VXLAN from other nodes, through firewalls that let nobody in, seen by packets."""

from __future__ import annotations

import ipaddress
import subprocess
from dataclasses import replace

import pytest

from netloom.dataplane.foreign import ForeignFirewalls
from netloom.model.desired import IPIP, UDP, Filter, Outer
from netloom.reconcile import Outcome
from tests.kernel.dataplane.foreign.conftest import TakesIn
from tests.kernel.dataplane.foreign.iptables import Rule, Variant
from tests.kernel.iproute import run

WANT = Filter(
    vteps=frozenset(ipaddress.ip_address(text) for text in ("192.0.2.1", "192.0.2.9", "2001:db8::1", "2001:db8::9")),
    outers=frozenset({Outer(UDP, 4789)}),
)
USUAL = (
    ("-A", "INPUT", "-i", "lo", "-j", "ACCEPT"),
    ("-A", "INPUT", "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "ACCEPT"),
    ("-A", "INPUT", "-p", "tcp", "-m", "tcp", "--dport", "22", "-j", "ACCEPT"),
)
LAST_REJECTS = (*USUAL, ("-A", "INPUT", "-j", "REJECT"))
POLICY = (*USUAL, ("-P", "INPUT", "DROP"))
UFW = (
    ("-N", "ufw-before-input"),
    ("-N", "ufw-user-input"),
    ("-A", "ufw-before-input", "-m", "conntrack", "--ctstate", "INVALID", "-j", "DROP"),
    ("-A", "ufw-before-input", "-j", "ufw-user-input"),
    ("-A", "INPUT", "-j", "ufw-before-input"),
    ("-P", "INPUT", "DROP"),
)
CHAIN_DROPS = (("-N", "closed"), ("-A", "closed", "-j", "DROP"), ("-A", "INPUT", "-g", "closed"))
HARMLESS = (
    (*USUAL, ("-N", "f2b"), ("-A", "f2b", "-j", "DROP"), ("-A", "INPUT", "-p", "tcp", "-j", "f2b")),
    (("-A", "INPUT", "-p", "udp", "-m", "udp", "--dport", "53", "-j", "DROP"),),
    (("-A", "INPUT", "-p", "udp", "-m", "udp", "--dport", "4000:5000", "-j", "ACCEPT"), ("-P", "INPUT", "DROP")),
    (("-N", "x"), ("-A", "x", "-p", "udp", "-j", "ACCEPT"), ("-A", "INPUT", "-j", "x"), ("-P", "INPUT", "DROP")),
)

pytestmark = pytest.mark.usefixtures("node")


def reconcile(firewalls: ForeignFirewalls, want: Filter = WANT) -> Outcome:
    new, old = firewalls.reconcile(want), firewalls.reconcile_legacy(want)
    return Outcome(new.put + old.put, new.deleted + old.deleted, new.failures + old.failures)


def obstacles(want: Filter = WANT) -> tuple[str, ...]:
    """As one finds them who has not looked yet."""
    return ForeignFirewalls().obstacles(want)


def settle(firewalls: ForeignFirewalls) -> None:
    outcome = reconcile(firewalls)
    assert outcome.put
    assert not outcome.failures
    assert str(reconcile(firewalls)) == "same"


@pytest.mark.parametrize("rules", [POLICY, LAST_REJECTS, UFW, CHAIN_DROPS], ids=["policy", "last rule", "ufw", "chain"])
def test_tunnels_pass_a_firewall_that_lets_nobody_in(
    firewalls: ForeignFirewalls, iptables: Variant, takes_in: TakesIn, rules: tuple[Rule, ...]
) -> None:
    iptables.both(*rules)
    before = iptables.listing(4), iptables.listing(6)
    assert not takes_in(4) and not takes_in(6)
    settle(firewalls)
    assert takes_in(4) and takes_in(6)
    assert not takes_in(4, 4790) and not takes_in(6, 4790)
    assert [line for line in iptables.listing(4) if "NETLOOM" not in line] == before[0]
    reconcile(firewalls, Filter())
    assert (iptables.listing(4), iptables.listing(6)) == before


@pytest.mark.parametrize("rules", HARMLESS, ids=["other protocol", "other port", "port is open", "protocol is open"])
def test_a_firewall_that_lets_tunnels_in_is_left_as_it_is(
    firewalls: ForeignFirewalls, iptables: Variant, takes_in: TakesIn, rules: tuple[Rule, ...]
) -> None:
    iptables.both(*rules)
    assert takes_in(4) and takes_in(6)
    assert str(reconcile(firewalls)) == "same"


ACTS = ([("-F",)], [("-F", "INPUT")], [("-F", "NETLOOM-INPUT")], [("-F",), ("-X",), *USUAL])


@pytest.mark.parametrize("act", ACTS, ids=lambda rules: " ".join(" ".join(rule) for rule in rules)[:30])
def test_the_passage_is_repaired(firewalls: ForeignFirewalls, iptables: Variant, takes_in: TakesIn, act: list[Rule]) -> None:
    iptables.both(*POLICY)
    settle(firewalls)
    iptables.both(*act)
    settle(firewalls)
    assert takes_in(4) and takes_in(6)
    assert iptables.jumps(4, "NETLOOM-INPUT") == iptables.jumps(6, "NETLOOM-INPUT") == ["-A INPUT -j NETLOOM-INPUT"]


def test_both_passages_stand_beside_each_other(firewalls: ForeignFirewalls, iptables: Variant) -> None:
    iptables.both(("-P", "INPUT", "DROP"), ("-P", "FORWARD", "DROP"))
    both = replace(WANT, pools=frozenset((ipaddress.ip_network("10.244.0.0/16"),)))
    reconcile(firewalls, both)
    assert str(reconcile(firewalls, both)) == "same"
    assert [line for line in iptables.listing(4) if "NETLOOM" in line] == [
        "-N NETLOOM-FORWARD",
        "-N NETLOOM-INPUT",
        "-A INPUT -j NETLOOM-INPUT",
        "-A FORWARD -j NETLOOM-FORWARD",
        "-A NETLOOM-FORWARD -s 10.244.0.0/16 -j ACCEPT",
        "-A NETLOOM-FORWARD -d 10.244.0.0/16 -j ACCEPT",
        "-A NETLOOM-INPUT -p udp -m udp --dport 4789 -j ACCEPT",
    ]


def test_the_passage_survives_being_saved_and_restored(
    firewalls: ForeignFirewalls, iptables: Variant, takes_in: TakesIn
) -> None:
    iptables.both(*POLICY)
    settle(firewalls)
    saved = subprocess.run([f"iptables-{iptables.name}-save"], capture_output=True, check=True).stdout
    iptables.both(("-F",), ("-X",))
    subprocess.run([f"iptables-{iptables.name}-restore"], input=saved, check=True)
    assert takes_in(4)
    assert not takes_in(4, 4790)
    reconcile(firewalls)
    assert str(reconcile(firewalls)) == "same"


def test_another_port_takes_the_old_ones_place(firewalls: ForeignFirewalls, iptables: Variant, takes_in: TakesIn) -> None:
    iptables.both(*POLICY)
    settle(firewalls)
    reconcile(firewalls, replace(WANT, outers=frozenset({Outer(UDP, 8472)})))
    assert (takes_in(4), takes_in(4, 8472)) == (False, True)


def test_every_tunnel_has_its_line(firewalls: ForeignFirewalls, iptables: Variant, takes_in: TakesIn) -> None:
    iptables.both(*POLICY)
    several = replace(WANT, outers=frozenset({Outer(UDP, 4789), Outer(UDP, 8285), Outer(IPIP)}))
    reconcile(firewalls, several)
    assert str(reconcile(firewalls, several)) == "same"
    assert (takes_in(4), takes_in(6), takes_in(4, 8285), takes_in(6, 8285), takes_in(4, 8286)) == (True,) * 4 + (False,)
    assert "-A NETLOOM-INPUT -p ipencap -j ACCEPT" in iptables.listing(4)


def test_ip_in_ip_that_is_let_in_by_nobody_is_named_with_the_command_that_helps() -> None:
    table_of_somebody("meta l4proto { tcp, udp } accept")
    [obstacle] = obstacles(replace(WANT, outers=frozenset({Outer(UDP, 4789), Outer(IPIP)})))
    assert "(protocol 4)" in obstacle
    run(obstacle.partition(": ")[2].partition(";")[0])
    assert obstacles(replace(WANT, outers=frozenset({Outer(IPIP)}))) == ()


def test_only_families_that_nodes_have_get_a_passage(firewalls: ForeignFirewalls, iptables: Variant) -> None:
    iptables.both(*POLICY)
    reconcile(firewalls, replace(WANT, vteps=frozenset((ipaddress.ip_address("192.0.2.9"),))))
    assert "NETLOOM" in " ".join(iptables.listing(4))
    assert "NETLOOM" not in " ".join(iptables.listing(6))


def test_when_the_firewall_opens_up_or_tunnels_are_gone_nothing_of_ours_stays(
    firewalls: ForeignFirewalls, iptables: Variant
) -> None:
    for act in (("-P", "INPUT", "ACCEPT"), ("-P", "INPUT", "DROP")):
        iptables.both(("-P", "INPUT", "DROP"))
        settle(firewalls)
        iptables.both(act)
        reconcile(firewalls, WANT if "ACCEPT" in act else replace(WANT, outers=frozenset()))
        assert "NETLOOM" not in " ".join((*iptables.listing(4), *iptables.listing(6)))


CLOSED = (
    "",
    "ct state vmap { established : accept, related : accept, invalid : drop }",
    "ct state established,related accept; iif lo accept; tcp dport { 22, 443 } accept; ip protocol icmp accept",
    'iifname "lo" accept; udp dport { 53, 5000-6000 } accept; udp dport 0-1023 accept; th dport vmap { 22 : accept }',
    "ct state { established, related } accept; icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept; counter",
    'meta l4proto { tcp, icmp } accept; log prefix "x"; limit rate 3/second drop; reject with icmpx admin-prohibited',
)
OPEN = (
    "udp dport 4789 accept",
    "meta l4proto { tcp, udp } th dport { 53, 4000-5000 } accept",
    "ct state vmap { new : accept }",
    "ip saddr 192.0.2.0/24 accept; ip6 saddr 2001:db8::/64 accept",
    'iifname "up0" accept',
    "udp dport vmap { 4789 : accept, 53 : drop }",
    "udp dport != 53 accept",
)


def table_of_somebody(rules: str) -> None:
    run("nft", f"table inet theirs {{ chain in {{ type filter hook input priority 5; policy drop; {rules}; }}; }}")


@pytest.mark.parametrize("rules", CLOSED, ids=lambda rules: rules[:40])
def test_somebody_elses_ruleset_that_lets_no_tunnels_in_is_named_with_the_command_that_helps(
    firewalls: ForeignFirewalls, takes_in: TakesIn, rules: str
) -> None:
    table_of_somebody(rules)
    assert not takes_in(4) and not takes_in(6)
    assert str(reconcile(firewalls)) == "same"
    [obstacle] = obstacles()
    assert obstacle.startswith("inet theirs in drops what other nodes' tunnels send (UDP port 4789)")
    command = obstacle.partition(": ")[2].partition(";")[0]
    assert command == "nft insert rule inet theirs in udp dport 4789 accept"
    run(command)
    assert takes_in(4) and takes_in(6)
    assert obstacles() == ()


@pytest.mark.parametrize("rules", OPEN, ids=lambda rules: rules[:40])
def test_one_that_lets_them_in_is_no_obstacle(takes_in: TakesIn, rules: str) -> None:
    table_of_somebody(rules)
    assert takes_in(4)
    assert obstacles() == ()


def test_jumps_are_followed_and_one_open_family_is_not_enough(takes_in: TakesIn) -> None:
    run("nft", "table inet theirs { chain udp4 { meta nfproto ipv4 accept; }; chain in2 { ip protocol udp goto udp4; }; }")
    table_of_somebody("jump in2")
    assert takes_in(4) and not takes_in(6)
    assert len(obstacles()) == 1
    assert obstacles(replace(WANT, vteps=frozenset((ipaddress.ip_address("192.0.2.9"),)))) == ()


def test_without_tunnels_nothing_is_an_obstacle() -> None:
    table_of_somebody("")
    assert obstacles(replace(WANT, outers=frozenset())) == ()


def test_probes_pass_with_the_tunnels_and_also_where_there_is_none(
    firewalls: ForeignFirewalls, iptables: Variant, takes_in: TakesIn
) -> None:
    """What nodes ask each other comes out of tunnels, too, and would be dropped behind them."""
    iptables.both(*POLICY)
    for want in (replace(WANT, probe_port=9478), replace(WANT, outers=frozenset(), probe_port=9478)):
        assert not reconcile(firewalls, want).failures
        assert takes_in(4, 9478) and takes_in(6, 9478)
        for version in (4, 6):
            assert "-A NETLOOM-INPUT -p tcp -m tcp --dport 9478 -j ACCEPT" in iptables.listing(version)
        assert str(reconcile(firewalls, want)) == "same"
