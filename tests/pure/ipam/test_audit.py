from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from netloom.ipam.audit import Records, Repair, audit
from netloom.model.resources import AnyResource, convert

Plain = dict[str, object]


def resource(kind: str, name: str, spec: Plain, **metadata: object) -> AnyResource:
    return convert({"kind": kind, "metadata": {"name": name, **metadata}, "spec": spec})


def node(name: str, incarnation: str = "1", *tunnel: str) -> AnyResource:
    return resource("Node", name, {"id": incarnation, "tunnelAddresses": list(tunnel)})


def pool(name: str, cidr: str, **spec: object) -> AnyResource:
    return resource("IPPool", name, {"cidr": cidr, **spec})


def block(cidr: str, *claims: tuple[str, str]) -> AnyResource:
    """Each claim: prefix and node; `node!2` is the node's second incarnation."""
    owners = [(prefix, *owner.partition("!")[::2]) for prefix, owner in claims]
    spec = [{"cidr": prefix, "node": name, "nodeId": incarnation or "1"} for prefix, name, incarnation in owners]
    return resource("IPBlock", cidr.replace(".", "-").replace("/", "-"), {"cidr": cidr, "claims": spec})


def whole(cidr: str, owner: str) -> AnyResource:
    return block(cidr, (cidr, owner))


def endpoint(pod: str, node: str, *addresses: str) -> AnyResource:
    names = {"interface": "eth0", "hostInterface": f"loom-{pod}"}
    spec: Plain = {"node": node, "network": "n", "containerID": pod, "mac": "0a:00:00:00:00:01", "pod": pod, **names}
    return resource("Endpoint", f"loom-{pod}", {**spec, "addresses": list(addresses)}, namespace="default")


POOL = pool("p", "10.0.0.0/16")


def findings(*resources: AnyResource) -> list[str]:
    return [finding.message for finding in audit(Records.of(1, resources))]


def repairs(*resources: AnyResource) -> list[Repair | None]:
    return [finding.repair for finding in audit(Records.of(1, resources))]


def test_what_agrees_is_not_mentioned() -> None:
    assert findings(node("a"), POOL, whole("10.0.0.0/26", "a"), block("10.0.0.64/26"), endpoint("x", "a", "10.0.0.2")) == []


def test_a_claim_of_a_node_that_is_gone_is_taken_away_with_its_record() -> None:
    leaked = whole("10.0.0.0/26", "gone")
    assert findings(POOL, leaked) == ["10.0.0.0/26 is claimed by node gone, which does not exist"]
    (repair,) = repairs(POOL, leaked)
    assert repair and repair.delete and repair.resource.key == leaked.key


def test_the_claims_of_others_in_the_same_slot_stay() -> None:
    shared = block("10.0.0.0/26", ("10.0.0.4/32", "gone"), ("10.0.0.5/32", "a"), ("10.0.0.6/32", "gone"))
    kept = block("10.0.0.0/26", ("10.0.0.5/32", "a"))
    assert repairs(node("a"), POOL, shared) == [Repair(kept), Repair(kept)]


def test_a_claim_of_an_earlier_incarnation_is_taken_away_unless_a_pod_uses_it() -> None:
    earlier = (node("a", "2"), POOL, whole("10.0.0.0/26", "a!1"))
    assert findings(*earlier) == ["10.0.0.0/26 is claimed by an earlier incarnation of node a"]
    assert all(repairs(*earlier))
    in_use = (*earlier, endpoint("x", "a", "10.0.0.2"))
    assert findings(*in_use) == ["10.0.0.0/26 is claimed by an earlier incarnation of node a, and pods use it"]
    assert repairs(*in_use) == [None]


def test_an_endpoint_of_a_node_that_is_gone_is_taken_away() -> None:
    lost = endpoint("x", "gone", "10.0.0.2")
    assert findings(POOL, lost) == ["pod default/x is on node gone, which does not exist"]
    assert repairs(POOL, lost) == [Repair(lost, delete=True)]


def test_an_address_outside_the_nodes_blocks_is_named() -> None:
    cluster = (node("a"), node("b"), POOL, whole("10.0.0.0/26", "b"))
    assert findings(*cluster, endpoint("x", "a", "10.0.0.2")) == [
        "pod default/x on node a uses 10.0.0.2, which node b has claimed"
    ]
    assert findings(*cluster, endpoint("x", "a", "10.9.0.2")) == [
        "pod default/x on node a uses 10.9.0.2, which no node has claimed"
    ]


