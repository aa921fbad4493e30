"""How far a cluster is on its way is told by what its nodes have published."""

from __future__ import annotations

import msgspec

from netloom.calc.progress import progress
from netloom.model.host import Host
from netloom.model.resources import Encapsulation, Node
from netloom.model.snapshot import Snapshot
from tests.pure.ipam.making import node, pool

OLD, NEW = "VXLAN:4096:4789", "IPIP"


def says(name: str, receives: str, sends: str) -> Node:
    made = node(name)
    spec = msgspec.structs.replace(made.spec, receives=tuple(receives.split()), sends=tuple(sends.split()))
    return msgspec.structs.replace(made, spec=spec)


def words(*nodes: Node, silent: tuple[str, ...] = ()) -> list[str]:
    wanted = pool("default", "10.244.0.0/16", encapsulation=Encapsulation.IPIP)
    return [each.words(silent) for each in progress(Snapshot.of(1, [wanted, *nodes]), Host("", ""))]


def test_nothing_is_told_of_a_cluster_that_is_where_it_wants_to_be() -> None:
    assert words(says("a", NEW, NEW), says("b", NEW, NEW), node("old-agent")) == []


def test_who_does_not_receive_the_new_form_and_who_still_sends_the_old_one() -> None:
    found = words(says("a", f"{NEW} {OLD}", NEW), says("b", f"{NEW} {OLD}", f"{OLD} {NEW}"), says("c", OLD, OLD), silent=("c",))
    assert found == [
        "moving: pool default to IPIP, 1 of 3 nodes; c (silent) does not receive it yet; b still sends VXLAN:4096:4789"
    ]


def test_a_few_nodes_are_named_and_the_others_counted() -> None:
    [line] = words(*(says(f"n{i}", OLD, OLD) for i in range(8)))
    assert line.endswith("n4 does not receive it yet; and 3 more")
