"""What a node takes in when others say that they send it: what honest nodes need, whatever one of them says."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netloom.calc import desired, forms
from netloom.model.desired import Tunnel, Vxlan
from netloom.model.forms import parse_form
from netloom.model.host import Moving
from netloom.model.resources import Encapsulation, FelixConfiguration, FelixConfigurationSpec, Metadata, Node
from netloom.model.snapshot import Snapshot
from tests.pure.calc.test_desired import HOST, node, pool

OLD = "VXLAN:4096:4789"


def says(number: int, *, receives: str = "", sends: str = "") -> Node:
    made = node(number)
    return msgspec.structs.replace(
        made, spec=msgspec.structs.replace(made.spec, receives=tuple(receives.split()), sends=tuple(sends.split()))
    )


def ports(snapshot: Snapshot) -> set[int]:
    return {link.port for link in desired(snapshot, [], HOST).links.values() if isinstance(link, Vxlan | Tunnel)}


def test_a_node_that_says_many_things_closes_nothing_that_others_send() -> None:
    noise = " ".join(f"UDP:{port}" for port in range(10000, 10009))
    for honest in ((2,), (2, 3)):
        nodes = [says(number, sends=f"{OLD} IPIP") for number in honest]
        snapshot = Snapshot.of(1, [pool(Encapsulation.IPIP), says(1), *nodes, says(9, sends=noise)])
        found = forms.to_receive(snapshot, HOST)
        assert parse_form(OLD) in found
        assert len(found) == 9, "the wanted one, and eight others"


def test_a_port_of_a_service_is_opened_for_nobody_who_just_says_so() -> None:
    snapshot = Snapshot.of(1, [pool(), says(1), says(2, sends=f"{OLD} UDP:53 VXLAN:1:123 UDP:1024")])
    assert ports(snapshot) == {4789, 1024}
    assert desired(snapshot, [], HOST).problems == tuple(
        f"node node2 says that it sends {form}, which no pool wants: ports below 1024 are not opened for that; see what its Node says"
        for form in ("UDP:53", "VXLAN:1:123")
    )
    assert forms.leftover(snapshot, HOST) == {parse_form("UDP:1024")}


def test_a_port_of_a_service_that_this_node_has_told_of_stays_until_nobody_sends_to_it() -> None:
    others = says(2, sends=f"UDP:900 {OLD}")
    assert ports(Snapshot.of(1, [pool(), says(1, receives=f"{OLD} UDP:900"), others])) == {4789, 900}


def numbers(**spec: int) -> FelixConfiguration:
    return FelixConfiguration(metadata=Metadata(name="default"), spec=FelixConfigurationSpec(**spec))


@pytest.mark.parametrize(("old", "configuration"), [("VXLAN:1:8472", numbers(udp_port=8472)), (OLD, numbers(udp_port=4789))])
@pytest.mark.parametrize("known", ["it stands here", "this node told of it", "most send it"])
def test_of_two_forms_with_one_port_the_older_one_stays_and_what_to_do_is_said(
    old: str, configuration: FelixConfiguration, known: str
) -> None:
    """The second one is VXLAN's port by the settings of the node, which the resource cannot know."""
    own = says(1, receives=old, sends=old) if known == "this node told of it" else says(1)
    here = replace(HOST, moving=Moving({"loom.vxlan": parse_form(old)})) if known == "it stands here" else HOST
    snapshot = Snapshot.of(1, [pool(Encapsulation.UDP), configuration, own, says(2, sends=old), says(3, sends=old)])
    found = desired(snapshot, [], here)
    assert [type(link) for link in found.links.values()] == [Vxlan]
    new = f"UDP:{configuration.spec.udp_port}"
    [problem] = found.problems
    assert problem.startswith(f"{new} is not opened: {old} has its UDP port; give one of them another port")
    assert parse_form(new) not in forms.to_receive(snapshot, here), "nobody is told that it is received"


def test_a_port_is_free_for_the_new_form_when_nobody_sends_the_old_one_any_more() -> None:
    snapshot = Snapshot.of(1, [pool(Encapsulation.UDP), numbers(udp_port=8472), says(1), says(2, sends="IPIP")])
    assert ports(snapshot) == {8472, 0}
    assert desired(snapshot, [], HOST).problems == ()


def test_two_vxlans_share_a_port() -> None:
    snapshot = Snapshot.of(1, [pool(), says(1), says(2, sends="VXLAN:7:4789")])
    assert len(desired(snapshot, [], HOST).links) == 2
    assert forms.clashes(snapshot, HOST) == {}


def test_a_node_that_names_the_wanted_port_with_another_method_closes_nothing() -> None:
    snapshot = Snapshot.of(1, [pool(), says(2, sends="UDP:4789")])
    assert [type(link) for link in desired(snapshot, [], HOST).links.values()] == [Vxlan]


def test_what_is_remembered_takes_no_device_from_a_form_that_stands_here() -> None:
    """An agent that starts knows of an older cluster: others may send in what is there."""
    here = replace(HOST, moving=Moving({"loom.vxlan": parse_form("VXLAN:1:8472")}))
    snapshot = Snapshot.of(1, [pool(), says(1)])
    assert [*desired(replace(snapshot, complete=False), [], here).links] == ["loom.vxlan2"]
    assert [*desired(replace(snapshot, complete=True), [], here).links] == ["loom.vxlan"]


sent = st.dictionaries(st.integers(1, 4), st.sampled_from(["", "IPIP", f"{OLD} IPIP", f"IPIP {OLD} UDP:1024"]), max_size=3)


@given(st.lists(st.tuples(sent, st.sets(st.integers(1, 4))), max_size=10))
def test_who_sends_what_is_the_same_whatever_was_asked_before(steps: list[tuple[dict[int, str], set[int]]]) -> None:
    snapshot = Snapshot()
    for said, gone in steps:
        nodes = {f"node{number}": says(number, sends=text) for number, text in said.items()}
        changes = [("Node", f"node{number}", None) for number in gone - said.keys()]
        snapshot = snapshot.updated(snapshot.revision + 1, [*changes, *(("Node", name, made) for name, made in nodes.items())])
        assert forms._senders(snapshot.nodes) == forms._count(snapshot.nodes)