def test_an_address_that_the_node_has_for_itself_is_no_pods() -> None:
    cluster = (node("a", "1", "10.0.0.0"), POOL, whole("10.0.0.0/26", "a"))
    assert findings(*cluster, endpoint("x", "a", "10.0.0.0")) == [
        "pod default/x uses 10.0.0.0, which is kept for the network itself, or for its node"
    ]
    for given_where_few_are_left in ("10.0.0.1", "10.0.0.63"):
        assert findings(*cluster, endpoint("x", "a", given_where_few_are_left)) == []
    alone = (node("a"), POOL, block("10.0.0.0/26", ("10.0.0.0/32", "a")))
    assert findings(*alone, endpoint("x", "a", "10.0.0.0")) == []


def test_an_address_used_twice_is_named_with_both_pods() -> None:
    cluster = (node("a"), POOL, whole("10.0.0.0/26", "a"))
    assert findings(*cluster, endpoint("y", "a", "10.0.0.2"), endpoint("x", "a", "10.0.0.2")) == [
        "10.0.0.2 is used twice: by pod default/x and pod default/y"
    ]


def test_blocks_that_no_pool_covers_or_that_have_another_size_are_named() -> None:
    cluster = (node("a"), whole("10.0.0.0/26", "a"))
    assert findings(*cluster) == ["block 10.0.0.0/26 lies in no pool, and nodes hold it"]
    assert findings(*cluster, pool("p", "10.0.0.0/16", blockSize=28)) == [
        "block 10.0.0.0/26 is not of pool p's block size (/28)"
    ]


def test_pools_that_overlap_and_pools_over_nodes_are_named() -> None:
    over = resource("Node", "a", {"addresses": ["10.0.0.5/24"]})
    assert findings(POOL, pool("q", "10.0.0.0/8")) == ["pools p (10.0.0.0/16) and q (10.0.0.0/8) overlap"]
    assert findings(POOL, over) == ["pool p (10.0.0.0/16) holds 10.0.0.5, the address of node a"]


owners = st.sampled_from(["a", "a!2", "gone"])
single_claims = st.dictionaries(st.integers(2, 9), owners, max_size=4)
pods = st.dictionaries(st.integers(2, 9), st.sampled_from(["a", "gone"]), max_size=4)


@given(single_claims, pods)
def test_repairs_take_nothing_from_the_living_and_leave_nothing_to_repair(claims: dict[int, str], pods: dict[int, str]) -> None:
    slot = block("10.0.0.0/26", *((f"10.0.0.{n}/32", owner) for n, owner in claims.items()))
    endpoints = [endpoint(f"x{n}", owner, f"10.0.0.{n}") for n, owner in pods.items()]
    resources = {(r.kind, r.key): r for r in (node("a"), POOL, slot, *endpoints)}
    for repair in repairs(*resources.values()):
        if repair and repair.delete:
            resources.pop((repair.resource.kind, repair.resource.key), None)
        elif repair:
            resources[repair.resource.kind, repair.resource.key] = repair.resource
    left = Records.of(2, resources.values())
    assert not any(finding.repair for finding in audit(left))
    living = {n for n, owner in pods.items() if owner == "a"}
    kept = {n for n, owner in claims.items() if owner == "a" or n in living}
    still = {int(claim.cidr.network_address) & 0xFF for b in left.cluster.blocks.values() for claim in b.spec.claims}
    assert still == kept


def test_a_network_whose_node_is_gone_is_named() -> None:
    blue = pool("blue", "172.20.0.0/16", network="blue", node="b")
    assert findings(node("a"), node("b"), blue) == []
    assert findings(node("a"), blue) == ["pool blue is of network blue on node b, which does not exist"]


def test_what_two_nodes_have_since_the_datastore_went_back_is_found_while_both_live() -> None:
    claim = {"cidr": "10.0.0.0/26", "node": "late", "nodeId": "1"}
    first = {"cidr": "10.0.0.0/26", "node": "first", "nodeId": "1"}
    disputed = resource("IPBlock", "10-0-0-0-26", {"cidr": "10.0.0.0/26", "claims": [claim], "disputed": [first]})
    [found] = findings(POOL, node("first"), node("late"), disputed)
    assert found == "node first had 10.0.0.0/26 first and has pods in it, and node late claims 10.0.0.0/26 by now"
    assert findings(POOL, node("late"), disputed) == []
    assert findings(POOL, node("first", "2"), node("late"), disputed) == []
