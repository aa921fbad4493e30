"""Networks that their configuration declares: the pools that follow, what is refused, and that nothing comes of a race but one pool."""

from __future__ import annotations

import dataclasses
import ipaddress
import threading
from collections.abc import Callable

import pytest

from netloom.datastore import Revision
from netloom.datastore.memory import Memory, MemoryDatastore
from netloom.errors import ConfigError, Conflict
from netloom.ipam.networks import Declared, difference, establish, pool_name
from netloom.model.addresses import Address, Prefix
from netloom.model.resources import AnyResource, IPPool
from netloom.model.validation import check_object_name
from tests.pure.ipam.making import block, claim, node, pool, prefix


def declared(*subnets: str, name: str = "blue", gateways: tuple[str, ...] = (), **said: bool) -> Declared:
    cidrs: tuple[Prefix, ...] = tuple(map(prefix, subnets or ("172.20.0.0/16",)))
    found: tuple[Address, ...] = tuple(map(ipaddress.ip_address, gateways))
    return Declared(name, "blue0", cidrs, found, said.get("internal"), said.get("isolated"), said.get("masquerade"))


BOTH = declared("172.20.0.0/16", "fd00:20::/64")


def pools(store: MemoryDatastore) -> dict[str, IPPool]:
    return {s.resource.name: s.resource for s in store.list("IPPool").items if isinstance(s.resource, IPPool)}


def holding(*resources: AnyResource) -> MemoryDatastore:
    store = MemoryDatastore(Memory())
    for resource in resources:
        store.create(resource)
    return store


@pytest.mark.parametrize("name", ["blue", "my_net", "Blue", "a.b", "x-", "9", "x" * 255, "..", "A_B.c-", "blue-v6"])
def test_every_network_has_names_for_its_pools(name: str) -> None:
    for version in (4, 6):
        check_object_name(pool_name(f"a{name}", version))
    assert pool_name("blue", 4) == "blue" and pool_name("blue", 6) == "blue-v6"
    assert len({pool_name(one, 4) for one in ("Blue", "blue", "BLUE", "bl_ue", "bl-ue")}) == 5


def test_what_is_not_said_is_as_docker_has_it() -> None:
    store = holding()
    establish(store, BOTH, "a")
    found = pools(store)
    assert [str(pool.spec.gateway) for pool in found.values()] == ["172.20.0.1", "fd00:20::1"]
    assert all(p.spec.network == "blue" and p.spec.node == "a" for p in found.values())
    assert all(p.spec.nat_outgoing and p.spec.isolated and not p.spec.internal for p in found.values())


def test_what_is_said_is_as_said() -> None:
    store = holding()
    establish(store, declared(gateways=("172.20.0.9",), isolated=False, masquerade=False), "a")
    spec = pools(store)["blue"].spec
    assert (str(spec.gateway), spec.isolated, spec.nat_outgoing) == ("172.20.0.9", False, False)
    establish(store, declared("172.21.0.0/16", name="inner", internal=True), "a")
    spec = pools(store)["inner"].spec
    assert (spec.internal, spec.nat_outgoing) == (True, False)


def test_a_network_that_is_there_stays_as_it_is() -> None:
    store = holding()
    establish(store, declared(), "a")
    before = store.list("IPPool").revision
    establish(store, declared(), "a")
    assert store.list("IPPool").revision == before
    establish(store, BOTH, "a")
    assert pools(store).keys() == {"blue", "blue-v6"}


def test_a_pool_that_a_person_declared_serves_as_well() -> None:
    store = holding(MINE)
    establish(store, declared(), "a")
    assert pools(store).keys() == {"mine"}


