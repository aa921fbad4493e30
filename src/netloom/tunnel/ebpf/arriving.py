"""What arrives on an uplink: an outer packet from a peer is unpacked, and what was in it arrives on the tunnel's device.

    to this node, protocol 4 or 41, or UDP to our port          else it is none of ours, and goes on as it is
    whole, without options                                      fragments and the like go on, and end in the stack: see below
    from a peer                                                 else it goes on: somebody may have a tunnel of their own here
    inner length plus header = outer length                     from here on what is wrong is refused, and counted for that peer
    inner source: a prefix of that very peer                    no node sends in another's name

Peers set Don't Fragment on what they send (`header`), so fragments come only from others, or from a path that cuts in spite of it.
Nobody puts them together: the stack would, and then find that no socket or device here wants them.

It arrives on the device by a redirect, as if from a cable there: reverse path checks, rules and captures see the device, and the
family may change.  The firewall of the host sees the inner packet alone, and never the outer one.
"""

from __future__ import annotations

from collections.abc import Iterator

from netloom.dataplane.bpf.assembler import (
    DROP,
    FP,
    NEXT,
    PACKET,
    PACKET_END,
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
    map_into,
    mov,
    network16,
    rsh,
    step,
    store,
    sub,
    swap16,
    words,
)
from netloom.model.addresses import mac_bytes
from netloom.model.desired import Carrier
from netloom.tunnel.ebpf.header import (
    ETHERNET,
    ETHERTYPE,
    FRAGMENT,
    IPIP,
    IPV4,
    IPV6,
    IPV6_IN_IP,
    KEY,
    UDP,
    VERSION_AND_LENGTH,
    copy,
    put,
    zero,
)
from netloom.tunnel.ebpf.sending import plus
from netloom.tunnel.ebpf.wire import ADDRESS, PREFIXES, Wire

_BEHIND_ETHERNET = 1  # BPF_ADJ_ROOM_MAC
_FIXED_GSO, _DECAP_IPV4, _DECAP_IPV6 = 1 << 0, 1 << 7, 1 << 8  # BPF_F_ADJ_ROOM_*
_INTO = 1  # BPF_F_INGRESS
_CONGESTED = 3
_LENGTH = 0xFFFF
"""Several packets in one may be too long for a field of 16 bits, which then has the rest of it."""
_TYPES = {4: IPV4, 6: IPV6}

_PEER, _FLAGS, _COUNTERS, _FRAME, _SEGMENTS = -40, -48, -56, -72, -80
"""Places on the stack: outer source, flags for taking the header away, the peer's counters, the Ethernet header on the device, how
many packets it is."""


def arriving(name: str, wire: Wire, *, tells_family: bool) -> Program:
    """`tells_family`: the kernel (6.3 and later) wants to be told of what family the inner packet is."""
    steps = (*_ours(wire), *_from_peer(wire), *_whole(wire), *_inner4(wire, tells_family), *_inner6(wire, tells_family))
    return Program(name, Kind.CLASSIFIER, (*steps, *_unpacked(wire), *_ends()))


