from __future__ import annotations

import msgspec
import pytest
from hypothesis import given

from netloom.model.resources import KINDS, AnyResource, IPPool, builtins, convert, decode, encode
from tests.pure.model import strategies


@given(strategies.resources)
def test_a_resource_survives_json(resource: AnyResource) -> None:
    assert decode(encode(resource)) == resource


@given(strategies.resources)
def test_a_resource_survives_plain_values(resource: AnyResource) -> None:
    assert convert(builtins(resource)) == resource


@given(strategies.resources)
def test_a_key_is_the_name_and_where_there_are_namespaces_holds_it(resource: AnyResource) -> None:
    assert resource.key.rpartition("/") == (
        resource.metadata.namespace or "",
        "/" if resource.NAMESPACED else "",
        resource.name,
    )


def pool(**spec: object) -> IPPool:
    value = {
        "kind": "IPPool",
        "apiVersion": "netloom.io/v1",
        "metadata": {"name": "a"},
        "spec": {"cidr": "10.0.0.0/16", **spec},
    }
    found = convert(value)
    assert isinstance(found, IPPool)
    return found


def test_a_pool_has_calicos_block_sizes_unless_told() -> None:
    assert (pool().spec.block_size, pool(cidr="fd00::/64").spec.block_size) == (26, 122)


def test_a_pool_smaller_than_a_block_is_one_block() -> None:
    assert pool(cidr="10.0.0.0/28").spec.block_size == 28


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"cidr": "10.0.0.1/16"}, "did you mean 10.0.0.0/16"),
        ({"cidr": "10.0.0.0"}, "has no prefix length"),
        ({"blockSize": 19}, "spec.blockSize: 19 is out of range; IPv4 takes 20 to 32"),
        ({"blockSize": 33}, "out of range"),
        ({"cidr": "fd00::/64", "blockSize": 26}, "IPv6 takes 116 to 128"),
        ({"cidr": "10.0.0.0/28", "blockSize": 26}, "a /26 block does not fit into 10.0.0.0/28"),
        ({"cidr": "224.0.0.0/8"}, "not for pods"),
        ({"cidr": "127.0.0.0/16"}, "not for pods"),
        ({"cidr": "fe80::/64"}, "not for pods"),
        ({"nodeSelector": "gpu = yes"}, "spec.nodeSelector"),
        ({"colour": "red"}, "unknown field `colour`"),
        ({"natOutgoing": "yes"}, "Expected `bool`"),
        ({"encapsulation": "GRE"}, "Invalid enum value 'GRE'"),
    ],
)
def test_a_pool_that_cannot_be_is_refused_with_the_reason(spec: dict[str, object], reason: str) -> None:
    with pytest.raises(msgspec.ValidationError) as refused:
        pool(**spec)
    assert reason in str(refused.value)


BLUE = {"cidr": "172.20.0.0/16", "network": "blue", "node": "a"}


@pytest.mark.parametrize(
    ("spec", "gateway", "kept"),
    [
        ({}, "172.20.0.1", ["172.20.0.0", "172.20.0.1", "172.20.255.255"]),
        ({"gateway": "172.20.0.254"}, "172.20.0.254", ["172.20.0.0", "172.20.0.254", "172.20.255.255"]),
        ({"cidr": "192.0.2.4/30"}, "192.0.2.5", ["192.0.2.4", "192.0.2.5", "192.0.2.7"]),
        ({"cidr": "fd00:20::/64"}, "fd00:20::1", ["fd00:20::", "fd00:20::1"]),
        ({"cidr": "fd00:20::/64", "gateway": "fd00:20::ffff"}, "fd00:20::ffff", ["fd00:20::", "fd00:20::ffff"]),
    ],
)
def test_a_network_keeps_its_own_address_the_gateway_and_broadcast(
    spec: dict[str, object], gateway: str, kept: list[str]
) -> None:
    found = pool(**BLUE | spec).spec
    assert str(found.gateway) == gateway
    assert list(map(str, found.kept)) == kept


