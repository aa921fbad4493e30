"""Tokens: the only ways by which a value gets into a bird.conf.

Each takes a value of one kind and returns its text, or raises ValueError: whatever the value's type claims, it is looked at here again.
Numbers, addresses and names are made of characters that end no token.  Text of people appears in two places only, in a comment (where
everything but a line's end is meaningless, and none gets in) and in a quoted string (which BIRD reads to the next quote, without escapes).
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from socket import AF_INET6, inet_ntoa, inet_ntop

from netloom.model.routing import Community
from netloom.model.showing import shown

_SESSION = re.compile(r"(?:mesh6?|peer)_[A-Za-z0-9_]{1,58}\Z")
_UNPRINTABLE = re.compile(r"[^ -~]")
_LONGEST_COMMENT = 120
_LONGEST_STRING = 80  # bytes: TCP_MD5SIG_MAXKEYLEN
MOST = 2**32 - 1


def number(value: object, least: int = 0, most: int = MOST) -> str:
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{shown(value)} is not a number from {least} to {most}")
    return str(value)


def asn(value: object) -> str:
    return number(value, 1)


def address(value: object) -> str:
    """By the system's own writer, which is five times as fast as `str`."""
    if type(value) is IPv4Address:
        return inet_ntoa(value.packed)
    if type(value) is IPv6Address and not value.is_link_local and value.scope_id is None:
        return inet_ntop(AF_INET6, value.packed)
    raise ValueError(f"{shown(str(value))} is not an address that can be written without its interface")


def prefix(value: object) -> str:
    if type(value) is IPv4Network:
        return f"{inet_ntoa(value.network_address.packed)}/{value.prefixlen}"
    if type(value) is IPv6Network:
        return f"{inet_ntop(AF_INET6, value.network_address.packed)}/{value.prefixlen}"
    raise ValueError(f"{shown(str(value))} is not a prefix")


def family(value: object) -> str:
    if type(value) is not int or value not in (4, 6):
        raise ValueError(f"{shown(value)} is no family of IP")
    return str(value)


def community(value: Community) -> str:
    most = {2: 2**16 - 1, 3: 2**32 - 1}.get(len(value.numbers))
    if most is None:
        raise ValueError(f"{shown(str(value))} is not a community: two numbers, or three")
    return f"({', '.join(number(each, 0, most) for each in value.numbers)})"


def flag(value: object) -> bool:
    """Nothing that is only as good as true."""
    if type(value) is not bool:
        raise ValueError(f"{shown(value)} is neither true nor false")
    return value


def session_name(value: object) -> str:
    """A name that BIRD can take for nothing else: none of its words begins so."""
    if type(value) is not str or not _SESSION.match(value):
        raise ValueError(
            f"{shown(value)} is not a session's name (mesh_, mesh6_ or peer_, then letters, digits and '_', at most 63)"
        )
    return value


def as_symbol(text: str) -> str:
    """A name made from any text, recognisable; others may become the same."""
    return re.sub(r"[^A-Za-z0-9_]", "_", text)[:40]


def quoted(value: object, what: str) -> str:
    """Raises without the value in the message: it may be a password."""
    if type(value) is not str or '"' in value or not value or not value.isprintable():
        raise ValueError(f"{what} is empty, or has a double quote or an unprintable character in it")
    if len(value.encode(errors="replace")) > _LONGEST_STRING:
        raise ValueError(f"{what} is longer than {_LONGEST_STRING} bytes")
    return f'"{value}"'


def comment(value: object) -> str:
    text = str(value)
    if not (text.isascii() and text.isprintable()):
        text = _UNPRINTABLE.sub("?", text)
    return f"# {text[:_LONGEST_COMMENT]}"
