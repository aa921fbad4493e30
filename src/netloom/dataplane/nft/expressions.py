"""Expressions: what a rule does, step by step, in the kernel's small register machine (linux/netfilter/nf_tables.h).

A step loads something into registers, compares registers, looks them up in a set, or ends the rule with a verdict.  A
comparison that fails ends the rule, and so does a load that is impossible (a packet without that header): the packet goes on to
the next rule.  Rules that accept are therefore safe by themselves; what must not pass is dropped by the rule after them.

Registers are 4 bytes wide and numbered from 8 on; a concatenated key lies in consecutive registers, each field padded to 4.
The order of steps is the one that `nft` writes, because from it `nft list ruleset` recognises the words.
"""

from __future__ import annotations

import enum
import struct

from netloom.dataplane.netlink.wire import attribute, nested, text
from netloom.model.addresses import Prefix

REGISTER = 8  # NFT_REG32_00

_ACCEPT, _DROP, _JUMP, _GOTO = 1, 0, -3, -4  # NF_ACCEPT, NF_DROP, NFT_JUMP, NFT_GOTO
_VERDICT_REGISTER = 0
_EQUAL, _NOT_EQUAL = 0, 1
_INVERTED = 1  # NFT_LOOKUP_F_INV
_OBJECT_COUNTER = 1
_RANDOM_FULLY = 0x10  # NF_NAT_RANGE_PROTO_RANDOM_FULLY
_DNAT = 1  # NFT_NAT_DNAT
_CT_STATUS, _STATUS_DNAT = 2, 1 << 5  # NFT_CT_STATUS, IPS_DST_NAT
_FIB_ADDRTYPE, _FIB_DADDR, _LOCAL = 3, 2, 2  # NFT_FIB_RESULT_ADDRTYPE, NFTA_FIB_F_DADDR, RTN_LOCAL
_EXISTS = 1  # NFT_EXTHDR_F_PRESENT
_EXTHDR_IPV6, _EXTHDR_IPV4 = 0, 2

ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_ARP = 0x0800, 0x86DD, 0x0806
_ETHERTYPE = {4: ETHERTYPE_IPV4, 6: ETHERTYPE_IPV6}
_NFPROTO = {4: 2, 6: 10}
_SOURCE_OFFSET = {4: 12, 6: 8}
_DESTINATION_OFFSET = {4: 16, 6: 24}
_ADDRESS_LENGTH = {4: 4, 6: 16}
_IFNAMSIZ = 16  # linux/if.h


class Meta(enum.IntEnum):
    IIFNAME = 6
    OIFNAME = 7
    IIFTYPE = 8
    NFPROTO = 15
    L4PROTO = 16


class Header(enum.IntEnum):
    LINK = 0
    NETWORK = 1
    TRANSPORT = 2


def be32(kind: int, value: int) -> bytes:
    """Numbers in nf_tables' attributes are in network order."""
    return attribute(kind, struct.pack(">I", value & 0xFFFFFFFF))


def _expression(name: str, *attributes: bytes) -> bytes:
    return nested(1, text(1, name), nested(2, *attributes))


def load_meta(key: Meta, register: int = REGISTER) -> bytes:
    return _expression("meta", be32(2, key), be32(1, register))


def load(header: Header, offset: int, length: int, register: int = REGISTER) -> bytes:
    """`length` bytes at `offset` of the link, network or transport header."""
    return _expression("payload", be32(1, register), be32(2, header), be32(3, offset), be32(4, length))


def equals(value: bytes, *, invert: bool = False) -> bytes:
    return _expression("cmp", be32(1, REGISTER), be32(2, _NOT_EQUAL if invert else _EQUAL), nested(3, attribute(1, value)))


def masked(mask: bytes) -> bytes:
    zero = nested(5, attribute(1, bytes(len(mask))))
    return _expression("bitwise", be32(1, REGISTER), be32(2, REGISTER), be32(3, len(mask)), nested(4, attribute(1, mask)), zero)


def in_set(name: str, *, invert: bool = False) -> bytes:
    return _expression("lookup", text(1, name), be32(2, REGISTER), *([be32(5, _INVERTED)] if invert else []))


def in_map(name: str) -> bytes:
    """What the key leads to takes the key's place; a key that is not there ends the rule."""
    return _expression("lookup", text(1, name), be32(2, REGISTER), be32(3, REGISTER))


def counted(counter: str) -> bytes:
    """Counts in the table's named counter."""
    return _expression("objref", be32(1, _OBJECT_COUNTER), text(2, counter))


def counter() -> bytes:
    """A counter of the rule's own."""
    return _expression("counter")


def limited(rate: int, burst: int) -> bytes:
    """`limit rate RATE/second burst BURST packets`: beyond that the rule ends."""
    every, packets = attribute(1, struct.pack(">Q", rate)) + attribute(2, struct.pack(">Q", 1)), be32(4, 0)
    return _expression("limit", every, be32(3, burst), packets, be32(5, 0))


