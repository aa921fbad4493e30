"""Measuring: what one way to a node carries.  Where all is well this is one packet and one stream; only where it is not, more."""

from __future__ import annotations

import asyncio

from netloom.agent.probing.faults import Measured
from netloom.agent.probing.frames import SMALL
from netloom.agent.probing.prober import Echo, Failure, Peer, Prober
from netloom.agent.probing.ways import Way

_FIRST = (0.5,)  # seconds
_QUICK = (0.3, 0.6)  # once it is known that the other end answers


async def measure(prober: Prober, peer: Peer, way: Way, full: int, *, last: int = 0) -> Measured:
    """`full`: bytes of the largest packet that should pass; `last`: of the largest that did when it was looked for before."""
    echo = await prober.ask(peer, way, full, patience=_FIRST)
    if not echo:
        small, bare = await asyncio.gather(prober.ask(peer, way, SMALL), prober.ask(peer, way, SMALL, checksum=False))
        if not small:
            return Measured(way, full, 0, small, bare=bool(bare))
        echo = await prober.ask(peer, way, full, patience=_QUICK)  # the other end may have been busy for a moment
        if not echo:
            largest, echo = await _largest(prober, peer, way, full, small, last)
            return Measured(way, full, largest, echo)
    failure = (await prober.stream(peer, way)).failure if echo.node == peer.name else None
    return Measured(way, full, full, echo, stream=None if failure is Failure.CLOSED else failure)


async def _largest(prober: Prober, peer: Peer, way: Way, full: int, small: Echo, last: int) -> tuple[int, Echo]:
    """Between `SMALL`, which passes, and `full`, which does not; around the last one first."""
    passes, fails, echo = SMALL, full, small
    for size in (last, last + 1):
        if passes < size < fails:
            found = await prober.ask(peer, way, size, patience=_QUICK)
            passes, fails, echo = (size, fails, found) if found else (passes, size, echo)
    while fails - passes > 1:
        size = (passes + fails) // 2
        found = await prober.ask(peer, way, size, patience=_QUICK)
        passes, fails, echo = (size, fails, found) if found else (passes, size, echo)
    return passes, echo
