import ipaddress

from netloom.lab.checks import Finding, Proof, pairs, rule_of
from netloom.lab.probes import Kind, Place, Probe, Protocol, Result
from netloom.lab.report import failures, kinds_of_packets, matrix, rules


def place(name: str, kind: Kind, *addresses: str) -> Place:
    own = tuple(ipaddress.ip_address(a) for a in addresses)
    return Place(name, kind, -1, own, frozenset(own), name)


NODE = place("node", Kind.NODE, "192.168.0.1")
POD = place("pod", Kind.POD, "10.0.0.1", "fd00::1")
OTHER = place("other", Kind.POD, "10.0.0.2", "fd00::2")


def told(probe: Probe) -> tuple[str, str, str]:
    return probe.source.name, probe.target.name, str(probe.address)


def test_pods_try_each_other_in_every_family_and_nodes_where_both_have_it() -> None:
    tried = {told(p) for p in pairs([NODE, POD, OTHER])}
    assert tried == {
        *(("pod", "other", a) for a in ("10.0.0.2", "fd00::2")),
        *(("other", "pod", a) for a in ("10.0.0.1", "fd00::1")),
        ("node", "pod", "10.0.0.1"),
        ("node", "other", "10.0.0.2"),
        ("pod", "node", "192.168.0.1"),
        ("other", "node", "192.168.0.1"),
    }


def test_each_pair_is_tried_with_every_protocol_and_nodes_among_themselves_not_at_all() -> None:
    assert {p.protocol for p in pairs([NODE, POD]) if told(p)[0] == "node"} == set(Protocol)
    assert list(pairs([NODE, place("node-2", Kind.NODE, "192.168.0.2")])) == []


def proof(*bad: int) -> Proof:
    """Results in the order of `pairs`; those whose number is in `bad` have failed."""
    results = (Result(p, "timed out" if i in bad else None) for i, p in enumerate(pairs([NODE, POD, OTHER])))
    return Proof(tuple(results), (Finding(3, "pod", None), Finding(4, "pod", "no loopback" if bad else None)))


def test_a_proof_is_true_when_nothing_failed() -> None:
    assert proof()
    assert not proof(0)
    assert not list(proof().problems())


def test_a_rule_counts_what_belongs_to_it() -> None:
    assert [(r.rule, r.good, r.total) for r in rules(proof())] == [(1, 12, 12), (2, 12, 12), (3, 1, 1), (4, 1, 1)]
    first_of_rule = {rule: next(i for i, p in enumerate(pairs([NODE, POD, OTHER])) if rule_of(p) == rule) for rule in (1, 2)}
    assert [r.good for r in rules(proof(first_of_rule[1]))] == [11, 12, 1, 0]


def test_the_matrix_counts_what_went_wrong_and_marks_what_was_not_tried() -> None:
    headers, rows = matrix(proof(0))
    assert headers == ["FROM \\ TO", "node", "pod", "other"]
    assert rows == [["node", ".", "2/3", "ok"], ["pod", "ok", ".", "ok"], ["other", "ok", "ok", "."]]


def test_failures_name_who_whom_and_why_and_do_not_flood_the_screen() -> None:
    assert failures(proof(0)) == ["node → pod (10.0.0.1) tcp: timed out", "pod: no loopback"]
    assert failures(proof(*range(24)), most=2)[-1] == "and 23 more"


def test_the_packets_are_named_in_words() -> None:
    assert kinds_of_packets(proof()) == "TCP, UDP and ICMP over IPv4 and IPv6"
