from __future__ import annotations

from netloom.ipam.blocks import Block
from netloom.ipam.figures import exhaustion
from netloom.ipam.holdings import Cool, Hold, Holdings
from netloom.model.addresses import parse_address
from tests.pure.ipam.making import attachment, block, claim, pool, prefix

POOL = pool("p", "10.0.0.0/26", 29)


def test_the_figures_name_who_holds_the_blocks_and_what_became_of_the_addresses() -> None:
    cluster = [block(f"10.0.0.{8 * n}/29", claim(f"10.0.0.{8 * n}/29", f"n{n // 2}")) for n in range(8)]
    holdings = Holdings()
    holdings.apply(Hold(attachment("a", 1, "10.0.0.2/32")))
    holdings.apply(Hold(attachment("b", 2, "10.0.0.3/32")))
    holdings.apply(Cool(parse_address("10.0.0.4"), 10.0))
    holdings.apply(Cool(parse_address("10.0.0.5"), 10.1))
    own = {"p": [Block.of(prefix("10.0.0.0/29"), "p", [prefix("10.0.0.6/32")])]}
    assert exhaustion("n0", [POOL], cluster, own, holdings, cooled=10.0) == (
        "node n0 finds no free address and no free block: "
        "pool p (10.0.0.0/26) has 8 of 8 blocks claimed (n0 2, n1 2, n2 2, n3 2); "
        "this node's 8 addresses there: 2 used, 1 cooling, 4 kept or reserved"
    )


def test_of_many_nodes_the_largest_are_named_and_the_others_counted() -> None:
    cluster = [block(f"10.0.0.{8 * n}/29", claim(f"10.0.0.{8 * n}/29", f"n{n}")) for n in range(8)]
    message = exhaustion("n9", [POOL], cluster, {}, Holdings(), cooled=0.0)
    assert "(n0 1, n1 1, n2 1, n3 1, n4 1 and 3 more nodes)" in message
    assert "this node's 0 addresses there: 0 used, 0 cooling, 0 kept or reserved" in message
