"""Values of BGP as people write them, and as they are inside.

AS number    64512, or dotted in quotes: "1.10" (RFC 5396)                    a whole number
community    65000:100 (RFC 1997), 65000:1:2 (RFC 8092)                       numbers
duration     90, 90s, 1m30s, 300ms                                            milliseconds
peer         192.0.2.1, 192.0.2.1:1790, 2001:db8::1, [2001:db8::1]:1790       address and port, 0 where none is said

`AsNumber` and `Duration` are whole numbers for the type checker; at run time they are virtual base classes, because that is how a
field of msgspec gets a parser of its own (as in model.addresses).
"""

from __future__ import annotations

import abc
import re
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

from netloom.model.addresses import Address, parse_address
from netloom.model.forms import check_port
from netloom.model.routing import Community
from netloom.model.showing import shown

if TYPE_CHECKING:
    AsNumber: TypeAlias = int
    Duration: TypeAlias = str
else:

    class AsNumber(abc.ABC):
        """Of an autonomous system: 1 to 4294967295 (RFC 6793)."""

    class Duration(abc.ABC):
        """As Go writes one, `1m30s`, or a number of seconds; kept as text in its shortest form."""

    AsNumber.register(int)
    Duration.register(str)

_AS_TRANS = 23456  # RFC 6793: stands for a number that somebody cannot write
_DOTTED = re.compile(r"(0|[1-9][0-9]{0,4})\.(0|[1-9][0-9]{0,4})\Z")
_PLAIN = re.compile(r"(0|[1-9][0-9]{0,9})\Z")
_DURATION = re.compile(
    r"(?=.)(?:(?P<h>\d{1,4})h)?(?:(?P<m>\d{1,6})m(?!s))?(?:(?P<s>\d{1,8})s)?(?:(?P<ms>\d{1,8})ms)?\Z", re.ASCII
)
_UNITS = {"h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_SCOPE = "an address of a link needs the link with it, which a peer cannot have: write a global or a unique local one"


def parse_as_number(value: object) -> int:
    """RFC 7607: 0 is nobody's; RFC 7300: nor are the last ones of both lengths."""
    match value:
        case bool() | float():
            raise ValueError(f"{shown(value)} is no AS number; a dotted one goes into quotes")
        case int():
            number = value
        case str() if _PLAIN.match(value):
            number = int(value)
        case str() if dotted := _DOTTED.match(value):
            high, low = int(dotted[1]), int(dotted[2])
            if max(high, low) > 0xFFFF:
                raise ValueError(f"{shown(value)} is no AS number: both parts are 0 to 65535")
            number = (high << 16) + low
        case _:
            raise ValueError(f"{shown(value)} is no AS number; they look like 64512, or dotted in quotes, '1.10'")
    if not 0 < number < 1 << 32 or number in (0xFFFF, 0xFFFFFFFF, _AS_TRANS):
        raise ValueError(f"AS {number} is nobody's: 1 to 4294967294, but 23456 and 65535; private ones are 64512 to 65534")
    return number


def parse_duration(value: object) -> str:
    """Text of its shortest form, so that two that mean the same are the same."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = f"{value}s" if 0 <= value < 1 << 32 else str(value)
    found = _DURATION.match(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"{shown(value)} is no duration; they look like 90s, 1m30s, 300ms")
    return duration_text(sum(int(found[unit] or 0) * factor for unit, factor in _UNITS.items()))


def duration_text(milliseconds: int) -> str:
    text = ""
    for unit, factor in _UNITS.items():
        number, milliseconds = divmod(milliseconds, factor)
        text += f"{number}{unit}" if number else ""
    return text or "0s"


def milliseconds(duration: str) -> int:
    found = _DURATION.match(duration)
    assert found is not None  # it has been parsed
    return sum(int(found[unit] or 0) * factor for unit, factor in _UNITS.items())


def check_seconds(duration: str | None, least: int, most: int, path: str) -> int:
    """Whole seconds within bounds; 0: nothing is said."""
    if duration is None:
        return 0
    seconds, rest = divmod(milliseconds(duration), 1000)
    if rest or not least <= seconds <= most:
        raise ValueError(f"{path}: {duration} is out of range; {least}s to {most}s, in whole seconds")
    return seconds


@lru_cache(1024)
def parse_community(text: str) -> Community:
    """Raises ValueError."""
    parts = text.split(":")
    most = {2: 0xFFFF, 3: 0xFFFFFFFF}.get(len(parts))
    if most is None or not all(_PLAIN.match(part) for part in parts):
        raise ValueError(f"{shown(text)} is no community; they look like 65000:100 or, large, 65000:1:2")
    numbers = tuple(map(int, parts))
    if max(numbers) > most:
        kind = "a large community's" if len(parts) == 3 else "a standard community's"
        raise ValueError(f"{shown(text)}: {kind} numbers are 0 to {most}")
    return Community(numbers)


@lru_cache(1024)
def parse_peer(text: str) -> tuple[Address, int]:
    """Address and port; 0: none is said.  Raises ValueError."""
    host, port = text, ""
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        if not bracket or (port and not port.startswith(":")) or ":" not in host:
            raise ValueError(f"{shown(text)} is no peer; with a port an IPv6 address is written [2001:db8::1]:179")
        port = port[1:] if port else ""
        if text.endswith("]:"):
            port = "?"
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
        port = port or "?"
    if port and not _PLAIN.match(port):
        raise ValueError(f"{shown(text)}: {shown(port)} is no port")
    address = check_peer_address(parse_address(host))
    return address, check_port(int(port), "port") if port else 0


def check_peer_address(address: Address) -> Address:
    if address.is_multicast or address.is_loopback or address.is_unspecified or address == _BROADCAST:
        raise ValueError(f"{address} is no peer's address")
    if address.version == 6 and address.is_link_local:
        raise ValueError(f"{address}: {_SCOPE}")
    return address


_BROADCAST = parse_address("255.255.255.255")
