"""What arrives on an uplink: an outer packet from a peer is unpacked (`judging` says which), and what was in it arrives on the tunnel's
device.

It arrives there by a redirect, as if from a cable: reverse path checks, rules and captures see the device, and the
family may change.  The firewall of the host sees the inner packet alone, and never the outer one.

A datagram may have been unpacked already, before there was an skb (`early`), and may be many by now (GRO).  Then a mark lies before the
packet, which nothing but a program on this very interface can have put there: the tunnel's token, and who sent it.  All that is left to
do is to see that this is a peer, to count, and to send it on.
"""

from __future__ import annotations

from collections.abc import Iterator

from netloom.dataplane.bpf.assembler import (
    DROP,
    FP,
    NEXT,
    PACKET,
    PACKET_END,
    PACKET_META,
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    SKB_GSO_SEGMENTS,
    SKB_LENGTH,
    U8,
    U16,
    U32,
    U64,
    Helper,
    Instruction,
    Kind,
    Program,
    Step,
    add,
    and_,
    at,
    call,
    jump,
    jump_if,
    leave,
    load,
    mov,
    rsh,
    step,
    store,
    sub,
    swap16,
)
from netloom.model.addresses import mac_bytes
from netloom.model.desired import Carrier
from netloom.tunnel.ebpf.header import ETHERNET, ETHERTYPE, IPV4, IPV6, put
from netloom.tunnel.ebpf.judging import COUNTERS, PEER, from_peer, of_its_own, ours, readable, sender
from netloom.tunnel.ebpf.sending import plus
from netloom.tunnel.ebpf.wire import ADDRESS, MARK, TOKEN, Wire

_BEHIND_ETHERNET = 1  # BPF_ADJ_ROOM_MAC
_FIXED_GSO, _DECAP_IPV4, _DECAP_IPV6 = 1 << 0, 1 << 7, 1 << 8  # BPF_F_ADJ_ROOM_*
_INTO = 1  # BPF_F_INGRESS
_CONGESTED = 3
_LENGTH = 0xFFFF
TYPES = {4: IPV4, 6: IPV6}

_FLAGS, _FRAME, _SEGMENTS = -56, -72, -80
"""Places on the stack: flags for taking the header away, the Ethernet header on the device, how many packets it is."""


def arriving(name: str, wire: Wire, *, recent: bool) -> Program:
    """`recent`: Linux 6.3 or later, which can be told of what family the inner packet is."""

    def kept(version: int) -> Iterator[Step]:
        """Congestion in r8, what the kernel is to be told on the stack."""
        same = wire.local.version == version
        if same or recent or version == 4:
            yield step("congestion that was met on the way", *_congestion(wire))
        else:
            yield step("congestion could not be written down: the kernel would look for the wrong header", mov(R8, 0))
        flags = _FIXED_GSO | (0 if same or not recent else {4: _DECAP_IPV4, 6: _DECAP_IPV6}[version])
        yield step(
            "what is left is of this family", store(U64, FP, _FLAGS, flags), store(U16, FP, _FRAME + ETHERTYPE, TYPES[version])
        )

    steps = (*_begin(wire), *ours(wire, PACKET, PACKET_END), *sender(wire), *from_peer(), *_in_one_piece(wire))
    steps += (*readable(wire, PACKET, PACKET_END), *of_its_own(wire, kept, known=True), *_unpacked(wire, recent), *_ends())
    return Program(name, Kind.CLASSIFIER, steps)


def _begin(wire: Wire) -> Iterator[Step]:
    yield step("the context stays in r6: a call takes r0 to r5", mov(R6, R1))
    if wire.carrier is Carrier.UDP:
        yield from _unpacked_early(wire)
        yield at("packed", "it is as it came")


def _unpacked_early(wire: Wire) -> Iterator[Step]:
    yield step("what lies before the packet", load(R2, U32, R6, PACKET), load(R4, U32, R6, PACKET_META))
    yield step("nothing, or too little", mov(R5, R4), add(R5, MARK), jump_if(R5, ">", R2, "packed"))
    yield step("not our token", load(R5, U64, R4), mov(R1, wire.token), jump_if(R5, "!=", R1, "packed"))
    source = (i for half in range(0, ADDRESS, 8) for i in (load(R1, U64, R4, TOKEN + half), store(U64, FP, PEER + half, R1)))
    yield step("who sent it", *source)
    yield step("room for headers", load(R3, U32, R6, PACKET_END), mov(R4, R2), add(R4, ETHERNET + 20),
               jump_if(R4, ">", R3, "drop"))  # fmt: skip
    yield step("of this family", load(R4, U16, R2, ETHERTYPE), store(U16, FP, _FRAME + ETHERTYPE, R4))
    yield step("and as long as IPv4 says", load(R7, U16, R2, ETHERNET + 2), swap16(R7), jump_if(R4, "==", IPV4, "long"))
    yield step("or IPv6, without its header", load(R7, U16, R2, ETHERNET + 4), swap16(R7), add(R7, 40))
    yield at("long", "the bytes to be counted")
    yield from from_peer("drop")
    yield step("packets that this one is", load(R1, U32, R6, SKB_GSO_SEGMENTS), jump_if(R1, "!=", 0, "several"), mov(R1, 1))
    yield at("several", "counted", *plus("received", R1))
    yield step("and its bytes", *plus("received_bytes", R7), jump("frame"))


