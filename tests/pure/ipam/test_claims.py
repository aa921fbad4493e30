from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netloom.ipam.claims import Claims, Held, load, save
from tests.pure.ipam.making import claim, prefix


def held(cidr: str, slot: str = "", *, contested: bool = False) -> Held:
    return Held(cidr=prefix(cidr), slot=prefix(slot or cidr), contested=contested)


CLAIMS = Claims(
    node="n1",
    node_id="n1-1",
    held=(held("10.244.0.0/26"), held("10.244.9.7/32", "10.244.9.0/26"), held("fd00::40/122", contested=True)),
    former=("n1-0",),
)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "claims.json")


def test_claims_survive(path: str) -> None:
    save(path, CLAIMS)
    assert load(path) == CLAIMS
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_without_a_file_there_are_none(path: str) -> None:
    assert load(path) is None


def test_a_damaged_file_is_set_aside_wherever_it_is_damaged(path: str) -> None:
    save(path, CLAIMS)
    good = Path(path).read_bytes()
    for place in range(len(good)):
        bad = good[:place] + bytes((good[place] ^ 1,)) + good[place + 1 :]
        Path(path).write_bytes(bad)
        assert load(path) in (None, CLAIMS)
        if not os.path.exists(path):
            assert Path(f"{path}.damaged").read_bytes() == bad
    for length in range(len(good)):
        Path(path).write_bytes(good[:length])
        assert load(path) is None


@given(st.binary(max_size=200))
def test_random_bytes_are_no_claims(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "random.json"
    path.write_bytes(data)
    assert load(str(path)) is None


def test_a_block_of_one_goes_into_its_slot() -> None:
    claims = Claims(node="n1", node_id="n1-1")
    claims = claims.having([held("10.244.9.7/32", "10.244.9.0/26"), held("10.244.0.0/26")])
    assert [str(h.cidr) for h in claims.held] == ["10.244.0.0/26", "10.244.9.7/32"]
    claims = claims.having([*claims.held, held("10.244.9.0/26")])
    assert [str(h.cidr) for h in claims.held] == ["10.244.0.0/26", "10.244.9.0/26"]


def test_only_our_own_incarnations_own() -> None:
    assert CLAIMS.owns(claim("10.244.0.0/26", "n1"))
    assert not CLAIMS.owns(claim("10.244.0.0/26", "n2"))
    assert not CLAIMS.reborn("n1", "n1-1").owns(CLAIMS.reborn("n1", "n1-2").claim(prefix("10.244.0.0/26")))


def test_another_incarnation_keeps_the_claims_and_gives_nothing_out_of_them() -> None:
    reborn = CLAIMS.reborn("n1", "n1-2")
    assert reborn.cidrs == CLAIMS.cidrs
    assert all(h.contested for h in reborn.held)
    assert reborn.owns(claim("10.244.0.0/26", "n1"))
    assert reborn.claim(prefix("10.244.0.0/26")).node_id == "n1-2"


def test_a_file_of_another_node_is_not_ours() -> None:
    assert CLAIMS.reborn("n2", "n2-1") == Claims(node="n2", node_id="n2-1")
