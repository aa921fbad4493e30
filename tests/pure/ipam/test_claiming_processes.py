"""Sixteen processes that all want the same, on one SQLite file."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import combinations
from pathlib import Path

import pytest

from netloom.datastore.sqlite import SqliteDatastore
from netloom.model.resources import IPBlock, encode
from tests.pure.datastore.processes import process
from tests.pure.ipam.making import LONG, pool
from tests.pure.ipam.processes import grab

INCARNATIONS = [f"life-{number}" for number in range(16)]
POOLS = [pool("v4", "10.0.0.0/26", 29), pool("v6", "fd00::/122", 125)]
SINGLES = ["10.0.0.2", "10.0.0.3", "10.0.0.10", "fd00::2", "fd00::b"]


@pytest.mark.parametrize("addresses", [[], SINGLES], ids=["slots alone", "slots and single addresses in them"])
def test_of_many_that_claim_the_same_only_one_succeeds(tmp_path: Path, addresses: list[str]) -> None:
    path = str(tmp_path / "store.db")
    store = SqliteDatastore(path)
    with ExitStack() as running:
        arguments = ([encode(p) for p in POOLS], addresses, 20 if LONG else 2)
        pipes = [running.enter_context(process(grab, path, life, *arguments))[0] for life in INCARNATIONS]
        for pipe in pipes:
            assert pipe.recv() == "ready"
        for pipe in pipes:
            pipe.send("go")
        held = {life: pipe.recv() for life, pipe in zip(INCARNATIONS, pipes, strict=True)}

    claims = [
        (c.cidr, c.node_id)
        for s in store.list("IPBlock").items
        if isinstance(s.resource, IPBlock)
        for c in s.resource.spec.claims
    ]
    assert {(str(cidr), life) for cidr, life in claims} == {(cidr, life) for life, cidrs in held.items() for cidr in cidrs}
    for (a, _), (b, _) in combinations(claims, 2):
        assert a.version != b.version or not a.overlaps(b)
    store.close()
