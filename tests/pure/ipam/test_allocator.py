from __future__ import annotations

import ipaddress
import os
import timeit
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from netloom.datastore import Listing
from netloom.datastore.memory import Memory, MemoryDatastore
from netloom.errors import ConfigError, PoolExhausted, Unavailable
from netloom.ipam.allocator import Allocator
from netloom.ipam.choosing import NeedBlock, Request
from netloom.ipam.claims import Held, load
from netloom.ipam.journal import Journal
from netloom.model.resources import AnyResource, IPBlock
from netloom.model.snapshot import Snapshot
from tests.pure.ipam.making import BOOT, NETNS, attachment, block, claim, key, node, pool, reservation

POOL = pool("p", "10.244.0.0/26", 29)
POOL6 = pool("p6", "fd00::/64", 125)
ANY = Request()


class Agent:
    """One node's agent as far as addresses go, with a clock that stands still."""

    def __init__(self, directory: Path, memory: Memory, name: str = "n1", incarnation: str = "") -> None:
        self.directory, self.name, self.incarnation = directory / name, name, incarnation or f"{name}-1"
        self.directory.mkdir(exist_ok=True)
        self.store, self.now = MemoryDatastore(memory), 1000.0
        self.journal = Journal.rebuild(str(self.directory / "journal"), BOOT, NETNS)
        self.start()

    @property
    def path(self) -> str:
        return str(self.directory / "claims.json")

    def start(self) -> None:
        self.allocator = Allocator(
            self.journal, self.path, self.name, self.incarnation, cool_down=30.0, grace=60.0, clock=lambda: self.now
        )

    def restart(self) -> None:
        self.journal.close()
        self.journal = Journal.open(str(self.directory / "journal"), BOOT, NETNS)
        self.start()

    def sees(self, *resources: AnyResource, complete: bool = True) -> Agent:
        self.allocator.update(Snapshot.of(7, [node(self.name, self.incarnation), *resources], complete=complete))
        return self

    def add(self, name: str, request: Request = ANY) -> list[str]:
        while isinstance(answer := self.allocator.allocate(request), NeedBlock):
            self.allocator.claim(answer, self.store)
        made = attachment(name, self.journal.next_sequence(), *answer)
        self.journal.intend(msgspec.structs.replace(made, wiring=request.wiring, bridge=request.bridge))
        return list(map(str, answer))

    def delete(self, name: str) -> None:
        self.journal.done(key(name), self.now)

    @property
    def blocks(self) -> list[str]:
        return [str(held.cidr) for held in self.allocator.claims.held]


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def agent(tmp_path: Path, memory: Memory) -> Iterator[Agent]:
    one = Agent(tmp_path, memory)
    yield one
    one.journal.close()


def claimed(memory: Memory) -> dict[str, list[str]]:
    blocks = [s.resource for s in MemoryDatastore(memory).list("IPBlock").items if isinstance(s.resource, IPBlock)]
    return {str(b.spec.cidr): [c.node for c in b.spec.claims] for b in blocks}


def asking(address: str) -> Request:
    return Request(addresses=(ipaddress.ip_address(address),))


# allocating


def test_the_first_pod_claims_a_block_and_the_next_ones_use_it(agent: Agent, memory: Memory) -> None:
    agent.sees(POOL, POOL6)
    first, second = agent.add("a"), agent.add("b")
    assert [ipaddress.ip_interface(a).version for a in first] == [4, 6]
    assert not set(first) & set(second)
    assert len(agent.blocks) == 2
    assert set(claimed(memory)) == set(agent.blocks)


def test_what_was_released_cools_and_then_comes_back(agent: Agent) -> None:
    agent.sees(pool("one", "10.244.0.0/29", 29))
    for name in "abcde":
        agent.add(name)
    agent.delete("b")
    with pytest.raises(PoolExhausted, match="8 addresses there: 4 used, 1 cooling, 3 kept or reserved"):
        agent.add("f")
    agent.now += 29.9
    with pytest.raises(PoolExhausted):
        agent.add("f")
    agent.now += 0.1
    assert agent.add("f") == ["10.244.0.3/32"]


