"""People add, change and delete pools while the agent runs."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterator

import msgspec
import pytest

from netloom.model.resources import Encapsulation, IPPool, IPPoolSpec, Metadata, Node
from tests.agent_process import running_machine
from tests.cni_calls import CONFIG
from tests.kernel.agent.conftest import Place, place_of, remote_node
from tests.residue import differences
from tests.waiting import eventually

REMOTE = "10.244.7.0/26"
FAR = "10.244.8.0/26"
VXLAN, DIRECT = f"{REMOTE} via 10.244.7.0 dev loom.vxlan", f"{REMOTE} via 192.168.77.2 dev eth0"


@pytest.fixture
def place() -> Iterator[Place]:
    spec = IPPoolSpec(cidr=ipaddress.ip_network("10.244.0.0/16"), encapsulation=Encapsulation.VXLAN, nat_outgoing=True)
    with running_machine({"v4": spec}, resyncInterval=3600.0) as machine, place_of(machine) as made:
        remote_node(made.store, 2, REMOTE)
        remote_node(made.store, 3, FAR, address="192.168.99.3/24")  # behind a router
        assert made.add("resident").ok
        eventually(lambda: VXLAN in routes(made))
        yield made


def routes(place: Place) -> str:
    return place.run("ip route")


def change(place: Place, name: str, **fields: object) -> None:
    stored = place.store.get("IPPool", name)
    assert stored is not None and isinstance(stored.resource, IPPool)
    spec = msgspec.structs.replace(stored.resource.spec, **fields)
    place.store.update(msgspec.structs.replace(stored.resource, spec=spec), stored.revision)


def test_a_pool_that_is_added_serves_at_once(place: Place) -> None:
    spec = IPPoolSpec(cidr=ipaddress.ip_network("10.60.0.0/16"), encapsulation=Encapsulation.VXLAN)
    place.store.create(IPPool(metadata=Metadata(name="new"), spec=spec))
    eventually(lambda: "10.60.0.0/16" in place.run("nft list set inet netloom pools4"))
    answer = place.add("new", {**CONFIG, "name": "other", "ipv4Pools": ["new"]})
    assert answer.ok
    assert answer.addresses[0].startswith("10.60.")


def test_an_encapsulation_changes_there_and_back(place: Place) -> None:
    before = place.quiet_residue()
    change(place, "v4", encapsulation=Encapsulation.NONE)
    eventually(lambda: DIRECT in routes(place))
    eventually(lambda: "loom.vxlan" not in place.run("ip link"))
    assert FAR not in routes(place)
    assert any("remote-3" in p.message and "is not a neighbour" in p.message for p in place.machine.state().problems)
    assert place.add("direct").ok
    assert "mtu 1500" in place.run(f"ip link show {place.links['direct']}")
    assert place.delete("direct").ok
    change(place, "v4", encapsulation=Encapsulation.VXLAN)
    eventually(lambda: VXLAN in routes(place) and FAR in routes(place))
    eventually(lambda: not differences(before, place.residue()))


def test_neighbours_get_plain_routes_where_the_pool_crosses_subnets_only(place: Place) -> None:
    change(place, "v4", encapsulation=Encapsulation.VXLAN_CROSS_SUBNET)
    eventually(lambda: DIRECT in routes(place))
    assert f"{FAR} via 10.244.8.0 dev loom.vxlan" in routes(place)


def test_who_is_a_neighbour_is_decided_again_when_addresses_subnets_and_links_change(place: Place) -> None:
    change(place, "v4", encapsulation=Encapsulation.VXLAN_CROSS_SUBNET)
    tunnelled, direct = f"{FAR} via 10.244.8.0 dev loom.vxlan", f"{FAR} via 192.168.99.3 dev eth0"
    eventually(lambda: DIRECT in routes(place) and tunnelled in routes(place))
    place.run("ip address add 192.168.99.1/24 dev eth0")  # the uplink is in the other one's subnet, too
    eventually(lambda: direct in routes(place))
    place.run("ip address delete 192.168.99.1/24 dev eth0")
    eventually(lambda: tunnelled in routes(place))
    readdress(place, "remote-2", "192.168.99.2/24")
    eventually(lambda: VXLAN in routes(place))
    readdress(place, "remote-2", "192.168.77.2/24")
    eventually(lambda: DIRECT in routes(place))
    place.run("ip link add second type veth peer name elsewhere")
    place.run("ip address add 192.168.99.1/24 dev second")
    place.run("ip link set second up")
    eventually(lambda: direct.replace("eth0", "second") in routes(place))
    place.run("ip link delete second")
    eventually(lambda: tunnelled in routes(place))


def readdress(place: Place, name: str, address: str) -> None:
    stored = place.store.get("Node", name)
    assert stored is not None and isinstance(stored.resource, Node)
    spec = msgspec.structs.replace(stored.resource.spec, addresses=(ipaddress.ip_interface(address),))
    place.store.update(msgspec.structs.replace(stored.resource, spec=spec), stored.revision)


def test_masquerading_is_switched_off_and_on(place: Place) -> None:
    assert "chain postrouting" in place.run("nft list table inet netloom")
    change(place, "v4", nat_outgoing=False)
    eventually(lambda: "chain postrouting" not in place.run("nft list table inet netloom"))
    change(place, "v4", nat_outgoing=True)
    eventually(lambda: "chain postrouting" in place.run("nft list table inet netloom"))
    assert place.add("masqueraded").ok


def test_a_disabled_pool_gives_no_more_addresses_and_its_pods_stay(place: Place) -> None:
    change(place, "v4", disabled=True)
    eventually(lambda: not place.add(f"refused-{time.monotonic_ns()}").ok)
    assert place.addresses["resident"][0] in routes(place)
    assert VXLAN in routes(place)
    change(place, "v4", disabled=False)
    eventually(lambda: place.add(f"served-{time.monotonic_ns()}").ok)


def test_pods_of_a_pool_that_is_deleted_stay_until_they_go(place: Place) -> None:
    place.store.delete("IPPool", "v4")
    eventually(lambda: REMOTE not in routes(place))
    assert place.addresses["resident"][0] in routes(place)
    assert any("is in no pool" in p.message for p in place.machine.state().problems)
    answer = place.add("late")
    assert answer.error
    assert "no pool serves the pod" in answer.document["msg"]
    assert place.delete("resident").ok


def test_a_pool_too_small_for_addresses_of_nodes_is_served_without_unrest(place: Place) -> None:
    """Its blocks have no address for a tunnel's end."""
    spec = IPPoolSpec(cidr=ipaddress.ip_network("fd00:60::/120"), block_size=127, encapsulation=Encapsulation.VXLAN)
    place.store.create(IPPool(metadata=Metadata(name="tiny"), spec=spec))
    eventually(lambda: place.add(f"tiny-{time.monotonic_ns()}").addresses[1:])
    place.quiet_residue()
    passes = place.machine.state().last_pass
    time.sleep(0.8)
    assert place.machine.state().last_pass == passes
