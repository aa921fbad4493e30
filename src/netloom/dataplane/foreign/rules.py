"""Somebody else's rules in nftables, read as far as it takes to tell what becomes of a tunnel's packets from another node (`fates`).

A rule is run on a packet of which little is known, in the kernel's own register machine (see `nft.expressions`): a register
holds bytes, or it holds anything but certain bytes, or nobody knows.  What is not understood makes a rule one that may apply;
nothing in anybody's rules is an error here.
"""

from __future__ import annotations

import bisect
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from netloom.dataplane.foreign.fates import UNKNOWN, Fate, Rule, fate_in
from netloom.dataplane.netlink.wire import attributes, listed, to_text
from netloom.dataplane.nft.expressions import Header, Meta
from netloom.dataplane.nft.nfnetlink import Nfnetlink
from netloom.dataplane.nft.objects import Set, TableId, get_elements, get_rules, get_sets
from netloom.model.desired import Outer

_NFPROTO: Final = {4: b"\x02", 6: b"\x0a"}
_PROTOCOL_OFFSET: Final = {4: 9, 6: 6}
_ADDRESS_OFFSETS: Final = {4: (12, 16), 6: (8, 24)}
_LOOPBACK: Final = b"\x7f"
_IIF, _CT_STATE, _CT_STATUS = 4, 0, 2  # NFT_META_IIF, NFT_CT_STATE, NFT_CT_STATUS
_LO_INDEX: Final = struct.pack("=I", 1)
_NEW: Final = struct.pack("=I", 8)  # NF_CT_STATE_BIT(IP_CT_NEW)
_ACCEPT, _DROP, _QUEUE, _JUMP, _GOTO, _RETURN = 1, 0, 3, -3, -4, -5
_VERDICT_REGISTER = 0
_FIRST_REGISTER, _WIDE = 8, 4  # NFT_REG32_00; NFT_REG_1 to _4 are four registers each
_INTERVAL, _CONCATENATION, _INTERVAL_END = 0x4, 0x80, 1
_INVERTED = 1

_COMPARISONS: Final[Mapping[int, Callable[[bytes, bytes], bool]]] = {
    0: lambda value, data: value == data,
    1: lambda value, data: value != data,
    2: lambda value, data: value < data,
    3: lambda value, data: value <= data,
    4: lambda value, data: value > data,
    5: lambda value, data: value >= data,
}
_NO_CONDITION: Final = frozenset(("counter", "log", "objref", "notrack", "last", "dup", "flow_offload", "dynset"))
_TARGETS: Final = {"REJECT": Fate.DROPPED, "DROP": Fate.DROPPED, "NFQUEUE": UNKNOWN}


class Other(NamedTuple):
    """Anything but this."""

    than: bytes


Value = bytes | Other | None
Attributes = Mapping[int, bytes]


class _Elements(NamedTuple):
    """`found`: key → its other attributes, sorted."""

    flags: int
    found: list[tuple[bytes, bool, Attributes]]


class _Packet(NamedTuple):
    """What is known of it.  `port`: where it goes; None where there is none."""

    version: int
    protocol: bytes
    port: bytes | None


