"""Tables, chains, sets, elements, counters and rules as messages (linux/netfilter/nf_tables.h).

The elements of a set are handled as the bytes of their keys: those are what the kernel stores, compares and gives back, so
a difference is a difference of two sets of bytes.  An interval set holds points: a key that begins a range, and a key that ends
one (exclusive), marked by one byte behind it.  An element of a map is its key and, behind that, what it leads to; one of ranges
of concatenated keys the first key and the last.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, NamedTuple

from netloom.dataplane.netlink.wire import AF_INET, AF_INET6, NLA_F_NESTED, NLM_F_CREATE, attribute, attributes, nested, text
from netloom.dataplane.nft.expressions import be32
from netloom.dataplane.nft.nfnetlink import SUBSYSTEM_NFTABLES, Message

INET, ARP, BRIDGE = 1, 3, 7  # NFPROTO_INET, NFPROTO_ARP, NFPROTO_BRIDGE
FAMILIES: Final = {INET: "inet", AF_INET: "ip", ARP: "arp", BRIDGE: "bridge", AF_INET6: "ip6"}
"""Families by the word that nft has for them."""

_TABLE, _CHAIN, _RULE, _SET, _ELEMENT, _COUNTER = 0, 3, 6, 9, 12, 18
_NEW, _GET, _DELETE = 0, 1, 2
_APPEND = 0x800
_ACCEPT = 1

_SET_INTERVAL, _SET_MAP, _SET_CONCATENATION = 0x4, 0x8, 0x80
_ELEMENT_INTERVAL_END = 1
_OBJECT_COUNTER = 1

_CHUNK = 60_000
"""Bytes of elements in one attribute, whose length field has 16 bits."""

_UDATA_RULE_COMMENT = 0  # libnftnl: NFTNL_UDATA_RULE_COMMENT
_COMMENT_LIMIT = 128  # bytes with the final NUL, as in nft

_HEADER = struct.Struct("=HH")
_Element = struct.Struct("=HHHHHH")  # three headers: the element, its key, the key's value
_INTERVAL_OVERHEAD = 20  # the three, and the flag
_COUNTER_FIELD = struct.Struct(">Q")


class TableId(NamedTuple):
    family: int
    name: str

    def __str__(self) -> str:
        return f"{FAMILIES.get(self.family, self.family)} {self.name}"


class Field(NamedTuple):
    """A type of nft's language: its number (nftables/datatype.h) and length in bytes."""

    number: int
    length: int


IFNAME, ETHER_ADDR, INET_PROTO, INET_SERVICE = Field(41, 16), Field(9, 6), Field(12, 1), Field(13, 2)
ICMPV6_TYPE, INTEGER128 = Field(29, 1), Field(4, 16)
ADDRESS: Final = {4: Field(7, 4), 6: Field(8, 16)}


def _type(fields: tuple[Field, ...]) -> int:
    """Six bits for each field of a concatenation."""
    number = 0
    for part in fields:
        number = number << 6 | part.number
    return number


class Set:
    """A named set; one object for all its users.  `userdata`: what nft has to know to show it, where the types' numbers do not
    say enough.  What its messages have in common is packed once, because they are on the path of ADD."""

    def __init__(
        self, table: TableId, name: str, fields: tuple[Field, ...], *, interval: bool = False, userdata: bytes = b""
    ) -> None:
        self.table, self.name, self.fields, self.interval, self.userdata = table, name, fields, interval, userdata
        alone = len(fields) == 1
        self.key_length = fields[0].length if alone else sum((part.length + 3) & ~3 for part in fields)
        self.padding = bytes(-self.key_length & 3)
        value = 4 + self.key_length
        padded = value + len(self.padding)
        self.address = text(1, table.name) + text(2, name)
        self.headers = _Element.pack(8 + padded, 1 | NLA_F_NESTED, 4 + padded, 1 | NLA_F_NESTED, value, 1)

    def __str__(self) -> str:
        return f"set {self.table} {self.name}"

    @property
    def key_type(self) -> int:
        return _type(self.fields)


