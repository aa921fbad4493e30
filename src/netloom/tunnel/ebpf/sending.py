"""What leaves by a tunnel's device: an outer header goes around it, and it goes on by whichever interface leads to the peer.

The device is an ifb, which has no neighbours to resolve and never sees a packet of ours: the program runs before it would, and sends
the packet elsewhere.  With no program there, an ifb drops everything.  The stack has done its part before: the route has chosen the
device, whose MTU is short enough, and has sent Fragmentation Needed to whoever sent too much.

The way to the peer is looked up as for a packet of the host's own, so it may lead over any uplink and any router, and change.

A packet may be many in one (GSO): the header is put around the whole, and the kernel is told, so that it is cut up right.
"""

from __future__ import annotations

from collections.abc import Iterator

from netloom.dataplane.bpf.assembler import (
    DROP,
    FP,
    PACKET,
    PACKET_END,
    R0,
    R1,
    R2,
    R3,
    R4,
    R6,
    R7,
    R8,
    R9,
    SKB_GSO_SEGMENTS,
    SKB_GSO_SIZE,
    U8,
    U16,
    U32,
    U64,
    Helper,
    Instruction,
    Kind,
    Program,
    Register,
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
    rsh,
    step,
    store,
    swap16,
)
from netloom.model.desired import Carrier
from netloom.tunnel.ebpf.header import (
    ETHERNET,
    ETHERTYPE,
    IPIP,
    IPV4,
    IPV6,
    IPV6_IN_IP,
    KEY,
    UDP,
    copy,
    header,
    outer_header,
    protocol_at,
    put,
    zero,
)
from netloom.tunnel.ebpf.wire import PREFIXES, Counters, Wire

_BEHIND_ETHERNET = 1  # BPF_ADJ_ROOM_MAC
_FIXED_GSO, _ENCAP_IPV4, _ENCAP_IPV6, _ENCAP_UDP, _NO_CSUM_RESET = 1 << 0, 1 << 1, 1 << 2, 1 << 4, 1 << 5  # BPF_F_ADJ_ROOM_*

_LOOPBACK = 1
_AF_INET, _AF_INET6 = 2, 10
_NO_NEIGH = 7  # BPF_FIB_LKUP_RET_NO_NEIGH: there is a route, and the MAC at its end is not known

_WAY = -152
"""Where on the stack the kernel says which way leads to the peer: struct bpf_fib_lookup."""
_WAY_FAMILY, _WAY_LENGTH, _WAY_INTERFACE, _WAY_FROM, _WAY_TO, _WAY_SIZE = _WAY, _WAY + 6, _WAY + 8, _WAY + 16, _WAY + 32, 64
_HOP = -176
"""And who is next on it: struct bpf_redir_neigh, a family and an address."""
_HOP_SIZE = 20


def sending(name: str, wire: Wire) -> Program:
    return Program(
        name,
        Kind.CLASSIFIER,
        (*_inner(wire), *_counted(), *outer_header(wire), *_wrapped(wire), *_sent(wire), *_ends()),
    )


def aside(name: str, finisher: int) -> Program:
    """To an interface that finishes packets; `sending` is where they come out of it.  Only so do checksums get done: a program cannot
    see whether one is, and the kernel does it on the way into an interface, which is behind any program on that one."""
    steps = (step("there", mov(R1, finisher), mov(R2, 0), call(Helper.REDIRECT), leave()),)
    return Program(name, Kind.CLASSIFIER, steps)


def _inner(wire: Wire) -> Iterator[Step]:
    """Of the inner packet: r7 its length, r8 its class, r9 the outer address of the node that has its destination."""
    yield step("the context stays in r6: a call takes r0 to r5", mov(R6, R1))
    yield step("where the packet begins and ends", load(R2, U32, R6, PACKET), load(R3, U32, R6, PACKET_END))
    yield step("room for Ethernet and IPv4", mov(R4, R2), add(R4, ETHERNET + 20), jump_if(R4, ">", R3, "drop"))
    yield step("which family?", load(R4, U16, R2, ETHERTYPE), jump_if(R4, "==", IPV6, "ipv6"), jump_if(R4, "!=", IPV4, "drop"))
    yield step("its length", load(R7, U16, R2, ETHERNET + 2), swap16(R7))
    yield step("its class", load(R8, U8, R2, ETHERNET + 1))
    yield step("what it is called on the outside", store(U8, FP, protocol_at(wire), UDP if wire.port else IPIP))
    yield step("where to?", store(U32, FP, KEY, 32), *copy(KEY + 4, R2, ETHERNET + 16, 4))
    yield step("the longest prefix counts", map_into(R1, PREFIXES[4]), mov(R2, FP), add(R2, KEY), call(Helper.MAP_LOOKUP))
    yield step("", jump("peer"))
    yield at("ipv6", "room for its header", mov(R4, R2), add(R4, ETHERNET + 40), jump_if(R4, ">", R3, "drop"))
    yield step("its length, with the header", load(R7, U16, R2, ETHERNET + 4), swap16(R7), add(R7, 40))
    yield step("its class, between version and flow label", load(R8, U16, R2, ETHERNET), swap16(R8), rsh(R8, 4), and_(R8, 0xFF))
    yield step("what it is called on the outside", store(U8, FP, protocol_at(wire), UDP if wire.port else IPV6_IN_IP))
    yield step("where to?", store(U32, FP, KEY, 128), *copy(KEY + 4, R2, ETHERNET + 24))
    yield step("the longest prefix counts", map_into(R1, PREFIXES[6]), mov(R2, FP), add(R2, KEY), call(Helper.MAP_LOOKUP))
    yield at("peer", "nobody has that prefix", jump_if(R0, "==", 0, "drop"), mov(R9, R0))


