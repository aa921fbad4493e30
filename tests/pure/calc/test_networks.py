"""Networks with pools of their own: what their node holds of them, and that nobody else does."""

from __future__ import annotations

import ipaddress

import msgspec
import pytest

from netloom.calc import desired
from netloom.calc.networks import Apart, apart, routed_blocks
from netloom.model.addresses import Interface, Mac
from netloom.model.attachments import Attachment, AttachmentKey, NetnsId, OwnNetwork, State, Wiring, host_interface_name
from netloom.model.desired import AddressKey
from netloom.model.host import Host, Uplink
from netloom.model.resources import (
    IPPool,
    IPPoolSpec,
    Metadata,
    Node,
    NodeSpec,
)
from netloom.model.snapshot import Snapshot
from tests.other_nodes import its_block

prefix = ipaddress.ip_network
interface = ipaddress.ip_interface

UPLINK = interface("192.0.2.11/24")
HOST = Host(node="a", node_id="1", addresses=(UPLINK,), uplinks={"eth0": Uplink("eth0", 1500, (UPLINK,))})


def pool(network: str, cidr: str, *, node: str = "a", **spec: object) -> IPPool:
    """One of a network, named after it; of the cluster if there is none."""
    owned = {"network": network, "node": node} if network else {}
    return IPPool(metadata=Metadata(name=network or "cluster"), spec=IPPoolSpec(cidr=prefix(cidr), **owned, **spec))


def pod(name: str, network: str, bridge: str | None, *addresses: str, own: OwnNetwork | None = None) -> Attachment:
    key = AttachmentKey(network, name, "eth0")
    shown: tuple[Interface, ...] = tuple(map(interface, addresses))
    return Attachment(
        key=key,
        sequence=1,
        state=State.READY,
        netns=NetnsId(4, 99),
        host_interface=host_interface_name(key),
        mac=Mac("0a:58:ac:14:00:02"),
        host_mac=Mac("0e:58:ac:14:00:02"),
        mtu=1500,
        addresses=shown,
        wiring=Wiring.BRIDGE if bridge else Wiring.ROUTED,
        bridge=bridge,
        gateways=tuple(a.network.network_address + 1 for a in shown),
        own_network=own,
    )


BLUE, RED, CLUSTER = pool("blue", "172.20.0.0/16"), pool("red", "172.21.0.0/16", internal=True), pool("", "10.244.0.0/16")
ON_BLUE = pod("one", "blue", "blue0", "172.20.0.2/16")


def test_the_bridge_holds_the_gateway_with_the_length_of_the_network() -> None:
    more = pod("two", "blue", "blue0", "172.20.0.66/16")
    found = desired(Snapshot.of(1, [BLUE]), [ON_BLUE, more], HOST)
    assert list(found.addresses) == [AddressKey("blue0", interface("172.20.0.1/16"))]


def test_networks_are_kept_apart_by_their_bridges() -> None:
    present = [ON_BLUE, pod("two", "red", "red0", "172.21.0.2/16"), pod("three", "pods", "cni0", "10.244.0.2/26")]
    found = desired(Snapshot.of(1, [BLUE, RED, CLUSTER]), present, HOST).filter
    assert (found.isolated, found.internal) == ({"blue0", "red0"}, {"red0"})


def test_a_network_is_kept_apart_as_its_pool_says_now() -> None:
    before = msgspec.structs.replace(ON_BLUE, own_network=OwnNetwork(internal=True, isolated=True))
    assert apart([pool("blue", "172.20.0.0/16", isolated=False)], [before]) == Apart()


@pytest.mark.parametrize("pools", [[], [CLUSTER]])
def test_a_network_whose_pool_is_not_known_is_kept_apart_as_it_was(pools: list[IPPool]) -> None:
    before = msgspec.structs.replace(ON_BLUE, own_network=OwnNetwork(internal=True, isolated=True))
    assert apart(pools, [before]) == Apart(frozenset({"blue0"}), frozenset({"blue0"}))


