"""Claimants: which blocks' records speak of a node, without going through those of all others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from netloom.model.edited import differing
from netloom.model.resources import IPBlock


class Claimants:
    """Remembers it for the records that it was last told to `follow`; of others it is found out from what differs."""

    def __init__(self) -> None:
        self._blocks: Mapping[str, IPBlock] = {}
        self._records: dict[str, tuple[str, ...]] = {}
        """By node; names of records."""

    def follow(self, blocks: Mapping[str, IPBlock]) -> None:
        for name in differing(blocks, self._blocks):
            before, now = _nodes(self._blocks.get(name)), _nodes(blocks.get(name))
            for node in before - now:
                self._records[node] = tuple(record for record in self._records.get(node, ()) if record != name)
                if not self._records[node]:
                    del self._records[node]
            for node in now - before:
                self._records[node] = (*self._records.get(node, ()), name)
        self._blocks = blocks

    def among(self, blocks: Mapping[str, IPBlock], nodes: Iterable[str]) -> Iterator[IPBlock]:
        """Those of `blocks` in which any of these nodes claims something, and maybe others."""
        names = {*differing(blocks, self._blocks)}
        names.update(*(self._records.get(node, ()) for node in nodes))
        return (block for name in names if (block := blocks.get(name)) is not None)


def _nodes(block: IPBlock | None) -> set[str]:
    return {claim.node for claim in block.spec.claims} if block is not None else set()