def test_a_network_is_kept_apart_and_has_a_way_out_unless_told() -> None:
    assert (pool(**BLUE).spec.isolated, pool(**BLUE).spec.internal) == (True, False)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"network": "a/b"}, "spec.network: 'a/b' is not a network's name"),
        ({"node": ""}, "spec.node: network blue lives on one node"),
        ({"node": "A b"}, "spec.node"),
        ({"encapsulation": "VXLAN"}, "spec.encapsulation: network blue lives on one node"),
        ({"cidr": "172.20.0.0/31"}, "spec.cidr: 172.20.0.0/31 is no network's; IPv4 takes /8 to /30"),
        ({"cidr": "64.0.0.0/7"}, "is no network's"),
        ({"cidr": "fd00::/127"}, "IPv6 takes /16 to /126"),
        ({"gateway": "172.21.0.1"}, "spec.gateway: 172.21.0.1 is outside 172.20.0.0/16"),
        ({"gateway": "fd00::1"}, "spec.gateway: fd00::1 is outside"),
        ({"gateway": "172.20.0.0"}, "spec.gateway: 172.20.0.0 is the network's own"),
        ({"gateway": "172.20.255.255"}, "broadcast"),
        ({"cidr": "fd00:20::/64", "gateway": "fd00:20::"}, "the network's own"),
        ({"internal": True, "natOutgoing": True}, "spec.natOutgoing: nothing leaves an internal network"),
        ({"network": ""}, "spec.node: belongs to a pool with `network`"),
        ({"network": "", "node": "", "gateway": "172.20.0.1"}, "spec.gateway: belongs to a pool with `network`"),
        ({"network": "", "node": "", "internal": True}, "spec.internal: belongs to a pool with `network`"),
    ],
)
def test_a_network_that_cannot_be_is_refused_with_the_reason(spec: dict[str, object], reason: str) -> None:
    with pytest.raises(msgspec.ValidationError) as refused:
        pool(**BLUE | spec)
    assert reason in str(refused.value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["", "A", "-a", "a-", "a_b", "a/b", "../a", "a" * 254, "ä", "a\n", "\x1b[31m"])
def test_no_kind_takes_a_name_that_is_none(kind: str, name: str) -> None:
    namespace = {"namespace": "default"} if KINDS[kind].NAMESPACED else {}
    with pytest.raises(msgspec.ValidationError, match=r"metadata\.name"):
        convert({"kind": kind, "metadata": {"name": name, **namespace}, "spec": {}})


def test_only_kinds_with_namespaces_take_one() -> None:
    with pytest.raises(msgspec.ValidationError, match="does not live in a namespace"):
        convert({"kind": "Namespace", "metadata": {"name": "a", "namespace": "b"}})


def block(*claims: str) -> AnyResource:
    claimed = [{"cidr": cidr, "node": "a", "nodeId": "1"} for cidr in claims]
    return convert({"kind": "IPBlock", "metadata": {"name": "b"}, "spec": {"cidr": "10.0.0.0/26", "claims": claimed}})


def test_claims_lie_inside_their_block_and_apart() -> None:
    block("10.0.0.0/32", "10.0.0.1/32")
    with pytest.raises(msgspec.ValidationError, match="outside the block"):
        block("10.0.1.0/32")
    with pytest.raises(msgspec.ValidationError, match=r"claims\[1\]\.cidr: 10\.0\.0\.0/32 overlaps 10\.0\.0\.0/26"):
        block("10.0.0.0/26", "10.0.0.0/32")


def test_a_node_has_at_most_one_address_per_family() -> None:
    with pytest.raises(msgspec.ValidationError, match="at most one address per family"):
        convert({"kind": "Node", "metadata": {"name": "a"}, "spec": {"addresses": ["10.0.0.1/24", "10.0.0.2/24"]}})


@pytest.mark.parametrize("cidr", ["0.0.0.0/0", "224.0.0.0/8", "127.0.0.0/16", "160.0.0.0/3", "::/0", "fe80::/64", "fe00::/7"])
def test_a_pool_has_nothing_that_is_no_pods(cidr: str) -> None:
    """Neither inside nor around it: what is a pool's is let through."""
    with pytest.raises(ValueError, match="is not for pods"):
        pool(cidr=cidr)
