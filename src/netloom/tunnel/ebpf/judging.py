"""Judging: what both programs for what arrives ask of a packet, in this order.

    to this node, protocol 4 or 41, or UDP to our port          else it is none of ours, and goes on as it is: `next`
    whole, without options                                      fragments and the like go on, and end in the stack
    from a peer                                                 else it goes on: somebody may have a tunnel of their own here; before
                                                                there is an skb, a prefix of the sender's is enough, and this comes later
    inner length plus headers = outer length                    from here on what is wrong is refused, and counted: `refuse`
    inner source: no prefix of another node                     no node sends in another's name; outsiders' packets are passed on

A node that changes its address sends from the one before for a while, when its prefixes lead to the new one already (`formers`).  That is
one more look, only for packets that would be refused.

Peers set Don't Fragment on what they send (`header`), so fragments come only from others, or from a path that cuts in spite of it.
Nobody puts them together: the stack would, and then find that no socket or device here wants them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from netloom.dataplane.bpf.assembler import (
    FP,
    R0,
    R1,
    R2,
    R3,
    R4,
    R6,
    R7,
    R8,
    U8,
    U16,
    U32,
    U64,
    Helper,
    Step,
    add,
    and_,
    at,
    call,
    jump,
    jump_if,
    load,
    map_into,
    mov,
    network16,
    rsh,
    step,
    store,
    swap16,
    words,
)
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
    zero,
)
from netloom.tunnel.ebpf.wire import ADDRESS, PREFIXES, Wire

_LENGTH = 0xFFFF
"""Several packets in one may be too long for a field of 16 bits, which then has the rest of it."""

PEER, COUNTERS = -40, -48
"""Places on the stack: the outer source, the peer's counters."""
OWNER = -104
"""And the node that has the inner source."""

Kept = Callable[[int], Iterator[Step]]


def ours(wire: Wire, packet: int, end: int) -> Iterator[Step]:
    """The context is in r6; leaves r7: the length from the outer header on, and r8: what is in it.  `packet`, `end`: offsets in the
    context."""
    four = wire.local.version == 4
    yield step("where the packet begins and ends", load(R2, U32, R6, packet), load(R3, U32, R6, end))
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
    yield from _to_this_node(wire)
    if four:
        yield step("no options", load(R4, U8, R2, ETHERNET), jump_if(R4, "!=", VERSION_AND_LENGTH, "next"))
        yield step("not a fragment", load(R4, U16, R2, ETHERNET + 6), jump_if(R4, "&", FRAGMENT, "next"))
        yield step("its length", load(R7, U16, R2, ETHERNET + 2), swap16(R7))
    else:
        yield step("its length, with the header", load(R7, U16, R2, ETHERNET + 4), swap16(R7), add(R7, 40), and_(R7, _LENGTH))
    if wire.port:
        port = network16(wire.port)
        yield step("our port", load(R4, U16, R2, ETHERNET + wire.ip_header + 2), jump_if(R4, "!=", port, "next"))


def _to_this_node(wire: Wire) -> Iterator[Step]:
    """By any of its addresses: a node that changes its own has two for a while."""
    place, addresses = ETHERNET + (16 if wire.local.version == 4 else 24), (wire.local, *wire.also)
    for candidate, address in enumerate(addresses):
        last = candidate == len(addresses) - 1
        otherwise = "next" if last else f"not{candidate}"
        for number, word in enumerate(words(address.packed)):
            yield step("to this node", load(R4, U32, R2, place + 4 * number), jump_if(R4, "!=", word, otherwise, bits=32))
        if not last:
            yield step("it is", jump("here"))
            yield at(otherwise, "or to another address of its")
    yield at("here", "it is for us")


def sender(wire: Wire) -> Iterator[Step]:
    """As the maps have it, on the stack."""
    size = 4 if wire.local.version == 4 else 16
    yield step("who sent it", *zero(PEER, ADDRESS), *copy(PEER, R2, ETHERNET + (12 if size == 4 else 8), size))


def from_peer(otherwise: str = "next") -> Iterator[Step]:
    """The one that `sender` noted; its counters are then in r0, too."""
    yield step("one that we know?", map_into(R1, "peers"), mov(R2, FP), add(R2, PEER), call(Helper.MAP_LOOKUP))
    yield step("no", jump_if(R0, "==", 0, otherwise), store(U64, FP, COUNTERS, R0))


