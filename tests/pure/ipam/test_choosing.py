from __future__ import annotations

import ipaddress
from collections import deque

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netloom.errors import ConfigError, Unavailable
from netloom.ipam.blocks import Block
from netloom.ipam.choosing import NeedBlock, Request, Situation, choose
from netloom.ipam.holdings import Gone, Hold, Holdings, Mark
from netloom.model.attachments import Attachment, State, Wiring
from tests.pure.ipam.making import attachment, key, pool, prefix

V4 = pool("v4", "10.244.0.0/16", 29)
V6 = pool("v6", "fd00::/64", 125)
OTHER = pool("other", "10.9.0.0/24", 28)
TINY = pool("tiny", "10.8.0.0/24", 32)


def situation(*blocks: str, holdings: Holdings | None = None, cooled: float = 0.0, reserved: str = "") -> Situation:
    """Blocks as `POOL CIDR`."""
    pools = {4: [V4, OTHER], 6: [V6]}
    own: dict[str, tuple[Block, ...]] = {}
    for text in blocks:
        name, cidr = text.split()
        own[name] = (*own.get(name, ()), Block.of(prefix(cidr), name, [prefix(p) for p in reserved.split()]))
    families = {v: p for v, p in pools.items() if any(one.name in own for one in p)}
    return Situation(families, own, holdings or Holdings(), cooled)


def used(*addresses: str, released: dict[str, float] | None = None) -> Holdings:
    """Holdings of one attachment per address, and of some that are gone."""
    holdings = Holdings()
    for number, (address, at) in enumerate({**dict.fromkeys(addresses, None), **(released or {})}.items(), start=1):
        holdings.apply(Hold(attachment(f"p{number}", number, address)))
        if at is not None:
            holdings.apply(Gone(number, at))
    return holdings


def holding(one: Attachment) -> Holdings:
    holdings = Holdings()
    holdings.apply(Hold(one))
    return holdings


def chosen(request: Request, given: Situation) -> list[str]:
    answer = choose(request, given)
    assert not isinstance(answer, NeedBlock)
    return list(map(str, answer))


def asking(*addresses: str, bridge: str | None = None) -> Request:
    return Request(addresses=tuple(map(ipaddress.ip_address, addresses)), bridge=bridge)


def test_a_pod_gets_one_address_of_each_family() -> None:
    assert chosen(Request(), situation("v4 10.244.0.8/29", "v6 fd00::8/125")) == ["10.244.0.10/32", "fd00::a/128"]


def test_on_a_bridge_it_has_the_length_of_its_block() -> None:
    given = situation("v4 10.244.0.8/29", "v6 fd00::8/125")
    assert chosen(Request(bridge="br0"), given) == ["10.244.0.10/29", "fd00::a/125"]


def test_kept_used_and_reserved_addresses_are_passed_over() -> None:
    given = situation("v4 10.244.0.8/29", holdings=used("10.244.0.10"), reserved="10.244.0.11/32 10.244.0.12/31")
    assert chosen(Request(), given) == ["10.244.0.14/32"]


def test_a_fresh_address_comes_before_one_that_was_used() -> None:
    given = situation("v4 10.244.0.8/29", holdings=used(released={"10.244.0.10": -100.0}))
    assert chosen(Request(), given) == ["10.244.0.11/32"]


def test_without_a_fresh_one_the_longest_released_comes_next() -> None:
    stamps = {"10.244.0.10": -5.0, "10.244.0.11": -9.0, "10.244.0.12": -7.0}
    given = situation("v4 10.244.0.8/29", holdings=used("10.244.0.13", "10.244.0.14", released=stamps))
    assert chosen(Request(), given) == ["10.244.0.11/32"]


def test_what_cools_is_passed_over_until_it_has_cooled() -> None:
    stamps = {f"10.244.0.{n}": 100.0 + n for n in range(10, 15)}
    holdings = used(released=stamps)
    assert choose(Request(), situation("v4 10.244.0.8/29", holdings=holdings, cooled=109.9)) == NeedBlock((V4, OTHER))
    assert chosen(Request(), situation("v4 10.244.0.8/29", holdings=holdings, cooled=110.0)) == ["10.244.0.10/32"]


def test_every_block_of_every_pool_is_tried_before_one_is_asked_for() -> None:
    full = used(*(f"10.244.0.{n}" for n in range(10, 15)))
    assert chosen(Request(), situation("v4 10.244.0.8/29", "v4 10.244.0.32/29", holdings=full)) == ["10.244.0.34/32"]
    assert chosen(Request(), situation("v4 10.244.0.8/29", "other 10.9.0.0/28", holdings=full)) == ["10.9.0.2/32"]


def test_if_one_family_has_no_address_the_pod_gets_none() -> None:
    full = used(*(f"fd00::{n:x}" for n in range(10, 16)))
    assert choose(Request(), situation("v4 10.244.0.8/29", "v6 fd00::8/125", holdings=full)) == NeedBlock((V6,))


