"""The outer header, put together on a program's stack, and what both ways have in common."""

from __future__ import annotations

from collections.abc import Iterator

from netloom.dataplane.bpf.assembler import (
    FP,
    R1,
    R2,
    R7,
    R8,
    R9,
    U8,
    U16,
    U32,
    U64,
    Instruction,
    Register,
    Step,
    add,
    and_,
    load,
    lsh,
    mov,
    network16,
    or_,
    rsh,
    step,
    store,
    swap16,
    swap32,
    words,
    xor,
)
from netloom.tunnel.ebpf.wire import ADDRESS, Wire

ETHERNET = 14
ETHERTYPE = 12
IPV4, IPV6 = network16(0x0800), network16(0x86DD)
IPIP, UDP, IPV6_IN_IP = 4, 17, 41
VERSION_AND_LENGTH = 0x45
"""Of an IPv4 header without options."""
FRAGMENT = network16(0x3FFF)
"""More fragments, or an offset."""
_DONT_FRAGMENT = network16(0x4000)
_HOPS = 64

KEY = -24
"""Where on the stack a key for prefixes is: its length, then an address."""
_HEADER = -80


def outer_header(wire: Wire) -> Iterator[Step]:
    """At `header(0)`, from r7 (length of the inner packet), r8 (its class) and r9 (at the peer's address); the protocol is there."""
    if wire.local.version == 4:
        yield from _ipv4(wire)
    else:
        yield from _ipv6(wire)
    if wire.port:
        yield from _udp(wire)


def header(offset: int) -> int:
    """A place in the header, as an offset from fp."""
    return _HEADER + offset


def protocol_at(wire: Wire) -> int:
    return header(9 if wire.local.version == 4 else 6)


def put(at: int, content: bytes) -> tuple[Instruction, ...]:
    """Bytes onto the stack, by fours."""
    return tuple(store(U32, FP, at + 4 * number, word) for number, word in enumerate(words(content)))


def zero(at: int, length: int) -> tuple[Instruction, ...]:
    return tuple(store(U64, FP, at + offset, 0) for offset in range(0, length, 8))


def copy(at: int, source: Register, offset: int, length: int = ADDRESS) -> tuple[Instruction, ...]:
    """Bytes onto the stack by way of r1.  From a packet they come by fours."""
    steps = ((load(R1, U32, source, offset + n), store(U32, FP, at + n, R1)) for n in range(0, length, 4))
    return tuple(instruction for pair in steps for instruction in pair)


def _ipv4(wire: Wire) -> Iterator[Step]:
    yield step("no options, and the inner class as it is, congestion marks included (RFC 6040)",
               store(U8, FP, header(0), VERSION_AND_LENGTH), store(U8, FP, header(1), R8))  # fmt: skip
    yield step("how long it all is", mov(R1, R7), add(R1, wire.overhead), swap16(R1), store(U16, FP, header(2), R1))
    yield step("never to be fragmented: fragments could not be unpacked.  Then it needs no number (RFC 6864)",
               store(U16, FP, header(4), 0), store(U16, FP, header(6), _DONT_FRAGMENT), store(U8, FP, header(8), _HOPS))  # fmt: skip
    yield step("from here to the peer", *put(header(12), wire.local.packed), *copy(header(16), R9, 0, 4))
    sums = [i for place in (4, 8, 12, 16) for i in (load(R2, U32, FP, header(place)), add(R1, R2))]
    yield step("its checksum: the sum of all words", store(U16, FP, header(10), 0), load(R1, U32, FP, header(0)), *sums)
    yield step("of 32 bits", mov(R2, R1), rsh(R2, 32), lsh(R1, 32), rsh(R1, 32), add(R1, R2))
    for _ in range(3):  # each carry may carry again
        yield step("of 16 bits", mov(R2, R1), rsh(R2, 16), and_(R1, 0xFFFF), add(R1, R2))
    yield step("turned over", xor(R1, 0xFFFF), store(U16, FP, header(10), R1))


def _ipv6(wire: Wire) -> Iterator[Step]:
    yield step("the inner class as it is, congestion marks included (RFC 6040); no flow label",
               mov(R1, R8), lsh(R1, 20), or_(R1, 0x60000000), swap32(R1), store(U32, FP, header(0), R1))  # fmt: skip
    yield step("how long is what follows", mov(R1, R7), add(R1, wire.overhead - 40), swap16(R1), store(U16, FP, header(4), R1))
    yield step("hops", store(U8, FP, header(7), _HOPS))
    yield step("from here to the peer", *put(header(8), wire.local.packed), *copy(header(24), R9, 0))


def _udp(wire: Wire) -> Iterator[Step]:
    udp, port = wire.ip_header, network16(wire.port)
    yield step("both ports are the tunnel's", store(U16, FP, header(udp), port), store(U16, FP, header(udp + 2), port))
    yield step("its length", mov(R1, R7), add(R1, 8), swap16(R1), store(U16, FP, header(udp + 4), R1))
    yield step("no checksum: the inner packet has its own (for IPv6: RFC 6935)", store(U16, FP, header(udp + 6), 0))
