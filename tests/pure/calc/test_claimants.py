"""Whose records are whose, known from before or not."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from netloom.calc.claimants import Claimants
from netloom.model.edited import Edited
from netloom.model.resources import Claim, IPBlock, IPBlockSpec, Metadata

NODES = "abc"
SLOT = ipaddress.ip_network("10.0.0.0/24")
PARTS = [*SLOT.subnets(new_prefix=26)]


def record(name: str, owners: list[str]) -> IPBlock:
    claims = tuple(Claim(cidr=part, node=owner, node_id="") for part, owner in zip(PARTS, owners, strict=False))
    return IPBlock(metadata=Metadata(name=name), spec=IPBlockSpec(cidr=SLOT, claims=claims))


records = st.dictionaries(st.sampled_from("12345"), st.lists(st.sampled_from(NODES), max_size=3), max_size=3).map(
    lambda found: {name: record(name, owners) for name, owners in found.items()}
)


@given(st.lists(st.tuples(records, st.sets(st.sampled_from("12345")), st.booleans()), max_size=10))
def test_all_that_speak_of_a_node_are_found_whatever_was_followed_before(
    steps: list[tuple[dict[str, IPBlock], set[str], bool]],
) -> None:
    claimants, blocks = Claimants(), Edited[str, IPBlock].of({}, {})
    for put, gone, following in steps:
        blocks = Edited.of(blocks, put, gone)
        if following:
            claimants.follow(blocks)
        for node in NODES:
            of_it = {name for name, block in blocks.items() if any(claim.node == node for claim in block.spec.claims)}
            assert of_it <= {block.name for block in claimants.among(blocks, [node])} <= blocks.keys()
            if following:
                assert of_it == {block.name for block in claimants.among(blocks, [node])}