def test_a_restarted_agent_continues_the_cool_down(agent: Agent) -> None:
    agent.sees(pool("one", "10.244.0.0/29", 29))
    for name in "abcde":
        agent.add(name)
    agent.delete("b")
    agent.now += 10
    agent.restart()
    agent.sees(pool("one", "10.244.0.0/29", 29))
    with pytest.raises(PoolExhausted):
        agent.add("f")
    agent.now += 20
    assert agent.add("f") == ["10.244.0.3/32"]


def test_an_exhausted_pool_says_how_and_by_whom(tmp_path: Path, memory: Memory) -> None:
    small = pool("small", "10.244.0.0/28", 29)
    other = Agent(tmp_path, memory, "n2").sees(small)
    other.add("x")
    agent = Agent(tmp_path, memory).sees(small, reservation("r", "10.244.0.2/32", "10.244.0.10/32"))
    for name in "abcd":
        agent.add(name)
    agent.delete("a")
    with pytest.raises(PoolExhausted) as refusal:
        agent.add("e")
    assert str(refusal.value) == (
        "node n1 finds no free address and no free block: pool small (10.244.0.0/28) has 2 of 2 blocks claimed (n2 1, n1 1); "
        "this node's 8 addresses there: 3 used, 1 cooling, 4 kept or reserved"
    )
    assert refusal.value.hint == "netloom ipam show"


def test_a_full_pool_falls_to_the_next(agent: Agent) -> None:
    agent.sees(pool("a", "10.1.0.0/32", 32), pool("b", "10.2.0.0/30", 32))
    assert agent.add("x") == ["10.1.0.0/32"]
    assert agent.add("y")[0].startswith("10.2.0.")


def test_many_that_need_a_block_at_once_claim_one(agent: Agent) -> None:
    agent.sees(POOL)
    needs = [agent.allocator.allocate(Request()) for _ in range(5)]
    for need in needs:
        assert isinstance(need, NeedBlock)
        agent.allocator.claim(need, agent.store)
    assert len(agent.blocks) == 1


def test_an_edited_pool_and_a_new_reservation_hold_at_once(agent: Agent) -> None:
    agent.sees(pool("one", "10.244.0.0/29", 29))
    assert agent.add("a") == ["10.244.0.2/32"]
    agent.sees(pool("one", "10.244.0.0/29", 29), reservation("r", "10.244.0.3/32"))
    assert agent.add("b") == ["10.244.0.4/32"]
    agent.sees(pool("one", "10.244.0.0/29", 29, disabled=True))
    with pytest.raises(ConfigError, match="no pool serves the pod: one is disabled"):
        agent.add("c")


def test_pools_serve_by_name_family_node_and_namespace(agent: Agent) -> None:
    agent.sees(POOL, POOL6, pool("red", "10.9.0.0/24", namespace_selector="kubernetes.io/metadata.name == 'red'"))
    assert [a.partition(".")[0] for a in agent.add("a", Request(pools={6: ()}))] == ["10"]
    assert agent.add("b", Request(namespace="red", pools={4: ("red",), 6: ("red",)}))[0].startswith("10.9.0.")
    with pytest.raises(ConfigError, match="red does not serve namespace default"):
        agent.add("c", Request(pools={4: ("red",), 6: ()}))
    with pytest.raises(ConfigError, match="blue does not exist"):
        agent.add("d", Request(pools={4: ("blue",), 6: ("blue",)}))


def test_before_the_datastore_has_ever_answered_nothing_is_known(agent: Agent) -> None:
    with pytest.raises(Unavailable, match="the pools are not known yet"):
        agent.allocator.allocate(Request())


# claiming


class Unlisted(MemoryDatastore):
    """How often thousands of blocks would have been read."""

    lists = 0

    def list(self, kind: str | None = None) -> Listing:
        self.lists += 1
        return super().list(kind)


def claim_for(agent: Agent, request: Request = ANY) -> None:
    need = agent.allocator.allocate(request)
    assert isinstance(need, NeedBlock)
    agent.allocator.claim(need, agent.store)


def test_a_claim_reads_no_list_of_blocks_but_the_first_and_after_a_doubtful_one(agent: Agent, memory: Memory) -> None:
    agent.sees(POOL)
    agent.store = store = Unlisted(memory)
    claim_for(agent)
    assert store.lists == 1, "what a killed agent had claimed would be in it"
    for number in range(5):
        agent.add(str(number))
    claim_for(agent)
    assert store.lists == 1
    os.mkdir(f"{agent.path}.new")
    for number in range(5, 10):
        agent.add(str(number))
    with pytest.raises(Unavailable):
        claim_for(agent)
    os.rmdir(f"{agent.path}.new")
    assert len(claimed(memory)) == 3, "this one nobody knows of"
    claim_for(agent)
    assert store.lists == 2
    assert set(claimed(memory)) == set(agent.blocks)