def test_an_address_asked_for_is_given_and_the_other_family_is_chosen() -> None:
    given = situation("v4 10.244.0.8/29", "v6 fd00::8/125")
    assert chosen(asking("10.244.0.13"), given) == ["10.244.0.13/32", "fd00::a/128"]
    assert chosen(asking("fd00::f", "10.244.0.13"), given) == ["10.244.0.13/32", "fd00::f/128"]


def test_it_is_given_even_if_it_is_reserved_or_cooling() -> None:
    cooling = used(released={"10.244.0.13": 500.0})
    assert chosen(asking("10.244.0.13"), situation("v4 10.244.0.8/29", holdings=cooling)) == ["10.244.0.13/32"]
    assert chosen(asking("10.244.0.13"), situation("v4 10.244.0.8/29", reserved="10.244.0.0/24")) == ["10.244.0.13/32"]


def test_outside_our_blocks_a_block_of_one_is_needed_and_on_a_bridge_the_slot() -> None:
    given = situation("v4 10.244.0.8/29")
    assert choose(asking("10.244.7.13"), given) == NeedBlock((V4,), prefix("10.244.7.13/32"))
    assert choose(asking("10.244.7.13", bridge="br0"), given) == NeedBlock((V4,), prefix("10.244.7.8/29"))


def test_on_a_bridge_a_block_of_one_has_to_become_the_whole_slot() -> None:
    given = situation("v4 10.244.3.12/32")
    assert choose(asking("10.244.3.12", bridge="br0"), given) == NeedBlock((V4,), prefix("10.244.3.8/29"))


@pytest.mark.parametrize(
    ("addresses", "bridge", "message"),
    [
        (["10.244.0.8"], None, "10.244.0.8 is kept: in 10.244.0.8/29 it is the node's, the gateway's, or broadcast"),
        (["10.244.0.15"], None, "is kept"),
        (["192.0.2.1"], None, "192.0.2.1 is in no pool that serves the pod; these do: v4 "),
        (["fd00::a"], None, "fd00::a is in no pool that serves the pod; these do: none"),
        (["10.244.0.11", "10.244.0.12"], None, "at most one address per family"),
    ],
)
def test_an_address_that_cannot_be_had_is_refused_with_the_reason(
    addresses: list[str], bridge: str | None, message: str
) -> None:
    given = situation("v4 10.244.0.8/29", "v4 10.244.3.12/32", holdings=used("10.244.0.11"))
    with pytest.raises(ConfigError, match=message):
        choose(asking(*addresses, bridge=bridge), given)


def test_a_bridge_takes_nothing_from_blocks_without_a_gateway() -> None:
    bridge = Request(bridge="br0")
    given = situation("v4 10.244.3.12/32", "v4 10.244.0.8/29")
    assert chosen(bridge, given) == ["10.244.0.10/29"]
    tiny = Situation({4: [TINY]}, {"tiny": (Block.of(prefix("10.8.0.1/32"), "tiny"),)}, Holdings(), 0.0)
    assert chosen(Request(), tiny) == ["10.8.0.1/32"]
    with pytest.raises(ConfigError, match="the blocks of tiny are too small"):
        choose(bridge, tiny)


def test_low_ipv6_addresses_stay_ipv6() -> None:
    low = pool("low", "::1:0/112", 125)
    given = Situation({6: [low]}, {"low": (Block.of(prefix("::1:0/125"), "low"),)}, Holdings(), 0.0)
    assert chosen(Request(), given) == ["::1:2/128"]
    assert choose(asking("::1:a"), given) == NeedBlock((low,), prefix("::1:a/128"))


@given(st.lists(st.booleans(), max_size=60))
def test_addresses_come_round_in_turn(steps: list[bool]) -> None:
    """True: a pod comes; False: the oldest pod goes.  No address is used twice at once, and each waits as long as it can."""
    holdings, living, clock = Holdings(), deque[tuple[str, int]](), 0.0
    free = deque(range(2, 7))
    for number, comes in enumerate(steps, start=1):
        clock += 1
        if not comes and living:
            name, ordinal = living.popleft()
            holdings.apply(Gone(holdings.attachments[key(name)].sequence, clock))
            free.append(ordinal)
        elif comes:
            answer = choose(Request(), situation("v4 10.244.0.0/29", holdings=holdings, cooled=clock))
            if not free:
                assert isinstance(answer, NeedBlock)
                continue
            assert not isinstance(answer, NeedBlock)
            assert int(answer[0].ip) & 7 == free[0]
            holdings.apply(Hold(attachment(f"p{number}", number, answer[0])))
            living.append((f"p{number}", free.popleft()))


# A network with pools of its own


BLUE = pool("blue", "172.20.0.0/16", 26, network="blue", node="n1")
BLUE6 = pool("blue-v6", "fd00:20::/64", network="blue", node="n1", gateway=ipaddress.ip_address("fd00:20::ff"))


def of_a_network(*blocks: str, holdings: Holdings | None = None) -> Situation:
    own: dict[str, tuple[Block, ...]] = {}
    for text in blocks:
        one = BLUE if "." in text else BLUE6
        own[one.name] = (*own.get(one.name, ()), Block.of(prefix(text), one.name, network=one))
    return Situation({4: [BLUE], 6: [BLUE6]}, own, holdings or Holdings(), 0.0)