def _ours(wire: Wire) -> Iterator[Step]:
    """Of the outer packet: r7 its length from the outer header on, r8 its class and protocol."""
    four = wire.local.version == 4
    yield step("the context stays in r6: a call takes r0 to r5", mov(R6, R1))
    yield step("where the packet begins and ends", load(R2, U32, R6, PACKET), load(R3, U32, R6, PACKET_END))
    yield step(
        "room for Ethernet and the outer header", mov(R4, R2), add(R4, ETHERNET + wire.overhead), jump_if(R4, ">", R3, "next")
    )
    yield step("outer family", load(R4, U16, R2, ETHERTYPE), jump_if(R4, "!=", IPV4 if four else IPV6, "next"))
    yield step("what is in it", load(R8, U8, R2, ETHERNET + (9 if four else 6)))
    if wire.carrier is Carrier.UDP:
        yield step("a datagram", jump_if(R8, "!=", UDP, "next"))
    else:
        yield step("a packet of either family", jump_if(R8, "==", IPIP, "carried"), jump_if(R8, "!=", IPV6_IN_IP, "next"))
    yield at("carried", "it is of a kind that we carry")
    place = ETHERNET + (16 if four else 24)
    for number, word in enumerate(words(wire.local.packed)):
        yield step("to this node", load(R4, U32, R2, place + 4 * number), jump_if(R4, "!=", word, "next", bits=32))
    if four:
        yield step("no options", load(R4, U8, R2, ETHERNET), jump_if(R4, "!=", VERSION_AND_LENGTH, "next"))
        yield step("not a fragment", load(R4, U16, R2, ETHERNET + 6), jump_if(R4, "&", FRAGMENT, "next"))
        yield step("its length", load(R7, U16, R2, ETHERNET + 2), swap16(R7))
    else:
        yield step("its length, with the header", load(R7, U16, R2, ETHERNET + 4), swap16(R7), add(R7, 40), and_(R7, _LENGTH))
    if wire.port:
        port = network16(wire.port)
        yield step("our port", load(R4, U16, R2, ETHERNET + wire.ip_header + 2), jump_if(R4, "!=", port, "next"))


def _from_peer(wire: Wire) -> Iterator[Step]:
    size = 4 if wire.local.version == 4 else 16
    source = ETHERNET + (12 if size == 4 else 8)
    yield step("from a peer?", *zero(_PEER, ADDRESS), *copy(_PEER, R2, source, size))
    yield step("one that we know", map_into(R1, "peers"), mov(R2, FP), add(R2, _PEER), call(Helper.MAP_LOOKUP))
    yield step("no", jump_if(R0, "==", 0, "next"), store(U64, FP, _COUNTERS, R0))


def _whole(wire: Wire) -> Iterator[Step]:
    """The headers in one piece: a driver may have left the inner one elsewhere."""
    need = ETHERNET + wire.overhead + 40
    yield step(
        "headers that have to be in one piece", load(R2, U32, R6, SKB_LENGTH), jump_if(R2, "<", need, "short"), mov(R2, need)
    )
    yield at("short", "as far as there are any", mov(R1, R6), call(Helper.PULL_DATA), jump_if(R0, "!=", 0, "refuse"))
    yield step("where the packet is now", load(R2, U32, R6, PACKET), load(R3, U32, R6, PACKET_END))
    inner = ETHERNET + wire.overhead
    yield step("room for the smallest inner header", mov(R4, R2), add(R4, inner + 20), jump_if(R4, ">", R3, "refuse"))
    if wire.port:
        udp = ETHERNET + wire.ip_header
        yield step("UDP's length is that of the rest", load(R4, U16, R2, udp + 4), swap16(R4), add(R4, wire.ip_header),
                   and_(R4, _LENGTH), jump_if(R4, "!=", R7, "refuse"))  # fmt: skip
    yield step(
        "the inner version", load(R4, U8, R2, inner), rsh(R4, 4), jump_if(R4, "==", 6, "ipv6"), jump_if(R4, "!=", 4, "refuse")
    )


def _inner4(wire: Wire, tells_family: bool) -> Iterator[Step]:
    inner = ETHERNET + wire.overhead
    if wire.carrier is Carrier.IPIP:
        yield step("as the outer header says", jump_if(R8, "!=", IPIP, "refuse"))
    yield step("its length and the headers are the outer length", load(R4, U16, R2, inner + 2), swap16(R4), add(R4, wire.overhead),
               and_(R4, _LENGTH), jump_if(R4, "!=", R7, "refuse"))  # fmt: skip
    yield step("whose is its source?", store(U32, FP, KEY, 32), *copy(KEY + 4, R2, inner + 12, 4))
    yield from _taken_for(wire, 4, tells_family)
    yield step("", jump("unpack"))