def _counted() -> Iterator[Step]:
    yield step("the peer's counters", map_into(R1, "peers"), mov(R2, R9), call(Helper.MAP_LOOKUP))
    yield step("not known as a sender: not counted", jump_if(R0, "==", 0, "header"))
    yield step("packets that this one is", load(R1, U32, R6, SKB_GSO_SEGMENTS), jump_if(R1, "!=", 0, "many"), mov(R1, 1))
    yield at("many", "counted", *plus("sent", R1))
    yield step("and its bytes", *plus("sent_bytes", R7))
    yield at("header", "the outer header, on the stack")


def plus(counter: str, value: Register) -> tuple[Instruction, ...]:
    place = 8 * Counters._fields.index(counter)
    return (load(R2, U64, R0, place), add(R2, value), store(U64, R0, place, R2))


def _wrapped(wire: Wire) -> Iterator[Step]:
    flags = _FIXED_GSO | _NO_CSUM_RESET | (_ENCAP_IPV4 if wire.local.version == 4 else _ENCAP_IPV6)
    if wire.carrier is Carrier.UDP:
        flags |= _ENCAP_UDP
    yield step("room behind the Ethernet header; what GSO cuts off later keeps its size",
               mov(R1, R6), mov(R2, wire.overhead), mov(R3, _BEHIND_ETHERNET), mov(R4, flags), call(Helper.ADJUST_ROOM))  # fmt: skip
    yield step("it is in a tunnel already, or of a kind that cannot be in one", jump_if(R0, "!=", 0, "lost"))
    yield step("where the packet is now", load(R2, U32, R6, PACKET), load(R3, U32, R6, PACKET_END))
    yield step("room for the header", mov(R4, R2), add(R4, ETHERNET + wire.overhead), jump_if(R4, ">", R3, "lost"))
    for place in range(0, wire.overhead, 4):
        yield step("it goes there", load(R1, U32, FP, header(place)), store(U32, R2, ETHERNET + place, R1))


def _sent(wire: Wire) -> Iterator[Step]:
    family, size = (_AF_INET, 4) if wire.local.version == 4 else (_AF_INET6, 16)
    yield step("the way to the peer: of the host's own packets", *zero(_WAY, _WAY_SIZE), store(U8, FP, _WAY_FAMILY, family),
               store(U32, FP, _WAY_INTERFACE, _LOOPBACK))  # fmt: skip
    yield step("from here", *put(_WAY_FROM, wire.local.packed))
    yield step("to there", *copy(_WAY_TO, R9, 0, size))
    yield step("as long as this; what is yet to be cut has the right size", load(R1, U32, R6, SKB_GSO_SIZE),
               jump_if(R1, "!=", 0, "way"), add(R7, wire.overhead), store(U16, FP, _WAY_LENGTH, R7))  # fmt: skip
    yield at("way", "asked", mov(R1, R6), mov(R2, FP), add(R2, _WAY), mov(R3, _WAY_SIZE), mov(R4, 0), call(Helper.FIB_LOOKUP))
    yield step("found, and it is known who is next", jump_if(R0, "==", 0, "hop"))
    yield step("there is none, or it is too narrow", jump_if(R0, "!=", _NO_NEIGH, "lost"))
    yield step("to be asked for: the kernel keeps the packet so long, and finds it a route, for the one that it has leads to the device",
               load(R1, U32, FP, _WAY_INTERFACE), mov(R2, 0), mov(R3, 0), mov(R4, 0), call(Helper.REDIRECT_NEIGH), leave())  # fmt: skip
    yield at("hop", "who is next on it", load(R1, U8, FP, _WAY_FAMILY), store(U32, FP, _HOP, R1), *copy(_HOP + 4, FP, _WAY_TO))
    yield step("to them", load(R1, U32, FP, _WAY_INTERFACE), mov(R2, FP), add(R2, _HOP),
               mov(R3, _HOP_SIZE), mov(R4, 0), call(Helper.REDIRECT_NEIGH), leave())  # fmt: skip


def _ends() -> Iterator[Step]:
    yield at(
        "lost", "no way there, or it is too long for it: counted", map_into(R1, "peers"), mov(R2, R9), call(Helper.MAP_LOOKUP)
    )
    yield step("not known", jump_if(R0, "==", 0, "drop"), mov(R1, 1), *plus("lost", R1))
    yield at("drop", "it ends here", mov(R0, DROP), leave())