class Pairs(Set, ABC):
    """Elements of two parts, the key and another one, both whole registers wide.  `second`: the attribute of the other."""

    second: ClassVar[int]

    def packed(self, element: bytes) -> bytes:
        key, other = element[: self.key_length], element[self.key_length :]
        return nested(1, nested(1, attribute(1, key)), nested(self.second, attribute(1, other)))

    def unpacked(self, element: Mapping[int, bytes]) -> bytes:
        return attributes(element[1])[1] + attributes(element[self.second])[1]

    @abstractmethod
    def description(self) -> tuple[int, bytes]:
        """Flags and attributes that its making needs."""


class Map(Pairs):
    """A named map: keys, and what they lead to."""

    second = 2

    def __init__(self, table: TableId, name: str, fields: tuple[Field, ...], values: tuple[Field, ...]) -> None:
        super().__init__(table, name, fields)
        self.values = values

    def __str__(self) -> str:
        return f"map {self.table} {self.name}"

    def description(self) -> tuple[int, bytes]:
        length = sum((part.length + 3) & ~3 for part in self.values)
        return _SET_MAP, be32(6, _type(self.values)) + be32(7, length)


class Ranges(Pairs):
    """A named set of ranges of concatenated keys, each field for itself: the first key and the last.  For few of them: the kernel
    copies all to change one."""

    second = 10

    def description(self) -> tuple[int, bytes]:
        lengths = (nested(1, be32(1, part.length)) for part in self.fields)
        return _SET_INTERVAL | _SET_CONCATENATION, nested(9, nested(2, *lengths))


@dataclass(frozen=True, slots=True)
class Hook:
    """Where a base chain stands: the hook's number in its family, the order among others, and filter or nat."""

    number: int
    priority: int
    kind: str = "filter"


def _message(kind: int, action: int, table: TableId, body: bytes, what: str, flags: int = 0) -> Message:
    body = text(1, table.name) + body
    return Message(SUBSYSTEM_NFTABLES << 8 | kind + action, flags, table.family, body, what)


def add_table(table: TableId) -> Message:
    return _message(_TABLE, _NEW, table, b"", f"table {table}", NLM_F_CREATE)


def delete_table(table: TableId) -> Message:
    return _message(_TABLE, _DELETE, table, b"", f"table {table}")


def add_chain(table: TableId, name: str, hook: Hook | None = None) -> Message:
    body = text(3, name)
    if hook:
        body += nested(4, be32(1, hook.number), be32(2, hook.priority)) + be32(5, _ACCEPT) + text(7, hook.kind)
    return _message(_CHAIN, _NEW, table, body, f"chain {table} {name}", NLM_F_CREATE)


def delete_chain(table: TableId, name: str) -> Message:
    return _message(_CHAIN, _DELETE, table, text(3, name), f"chain {table} {name}")


def add_counter(table: TableId, name: str) -> Message:
    body = text(2, name) + be32(3, _OBJECT_COUNTER) + nested(4)
    return _message(_COUNTER, _NEW, table, body, f"counter {table} {name}", NLM_F_CREATE)


def add_set(definition: Set, number: int) -> Message:
    """`number` tells it from others in the same transaction."""
    flags = _SET_INTERVAL if definition.interval else 0
    description = b""
    if isinstance(definition, Pairs):
        flags, description = definition.description()
    body = text(2, definition.name) + be32(3, flags) + be32(4, definition.key_type) + be32(5, definition.key_length)
    body += description + be32(10, number)
    if definition.userdata:
        body += attribute(13, definition.userdata)
    return _message(_SET, _NEW, definition.table, body, str(definition), NLM_F_CREATE)


def add_rule(table: TableId, chain: str, expressions: Sequence[bytes], comment: str, *, first: bool = False) -> Message:
    """At the end of the chain, or `first` in it."""
    body = text(2, chain) + nested(4, *expressions) + attribute(7, comment_data(comment))
    flags = NLM_F_CREATE if first else NLM_F_CREATE | _APPEND
    return _message(_RULE, _NEW, table, body, f"rule {table} {chain} {comment!r}", flags)


def delete_rule(table: TableId, chain: str, handle: bytes) -> Message:
    return _message(_RULE, _DELETE, table, text(2, chain) + attribute(3, handle), f"rule {table} {chain}")


def flush_chain(table: TableId, chain: str) -> Message:
    return _message(_RULE, _DELETE, table, text(2, chain), f"chain {table} {chain}")