MINE = pool("mine", "172.20.0.0/16", 28, network="blue", node="a", isolated=False)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (declared("172.21.0.0/16"), "subnet: 172.21.0.0/16 is asked for, and pool mine of network blue has 172.20.0.0/16"),
        (declared("fd00:20::/64"), "subnet: none is asked for, and pool mine"),
        (declared(gateways=("172.20.0.9",)), "gateway: 172.20.0.9 is asked for"),
        (declared(internal=True), "internal: true is asked for, and pool mine of network blue has false"),
        (declared(isolated=True), "isolated: true is asked for"),
        (declared(masquerade=True), "ipMasq: true is asked for"),
        (
            dataclasses.replace(declared(), ranges=(ipaddress.ip_network("172.20.8.0/24"),)),
            "ipRange: 172.20.8.0/24 is asked for",
        ),
        (declared(internal=False, isolated=False, masquerade=False, gateways=("172.20.0.1",)), None),
        (declared("10.0.0.0/8", name="red"), None),
    ],
)
def test_what_the_pool_says_otherwise_is_named(asked: Declared, said: str | None) -> None:
    found = difference(asked, [MINE, pool("cluster", "10.244.0.0/16")], "a")
    assert found is None if said is None else found is not None and said in found


@pytest.mark.parametrize(
    ("present", "said"),
    [
        (pool("cluster", "172.16.0.0/12"), "subnet: 172.20.0.0/16 overlaps 172.16.0.0/12 of pool cluster"),
        (pool("red", "172.20.4.0/24", network="red", node="b"), "subnet: 172.20.0.0/16 overlaps 172.20.4.0/24 of pool red"),
        (pool("blue", "10.0.0.0/8"), "pool blue is there and belongs to another network"),
        (pool("blue", "172.20.0.0/16", network="blue", node="b"), "network blue is on node b (pool blue), and this is a"),
    ],
)
def test_what_is_in_the_way_is_named_and_nothing_is_made(present: IPPool, said: str) -> None:
    store = holding(present, node("a"), block("172.31.0.0/26", claim("172.31.0.0/26", "a")))
    with pytest.raises(ConfigError) as e:
        establish(store, BOTH, "a")
    assert said in str(e.value)
    assert pools(store) == {present.name: present}


def test_many_at_once_make_one_network() -> None:
    memory = Memory()
    failures: list[Exception] = []

    def one() -> None:
        try:
            establish(MemoryDatastore(memory), BOTH, "a")
        except Exception as e:
            failures.append(e)

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert pools(MemoryDatastore(memory)).keys() == {"blue", "blue-v6"}


class Interrupted(MemoryDatastore):
    """Somebody else is quicker: `meanwhile` happens after the pools were looked at, and before one is made."""

    def __init__(self, memory: Memory, meanwhile: Callable[[], object]) -> None:
        super().__init__(memory)
        self._meanwhile: Callable[[], object] | None = meanwhile

    def create(self, resource: AnyResource) -> Revision:
        meanwhile, self._meanwhile = self._meanwhile, None
        if meanwhile:
            meanwhile()
        return super().create(resource)


def test_who_loses_takes_what_the_winner_made_or_says_what_is_different() -> None:
    memory = Memory()
    other = MemoryDatastore(memory)
    establish(Interrupted(memory, lambda: establish(other, declared(), "a")), declared(), "a")
    assert pools(other).keys() == {"blue"}
    with pytest.raises(ConfigError, match="network red is on node b"):
        red = declared("172.21.0.0/16", name="red")
        establish(Interrupted(memory, lambda: establish(other, red, "b")), red, "a")


def test_of_two_that_overlap_and_come_at_once_neither_stays_by_a_race() -> None:
    memory = Memory()
    other = MemoryDatastore(memory)
    wider = pool("wider", "172.16.0.0/12")
    with pytest.raises(
        Conflict, match=r"172\.20\.0\.0/16 overlaps 172\.16\.0\.0/12 of pool wider, which was made at the same time"
    ):
        establish(Interrupted(memory, lambda: other.create(wider)), BOTH, "a")
    assert pools(other) == {"wider": wider}
