"""Addresses, prefixes and MACs: `ipaddress` objects inside, text at the edge.

One code path carries both families; what needs to know asks `.version`.  `Address`, `Prefix` and `Interface` are unions for
the type checker.  At run time they are virtual base classes, because msgspec allows one custom type in a field.
"""

from __future__ import annotations

import abc
import ipaddress
from functools import lru_cache
from typing import TYPE_CHECKING, NewType, TypeAlias

from netloom.model.showing import shown

if TYPE_CHECKING:
    Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
    Prefix: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
    Interface: TypeAlias = ipaddress.IPv4Interface | ipaddress.IPv6Interface
else:

    class Address(abc.ABC):
        """IPv4Address or IPv6Address."""

    class Prefix(abc.ABC):
        """IPv4Network or IPv6Network, without host bits."""

    class Interface(abc.ABC):
        """IPv4Interface or IPv6Interface: an address with the length of its network."""

    Address.register(ipaddress.IPv4Address)
    Address.register(ipaddress.IPv6Address)
    Prefix.register(ipaddress.IPv4Network)
    Prefix.register(ipaddress.IPv6Network)
    # IPv4Interface is a subclass of IPv4Address; as a field's type it stands for itself only.
    Interface.register(ipaddress.IPv4Interface)
    Interface.register(ipaddress.IPv6Interface)

IPV6_MTU = 1280
"""Bytes that IPv6 needs (RFC 8200, section 5): an interface of less has no IPv6 at all, not even the sysctls."""

Mac = NewType("Mac", str)
"""Lower case, colons: `0a:58:0a:f4:00:02`."""


def parse_address(text: str) -> Address:
    address = ipaddress.ip_address(text)
    if address.version == 6 and address.scope_id:
        raise ValueError(f"{shown(text)} has a zone; write the address alone")
    return address


@lru_cache(maxsize=256)
def parse_prefix(text: str) -> Prefix:
    """An exact prefix.  Host bits are an error that names the prefix that was probably meant.

    Cached, because a block and the claim in it say the same, and then share one object."""
    _, slash, length = text.partition("/")
    if not slash:
        raise ValueError(f"{shown(text)} has no prefix length; write {text}/{128 if ':' in text else 32} for one address")
    if "%" in text or not length.isdecimal():
        raise ValueError(f"{shown(text)} is not ADDRESS/LENGTH")
    try:
        return ipaddress.ip_network(text)
    except ValueError as e:
        network = ipaddress.ip_network(text, strict=False)  # raises if the text is no prefix at all
        raise ValueError(f"{shown(text)} has host bits set; did you mean {network}?") from e


def parse_interface(text: str) -> Interface:
    if "/" not in text:
        raise ValueError(f"{shown(text)} has no prefix length; write for example {text}/24")
    return ipaddress.ip_interface(text)


def parse_mac(text: str) -> Mac:
    """A unicast MAC of six octets, colons or dashes."""
    octets = text.lower().replace("-", ":").split(":")
    if len(octets) != 6 or not all(len(o) == 2 and set(o) <= set("0123456789abcdef") for o in octets):
        raise ValueError(f"{shown(text)} is not a MAC address")
    if int(octets[0], 16) & 1:
        raise ValueError(f"{shown(text)} is a group address; an interface needs a unicast MAC")
    if octets == ["00"] * 6:
        raise ValueError(f"{shown(text)} is all zeros")
    return Mac(":".join(octets))


def mac_bytes(mac: Mac) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def mac_text(packed: bytes) -> Mac:
    return Mac(packed.hex(":"))


def link_local(mac: Mac) -> ipaddress.IPv6Address:
    """The link-local address that a MAC stands for (RFC 4291, appendix A: modified EUI-64)."""
    m = mac_bytes(mac)
    return ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + bytes((m[0] ^ 2, m[1], m[2], 0xFF, 0xFE, *m[3:])))


def host_prefix(address: Address) -> Prefix:
    """The /32 or /128 of one address."""
    return ipaddress.ip_network(address)


def contains(outer: Prefix, inner: Prefix) -> bool:
    """Whether `inner` lies in `outer`; prefixes of different families never do.

    By integers: `subnet_of` leaves its intermediate addresses in each object, which is 400 bytes a block for ever."""
    if outer.version != inner.version or outer.prefixlen > inner.prefixlen:
        return False
    shift = outer.max_prefixlen - outer.prefixlen
    return int(outer.network_address) >> shift == int(inner.network_address) >> shift


def overlap(a: Prefix, b: Prefix) -> bool:
    """Whether they have an address in common: then one lies in the other."""
    return contains(a, b) or contains(b, a)