def test_what_a_network_takes_up_is_known_without_its_pool() -> None:
    before = msgspec.structs.replace(ON_BLUE, own_network=OwnNetwork())
    assert desired(Snapshot(), [before], HOST).filter.pools == {prefix("172.20.0.0/16")}


def test_a_network_that_is_alone_has_nobody_to_be_kept_apart_from() -> None:
    found = desired(Snapshot.of(1, [BLUE]), [ON_BLUE, pod("two", "blue", "blue0", "172.20.0.3/16")], HOST).filter
    assert (found.alone, found.isolated) == ({"blue0"}, frozenset())


@pytest.mark.parametrize(
    ("pools", "others"),
    [
        ([BLUE, CLUSTER], []),
        ([BLUE, pool("green", "172.23.0.0/16")], []),
        ([BLUE], [pod("two", "pods", None, "10.244.0.2/32")]),
        ([BLUE], [pod("two", "red", "red0", "172.21.0.2/16")]),
        ([BLUE], [pod("two", "blue", "blue1", "172.20.0.3/16")]),
        ([], []),
    ],
    ids=[
        "a pool of the cluster",
        "a network without pods",
        "a routed pod",
        "another network",
        "a bridge of its own",
        "unknown",
    ],
)
def test_a_network_beside_which_anything_else_is_or_may_be_is_not_alone(pools: list[IPPool], others: list[Attachment]) -> None:
    own = msgspec.structs.replace(ON_BLUE, own_network=OwnNetwork())
    found = desired(Snapshot.of(1, pools), [own, *others], HOST).filter
    assert found.alone == frozenset() and "blue0" in found.isolated


def test_an_internal_network_is_closed_also_when_it_is_alone() -> None:
    found = desired(Snapshot.of(1, [RED]), [pod("two", "red", "red0", "172.21.0.2/16")], HOST).filter
    assert (found.alone, found.internal, found.isolated) == (frozenset(), {"red0"}, {"red0"})


def test_one_family_that_is_closed_closes_the_bridge() -> None:
    pools = [pool("blue", "172.20.0.0/16", isolated=False), pool("blue", "fd00:20::/64", internal=True)]
    assert apart(pools, [ON_BLUE]) == Apart(frozenset({"blue0"}), frozenset({"blue0"}))


def test_another_node_knows_nothing_of_it() -> None:
    elsewhere = Node(metadata=Metadata(name="b"), spec=NodeSpec(id="2", addresses=(interface("192.0.2.12/24"),)))
    block = its_block(prefix("172.20.0.0/26"), "b", "2")
    away = pool("blue", "172.20.0.0/16", node="b", nat_outgoing=True)
    assert desired(Snapshot.of(1, [away, elsewhere, block]), [], HOST) == desired(Snapshot.of(1, [elsewhere]), [], HOST)


def test_its_node_masquerades_for_it_and_never_between_pools() -> None:
    found = desired(Snapshot.of(1, [pool("blue", "172.20.0.0/16", nat_outgoing=True), CLUSTER]), [], HOST)
    assert found.filter.masquerade == {prefix("172.20.0.0/16")}
    assert found.filter.pools == {prefix("172.20.0.0/16"), prefix("10.244.0.0/16")}
    assert found.sysctls["net/ipv4/ip_forward"] == "1"


def test_no_blackhole_hides_a_network() -> None:
    """Neither while its pool is known, nor when it was deleted under its pods."""
    blocks = [prefix("172.20.0.0/26"), prefix("172.20.0.64/26"), prefix("10.244.0.0/26")]
    left = {prefix("10.244.0.0/26")}
    assert routed_blocks(blocks, [BLUE, CLUSTER], []) == left
    assert routed_blocks(blocks, [CLUSTER], [msgspec.structs.replace(ON_BLUE, own_network=OwnNetwork())]) == left
    assert routed_blocks(blocks, [CLUSTER], []) == set(blocks)
