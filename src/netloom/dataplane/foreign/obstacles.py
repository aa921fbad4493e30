"""Obstacles: base chains of others that drop what other nodes send through tunnels, where no passage is made.

A table that somebody wrote for nft gets none of our rules: nobody can know what it means to keep out, and an accept anywhere else
does not help.  So it is said which chain it is, and what to type.  Only what is certain is said (`fates`): a ruleset that lets in
by address or by interface may mean other nodes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, suppress

from netloom.dataplane.foreign.fates import Fate
from netloom.dataplane.foreign.gate import INPUT_GATES, tunnels
from netloom.dataplane.foreign.rules import Rules
from netloom.dataplane.foreign.tables import FAMILIES, TABLES, read_chains
from netloom.dataplane.nft.driver import TABLES as OWN_TABLES
from netloom.dataplane.nft.nfnetlink import Nfnetlink
from netloom.errors import DataplaneError
from netloom.model.desired import Filter, Outer


def find(want: Filter) -> Iterator[str]:
    """A sentence each, with the command to type.  In large rulesets this takes a while: some 20 µs for a rule."""
    families = tunnels(want)
    if not families:
        return
    with closing(Nfnetlink()) as kernel:
        for table, chains in sorted(read_chains(kernel).items()):
            versions = [version for version in FAMILIES.get(table.family, ()) if version in families]
            rules = Rules(kernel, table)
            for name, chain in sorted(chains.items()):
                if not chain.input or table in OWN_TABLES or (table in TABLES and name in INPUT_GATES):
                    continue
                for outer in sorted(want.outers):
                    with suppress(DataplaneError):  # it was taken away meanwhile
                        fates = (rules.fate(name, outer, one, drops=chain.drops, until=Fate.ACCEPTED) for one in versions)
                        if any(fate == Fate.DROPPED for fate in fates):
                            yield _in_words(f"{table} {name}", outer)


def _in_words(chain: str, outer: Outer) -> str:
    match = f"{outer.transport} dport {outer.port}" if outer.port else f"meta l4proto {outer.protocol}"
    return (
        f"{chain} drops what other nodes' tunnels send ({outer}), and no accept elsewhere can help: "
        f"nft insert rule {chain} {match} accept; and the same where that table is written down"
    )