class Rules:
    """Of one table; each chain and set is read once."""

    def __init__(self, kernel: Nfnetlink, table: TableId) -> None:
        self._kernel, self._table = kernel, table
        self._raw: dict[str, list[bytes]] = {}
        self._flags: dict[str, int] | None = None
        self._sets: dict[str, _Elements] = {}

    def fate(
        self,
        chain: str,
        outer: Outer,
        version: int,
        *,
        drops: bool,
        until: Fate = Fate.NONE,
        without: tuple[str, ...] = (),
    ) -> Fate:
        """Of such a packet over IPv`version` in this base chain, see `fate_in`; as if nobody jumped to the chains `without`."""
        packet = _Packet(version, bytes((outer.protocol,)), struct.pack(">H", outer.port) if outer.port else None)

        def rules(name: str) -> Iterator[Rule]:
            for expressions in self._expressions(name):
                rule = self._rule(expressions, packet)
                if rule and rule.chain not in without:
                    yield rule

        return fate_in(chain, rules, drops=drops, until=until)

    def _expressions(self, chain: str) -> list[bytes]:
        """Of each rule."""
        if chain not in self._raw:
            bodies = self._kernel.dump(get_rules(self._table, chain))
            self._raw[chain] = [attributes(body).get(4, b"") for _, _, body in bodies]
        return self._raw[chain]

    def _rule(self, expressions: bytes, packet: _Packet) -> Rule | None:
        """None: it does not apply, or decides nothing."""
        certain = True
        registers: dict[int, Value] = {}
        for expression in map(attributes, listed(expressions)):
            name, data = to_text(expression.get(1, b"")), attributes(expression.get(2, b""))
            if name == "lookup" and 3 in data and _register(data, 3) == _VERDICT_REGISTER:
                return self._mapped(data, registers, certain=certain)
            if verdict := _verdict(name, data, certain=certain):
                return verdict
            holds = self._holds(name, data, registers, packet)
            if holds is False:
                return None
            certain = certain and holds is True
        return None

    def _holds(self, name: str, data: Attributes, registers: dict[int, Value], packet: _Packet) -> bool | None:
        """Whether the rule goes on behind this expression, which may also load a register; None: perhaps."""
        match name:
            case "meta" | "payload" | "ct":
                if 1 in data:
                    registers[_register(data, 1)] = _loaded(name, data, packet)
                return True
            case "immediate":
                registers[_register(data, 1)] = attributes(data.get(2, b"")).get(1)
                return True
            case "bitwise":
                registers[_register(data, 2)] = _masked(registers.get(_register(data, 1)), data)
                return True
            case "cmp":
                return _compared(registers.get(_register(data, 1)), _number(data, 2), attributes(data.get(3, b"")).get(1, b""))
            case "range":
                low, high = (attributes(data.get(kind, b"")).get(1, b"") for kind in (3, 4))
                value = registers.get(_register(data, 1))
                if not isinstance(value, bytes):
                    return None
                return (low <= value <= high) is (_number(data, 2) == 0)
            case "lookup":
                inside, _ = self._look_up(data, registers)
                if 3 in data:
                    registers[_register(data, 3)] = None
                return None if inside is None else inside is not bool(_number(data, 5) & _INVERTED)
            case "target":
                return True  # one that decides nothing, such as LOG
            case "match":
                return True if to_text(data.get(1, b"")) == "comment" else None
        if name in _NO_CONDITION:
            return True
        registers.clear()
        return None

    def _mapped(self, data: Attributes, registers: Mapping[int, Value], *, certain: bool) -> Rule | None:
        """`vmap`: the verdict that the key leads to."""
        inside, element = self._look_up(data, registers)
        if inside is None:
            return Rule(False, UNKNOWN)
        return _decided(attributes(element.get(2, b"")), certain=certain) if inside else None

    def _look_up(self, data: Attributes, registers: Mapping[int, Value]) -> tuple[bool | None, Attributes]:
        value = registers.get(_register(data, 2))
        if not isinstance(value, bytes):
            return None, {}
        flags, found = self._elements(to_text(data.get(1, b"")))
        if flags & _CONCATENATION or any(len(key) != len(value) for key, _, _ in found):
            return None, {}
        if flags & _INTERVAL:
            place = bisect.bisect_right(found, (value, True), key=lambda point: point[:2]) - 1
            inside = place >= 0 and found[place][1]
            return inside, found[place][2] if inside else {}
        element = next((rest for key, _, rest in found if key == value), None)
        return element is not None, element or {}

    def _elements(self, name: str) -> _Elements:
        """Sorted; of an interval's two points the second says False."""
        if self._flags is None:
            sets = [attributes(body) for _, _, body in self._kernel.dump(get_sets(self._table))]
            self._flags = {to_text(one[2]): int.from_bytes(one.get(3, b""), "big") for one in sets}
        if name not in self._sets:
            bodies = [body for _, _, body in self._kernel.dump(get_elements(Set(self._table, name, ())))]
            elements = [attributes(element) for body in bodies for element in listed(attributes(body).get(3, b""))]
            points = [(attributes(e.get(1, b"")).get(1, b""), not _number(e, 3) & _INTERVAL_END, e) for e in elements]
            self._sets[name] = _Elements(self._flags.get(name, 0), sorted(points, key=lambda point: point[:2]))
        return self._sets[name]