def _verdict(code: int, chain: str | None = None) -> bytes:
    verdict = be32(1, code) + (text(2, chain) if chain else b"")
    return _expression("immediate", be32(1, _VERDICT_REGISTER), nested(2, nested(2, verdict)))


def accept() -> bytes:
    return _verdict(_ACCEPT)


def drop() -> bytes:
    return _verdict(_DROP)


def jump(chain: str) -> bytes:
    return _verdict(_JUMP, chain)


def goto(chain: str) -> bytes:
    """Like a jump that does not come back."""
    return _verdict(_GOTO, chain)


def masquerade() -> bytes:
    """Takes the outgoing interface's address and a random port: in sequence, two flows race for the same one (F79)."""
    return _expression("masq", be32(1, _RANDOM_FULLY))


def to_destination(version: int) -> bytes:
    """`dnat to` the address and port that lie in registers."""
    port = REGISTER + _ADDRESS_LENGTH[version] // 4
    return _expression("nat", be32(1, _DNAT), be32(2, _NFPROTO[version]), be32(3, REGISTER), be32(5, port))


# What follows are phrases: the steps for one word of nft's language.


def from_interface(prefix: str, *, invert: bool = False) -> bytes:
    """`iifname "PREFIX*"`: a comparison of the first bytes only."""
    return load_meta(Meta.IIFNAME) + equals(prefix.encode(), invert=invert)


def from_exactly(name: str, *, invert: bool = False) -> bytes:
    """`iifname "NAME"`."""
    return load_meta(Meta.IIFNAME) + equals(name.encode().ljust(_IFNAMSIZ, b"\0"), invert=invert)


def not_towards(name: str) -> bytes:
    """`oifname != "NAME"`."""
    return load_meta(Meta.OIFNAME) + equals(name.encode().ljust(_IFNAMSIZ, b"\0"), invert=True)


def is_local() -> bytes:
    """`fib daddr type local`: the destination is an address of this host."""
    looked_up = _expression("fib", be32(3, _FIB_DADDR), be32(2, _FIB_ADDRTYPE), be32(1, REGISTER))
    return looked_up + equals(struct.pack("=I", _LOCAL))


def is_redirected() -> bytes:
    """`ct status dnat`: the connection goes elsewhere than its client thinks."""
    status = _expression("ct", be32(2, _CT_STATUS), be32(1, REGISTER))
    return status + masked(struct.pack("=I", _STATUS_DNAT)) + equals(bytes(4), invert=True)


def ether_type(value: int, *, invert: bool = False) -> bytes:
    return load(Header.LINK, 12, 2) + equals(struct.pack(">H", value), invert=invert)


def ip_version(version: int, *, bridge: bool) -> bytes:
    """What has to be true before a field of the IP header means anything."""
    if bridge:
        return ether_type(_ETHERTYPE[version])
    return load_meta(Meta.NFPROTO) + equals(bytes((_NFPROTO[version],)))


def ethernet_frame(version: int) -> bytes:
    """The same for an Ethernet address in the inet family."""
    return load_meta(Meta.IIFTYPE) + equals(struct.pack("=H", 1)) + ip_version(version, bridge=False)


def protocol(number: int) -> bytes:
    return load_meta(Meta.L4PROTO) + equals(bytes((number,)))


def icmp_type(number: int) -> bytes:
    """Loads the type; `number` is ICMP's or ICMPv6's as a protocol."""
    return protocol(number) + load(Header.TRANSPORT, 0, 1)


def source(version: int, register: int = REGISTER) -> bytes:
    return load(Header.NETWORK, _SOURCE_OFFSET[version], _ADDRESS_LENGTH[version], register)


def destination(version: int, register: int = REGISTER) -> bytes:
    return load(Header.NETWORK, _DESTINATION_OFFSET[version], _ADDRESS_LENGTH[version], register)


def within(prefix: Prefix, *, invert: bool = False) -> bytes:
    """The address just loaded lies in `prefix`."""
    mask, network = prefix.netmask.packed, prefix.network_address.packed
    narrow = b"" if prefix.prefixlen == prefix.max_prefixlen else masked(mask)
    return narrow + equals(network, invert=invert)


def ip_option_exists(number: int) -> bytes:
    """An option of the IPv4 header (RFC 791, 3.1), by its whole type octet."""
    return _extension(_EXTHDR_IPV4, number)


def extension_header_exists(number: int) -> bytes:
    """An IPv6 extension header, by its protocol number."""
    return _extension(_EXTHDR_IPV6, number)


def _extension(family: int, number: int) -> bytes:
    present = (
        be32(1, REGISTER),
        attribute(2, bytes((number,))),
        be32(3, 0),
        be32(4, 1),
        be32(5, _EXISTS),
        be32(6, family),
    )
    return _expression("exthdr", *present) + equals(b"\1")
