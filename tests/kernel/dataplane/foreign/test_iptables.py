"""Passages through iptables, nft and legacy variant, alone and with Docker's chains: seen by packets and by iptables itself."""

from __future__ import annotations

import ipaddress
import subprocess
from pathlib import Path

import pytest

from netloom.dataplane.foreign import ForeignFirewalls
from netloom.model.addresses import Prefix
from netloom.model.desired import Filter
from netloom.reconcile import Outcome
from tests.kernel.dataplane.foreign.conftest import Passes
from tests.kernel.dataplane.foreign.iptables import Rule, Variant

POOLS = [ipaddress.ip_network(text) for text in ("10.244.0.0/24", "10.250.0.4/30", "fd00:10:244::/64")]
DOCKER = (
    ("-P", "FORWARD", "DROP"),
    ("-N", "DOCKER-USER"),
    ("-N", "DOCKER-FORWARD"),
    ("-A", "FORWARD", "-j", "DOCKER-USER"),
    ("-A", "FORWARD", "-j", "DOCKER-FORWARD"),
    ("-A", "DOCKER-FORWARD", "-i", "docker0", "-j", "ACCEPT"),
)

pytestmark = pytest.mark.usefixtures("node")


def reconcile(firewalls: ForeignFirewalls, pools: list[Prefix]) -> Outcome:
    """Both variants."""
    want = Filter(pools=frozenset(pools))
    new, old = firewalls.reconcile(want), firewalls.reconcile_legacy(want)
    return Outcome(new.put + old.put, new.deleted + old.deleted, new.failures + old.failures)


def settle(firewalls: ForeignFirewalls) -> None:
    """One pass repairs, the next finds nothing."""
    outcome = reconcile(firewalls, POOLS)
    assert outcome.put
    assert not outcome.failures
    assert str(reconcile(firewalls, POOLS)) == "same"


def test_where_nobody_filters_nothing_is_made_or_loaded(firewalls: ForeignFirewalls) -> None:
    assert str(reconcile(firewalls, POOLS)) == "same"
    for names in ("ip_tables_names", "ip6_tables_names"):
        assert Path("/proc/thread-self/net", names).read_text() == ""
    assert subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout == ""


def test_a_firewall_that_forwards_is_left_as_it_is(firewalls: ForeignFirewalls, iptables: Variant) -> None:
    iptables.both(("-A", "FORWARD", "-i", "eth9", "-j", "DROP"))
    before = iptables.listing(4), iptables.listing(6)
    assert str(reconcile(firewalls, POOLS)) == "same"
    assert (iptables.listing(4), iptables.listing(6)) == before


def test_pools_pass_a_firewall_that_drops(firewalls: ForeignFirewalls, iptables: Variant, passes: Passes) -> None:
    iptables.both(("-P", "FORWARD", "DROP"))
    assert passes(4) == passes(6) == (False, False)
    settle(firewalls)
    assert passes(4) == passes(6) == (True, True)


def test_only_pools_pass(firewalls: ForeignFirewalls, iptables: Variant, passes: Passes) -> None:
    iptables.both(("-P", "FORWARD", "DROP"))
    reconcile(firewalls, [ipaddress.ip_network("10.250.0.4/30"), ipaddress.ip_network("fd00:10:244::/64")])
    assert passes(4) == (False, False)
    assert passes(6) == (True, True)


def test_iptables_shows_our_rules_as_its_own(firewalls: ForeignFirewalls, iptables: Variant) -> None:
    iptables.both(("-P", "FORWARD", "DROP"), ("-A", "FORWARD", "-i", "eth9", "-j", "ACCEPT"))
    settle(firewalls)
    assert iptables.listing(4)[3:] == [
        "-N NETLOOM-FORWARD",
        "-A FORWARD -j NETLOOM-FORWARD",
        "-A FORWARD -i eth9 -j ACCEPT",
        "-A NETLOOM-FORWARD -s 10.244.0.0/24 -j ACCEPT",
        "-A NETLOOM-FORWARD -d 10.244.0.0/24 -j ACCEPT",
        "-A NETLOOM-FORWARD -s 10.250.0.4/30 -j ACCEPT",
        "-A NETLOOM-FORWARD -d 10.250.0.4/30 -j ACCEPT",
    ]
    assert "-A NETLOOM-FORWARD -s fd00:10:244::/64 -j ACCEPT" in iptables.listing(6)