def test_what_others_have_claimed_since_is_found_out_by_trying(tmp_path: Path, memory: Memory) -> None:
    """The watch has told of nothing yet; and where all that is known is taken, it is asked what is free by now."""
    small = pool("small", "10.244.0.0/28", 29)
    other = Agent(tmp_path, memory, "n2").sees(small)
    agent = Agent(tmp_path, memory, "n1").sees(small)
    agent.allocator.synchronise(agent.store)
    other.add("x")
    agent.add("a")
    assert set(agent.blocks) == set(claimed(memory)) - set(other.blocks)
    agent.sees(small, *(s.resource for s in agent.store.list("IPBlock").items))
    other.delete("x")
    other.now += 1000
    other.sees(pool("small", "10.244.0.0/28", 29, disabled=True))
    given_back(other)
    for name in "bcdef":
        agent.add(name)
    assert len(agent.blocks) == 2


def test_the_next_block_is_lacking_before_the_last_one_is_full(agent: Agent) -> None:
    agent.sees(pool("p", "10.244.0.0/24"), pool("p6", "fd00::/64"))
    for number in range(45):
        agent.add(str(number))
    assert agent.allocator.lacking(ANY) is None, "16 and 17 are left"
    agent.add("one more")
    need = agent.allocator.lacking(ANY)
    assert need and [p.name for p in need.pools] == ["p"]
    agent.allocator.claim(need, agent.store)
    assert len(agent.blocks) == 3
    assert agent.allocator.lacking(ANY) is None
    agent.add("another")
    need = agent.allocator.lacking(ANY)
    assert need and [p.name for p in need.pools] == ["p6"]


def test_one_spare_block_is_enough_whatever_there_is_in_it(agent: Agent) -> None:
    whole = pool("p", "10.244.0.0/26", 29)
    agent.sees(whole, reservation("all", "10.244.0.0/26"))
    agent.add("a", asking("10.244.0.2"))
    claim_for(agent)
    assert agent.allocator.lacking(ANY) is None


def test_blocks_of_a_few_addresses_and_addresses_asked_for_are_claimed_when_they_are_needed(agent: Agent) -> None:
    agent.sees(pool("tiny", "10.244.0.0/26", 31))
    agent.add("a")
    agent.add("b")
    assert agent.allocator.lacking(ANY) is None
    agent.sees(POOL)
    agent.add("c", asking("10.244.0.21"))
    assert agent.allocator.lacking(asking("10.244.0.21")) is None


def test_each_kind_of_pod_lacks_a_block_of_its_own(agent: Agent) -> None:
    agent.sees(POOL, BLUE)
    bridged = Request(bridge="br0")
    agent.add("a", bridged)
    for name in "bcde":
        agent.add(name)
    assert agent.allocator.lacking(bridged) is None
    need = agent.allocator.lacking(ANY)
    assert need and need.pools == (POOL,)
    for number in range(47):
        agent.add(f"blue-{number}", ON_BLUE)
    need = agent.allocator.lacking(ON_BLUE)
    assert need and need.pools == (BLUE,)


# addresses asked for


def test_an_address_outside_our_blocks_is_claimed_alone(agent: Agent, memory: Memory) -> None:
    agent.sees(POOL)
    assert agent.add("a", asking("10.244.0.21")) == ["10.244.0.21/32"]
    assert agent.blocks == ["10.244.0.21/32"]
    with pytest.raises(Unavailable, match=r"10\.244\.0\.21 is in use by default/a"):
        agent.add("b", asking("10.244.0.21"))


def test_an_address_of_another_node_is_refused(tmp_path: Path, memory: Memory) -> None:
    Agent(tmp_path, memory, "n2").sees(POOL).add("x", asking("10.244.0.21"))
    agent = Agent(tmp_path, memory).sees(POOL)
    with pytest.raises(ConfigError, match=r"10\.244\.0\.21/32 of pool p belongs to another node"):
        agent.add("a", asking("10.244.0.21"))
    assert agent.add("b", asking("10.244.0.22")) == ["10.244.0.22/32"]
    assert claimed(memory) == {"10.244.0.16/29": ["n2", "n1"]}


