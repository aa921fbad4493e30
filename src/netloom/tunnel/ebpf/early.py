"""What arrives on an uplink, before there is an skb: a peer's datagrams are unpacked by XDP, in the driver.

The kernel cannot put datagrams of a tunnel together (GRO) that it does not know, so a stream of UDP would pass the stack packet by packet.
Unpacked here, they are packets of TCP like any others, and are put together before anything else is done with them.

What is not plainly a whole packet for us is left as it was, for `arriving` to judge; so is what met congestion.  What is unpacked
gets a mark before it: a token, which `arriving` knows it by, and the outer source, by which it counts.  The mark is in no packet that
comes by a wire: it lies in the skb's metadata, which XDP alone writes.  Packets with the same mark may be put together.

This runs for every packet, and `arriving` for what was put together of dozens.  So here one map is asked, not two: who has a prefix and
sends from it.  That this is a peer is asked there, and here only of what would else be refused, or is from nobody's prefix.
"""

from __future__ import annotations

from collections.abc import Iterator

from netloom.dataplane.bpf.assembler import (
    FP,
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    U8,
    U16,
    U32,
    U64,
    XDP_DROP,
    XDP_META,
    XDP_PACKET,
    XDP_PACKET_END,
    XDP_PASS,
    Helper,
    Kind,
    Program,
    Step,
    add,
    and_,
    at,
    call,
    jump_if,
    leave,
    load,
    mov,
    rsh,
    step,
    store,
)
from netloom.tunnel.ebpf.header import ETHERNET, ETHERTYPE, IPV4, IPV6
from netloom.tunnel.ebpf.judging import PEER, from_peer, of_its_own, ours, readable, sender
from netloom.tunnel.ebpf.sending import plus
from netloom.tunnel.ebpf.wire import ADDRESS, MARK, TOKEN, Wire

_CONGESTED = 3
_TYPES = {4: IPV4, 6: IPV6}
_TYPE = -56
"""Where on the stack the inner packet's ethertype is."""


def early(name: str, wire: Wire) -> Program:
    def kept(version: int) -> Iterator[Step]:
        yield step("its family", store(U64, FP, _TYPE, _TYPES[version]))

    judged = (*ours(wire, XDP_PACKET, XDP_PACKET_END), *_without_congestion(wire), *sender(wire))
    judged += (*readable(wire, XDP_PACKET, XDP_PACKET_END), *of_its_own(wire, kept, known=False))
    begin = step("the context stays in r6: a call takes r0 to r5", mov(R6, R1))
    return Program(name, Kind.XDP, (begin, *judged, *_unpacked(wire), *_ends()))


def _without_congestion(wire: Wire) -> Iterator[Step]:
    place, by = (ETHERNET + 1, 0) if wire.local.version == 4 else (ETHERNET + 1, 4)
    yield step("congestion: it is handed on there", load(R4, U8, R2, place), rsh(R4, by), and_(R4, _CONGESTED),
               jump_if(R4, "==", _CONGESTED, "next"))  # fmt: skip


def _unpacked(wire: Wire) -> Iterator[Step]:
    """The mark is written last: the kernel would carry it along, which costs as much as all the rest.  A packet that is no longer as it
    came never goes on without a mark."""
    yield step(
        "where all is now", load(R2, U32, R6, XDP_PACKET), load(R3, U32, R6, XDP_PACKET_END), load(R4, U32, R6, XDP_META)
    )
    yield step("room for a mark; not every driver has it, and says so like this", jump_if(R4, ">", R2, "next"))
    to = wire.overhead
    yield step("room for both headers", mov(R5, R2), add(R5, to + ETHERNET), jump_if(R5, ">", R3, "refuse"))
    for place in range(ETHERTYPE - 4, -1, -4):  # from its end, so that nothing is written over that is yet to be read
        yield step("the Ethernet header goes before the inner packet", load(R1, U32, R2, place), store(U32, R2, to + place, R1))
    yield step("and its family", load(R1, U64, FP, _TYPE), store(U16, R2, to + ETHERTYPE, R1))
    yield step("what is before it goes", mov(R1, R6), mov(R2, to), call(Helper.XDP_ADJUST_HEAD), jump_if(R0, "!=", 0, "end"))
    yield step("the mark's place", mov(R1, R6), mov(R2, -MARK), call(Helper.XDP_ADJUST_META), jump_if(R0, "!=", 0, "end"))
    yield step("where that is", load(R2, U32, R6, XDP_PACKET), load(R4, U32, R6, XDP_META))
    yield step("the token", mov(R5, R4), add(R5, MARK), jump_if(R5, ">", R2, "end"), mov(R5, wire.token),
               store(U64, R4, 0, R5))  # fmt: skip
    source = (i for half in range(0, ADDRESS, 8) for i in (load(R1, U64, FP, PEER + half), store(U64, R4, TOKEN + half, R1)))
    yield step("and who sent it", *source)
    yield at("next", "to the stack", mov(R0, XDP_PASS), leave())


def _ends() -> Iterator[Step]:
    yield at("refuse", "it is wrong")
    yield from from_peer()
    yield step("a peer's: counted", mov(R1, 1), *plus("refused", R1))
    yield at("end", "it ends here", mov(R0, XDP_DROP), leave())
