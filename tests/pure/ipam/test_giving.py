"""What a node can part with, and to whom."""

from __future__ import annotations

import ipaddress

import msgspec
import pytest

from netloom.ipam.claims import Held
from netloom.ipam.giving import Gift, gift, open_requests, patience, unknown_slots
from netloom.ipam.holdings import Cool, Hold, Holdings
from netloom.model.attachments import Wiring
from netloom.model.resources import Claim, IPBlockRequest, IPBlockRequestSpec, Metadata
from netloom.model.snapshot import Snapshot
from tests.pure.ipam.making import attachment, block, claim, node, pool, prefix

POOL = pool("p", "10.0.0.0/26", 28)


def held(cidr: str, slot: str = "") -> Held:
    return Held(cidr=prefix(cidr), slot=prefix(slot or cidr))


def used(*addresses: str, bridge: str | None = None) -> Holdings:
    holdings = Holdings()
    for number, address in enumerate(addresses, 1):
        one = attachment(f"pod{number}", number, f"{address}/32")
        one = msgspec.structs.replace(one, wiring=Wiring.BRIDGE if bridge else Wiring.ROUTED, bridge=bridge)
        holdings.apply(Hold(one))
    return holdings


def given(*blocks: Held, of: Holdings, own: tuple[str, ...] = (), reserved: tuple[str, ...] = ()) -> str | None:
    addresses = [ipaddress.ip_address(a) for a in own]
    found = gift(blocks, of, 100.0, addresses, [prefix(r) for r in reserved])
    return str(found.part) if found else None


def test_a_half_goes_in_which_nobody_has_an_address() -> None:
    assert given(held("10.0.0.0/28"), of=used("10.0.0.3")) == "10.0.0.8/29"
    assert given(held("10.0.0.0/28"), of=used("10.0.0.9")) == "10.0.0.0/29"


def test_of_an_empty_block_a_half_stays() -> None:
    assert given(held("10.0.0.0/28"), of=used()) == "10.0.0.8/29"


def test_where_both_halves_are_used_it_is_a_smaller_part_and_down_to_one_address() -> None:
    assert given(held("10.0.0.0/28"), of=used("10.0.0.3", "10.0.0.9")) == "10.0.0.12/30"
    every_other = [f"10.0.0.{n}" for n in range(0, 16, 2)]
    assert given(held("10.0.0.0/28"), of=used(*every_other)) == "10.0.0.15/32"
    assert given(held("10.0.0.7/32", "10.0.0.0/28"), of=used()) == "10.0.0.7/32"


def test_where_all_are_used_there_is_nothing() -> None:
    assert given(held("10.0.0.0/28"), of=used(*(f"10.0.0.{n}" for n in range(16)))) is None


def test_the_largest_part_of_any_block_goes() -> None:
    blocks = held("10.0.0.0/28"), held("10.0.0.16/28")
    assert given(*blocks, of=used("10.0.0.1", "10.0.0.10", "10.0.0.17")) == "10.0.0.24/29"


def test_what_cools_and_what_the_node_has_for_itself_is_used() -> None:
    holdings = used("10.0.0.9")
    holdings.apply(Cool(ipaddress.ip_address("10.0.0.1"), 101.0))
    assert given(held("10.0.0.0/28"), of=holdings, own=("10.0.0.4",)) == "10.0.0.12/30"
    cooled = used("10.0.0.9")
    cooled.apply(Cool(ipaddress.ip_address("10.0.0.1"), 99.0))
    assert given(held("10.0.0.0/28"), of=cooled) == "10.0.0.0/29"


def test_what_pods_may_not_have_is_no_gift() -> None:
    assert given(held("10.0.0.0/28"), of=used("10.0.0.3"), reserved=("10.0.0.8/30", "10.0.0.12/30")) == "10.0.0.4/30"


def test_a_block_of_a_bridge_stays_whole() -> None:
    assert given(held("10.0.0.0/28"), of=used("10.0.0.3", bridge="br0")) is None


def test_what_is_left_and_what_goes_is_the_block() -> None:
    found = Gift(held("10.0.0.0/28"), prefix("10.0.0.4/30"))
    assert [str(h.cidr) for h in found.left] == ["10.0.0.0/30", "10.0.0.8/29"]
    assert all(h.is_dense and h.slot == prefix("10.0.0.0/28") for h in found.left)


def test_who_has_more_gives_first() -> None:
    slot = prefix("10.0.0.0/26")
    waits = [patience(prefix(f"10.0.0.0/{length}"), slot, giver) for length in range(27, 33) for giver in ("a", "b", "c")]
    assert waits == sorted(waits, key=lambda w: int(w / 0.03)) and max(waits) < 0.5


def asks(name: str, held: int, incarnation: str = "") -> IPBlockRequest:
    spec = IPBlockRequestSpec(node_id=incarnation or f"{name}-1", pools={"p": held})
    return IPBlockRequest(metadata=Metadata(name=name), spec=spec)


@pytest.mark.parametrize(
    ("request_", "is_open"),
    [
        (asks("b", 0), False),  # it has 8 by now
        (asks("b", 8), True),
        (asks("b", 8, incarnation="another life"), False),
        (asks("gone", 0), False),
        (asks("a", 0), False),  # our own
        (asks("c", 0), True),
    ],
)
def test_a_request_is_open_while_its_node_has_no_more_than_it_had(request_: IPBlockRequest, is_open: bool) -> None:
    shared = block("10.0.0.0/28", claim("10.0.0.0/29", "a"), claim("10.0.0.8/29", "b"))
    snapshot = Snapshot.of(1, [POOL, node("a", "a-1"), node("b", "b-1"), node("c", "c-1"), shared, request_])
    assert (open_requests(snapshot, "a") == [request_]) is is_open


def test_what_another_machine_of_that_name_has_left_answers_no_request() -> None:
    request = IPBlockRequest(metadata=Metadata(name="b"), spec=IPBlockRequestSpec(node_id="b-2", pools={"p": 0}))
    left = block("10.0.0.0/28", claim("10.0.0.0/29", "b"))
    assert open_requests(Snapshot.of(1, [POOL, node("b", "b-2"), request, left]), "a") == [request]


def test_what_was_given_is_a_claim_of_ours_that_we_do_not_know() -> None:
    shared = block("10.0.0.0/28", claim("10.0.0.0/29", "a"), claim("10.0.0.8/29", "b"))
    snapshot = Snapshot.of(1, [POOL, shared])

    def mine(one: Claim) -> bool:
        return one.node == "b"

    assert unknown_slots(snapshot, mine, []) == [prefix("10.0.0.0/28")]
    assert unknown_slots(snapshot, mine, [prefix("10.0.0.8/29")]) == []
