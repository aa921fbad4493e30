"""Parts of a slot: the arithmetic of splitting.  Pure.

    slot 10.0.0.0/28   claims 10.0.0.0/29 (a), 10.0.0.12/30 (b)   →   gap 10.0.0.8/30

A slot is cut into aligned prefixes only, each with one owner, so that a route is all that anybody needs to know of it.  The pieces
that are looked for here are the largest ones.
"""

from __future__ import annotations

import ipaddress
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence

from netloom.model.addresses import Prefix, contains


def gaps(slot: Prefix, claimed: Collection[Prefix]) -> Iterator[Prefix]:
    """What nobody has of the slot, in the largest pieces that there are, by address."""
    inside = [cidr for cidr in claimed if contains(slot, cidr)]
    if not inside:
        yield slot
    elif slot not in inside:
        for half in _halves(slot):
            yield from gaps(half, inside)


def unused(cidr: Prefix, numbers: Iterable[int]) -> Iterator[Prefix]:
    """The same, where single addresses are taken."""
    yield from _unused(cidr, sorted(numbers))


def rest(whole: Prefix, part: Prefix) -> tuple[Prefix, ...]:
    """What is left of the whole without the part, in the largest pieces, by address."""
    if whole == part:
        return ()
    return tuple(piece for half in _halves(whole) for piece in (rest(half, part) if contains(half, part) else (half,)))


def _unused(cidr: Prefix, numbers: Sequence[int]) -> Iterator[Prefix]:
    first = int(cidr.network_address)
    inside = numbers[bisect_left(numbers, first) : bisect_left(numbers, first + cidr.num_addresses)]
    if not inside:
        yield cidr
    elif len(inside) < cidr.num_addresses:
        for half in _halves(cidr):
            yield from _unused(half, inside)


def _halves(cidr: Prefix) -> tuple[Prefix, Prefix]:
    kind = ipaddress.IPv4Network if cidr.version == 4 else ipaddress.IPv6Network
    first, length = int(cidr.network_address), cidr.prefixlen + 1
    return kind((first, length)), kind((first + (cidr.num_addresses >> 1), length))
