"""Blocks are claimed while the etcd cluster is killed, stopped, cut apart, compacted and defragmented: nobody gets what another has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.chaos.claims import contend


def test_sixteen_processes_claim_for_many_nodes_and_no_block_is_given_twice(tmp_path: Path) -> None:
    outcome = contend(
        *(tmp_path,), processes=16, nodes=32, blocks=4, pool="10.0.0.0/18", seed=os.getpid(), seconds=(0.3, 1.2), least=3.0
    )
    assert outcome.verdict, f"{outcome}\n{outcome.verdict}"
    assert not outcome.faults, outcome.faults


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
def test_a_thousand_nodes_claim_four_blocks_each(tmp_path: Path, seed: int) -> None:
    outcome = contend(
        *(tmp_path,), processes=16, nodes=1000, blocks=4, pool="10.0.0.0/13", seed=seed, seconds=(1.0, 7.0), least=60.0
    )
    assert outcome.verdict, f"{outcome}\n{outcome.verdict}"
    assert not outcome.faults, outcome.faults
