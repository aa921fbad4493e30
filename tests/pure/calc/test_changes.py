"""A change in a cluster of thousands is computed by itself, and what comes out is what comes out of the whole."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netloom.calc import Last, remote
from netloom.calc.claims import Claims
from netloom.model.addresses import Mac
from netloom.model.bgp_configuration import BGPConfiguration
from netloom.model.forms import Form, Method
from netloom.model.host import Host, Uplink
from netloom.model.resources import (
    AnyResource,
    Encapsulation,
    FelixConfiguration,
    FelixConfigurationSpec,
    IPPool,
    IPPoolSpec,
    Metadata,
)
from netloom.model.snapshot import Snapshot
from tests.other_nodes import its_block, other_node

prefix, interface, address = ipaddress.ip_network, ipaddress.ip_interface, ipaddress.ip_address
UPLINK = interface("192.0.2.11/24")
HOST = Host(
    node="node-0",
    node_id="id-0",
    addresses=(UPLINK,),
    uplinks={"eth0": Uplink("eth0", 1500, (UPLINK,))},
    blocks=(prefix("10.244.0.0/26"),),
    tunnel_addresses=(address("10.244.0.0"),),
)
SLOTS = [prefix(f"10.244.{number}.0/26") for number in range(6)] + [prefix(f"fd00::{number:x}00/122") for number in range(3)]
ODD = [prefix("10.245.0.0/26"), prefix("10.244.1.0/27")]
CIDRS = {"v4": prefix("10.244.0.0/16"), "v6": prefix("fd00::/64")}

Change = tuple[str, str, AnyResource | None]

numbers = st.integers(0, 4)
slots = st.sampled_from([*SLOTS, *ODD])


@st.composite
def nodes(draw: st.DrawFn) -> Change:
    number, same = draw(numbers), draw(numbers)
    underlay = interface(draw(st.sampled_from([f"192.0.2.{20 + same}/24", f"198.51.100.{20 + number}/24", "10.244.1.1/24"])))
    node = other_node(f"node-{number}", draw(st.sampled_from([f"id-{number}", "another"])), same, underlay, [draw(slots)])
    former = draw(st.sampled_from([(), (address("192.0.2.11"),), (address("192.0.2.21"),)]))
    node = msgspec.structs.replace(node, spec=msgspec.structs.replace(node.spec, former=former))
    return "Node", node.key, draw(st.sampled_from([node, node, None]))


@st.composite
def blocks(draw: st.DrawFn) -> Change:
    number = draw(numbers)
    block = its_block(draw(slots), f"node-{number}", f"id-{number}")
    return "IPBlock", block.key, draw(st.sampled_from([block, block, block, None]))


@st.composite
def pools(draw: st.DrawFn) -> Change:
    name = draw(st.sampled_from(sorted(CIDRS)))
    spec = IPPoolSpec(cidr=CIDRS[name], encapsulation=draw(st.sampled_from(Encapsulation)))
    return "IPPool", name, draw(st.sampled_from([IPPool(metadata=Metadata(name=name), spec=spec)] * 4 + [None]))


@st.composite
def configurations(draw: st.DrawFn) -> Change:
    spec = FelixConfigurationSpec(vxlan_vni=draw(st.sampled_from([0, 7])))
    return "FelixConfiguration", "default", FelixConfiguration(metadata=Metadata(name="default"), spec=spec)


def speaking() -> st.SearchStrategy[Change]:
    """BGP goes on and off."""
    configuration = BGPConfiguration(metadata=Metadata(name="default"))
    return st.sampled_from([("BGPConfiguration", "default", one) for one in (configuration, None)])


@st.composite
def hosts(draw: st.DrawFn) -> Host:
    untried = draw(st.frozensets(st.tuples(st.just("node-1"), st.just(Form(Method.IPIP)))))
    return replace(
        HOST,
        blocks=tuple(draw(st.lists(st.sampled_from([*SLOTS[:3], prefix("10.99.0.0/26")]), max_size=2, unique=True))),
        tunnel_addresses=draw(st.sampled_from([(), HOST.tunnel_addresses])),
        vtep_mac=draw(st.sampled_from([None, Mac("66:00:00:00:00:63"), Mac("66:00:00:00:00:01")])),
        former=draw(st.sampled_from([(), (address("192.0.2.22"),)])),
        far=draw(st.sampled_from([{}, {"node-2": "it does not answer"}])),
        moving=replace(HOST.moving, untried=untried),
    )


changes = st.lists(st.one_of(nodes(), blocks(), blocks(), pools(), configurations(), speaking()), max_size=4)


@given(st.lists(st.tuples(changes, st.one_of(st.none(), hosts())), max_size=12))
def test_what_is_known_from_before_changes_nothing(steps: list[tuple[list[Change], Host | None]]) -> None:
    last, host = Last(), HOST
    snapshot = Snapshot.of(1, [IPPool(metadata=Metadata(name=n), spec=IPPoolSpec(cidr=cidr)) for n, cidr in CIDRS.items()])
    for revision, (step, other) in enumerate(steps, 2):
        snapshot, host = snapshot.updated(revision, step) if step else snapshot, other or host
        assert remote(snapshot, host, last) == remote(snapshot, host)


def test_who_has_not_changed_keeps_the_very_same_entries() -> None:
    """So that whoever compares has little to do."""
    members = [other_node(f"node-{n}", f"id-{n}", n, interface(f"192.0.2.{20 + n}/24"), [SLOTS[n]]) for n in range(1, 6)]
    pool = IPPool(metadata=Metadata(name="v4"), spec=IPPoolSpec(cidr=CIDRS["v4"], encapsulation=Encapsulation.VXLAN))
    whole = Snapshot.of(1, [pool, *members, *(its_block(SLOTS[n], f"node-{n}", f"id-{n}") for n in range(1, 6))])
    host, last = replace(HOST, vtep_mac=Mac("66:00:00:00:00:63")), Last()
    before = remote(whole, host, last).routes
    after = remote(whole.updated(2, [("IPBlock", its_block(SLOTS[5], "node-5", "id-5").key, None)]), host, last).routes
    assert before.keys() - after.keys() == {key for key in before if key.prefix == SLOTS[5]}
    assert {id(key) for key in after if key.prefix not in host.blocks} <= {id(key) for key in before}


def test_a_fault_half_way_is_no_basis_for_the_next_change(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = IPPool(metadata=Metadata(name="v4"), spec=IPPoolSpec(cidr=CIDRS["v4"], encapsulation=Encapsulation.VXLAN))
    members = [other_node(f"node-{n}", f"id-{n}", n, interface(f"192.0.2.{20 + n}/24"), [SLOTS[n]]) for n in range(1, 4)]
    whole = Snapshot.of(1, [pool, *members, *(its_block(SLOTS[n], f"node-{n}", f"id-{n}") for n in range(1, 4))])
    last, moved = Last(), replace(HOST, blocks=(SLOTS[5],), vtep_mac=Mac("66:00:00:00:00:63"))
    remote(whole, HOST, last)
    with monkeypatch.context() as faulty, pytest.raises(MemoryError):
        take, taken = Claims._take, []

        def take_one(claims: Claims, name: str, *rest: Any, **more: Any) -> set[str]:  # Any: passed on as it came
            taken.append(name)
            if len(taken) > 1:
                raise MemoryError
            return take(claims, name, *rest, **more)

        faulty.setattr(Claims, "_take", take_one)
        remote(whole, moved, last)
    assert remote(whole, moved, last) == remote(whole, moved)