def test_a_network_shows_its_whole_subnet_and_none_of_its_blocks() -> None:
    given = of_a_network("172.20.0.0/26", "fd00:20::/122")
    assert chosen(Request(bridge="br0"), given) == ["172.20.0.2/16", "fd00:20::1/64"]
    given = of_a_network("172.20.7.64/26", "fd00:20::40/122")
    assert chosen(Request(bridge="br0"), given) == ["172.20.7.64/16", "fd00:20::40/64"]


@pytest.mark.parametrize("address", ["172.20.7.64", "172.20.7.65", "172.20.7.127", "172.20.255.254", "fd00:20::40"])
def test_what_a_block_of_the_cluster_would_keep_is_a_pods_in_a_network(address: str) -> None:
    given = of_a_network("172.20.7.64/26", "172.20.255.192/26", "fd00:20::/122", "fd00:20::40/122")
    found = chosen(asking(address, bridge="br0"), given)
    assert any(ipaddress.ip_interface(one).ip == ipaddress.ip_address(address) for one in found)


@pytest.mark.parametrize("address", ["172.20.0.0", "172.20.0.1", "172.20.255.255", "fd00:20::", "fd00:20::ff"])
def test_what_a_network_keeps_is_nobodys(address: str) -> None:
    with pytest.raises(ConfigError, match="the network's, the gateway's, or broadcast"):
        choose(asking(address, bridge="br0"), of_a_network("172.20.0.0/26", "fd00:20::/122"))


def test_a_network_of_four_addresses_serves_one_pod() -> None:
    tiny = pool("tiny", "192.0.2.0/30", network="tiny", node="n1")
    block = Block.of(prefix("192.0.2.0/30"), "tiny", network=tiny)
    assert chosen(Request(bridge="br0"), Situation({4: [tiny]}, {"tiny": (block,)}, Holdings(), 0.0)) == ["192.0.2.2/30"]
    full = Situation({4: [tiny]}, {"tiny": (block,)}, used("192.0.2.2"), 0.0)
    assert isinstance(choose(Request(bridge="br0"), full), NeedBlock)


def test_an_address_that_somebody_has_may_be_had_later() -> None:
    with pytest.raises(Unavailable, match=r"10\.244\.0\.11 is in use by default/p1"):
        choose(asking("10.244.0.11"), situation("v4 10.244.0.8/29", holdings=holding(attachment("p1", 1, "10.244.0.11/32"))))


# A block is used in one way at a time


def on(bridge: str | None, name: str, address: str) -> Attachment:
    wiring = Wiring.BRIDGE if bridge else Wiring.ROUTED
    return msgspec.structs.replace(attachment(name, 1, address), wiring=wiring, bridge=bridge)


@pytest.mark.parametrize("there", [None, "br1"])
@pytest.mark.parametrize("asked", [None, "br0"])
def test_a_block_that_is_used_otherwise_is_passed_over(there: str | None, asked: str | None) -> None:
    if there == asked:
        return
    holdings = holding(on(there, "p", "10.244.0.10/29"))
    given = situation("v4 10.244.0.8/29", "v4 10.244.0.32/29", holdings=holdings)
    assert chosen(Request(bridge=asked), given)[0].startswith("10.244.0.34/")
    only = situation("v4 10.244.0.8/29", holdings=holdings)
    assert choose(Request(bridge=asked), only) == NeedBlock((V4, OTHER), whole=asked is not None)
    with pytest.raises(ConfigError, match=f"whose pods on this node are {f'on bridge {there}' if there else 'routed'}"):
        choose(asking("10.244.0.12", bridge=asked), only)


@pytest.mark.parametrize("bridge", [None, "br0"])
def test_a_block_that_is_used_in_the_same_way_is_filled(bridge: str | None) -> None:
    given = situation("v4 10.244.0.8/29", holdings=holding(on(bridge, "p", "10.244.0.10/29")))
    assert chosen(Request(bridge=bridge), given)[0].startswith("10.244.0.11/")


def test_a_block_is_free_for_any_use_when_its_pods_have_gone() -> None:
    holdings = holding(one := on("br1", "p", "10.244.0.10/29"))
    holdings.apply(Mark(one.sequence, State.LEAVING))
    assert choose(Request(), situation("v4 10.244.0.8/29", holdings=holdings)) == NeedBlock((V4, OTHER))
    holdings.apply(Gone(one.sequence, 100.0))
    assert chosen(Request(), situation("v4 10.244.0.8/29", holdings=holdings)) == ["10.244.0.11/32"]


def test_a_block_of_one_is_for_who_asks_for_its_address() -> None:
    """The pod that owns it finds it again, and nobody in between has had it."""
    given = situation("v4 10.244.0.4/32", "v4 10.244.0.8/29")
    assert chosen(Request(), given) == ["10.244.0.10/32"]
    assert chosen(asking("10.244.0.4"), given) == ["10.244.0.4/32"]
    assert choose(Request(), situation("v4 10.244.0.4/32")) == NeedBlock((V4, OTHER))