def readable(wire: Wire, packet: int, end: int) -> Iterator[Step]:
    """The headers can be read; the inner one is of a version that there is."""
    yield step("where the packet is now", load(R2, U32, R6, packet), load(R3, U32, R6, end))
    inner = ETHERNET + wire.overhead
    yield step("room for the smallest inner header", mov(R4, R2), add(R4, inner + 20), jump_if(R4, ">", R3, "refuse"))
    if wire.port:
        udp = ETHERNET + wire.ip_header
        yield step("UDP's length is that of the rest", load(R4, U16, R2, udp + 4), swap16(R4), add(R4, wire.ip_header),
                   and_(R4, _LENGTH), jump_if(R4, "!=", R7, "refuse"))  # fmt: skip
    yield step(
        "the inner version", load(R4, U8, R2, inner), rsh(R4, 4), jump_if(R4, "==", 6, "ipv6"), jump_if(R4, "!=", 4, "refuse")
    )


def of_its_own(wire: Wire, kept: Kept, *, known: bool) -> Iterator[Step]:
    """The inner packet is as long as it says, and from a prefix of its sender, or of no node.  `kept`: what is to be noted, while r2 is
    still at the outer packet.  `known`: that it is a peer; else this is asked where the prefix does not tell."""
    inner = ETHERNET + wire.overhead
    if wire.carrier is Carrier.IPIP:
        yield step("as the outer header says", jump_if(R8, "!=", IPIP, "refuse"))
    yield step("its length and the headers are the outer length", load(R4, U16, R2, inner + 2), swap16(R4), add(R4, wire.overhead),
               and_(R4, _LENGTH), jump_if(R4, "!=", R7, "refuse"))  # fmt: skip
    yield step("whose is its source?", store(U32, FP, KEY, 32), *copy(KEY + 4, R2, inner + 12, 4))
    yield from kept(4)
    yield from _peers(4)
    yield step("and on", jump("unpack"))
    yield at("ipv6", "room for its header", mov(R4, R2), add(R4, inner + 40), jump_if(R4, ">", R3, "refuse"))
    if wire.carrier is Carrier.IPIP:
        yield step("as the outer header says", jump_if(R8, "!=", IPV6_IN_IP, "refuse"))
    yield step("its length and the headers are the outer length", load(R4, U16, R2, inner + 4), swap16(R4),
               add(R4, wire.overhead + 40), and_(R4, _LENGTH), jump_if(R4, "!=", R7, "refuse"))  # fmt: skip
    yield step("whose is its source?", store(U32, FP, KEY, 128), *copy(KEY + 4, R2, inner + 8))
    yield from kept(6)
    yield from _peers(6)
    if known:
        yield at("nobodys", "from outside the cluster, and passed on by a peer")
    else:
        yield step("and on", jump("unpack"))
        yield at("nobodys", "from outside the cluster: a peer may pass it on")
        yield from from_peer()
    yield at("unpack", "it may come in")


def _peers(version: int) -> Iterator[Step]:
    passed, other = f"passed{version}", f"other{version}"
    yield step("the longest prefix counts", map_into(R1, PREFIXES[version]), mov(R2, FP), add(R2, KEY), call(Helper.MAP_LOOKUP))
    yield step("nobody's", jump_if(R0, "==", 0, "nobodys"))
    for half in (0, 8):
        yield step("the peer's", load(R1, U64, R0, half), load(R2, U64, FP, PEER + half), jump_if(R1, "!=", R2, other))
    yield step("it is", jump(passed))
    kept = (i for half in (0, 8) for i in (load(R1, U64, R0, half), store(U64, FP, OWNER + half, R1)))
    yield at(other, "another's, unless the peer is that one by the address that it had before", *kept)
    yield step("which it has now", map_into(R1, "formers"), mov(R2, FP), add(R2, PEER), call(Helper.MAP_LOOKUP))
    yield step("it has the same", jump_if(R0, "==", 0, "refuse"))
    for half in (0, 8):
        yield step("that one's", load(R1, U64, R0, half), load(R2, U64, FP, OWNER + half), jump_if(R1, "!=", R2, "refuse"))
    yield at(passed, "no other node's")
