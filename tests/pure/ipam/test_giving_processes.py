"""Three processes, each a node, on one SQLite file and in a pool of sixteen addresses."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import combinations
from pathlib import Path

import pytest

from netloom.datastore.sqlite import SqliteDatastore
from netloom.model.resources import IPBlock, encode
from tests.pure.datastore.processes import hear, process
from tests.pure.ipam.giving_process import live
from tests.pure.ipam.making import LONG, pool
from tests.waiting import eventually

NAMES = ["n1", "n2", "n3"]


@pytest.mark.parametrize("cidr", ["10.0.0.0/28", "fd00::/124"])
def test_nodes_that_ask_and_give_at_once_share_a_pool_to_its_last_address(tmp_path: Path, cidr: str) -> None:
    path, its_pool = str(tmp_path / "store.db"), pool("p", cidr, int(cidr.partition("/")[2]))
    store = SqliteDatastore(path)
    with ExitStack() as running:
        arguments = (NAMES, encode(its_pool), 200 if LONG else 30)
        pipes = [running.enter_context(process(live, str(tmp_path), path, name, *arguments))[0] for name in NAMES]
        assert [hear(pipe) for pipe in pipes] == ["ready"] * 3
        for pipe in pipes:
            pipe.send("go")

        def full() -> bool:
            for pipe in pipes:
                pipe.send("how is it?")
            told = [hear(pipe) for pipe in pipes]
            return all(settled for settled, _ in told) and sorted(a for _, used in told for a in used) == addresses

        addresses = sorted(map(str, its_pool.spec.cidr))
        eventually(full, seconds=60)
        for pipe in pipes:
            pipe.send("end")
    claims = [c.cidr for s in store.list("IPBlock").items if isinstance(s.resource, IPBlock) for c in s.resource.spec.claims]
    assert not any(one.overlaps(other) for one, other in combinations(claims, 2))
    store.close()