# the node's own copy


def test_a_node_serves_pods_with_the_datastore_away(agent: Agent) -> None:
    agent.sees(POOL)
    agent.add("a")
    agent.restart()
    agent.store.close()
    agent.sees(POOL, complete=False)
    assert agent.add("b")
    for name in "cde":
        agent.add(name)
    with pytest.raises(Unavailable):
        agent.add("f")


def test_no_address_of_a_new_block_is_given_out_before_it_is_written_down(agent: Agent) -> None:
    agent.sees(POOL)
    need = agent.allocator.allocate(Request())
    assert isinstance(need, NeedBlock)
    os.mkdir(f"{agent.path}.new")
    with pytest.raises(Unavailable, match=r"claims\.json cannot be written"):
        agent.allocator.claim(need, agent.store)
    assert isinstance(agent.allocator.allocate(Request()), NeedBlock)
    os.rmdir(f"{agent.path}.new")
    agent.restart()
    agent.sees(POOL)
    agent.add("a")
    assert len(claimed(agent.store._memory)) == 1, "what was claimed and not written down is taken up again"


def test_a_damaged_copy_is_made_anew_from_the_datastore(agent: Agent) -> None:
    agent.sees(POOL)
    agent.add("a")
    before = agent.blocks
    Path(agent.path).write_bytes(b"{}")
    agent.restart()
    assert agent.blocks == []
    agent.allocator.synchronise(agent.store)
    claims = load(agent.path)
    assert claims
    assert [str(h.cidr) for h in claims.held] == before == agent.blocks


@pytest.mark.parametrize("loss", ["another store", "an older state"])
def test_own_claims_are_asserted_before_a_new_one_when_the_store_is_another_or_went_back(
    tmp_path: Path, memory: Memory, loss: str
) -> None:
    agent = Agent(tmp_path, memory).sees(POOL)
    for name in "abcde":
        agent.add(name)
    if loss == "another store":
        agent.store = MemoryDatastore()
        agent.store.create(node("n1"))
    else:
        memory.records.clear()
        memory.log.clear()
        memory.log.append(Memory().log[0])
    before = agent.blocks
    agent.add("f")
    assert set(before) < set(agent.blocks)
    assert set(claimed(agent.store._memory)) == set(agent.blocks)


def test_a_contested_block_is_an_alarm_and_gives_out_nothing_while_its_pods_stay(agent: Agent) -> None:
    agent.sees(POOL)
    agent.add("a")
    (mine,) = agent.blocks
    agent.store = MemoryDatastore()
    agent.store.create(block(mine, claim(mine, "n2")))
    agent.allocator.synchronise(agent.store)
    assert agent.allocator.alarms == (
        f"block {mine} is claimed by another node: it gives out no more addresses (netloom ipam check)",
    )
    agent.add("b")
    assert key("a") in agent.journal.attachments
    assert str(agent.journal.attachments[key("b")].addresses[0].network.supernet(new_prefix=29)) != mine
    agent.restart()
    assert agent.allocator.alarms, "it is one after a restart, too"


def test_a_node_that_was_deleted_or_made_anew_serves_nothing_from_its_copy(agent: Agent) -> None:
    agent.sees(POOL)
    agent.add("a")
    agent.allocator.update(Snapshot.of(8, [POOL]))
    with pytest.raises(Unavailable, match="node n1 is not in the datastore"):
        agent.add("b")
    agent.allocator.update(Snapshot.of(8, [POOL], complete=False))
    with pytest.raises(Unavailable, match="node n1 is not in the datastore"):
        agent.add("b")
    agent.allocator.update(Snapshot.of(9, [POOL, node("n1", "another")]))
    with pytest.raises(Unavailable, match="is another incarnation"):
        agent.add("b")
    agent.incarnation = "n1-2"
    agent.restart()
    agent.sees(POOL)
    with pytest.raises(Unavailable):
        agent.store.close()
        agent.add("b")