def comment_data(comment: str) -> bytes:
    """A rule's comment as nft keeps it in the rule's user data: type, length, text with its NUL."""
    data = comment.encode()[: _COMMENT_LIMIT - 1] + b"\0"
    return bytes((_UDATA_RULE_COMMENT, len(data))) + data


def add_elements(definition: Set, keys: Collection[bytes]) -> Iterator[Message]:
    """Keys that are there already are left as they are."""
    for chunk in _chunks(definition, keys):
        yield _elements(_NEW, definition, chunk, NLM_F_CREATE)


def delete_elements(definition: Set, keys: Collection[bytes]) -> Iterator[Message]:
    """Each key has to be there."""
    for chunk in _chunks(definition, keys):
        yield _elements(_DELETE, definition, chunk)


def flush_set(definition: Set) -> Message:
    return _elements(_DELETE, definition)


def _elements(action: int, definition: Set, chunk: bytes = b"", flags: int = 0) -> Message:
    body = definition.address + chunk
    return Message(SUBSYSTEM_NFTABLES << 8 | _ELEMENT + action, flags, definition.table.family, body, definition)


def _chunks(definition: Set, keys: Collection[bytes]) -> Iterator[bytes]:
    """Attributes with at most _CHUNK bytes of elements each."""
    if definition.interval:
        packed = [_interval_point(key) for key in sorted(keys)]
        longest = _INTERVAL_OVERHEAD + definition.key_length
    elif isinstance(definition, Pairs):
        packed = [definition.packed(element) for element in keys]
        longest = max(map(len, packed), default=1)
    else:
        packed = [definition.headers + key + definition.padding for key in keys]
        longest = len(definition.headers) + definition.key_length + len(definition.padding)
    step = _CHUNK // longest
    for start in range(0, len(packed), step):
        elements = b"".join(packed[start : start + step])
        yield _HEADER.pack(4 + len(elements), 3 | NLA_F_NESTED) + elements


def _interval_point(key: bytes) -> bytes:
    value = nested(1, attribute(1, key[:-1]))
    return nested(1, value, be32(3, _ELEMENT_INTERVAL_END)) if key[-1] else nested(1, value)


def get_elements(definition: Set) -> Message:
    return _elements(_GET, definition)


def keys_of(definition: Set, bodies: Collection[bytes]) -> frozenset[bytes]:
    """The keys in the messages that answer `get_elements`, in the form that `add_elements` takes."""
    return frozenset(key for body in bodies for key in _keys(definition, attributes(body).get(3, b"")))


def _keys(definition: Set, elements: bytes) -> Iterator[bytes]:
    offset, length, key_length = 0, 0, definition.key_length
    while offset < len(elements):
        length = struct.unpack_from("=H", elements, offset)[0]
        if isinstance(definition, Pairs):
            yield definition.unpacked(attributes(elements[offset + 4 : offset + length]))
        elif definition.interval:
            element = attributes(elements[offset + 4 : offset + length])
            end = element.get(3, bytes(4))[-1] & _ELEMENT_INTERVAL_END
            yield attributes(element[1])[1] + bytes((end,))
        else:
            yield elements[offset + _Element.size : offset + _Element.size + key_length]
        offset += (length + 3) & ~3


class Count(NamedTuple):
    packets: int
    bytes: int


def get_counters(table: TableId) -> Message:
    return _message(_COUNTER, _GET, table, be32(3, _OBJECT_COUNTER), f"counters {table}")


def count_of(body: bytes) -> tuple[str, Count]:
    """Name and count of a counter from its message."""
    found = attributes(body)
    data = attributes(found[4])
    name = found[2].rstrip(b"\0").decode()
    return name, Count(_COUNTER_FIELD.unpack(data[2])[0], _COUNTER_FIELD.unpack(data[1])[0])


def get_chains() -> Message:
    """All chains of all tables and families."""
    return Message(SUBSYSTEM_NFTABLES << 8 | _CHAIN + _GET, 0, 0, b"", "chains")


def get_rules(table: TableId, chain: str | None = None) -> Message:
    """Of one chain, or of all in the table."""
    return _message(_RULE, _GET, table, b"" if chain is None else text(2, chain), f"chain {table} {chain or ''}")


def get_sets(table: TableId) -> Message:
    return _message(_SET, _GET, table, b"", f"sets {table}")
