from __future__ import annotations

import ipaddress
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netloom.ipam.blocks import (
    Block,
    gateway,
    kept,
    node_address,
    pool_of,
    refusal,
    slot_at,
    slot_count,
    slot_of,
    slots_in_order,
)
from netloom.model.addresses import contains
from netloom.model.resources import block_name
from netloom.model.validation import check_object_name
from tests.pure.ipam.making import pool, prefix

POOLS = [
    pool("v4", "10.244.0.0/16"),
    pool("small", "10.0.0.0/24", 28),
    pool("one", "10.1.0.0/24", 24),
    pool("singles", "10.2.0.0/28", 32),
    pool("v6", "fd00:10:244::/64"),
    pool("low", "::1:0/112", 120),
    pool("v6-small", "fd00:1::/118", 122),
]


@given(st.sampled_from(POOLS), st.data())
def test_a_slot_holds_its_addresses_and_lies_in_its_pool(one: object, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, slot_count(one) - 1))
    slot = slot_at(one, index)
    assert contains(one.spec.cidr, slot)
    assert slot.prefixlen == one.spec.block_size
    offset = data.draw(st.integers(0, slot.num_addresses - 1))
    assert slot_of(one, slot.network_address + offset) == slot


@pytest.mark.parametrize("one", [p for p in POOLS if slot_count(p) <= 4096], ids=lambda p: p.name)
def test_every_node_comes_by_every_slot_once_in_an_order_of_its_own(one: object) -> None:
    orders = [list(slots_in_order(one, f"node-{n}")) for n in range(4)]
    assert all(len(set(order)) == len(order) == slot_count(one) for order in orders)
    assert orders == [list(slots_in_order(one, f"node-{n}")) for n in range(4)]
    if slot_count(one) > 100:
        assert len({order[0] for order in orders}) == len(orders)


def test_the_order_of_a_huge_pool_starts_at_once() -> None:
    first = list(islice(slots_in_order(POOLS[4], "node-1"), 100))
    assert len(set(first)) == 100


@pytest.mark.parametrize(
    ("cidr", "name"),
    [
        ("10.244.0.64/26", "10-244-0-64-26"),
        ("10.244.0.0/32", "10-244-0-0-32"),
        ("fd00:10:244::40/122", "fd00-0010-0244-0000-0000-0000-0000-0040-122"),
        ("::/122", "0000-0000-0000-0000-0000-0000-0000-0000-122"),
    ],
)
def test_a_block_is_named_after_its_slot(cidr: str, name: str) -> None:
    assert block_name(prefix(cidr)) == name
    check_object_name(name)


@pytest.mark.parametrize(
    ("cidr", "own", "via", "withheld"),
    [
        ("10.244.0.64/26", "10.244.0.64", "10.244.0.65", ["10.244.0.64", "10.244.0.65", "10.244.0.127"]),
        ("10.244.0.8/29", "10.244.0.8", "10.244.0.9", ["10.244.0.8", "10.244.0.9", "10.244.0.15"]),
        ("10.244.0.4/30", None, None, []),
        ("10.244.0.7/32", None, None, []),
        ("fd00::40/122", "fd00::40", "fd00::41", ["fd00::40", "fd00::41"]),
        ("fd00::4/126", None, None, []),
    ],
)
def test_a_block_keeps_what_the_network_needs(cidr: str, own: str | None, via: str | None, withheld: list[str]) -> None:
    block = prefix(cidr)
    assert node_address(block) == (ipaddress.ip_address(own) if own else None)
    assert gateway(block) == (ipaddress.ip_address(via) if via else None)
    assert list(map(str, kept(block))) == withheld
    assignable = Block.of(block, "any").assignable
    assert len(assignable) == block.num_addresses - len(withheld)
    assert not assignable & set(map(int, kept(block)))


def test_reservations_take_out_what_overlaps_and_nothing_else() -> None:
    reserved = [prefix(p) for p in ("10.244.0.2/32", "10.244.0.16/28", "10.245.0.0/16", "::a00:0/104")]
    numbers = Block.of(prefix("10.244.0.0/26"), "any", reserved).assignable
    last = {n & 0xFF for n in numbers}
    assert last == set(range(3, 16)) | set(range(32, 63))
    assert not Block.of(prefix("10.244.0.0/26"), "any", [prefix("10.0.0.0/8")]).assignable


def test_a_prefix_finds_its_pool() -> None:
    assert pool_of(prefix("10.0.0.16/28"), POOLS) is POOLS[1]
    assert pool_of(prefix("fd00:10:244::40/122"), POOLS) is POOLS[4]
    assert pool_of(prefix("192.0.2.0/28"), POOLS) is None


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({}, None),
        ({"disabled": True}, "is disabled"),
        ({"node_selector": "rack == 'a'"}, None),
        ({"node_selector": "rack == 'b'"}, "does not serve this node (nodeSelector \"rack == 'b'\")"),
        ({"namespace_selector": "team == 'blue'"}, None),
        (
            {"namespace_selector": "team == 'red'"},
            "does not serve namespace shop (namespaceSelector \"team == 'red'\")",
        ),
        ({"namespace_selector": "kubernetes.io/metadata.name == 'shop'"}, None),
    ],
)
def test_a_pool_serves_by_its_selectors(spec: dict[str, object], reason: str | None) -> None:
    one = pool("p", "10.0.0.0/24", **spec)
    answer = refusal(one, node_labels={"rack": "a"}, namespace="shop", namespace_labels={"team": "blue"})
    assert answer == reason