def test_with_docker_the_jump_stands_where_docker_leaves_it(
    firewalls: ForeignFirewalls, iptables: Variant, passes: Passes
) -> None:
    iptables.both(("-P", "FORWARD", "DROP"))
    settle(firewalls)
    iptables.both(*DOCKER)
    settle(firewalls)
    assert iptables.jumps(4) == iptables.jumps(6) == ["-A DOCKER-USER -j NETLOOM-FORWARD"]
    assert passes(4) == passes(6) == (True, True)


ALONE = (
    [("-F",)],
    [("-F", "FORWARD")],
    [("-F", "NETLOOM-FORWARD")],
    [("-D", "NETLOOM-FORWARD", "1")],
    [("-F",), ("-X",)],
)
WITH_DOCKER = (*ALONE, [("-F", "DOCKER-USER")], [("-F",), ("-X",), *DOCKER])


@pytest.mark.parametrize(
    ("before", "act"),
    [*((DOCKER[:1], act) for act in ALONE), *((DOCKER, act) for act in WITH_DOCKER)],
    ids=lambda rules: " ".join(" ".join(rule) for rule in rules)[:40],
)
def test_the_passage_is_repaired(
    firewalls: ForeignFirewalls, iptables: Variant, passes: Passes, before: list[Rule], act: list[Rule]
) -> None:
    iptables.both(*before)
    settle(firewalls)
    iptables.both(*act)
    settle(firewalls)
    assert passes(4) == passes(6) == (True, True)
    assert len(iptables.jumps(4)) == len(iptables.jumps(6)) == 1


def test_the_passage_survives_being_saved_and_restored(firewalls: ForeignFirewalls, iptables: Variant) -> None:
    iptables.both(*DOCKER)
    settle(firewalls)
    saved = subprocess.run([f"iptables-{iptables.name}-save"], capture_output=True, check=True).stdout
    iptables.both(("-F",), ("-X",), ("-P", "FORWARD", "ACCEPT"))
    subprocess.run([f"iptables-{iptables.name}-restore"], input=saved, check=True)
    reconcile(firewalls, POOLS)
    assert str(reconcile(firewalls, POOLS)) == "same"
    assert iptables.jumps(4) == ["-A DOCKER-USER -j NETLOOM-FORWARD"]


def test_a_jump_too_many_is_taken_away(firewalls: ForeignFirewalls, iptables: Variant) -> None:
    iptables.both(("-P", "FORWARD", "DROP"))
    settle(firewalls)
    iptables.both(("-A", "FORWARD", "-j", "NETLOOM-FORWARD"))
    reconcile(firewalls, POOLS)
    assert iptables.jumps(4) == iptables.jumps(6) == ["-A FORWARD -j NETLOOM-FORWARD"]


def test_other_pools_take_the_old_ones_place(firewalls: ForeignFirewalls, iptables: Variant) -> None:
    iptables.both(("-P", "FORWARD", "DROP"))
    settle(firewalls)
    reconcile(firewalls, POOLS[1:2])
    assert [line for line in iptables.listing(4) if line.startswith("-A NETLOOM")] == [
        "-A NETLOOM-FORWARD -s 10.250.0.4/30 -j ACCEPT",
        "-A NETLOOM-FORWARD -d 10.250.0.4/30 -j ACCEPT",
    ]
    assert "NETLOOM" not in " ".join(iptables.listing(6))


def test_when_the_firewall_opens_up_nothing_of_ours_stays(firewalls: ForeignFirewalls, iptables: Variant) -> None:
    iptables.both(("-P", "FORWARD", "DROP"))
    settle(firewalls)
    iptables.both(("-P", "FORWARD", "ACCEPT"))
    reconcile(firewalls, POOLS)
    assert "NETLOOM" not in " ".join((*iptables.listing(4), *iptables.listing(6)))


def test_without_pools_everything_of_theirs_is_as_before(firewalls: ForeignFirewalls, iptables: Variant) -> None:
    iptables.both(*DOCKER)
    before = iptables.listing(4), iptables.listing(6)
    settle(firewalls)
    reconcile(firewalls, [])
    assert (iptables.listing(4), iptables.listing(6)) == before


def test_an_absent_program_is_no_failure(firewalls: ForeignFirewalls, monkeypatch: pytest.MonkeyPatch) -> None:
    Variant("legacy").both(("-P", "FORWARD", "DROP"))
    monkeypatch.setattr("netloom.dataplane.foreign.legacy.PROGRAMS", {4: "iptables-missing", 6: "ip6tables-missing"})
    assert str(reconcile(firewalls, POOLS)) == "same"
