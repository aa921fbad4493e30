from __future__ import annotations

from ipaddress import ip_network
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netloom.model.admission import check_against, check_deletion
from netloom.model.resources import AnyResource, IPPool, convert
from netloom.model.snapshot import Snapshot
from tests.pure.model import strategies


def pool(name: str, cidr: str, **spec: object) -> AnyResource:
    return convert({"kind": "IPPool", "metadata": {"name": name}, "spec": {"cidr": cidr, **spec}})


def block(cidr: str, *owners: str) -> AnyResource:
    claims = [{"cidr": cidr, "node": owner, "nodeId": "1"} for owner in owners]
    return convert(
        {
            "kind": "IPBlock",
            "metadata": {"name": cidr.replace(".", "-").replace("/", "-")},
            "spec": {"cidr": cidr, "claims": claims},
        }
    )


def node(name: str, *addresses: str, **metadata: object) -> AnyResource:
    return convert({"kind": "Node", "metadata": {"name": name, **metadata}, "spec": {"id": "1", "addresses": list(addresses)}})


def refusals(existing: list[AnyResource], *new: AnyResource) -> list[str]:
    return [f"{p.resource.name} {p.path}: {p.message}" for p in check_against(Snapshot.of(1, existing), new)]


tight_prefixes = st.builds(
    lambda first, length: ip_network((10 << 24 | first << 20, length), strict=False), st.integers(0, 15), st.integers(8, 14)
)
tight_pools = st.builds(lambda name, cidr: pool(name, str(cidr)), strategies.names, tight_prefixes)


@given(st.lists(tight_pools | strategies.pools, max_size=6), st.data())
def test_a_pool_is_refused_exactly_if_it_overlaps_another(pools: list[IPPool], data: st.DataObject) -> None:
    by_name = {p.name: p for p in pools}
    new = {name for name in by_name if data.draw(st.booleans())}
    existing = Snapshot.of(1, (p for name, p in by_name.items() if name not in new))
    found = check_against(existing, [by_name[name] for name in new])
    overlapping = {
        frozenset((one.name, other.name))
        for one, other in combinations(by_name.values(), 2)
        if one.spec.cidr.overlaps(other.spec.cidr) and {one.name, other.name} & new
    }
    assert bool(found) == bool(overlapping)
    assert {p.resource.name for p in found} <= new


def test_a_pool_inside_another_is_refused_by_name() -> None:
    assert refusals([pool("a", "10.0.0.0/8")], pool("b", "10.1.0.0/16")) == [
        "b spec.cidr: 10.1.0.0/16 overlaps 10.0.0.0/8 of pool a"
    ]


def test_a_pool_around_another_is_refused_by_name() -> None:
    assert refusals([pool("a", "10.1.0.0/16")], pool("b", "10.0.0.0/8")) == [
        "b spec.cidr: 10.0.0.0/8 overlaps 10.1.0.0/16 of pool a"
    ]


def test_pools_of_one_set_are_compared_with_each_other() -> None:
    assert len(refusals([], pool("a", "10.0.0.0/8"), pool("b", "10.1.0.0/16"), pool("c", "fd00::/64"))) == 1


def test_a_pool_that_moves_out_of_the_way_makes_room() -> None:
    existing = [pool("a", "10.0.0.0/16")]
    assert refusals(existing, pool("a", "10.9.0.0/16"), pool("b", "10.0.0.0/16")) == []


def test_a_thousand_pools_are_compared_in_no_time() -> None:
    many = [pool(f"p{i}", f"10.{i >> 6}.{(i & 63) << 2}.0/24") for i in range(5000)]
    assert refusals(many[:2500], *many[2500:]) == []


def test_a_pool_does_not_hold_a_nodes_address() -> None:
    assert refusals([node("n", "192.168.0.5/24")], pool("a", "192.168.0.0/16")) == [
        "a spec.cidr: 192.168.0.0/16 holds 192.168.0.5, the address of node n"
    ]


POOL = pool("a", "10.0.0.0/16")
IN_USE = [POOL, block("10.0.0.0/26", "n1"), block("10.0.0.64/26", "n2"), block("10.0.0.128/26")]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (pool("a", "10.9.0.0/16"), "a spec.cidr: 10.0.0.0/16 → 10.9.0.0/16 would strand 2 blocks that nodes hold (n1, n2)"),
        (pool("a", "10.0.0.64/26"), "a spec.cidr: 10.0.0.0/16 → 10.0.0.64/26 would strand 1 blocks that nodes hold (n1)"),
        (pool("a", "10.0.0.0/16", blockSize=28), "a spec.blockSize: 26 → 28 would strand 2 blocks that nodes hold (n1, n2)"),
    ],
)
def test_a_change_that_strands_blocks_is_refused(changed: AnyResource, reason: str) -> None:
    assert refusals(IN_USE, changed) == [reason]