def _loaded(name: str, data: Attributes, packet: _Packet) -> Value:
    key = _number(data, 2)
    if name == "ct":
        return {_CT_STATE: _NEW, _CT_STATUS: bytes(4)}.get(key)
    if name == "meta":
        known: dict[int, Value] = {
            _IIF: Other(_LO_INDEX),
            Meta.IIFNAME: Other(b"lo"),
            Meta.NFPROTO: _NFPROTO[packet.version],
            Meta.L4PROTO: packet.protocol,
        }
        return known.get(key)
    offset, length = _number(data, 3), _number(data, 4)
    if key == Header.TRANSPORT and (offset, length) == (2, 2):
        return packet.port
    if key == Header.NETWORK and (offset, length) == (_PROTOCOL_OFFSET[packet.version], 1):
        return packet.protocol
    if key == Header.NETWORK and packet.version == 4 and offset in _ADDRESS_OFFSETS[4] and length == 1:
        return Other(_LOOPBACK)
    return None


def _number(data: Attributes, kind: int) -> int:
    return int.from_bytes(data.get(kind, b""), "big")


def _register(data: Attributes, kind: int) -> int:
    """Its first four have two numbers."""
    number = _number(data, kind)
    return _FIRST_REGISTER + (number - 1) * _WIDE if 1 <= number <= _WIDE else number


def _masked(value: Value, data: Attributes) -> Value:
    mask, toggled = (attributes(data.get(kind, b"")).get(1, b"") for kind in (4, 5))
    if not isinstance(value, bytes) or not len(value) == len(mask) == len(toggled) or _number(data, 6):
        return None
    return bytes(byte & keep ^ flip for byte, keep, flip in zip(value, mask, toggled, strict=True))


def _compared(value: Value, how: int, data: bytes) -> bool | None:
    if isinstance(value, Other):
        excluded = how in (0, 1) and data.rstrip(b"\0") == value.than.rstrip(b"\0")
        return how == 1 if excluded else None
    if value is None or how not in _COMPARISONS or len(data) > len(value):
        return None
    return _COMPARISONS[how](value[: len(data)], data)


def _verdict(name: str, data: Attributes, *, certain: bool) -> Rule | None:
    """That this expression ends the rule with."""
    if name == "immediate" and _register(data, 1) == _VERDICT_REGISTER:
        return _decided(attributes(data.get(2, b"")), certain=certain)
    if name == "target" and (fate := _TARGETS.get(to_text(data.get(1, b"")))):
        return Rule(certain, fate)
    if name in ("reject", "queue"):
        return Rule(certain, Fate.DROPPED if name == "reject" else UNKNOWN)
    return None


def _decided(data: Attributes, *, certain: bool) -> Rule | None:
    verdict = attributes(data.get(2, b""))
    code = int.from_bytes(verdict.get(1, b""), "big", signed=True)
    if code in (_JUMP, _GOTO):
        return Rule(certain, chain=to_text(verdict.get(2, b"")), leaves=code == _GOTO)
    fates = {_ACCEPT: Fate.ACCEPTED, _DROP: Fate.DROPPED, _RETURN: Fate.THROUGH, _QUEUE: UNKNOWN}
    return Rule(certain, fates[code]) if code in fates else None