def test_a_copy_from_another_incarnation_gives_nothing_out_until_it_was_asserted(agent: Agent, memory: Memory) -> None:
    agent.sees(POOL)
    agent.add("a")
    before = agent.blocks
    agent.incarnation = "n1-2"
    agent.restart()
    agent.sees(POOL)
    assert isinstance(agent.allocator.allocate(Request()), NeedBlock)
    agent.add("b")
    assert agent.blocks == before
    assert not agent.allocator.alarms


# giving back


def given_back(agent: Agent) -> list[str]:
    retired = agent.allocator.retire()
    agent.allocator.give_back(retired, agent.store)
    return [str(held.cidr) for held in retired]


def test_an_empty_block_is_given_back_after_its_addresses_cooled_and_a_grace(agent: Agent, memory: Memory) -> None:
    agent.sees(POOL)
    for name in "abcdef":
        agent.add(name)
    first, last = (str(agent.journal.attachments[key(n)].addresses[0].ip) for n in "af")
    for name in "bcdef":
        agent.delete(name)
    for passed, expected in ((29.0, 0), (60.0, 0), (1.1, 1)):
        agent.now += passed
        assert len(given_back(agent)) == expected
    assert len(agent.blocks) == 1
    assert ipaddress.ip_address(first) in ipaddress.ip_network(agent.blocks[0])
    assert ipaddress.ip_address(last) not in ipaddress.ip_network(agent.blocks[0])
    assert list(claimed(memory)) == agent.blocks
    claims = load(agent.path)
    assert claims
    assert claims == agent.allocator.claims


def test_beside_a_block_that_is_nearly_full_an_empty_one_stays(agent: Agent) -> None:
    agent.sees(POOL)
    for name in "abcdefghijklm":
        agent.add(name)
    assert len(agent.blocks) == 3
    for name in "fghijklm":
        agent.delete(name)
    agent.now += 1000
    assert len(given_back(agent)) == 1, "the other one is for the next pod"
    for name in "bcde":
        agent.delete(name)
    agent.now += 1000
    assert len(given_back(agent)) == 1
    assert len(agent.blocks) == 1


def test_the_last_block_of_a_family_stays_while_its_pool_is_in_use(agent: Agent) -> None:
    agent.sees(POOL, POOL6)
    agent.add("a")
    agent.delete("a")
    agent.now += 1000
    assert given_back(agent) == []
    agent.sees(POOL, pool("p6", "fd00::/64", 125, disabled=True))
    assert [b.startswith("fd00") for b in given_back(agent)] == [True]
    assert len(agent.blocks) == 1


def test_the_block_of_the_nodes_own_address_stays(agent: Agent) -> None:
    agent.sees(POOL)
    need = agent.allocator.own_address(POOL)
    assert isinstance(need, NeedBlock)
    agent.allocator.claim(need, agent.store)
    own = agent.allocator.own_address(POOL)
    assert own == ipaddress.ip_network(agent.blocks[0]).network_address
    for name in "abcdef":
        agent.add(name)
    for name in "abcdef":
        agent.delete(name)
    agent.now += 1000
    agent.sees(pool("p", "10.244.0.0/26", 29, disabled=True))
    assert len(given_back(agent)) == 1
    assert own in ipaddress.ip_network(agent.blocks[0])
    assert agent.allocator.own_address(POOL) == own


def test_small_blocks_have_no_address_for_the_node(agent: Agent) -> None:
    assert agent.sees().allocator.own_address(pool("tiny", "10.244.0.0/24", 32)) is None


def retired_one(agent: Agent) -> tuple[Held, ...]:
    """The second of its blocks, which has just gone out of service; in the first there is one pod."""
    for name in "abcdef":
        agent.add(name)
    for name in "bcdef":
        agent.delete(name)
    agent.now += 1000
    retired = agent.allocator.retire()
    assert len(retired) == 1
    return retired


def test_a_block_that_could_not_be_given_back_is_taken_up_again(agent: Agent, memory: Memory) -> None:
    agent.sees(POOL)
    retired = retired_one(agent)
    away = MemoryDatastore(memory)
    away.close()
    with pytest.raises(Unavailable):
        agent.allocator.give_back(retired, away)
    assert len(agent.blocks) == 1
    for name in "ghijk":
        agent.add(name)
    assert len(agent.blocks) == 2
    assert set(claimed(memory)) == set(agent.blocks)


