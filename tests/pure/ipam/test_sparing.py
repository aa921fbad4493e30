from __future__ import annotations

import ipaddress

import pytest

from netloom.ipam.blocks import Block
from netloom.ipam.claims import Held
from netloom.ipam.holdings import Cool, Hold, Holdings
from netloom.ipam.sparing import spare
from netloom.model.addresses import Prefix
from tests.pure.ipam.making import attachment, prefix

BEFORE = 100.0


def held(text: str) -> Held:
    """`CIDR [SLOT] [contested]`"""
    cidr, *rest = text.split()
    contested = "contested" in rest
    slot = next((word for word in rest if word != "contested"), cidr)
    return Held(cidr=prefix(cidr), slot=prefix(slot), contested=contested)


def serves(cidr: Prefix) -> str | None:
    if cidr.version == 4 and cidr.overlaps(prefix("10.9.0.0/16")):
        return None
    return "blue" if cidr.version == 4 and cidr.overlaps(prefix("172.20.0.0/16")) else ""


def spared(*blocks: str, holdings: Holdings | None = None, since: float = 0.0, pinned: str = "") -> list[str]:
    every = [held(text) for text in blocks]
    answer = spare(
        every,
        holdings or Holdings(),
        blocks={h.cidr: Block.of(h.cidr, "pool") for h in every if not h.contested},
        quiet_since={h.cidr: since for h in every},
        before=BEFORE,
        cooled=BEFORE,
        pinned=[ipaddress.ip_address(a) for a in pinned.split()],
        serves=serves,
    )
    return [str(h.cidr) for h in answer]


FIRST, SECOND, SINGLE = "10.0.0.0/26", "10.0.0.64/26", "10.0.1.5/32 10.0.1.0/26"


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        ([], []),
        ([FIRST], []),
        ([FIRST, SECOND], [SECOND]),
        ([FIRST, SECOND, "fd00::/122", "fd00::40/122"], [SECOND, "fd00::40/122"]),
        ([SINGLE], ["10.0.1.5/32"]),
        ([SINGLE, FIRST], ["10.0.1.5/32"]),
        ([f"{FIRST} contested", SECOND], [FIRST]),
        ([f"{FIRST} contested"], [FIRST]),
        (["10.9.0.0/26", "10.9.0.64/26"], ["10.9.0.0/26", "10.9.0.64/26"]),
        ([FIRST, "172.20.0.0/26"], []),
        ([FIRST, SECOND, "172.20.0.0/26", "172.20.0.64/26"], [SECOND, "172.20.0.64/26"]),
    ],
)
def test_of_idle_blocks_one_whole_one_per_family_stays_while_it_is_of_use(blocks: list[str], expected: list[str]) -> None:
    assert spared(*blocks) == expected


def test_a_block_in_use_stays_and_lets_the_idle_ones_go() -> None:
    holdings = Holdings()
    holdings.apply(Hold(attachment("a", 1, "10.0.0.70/32")))
    assert spared(FIRST, SECOND, holdings=holdings) == [FIRST]


def test_a_single_or_contested_block_in_use_is_not_the_one_that_stays_for_the_next_pod() -> None:
    holdings = Holdings()
    holdings.apply(Hold(attachment("a", 1, "10.0.1.5/32")))
    assert spared(SINGLE, FIRST, holdings=holdings) == []
    assert spared("10.0.1.0/26 contested", FIRST, holdings=holdings) == []


def test_a_block_whose_addresses_were_released_lately_stays() -> None:
    holdings = Holdings()
    holdings.apply(Cool(ipaddress.ip_address("10.0.0.70"), BEFORE + 0.1))
    assert spared(FIRST, SECOND, holdings=holdings) == [FIRST]
    holdings.apply(Cool(ipaddress.ip_address("10.0.0.70"), BEFORE))
    assert spared(FIRST, SECOND, holdings=holdings) == [SECOND]


def test_a_block_that_has_just_come_stays() -> None:
    assert spared(FIRST, SECOND, since=BEFORE + 1) == []


def test_the_last_address_of_a_block_counts_too() -> None:
    holdings = Holdings()
    holdings.apply(Hold(attachment("a", 1, "fd00::7f/128")))
    assert spared("fd00::/122", "fd00::40/122", holdings=holdings) == ["fd00::/122"]


def test_the_nodes_own_addresses_stay() -> None:
    assert spared(FIRST, SECOND, pinned="10.0.0.64") == [FIRST]
    assert spared("10.9.0.0/26", pinned="10.9.0.0") == []