@pytest.mark.parametrize(
    "changed",
    [
        pool("a", "10.0.0.0/8"),
        pool("a", "10.0.0.0/25"),
        pool("a", "10.0.0.0/16", disabled=True),
        pool("a", "10.0.0.0/16", encapsulation="VXLAN", natOutgoing=True, nodeSelector="has(x)"),
    ],
)
def test_a_change_that_keeps_the_blocks_is_welcome(changed: AnyResource) -> None:
    assert refusals(IN_USE, changed) == []


def test_an_unused_pool_may_become_anything() -> None:
    assert refusals([POOL, block("10.0.0.0/26")], pool("a", "fd00::/64")) == []


def test_a_pool_in_use_is_not_deleted() -> None:
    (problem,) = check_deletion(Snapshot.of(1, IN_USE), [POOL])
    assert problem.message == "2 of its blocks are claimed by nodes (n1, n2)"
    assert "disabled: true" in problem.hint
    assert check_deletion(Snapshot.of(1, [POOL]), [POOL]) == ()


def test_what_nodes_write_is_not_for_people() -> None:
    endpoint = convert(
        {
            "kind": "Endpoint",
            "metadata": {"name": "loom1", "namespace": "default"},
            "spec": {
                "node": "n",
                "network": "x",
                "containerID": "c",
                "interface": "eth0",
                "hostInterface": "loom1",
                "mac": "0a:00:00:00:00:01",
            },
        }
    )
    for resource in (endpoint, block("10.0.0.0/26")):
        expected = f"{resource.kind} is written by the nodes, not by people"
        assert [p.message for p in check_against(Snapshot(), [resource])] == [expected]
        assert [p.message for p in check_deletion(Snapshot(), [resource])] == [expected]


def test_a_nodes_labels_are_a_persons_and_its_spec_is_its_own() -> None:
    existing = [node("n", "192.168.0.5/24")]
    assert refusals(existing, node("n", "192.168.0.5/24", labels={"rack": "1"})) == []
    assert refusals(existing, convert({"kind": "Node", "metadata": {"name": "n", "labels": {"rack": "1"}}})) == []
    assert refusals(existing, node("n", "192.168.0.6/24")) == ["n spec: a node writes its own spec"]


def test_a_node_that_is_gone_for_good_may_be_deleted() -> None:
    gone = node("n", "192.168.0.5/24")
    assert check_deletion(Snapshot.of(1, [gone, *IN_USE]), [gone]) == ()


BLUE = {"network": "blue", "node": "a"}


def test_a_network_has_one_pool_of_each_family() -> None:
    existing = [pool("blue", "172.20.0.0/16", **BLUE)]
    assert refusals(existing, pool("blue-v6", "fd00:20::/64", **BLUE)) == []
    assert refusals(existing, pool("more", "172.21.0.0/16", **BLUE)) == [
        "more spec.network: network blue has an IPv4 pool already: blue (172.20.0.0/16)"
    ]


def test_a_network_is_on_one_node() -> None:
    existing = [pool("blue", "172.20.0.0/16", **BLUE)]
    assert refusals(existing, pool("blue-v6", "fd00:20::/64", **BLUE | {"node": "b"})) == [
        "blue-v6 spec.node: network blue is on node a (pool blue)"
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"gateway": "172.20.0.9"}, "spec.gateway: 172.20.0.1 → 172.20.0.9"),
        ({"network": "red"}, "spec.network: blue → red"),
        ({"node": "b"}, "spec.node: a → b"),
    ],
)
def test_what_pods_of_a_network_go_by_does_not_change_under_them(change: dict[str, object], said: str) -> None:
    existing = [pool("blue", "172.20.0.0/16", **BLUE), block("172.20.0.0/26", "a")]
    changed = pool("blue", "172.20.0.0/16", **BLUE | change)
    assert refusals(existing, changed) == [f"blue {said} would cut off the pods of 1 blocks (a)"]
    assert refusals(existing[:1], changed) == []


def test_the_way_out_of_a_network_changes_at_any_time() -> None:
    existing = [pool("blue", "172.20.0.0/16", **BLUE), block("172.20.0.0/26", "a")]
    assert refusals(existing, pool("blue", "172.20.0.0/16", **BLUE, internal=True, isolated=False)) == []
