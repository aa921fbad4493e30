"""What becomes of VXLAN in the chains of others: all ends that it may take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netloom.dataplane.foreign import legacy_rules
from netloom.dataplane.foreign.fates import UNKNOWN, Fate, Rule, fate_in
from netloom.model.desired import UDP, Outer

ACCEPTED, DROPPED, BOTH = Fate.ACCEPTED, Fate.DROPPED, UNKNOWN
ACCEPT, DROP, RETURN = (Rule(True, fate) for fate in (ACCEPTED, DROPPED, Fate.THROUGH))


def perhaps(rule: Rule) -> Rule:
    return rule._replace(certain=False)


def jump(chain: str) -> Rule:
    return Rule(True, chain=chain)


CASES: list[tuple[str, Mapping[str, list[Rule]], Fate]] = [
    ("nothing but a policy", {"in": []}, DROPPED),
    ("a verdict before the policy", {"in": [ACCEPT, DROP]}, ACCEPTED),
    ("a verdict that may come", {"in": [perhaps(ACCEPT)]}, BOTH),
    ("one that may drop, then one that accepts", {"in": [perhaps(DROP), ACCEPT]}, BOTH),
    ("a chain that comes back", {"in": [jump("a"), ACCEPT], "a": [RETURN, DROP]}, ACCEPTED),
    ("a chain that may drop", {"in": [jump("a"), ACCEPT], "a": [perhaps(DROP)]}, BOTH),
    ("a chain that does not come back", {"in": [Rule(True, chain="a", leaves=True), ACCEPT], "a": []}, DROPPED),
    ("a chain that ends it", {"in": [jump("a"), DROP], "a": [jump("b")], "b": [ACCEPT]}, ACCEPTED),
    ("a chain that one may enter", {"in": [perhaps(jump("a"))], "a": [ACCEPT]}, BOTH),
    ("a chain that is not there", {"in": [jump("gone"), ACCEPT]}, ACCEPTED),
    ("a ring", {"in": [jump("a")], "a": [jump("in")]}, DROPPED),
]


@pytest.mark.parametrize(("chains", "fate"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_fate_is_all_ends_that_there_may_be(chains: Mapping[str, list[Rule]], fate: Fate) -> None:
    def rules(chain: str) -> Iterable[Rule]:
        return chains.get(chain, ())

    assert fate_in("in", rules, drops=True) == fate
    for end in (ACCEPTED, DROPPED):
        assert (end in fate_in("in", rules, drops=True, until=end)) is (end in fate)


IPTABLES: list[tuple[str, Fate]] = [
    ("-A INPUT -p udp -m udp --dport 4789 -j ACCEPT", ACCEPTED),
    ("-A INPUT -p udp -j ACCEPT", ACCEPTED),
    ("-A INPUT ! -p tcp -j ACCEPT", ACCEPTED),
    ("-A INPUT -m conntrack --ctstate NEW,RELATED -j ACCEPT", ACCEPTED),
    ('-A INPUT -p udp -m multiport --dports 53,4000:5000 -m comment --comment "a b" -j ACCEPT', ACCEPTED),
    ("-A INPUT -j open", ACCEPTED),
    ("-A INPUT -s 192.0.2.0/24 -p udp -m udp --dport 4789 -j ACCEPT", BOTH),
    ("-A INPUT -i eth0 -j ACCEPT", BOTH),
    ("-A INPUT -m set --match-set nodes src -j ACCEPT", BOTH),
    ("-A INPUT -p udp -m udp ! --dport 53 -j ACCEPT", ACCEPTED),
    ("-A INPUT -p udp -m udp ! --dport 4789 -j ACCEPT", DROPPED),
    ("-A INPUT -p udp -m udp --dport :4788 -j ACCEPT", DROPPED),
    ("-A INPUT -i lo -j ACCEPT", DROPPED),
    ("-A INPUT -d 127.0.0.0/8 -j ACCEPT", DROPPED),
    ("-A INPUT -p icmp -j ACCEPT", DROPPED),
    ("-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", DROPPED),
    ('-A INPUT -j LOG --log-prefix "-j ACCEPT"', DROPPED),
    ("-A INPUT -j NETLOOM-INPUT", DROPPED),
    ('-A INPUT -m comment --comment "unbalanced -j ACCEPT', BOTH),
]


@pytest.mark.parametrize(("line", "fate"), IPTABLES, ids=[line for line, _ in IPTABLES])
def test_rules_of_iptables_are_read(line: str, fate: Fate) -> None:
    listing = ["-P INPUT DROP", "-N open", "-N NETLOOM-INPUT", line, "-A open -j ACCEPT", "-A NETLOOM-INPUT -j ACCEPT"]
    assert legacy_rules.fate(listing, "INPUT", Outer(UDP, 4789), drops=True, without=("NETLOOM-INPUT",)) == fate


@given(st.lists(st.text("-ijmpsd!act ADROPCEINUx:,4789\"'\\\0\n", max_size=40)))
def test_no_listing_is_too_strange(lines: list[str]) -> None:
    listing = [f"-A INPUT {line}" for line in lines]
    assert legacy_rules.fate(listing, "INPUT", Outer(UDP, 4789), drops=False)