def test_a_block_that_was_taken_up_again_meanwhile_is_not_given_back(agent: Agent, memory: Memory) -> None:
    agent.sees(POOL)
    retired = retired_one(agent)
    agent.allocator.synchronise(agent.store)
    agent.add("g")
    agent.allocator.give_back(retired, agent.store)
    assert set(claimed(memory)) == set(agent.blocks)
    assert len(agent.blocks) == 2


# speed


def test_choosing_takes_microseconds_beside_250_pods(agent: Agent) -> None:
    agent.sees(pool("big", "10.0.0.0/16"), pool("big6", "fd00::/64"))
    for number in range(250):
        agent.add(f"p{number}")
    spent = min(timeit.repeat(lambda: agent.allocator.allocate(Request()), number=50, repeat=10)) / 50
    assert spent < 1e-3, f"{spent * 1e6:.0f} µs, where about 40 are usual"


# networks with pools of their own


BLUE = pool("blue", "172.20.0.0/16", network="blue", node="n1")
RED = pool("red", "172.21.0.0/16", network="red", node="n1")
ON_BLUE = Request(bridge="blue0", network="blue", own=True)


def test_a_network_is_filled_from_its_start(agent: Agent) -> None:
    agent.sees(POOL, POOL6, BLUE, RED)
    found = [agent.add(f"b{number}", ON_BLUE) for number in range(70)]
    assert found == [[f"172.20.0.{number}/16"] for number in range(2, 72)]
    assert agent.blocks == ["172.20.0.0/26", "172.20.0.64/26"]


def test_pods_get_addresses_of_a_part_of_a_network_and_any_other_by_name(agent: Agent) -> None:
    agent.sees(pool("blue", "172.20.0.0/16", network="blue", node="n1", ip_range=ipaddress.ip_network("172.20.8.56/29")))
    found = [agent.add(f"b{number}", ON_BLUE) for number in range(8)]
    assert found == [[f"172.20.8.{number}/16"] for number in range(56, 64)]
    with pytest.raises(PoolExhausted, match=r"pool blue \(172\.20\.0\.0/16\) has 1 of 1 blocks claimed"):
        agent.add("one more", ON_BLUE)
    named = Request(addresses=(ipaddress.ip_address("172.20.0.9"),), bridge="blue0", network="blue", own=True)
    assert agent.add("named", named) == ["172.20.0.9/16"]
    with pytest.raises(PoolExhausted):
        agent.add("one more", ON_BLUE)


def test_only_its_own_network_is_served_by_its_pool(agent: Agent) -> None:
    agent.sees(POOL, BLUE, RED)
    assert agent.add("a", Request(bridge="br0", network="pods"))[0].startswith("10.244.")
    assert agent.add("b", Request(bridge="br0", network="red"))[0].startswith("172.21.")
    with pytest.raises(ConfigError, match="blue belongs to network blue"):
        agent.allocator.allocate(Request(bridge="br0", network="red", pools={4: ("blue",)}))
    assert agent.add("c", Request(bridge="br0", network="red", pools={4: ("p",)}))[0].startswith("10.244.")


def test_a_network_whose_pool_is_not_there_yet_takes_none_of_the_clusters(agent: Agent) -> None:
    agent.sees(POOL)
    with pytest.raises(ConfigError, match="no pool serves the pod"):
        agent.allocator.allocate(ON_BLUE)


def test_a_network_of_another_node_is_refused_and_says_whose_it_is(agent: Agent) -> None:
    agent.sees(POOL, pool("blue", "172.20.0.0/16", network="blue", node="n2"))
    with pytest.raises(ConfigError, match="blue belongs to network blue on node n2, and this is n1"):
        agent.allocator.allocate(ON_BLUE)


def test_a_network_is_no_routed_one(agent: Agent) -> None:
    agent.sees(BLUE)
    with pytest.raises(ConfigError, match="needs wiring bridge"):
        agent.allocator.allocate(Request(network="blue"))


def test_a_block_of_each_network_stays_at_hand(agent: Agent) -> None:
    agent.sees(POOL, BLUE, RED)
    for request in (ANY, ON_BLUE, Request(bridge="br0", network="red")):
        agent.add(request.network or "a", request)
        agent.delete(request.network or "a")
    agent.now += 1000
    assert agent.allocator.retire() == ()
    agent.sees(POOL, BLUE)
    assert [str(held.cidr) for held in agent.allocator.retire()] == ["172.21.0.0/26"]