def _in_one_piece(wire: Wire) -> Iterator[Step]:
    """The headers in one piece: a driver may have left the inner one elsewhere."""
    need = ETHERNET + wire.overhead + 40
    yield step("where the packet is", load(R2, U32, R6, PACKET), load(R3, U32, R6, PACKET_END))
    yield step("headers that have to be in one piece are", mov(R4, R2), add(R4, need), jump_if(R4, "<=", R3, "whole"))
    yield step("or there are fewer", load(R2, U32, R6, SKB_LENGTH), jump_if(R2, "<", need, "short"), mov(R2, need))
    yield at("short", "as far as there are any", mov(R1, R6), call(Helper.PULL_DATA), jump_if(R0, "!=", 0, "refuse"))
    yield at("whole", "all that is looked at")


def _congestion(wire: Wire) -> tuple[Instruction, ...]:
    if wire.local.version == 4:
        return (load(R8, U8, R2, ETHERNET + 1), and_(R8, _CONGESTED))
    return (load(R8, U8, R2, ETHERNET + 1), rsh(R8, 4), and_(R8, _CONGESTED))


def _unpacked(wire: Wire, recent: bool) -> Iterator[Step]:
    yield step("packets that this one is", load(R1, U32, R6, SKB_GSO_SEGMENTS), jump_if(R1, "!=", 0, "many"), mov(R1, 1))
    yield at("many", "kept, for the kernel will forget", store(U64, FP, _SEGMENTS, R1))
    yield step("how much is before the inner packet", mov(R2, -wire.overhead))
    if wire.local.version == 6 and not recent:
        yield step("IPv4, which the kernel learns only thus: 20 bytes go", load(R1, U16, FP, _FRAME + ETHERTYPE),
                   jump_if(R1, "!=", IPV4, "strip"), mov(R1, R6), mov(R2, IPV4), mov(R3, 0), call(Helper.CHANGE_PROTO),
                   jump_if(R0, "!=", 0, "refuse"), mov(R2, 20 - wire.overhead))  # fmt: skip
    yield at("strip", "it goes", mov(R1, R6), mov(R3, _BEHIND_ETHERNET), load(R4, U64, FP, _FLAGS), call(Helper.ADJUST_ROOM),
             jump_if(R0, "!=", 0, "refuse"))  # fmt: skip
    yield step("no congestion", jump_if(R8, "!=", _CONGESTED, "count"))
    yield step("marked on the inner one; lost, if it cannot bear a mark (RFC 6040)",
               mov(R1, R6), call(Helper.ECN_SET_CE), jump_if(R0, "==", 0, "refuse"))  # fmt: skip
    yield at("count", "counted", load(R0, U64, FP, COUNTERS), load(R1, U64, FP, _SEGMENTS), *plus("received", R1))
    yield step("and the bytes of the inner one", sub(R7, wire.overhead), and_(R7, _LENGTH), *plus("received_bytes", R7))
    mac = mac_bytes(wire.mac)
    yield at("frame", "as if sent to the device", *put(_FRAME, mac + mac))
    yield step("where its Ethernet header is", load(R2, U32, R6, PACKET), load(R3, U32, R6, PACKET_END), mov(R4, R2),
               add(R4, ETHERNET), jump_if(R4, ">", R3, "drop"))  # fmt: skip
    for place, width in ((0, U32), (4, U32), (8, U32), (ETHERTYPE, U16)):
        yield step("it stands there", load(R1, width, FP, _FRAME + place), store(width, R2, place, R1))
    yield step("it arrives there", mov(R1, wire.device), mov(R2, _INTO), call(Helper.REDIRECT), leave())


def _ends() -> Iterator[Step]:
    yield at("next", "none of ours", mov(R0, NEXT), leave())
    yield at("refuse", "a peer's, and wrong: counted", load(R0, U64, FP, COUNTERS), mov(R1, 1), *plus("refused", R1))
    yield at("drop", "it ends here", mov(R0, DROP), leave())