def _inner6(wire: Wire, tells_family: bool) -> Iterator[Step]:
    inner = ETHERNET + wire.overhead
    yield at("ipv6", "room for its header", mov(R4, R2), add(R4, inner + 40), jump_if(R4, ">", R3, "refuse"))
    if wire.carrier is Carrier.IPIP:
        yield step("as the outer header says", jump_if(R8, "!=", IPV6_IN_IP, "refuse"))
    yield step("its length and the headers are the outer length", load(R4, U16, R2, inner + 4), swap16(R4),
               add(R4, wire.overhead + 40), and_(R4, _LENGTH), jump_if(R4, "!=", R7, "refuse"))  # fmt: skip
    yield step("whose is its source?", store(U32, FP, KEY, 128), *copy(KEY + 4, R2, inner + 8))
    yield from _taken_for(wire, 6, tells_family)


def _taken_for(wire: Wire, version: int, tells_family: bool) -> Iterator[Step]:
    """It has to be the peer's.  Leaves congestion in r8, what the kernel is to be told on the stack."""
    same = wire.local.version == version
    if same or tells_family:
        yield step("congestion that was met on the way", *_congestion(wire))
    else:
        yield step("congestion could not be written down: the kernel would look for the wrong header", mov(R8, 0))
    flags = _FIXED_GSO | (0 if same or not tells_family else {4: _DECAP_IPV4, 6: _DECAP_IPV6}[version])
    yield step(
        "what is left is of this family", store(U64, FP, _FLAGS, flags), store(U16, FP, _FRAME + ETHERTYPE, _TYPES[version])
    )
    yield step("the longest prefix counts", map_into(R1, PREFIXES[version]), mov(R2, FP), add(R2, KEY), call(Helper.MAP_LOOKUP))
    yield step("nobody's", jump_if(R0, "==", 0, "refuse"))
    for half in (0, 8):
        yield step("the peer's", load(R1, U64, R0, half), load(R2, U64, FP, _PEER + half), jump_if(R1, "!=", R2, "refuse"))


def _congestion(wire: Wire) -> tuple[Instruction, ...]:
    if wire.local.version == 4:
        return (load(R8, U8, R2, ETHERNET + 1), and_(R8, _CONGESTED))
    return (load(R8, U8, R2, ETHERNET + 1), rsh(R8, 4), and_(R8, _CONGESTED))


def _unpacked(wire: Wire) -> Iterator[Step]:
    yield at(
        "unpack", "packets that this one is", load(R1, U32, R6, SKB_GSO_SEGMENTS), jump_if(R1, "!=", 0, "many"), mov(R1, 1)
    )
    yield at("many", "kept, for the kernel will forget", store(U64, FP, _SEGMENTS, R1))
    yield step("the outer header goes", mov(R1, R6), mov(R2, -wire.overhead), mov(R3, _BEHIND_ETHERNET),
               load(R4, U64, FP, _FLAGS), call(Helper.ADJUST_ROOM), jump_if(R0, "!=", 0, "refuse"))  # fmt: skip
    yield step("no congestion", jump_if(R8, "!=", _CONGESTED, "frame"))
    yield step("marked on the inner one; lost, if it cannot bear a mark (RFC 6040)",
               mov(R1, R6), call(Helper.ECN_SET_CE), jump_if(R0, "==", 0, "refuse"))  # fmt: skip
    mac = mac_bytes(wire.mac)
    yield at("frame", "as if sent to the device", *put(_FRAME, mac + mac))
    yield step("in its Ethernet header", mov(R1, R6), mov(R2, 0), mov(R3, FP), add(R3, _FRAME), mov(R4, ETHERNET), mov(R5, 0),
               call(Helper.STORE_BYTES), jump_if(R0, "!=", 0, "refuse"))  # fmt: skip
    yield step("counted", load(R0, U64, FP, _COUNTERS), load(R1, U64, FP, _SEGMENTS), *plus("received", R1))
    yield step("and the bytes of the inner one", sub(R7, wire.overhead), and_(R7, _LENGTH), *plus("received_bytes", R7))
    yield step("it arrives there", mov(R1, wire.device), mov(R2, _INTO), call(Helper.REDIRECT), leave())


def _ends() -> Iterator[Step]:
    yield at("next", "none of ours", mov(R0, NEXT), leave())
    yield at("refuse", "a peer's, and wrong: counted", load(R0, U64, FP, _COUNTERS), mov(R1, 1), *plus("refused", R1))
    yield step("it ends here", mov(R0, DROP), leave())
