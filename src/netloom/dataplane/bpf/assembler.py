"""The assembler: a program is a table of steps, each a reason and the instructions that it takes.

    SHORT = Program("loom_short", Kind.CLASSIFIER, (
        step("the context stays in r6: a call takes r0 to r5", mov(R6, R1)),
        step("where the packet begins and ends", load(R2, U32, R6, PACKET), load(R3, U32, R6, PACKET_END)),
        step("room for Ethernet and IPv4", mov(R4, R2), add(R4, 34), jump_if(R4, ">", R3, "drop")),
        step("all else goes on", mov(R0, GO_ON), leave()),
        at("drop", "too short to be looked at", mov(R0, DROP), leave()),
    ))

A jump names a label (`at`), a map its name; `code` puts the distance and the descriptor in their places.  An instruction is eight
bytes (RFC 9669): opcode, two registers, a signed offset of 16 bits, a signed number of 32.  A number that does not fit takes two.

The tricky thing is the order of bytes.  What is loaded from a packet is in network order, so numbers that it is compared with
are turned round here (`network16`, `network32`), where it costs nothing, and only what is counted with is turned round there
(`swap16`).  A 64-bit comparison extends the sign of its number: the halves of an address are compared with `bits=32`.
"""

from __future__ import annotations

import enum
import re
import struct
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass


class Register(enum.Enum):
    """r0: what a call or the program returns.  r1 to r5: arguments, gone after a call.  r6 to r9: kept.  fp: the end of 512 bytes of
    stack, so what is kept there has negative offsets."""

    R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, FP = range(11)


R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, FP = Register


class Width(enum.IntEnum):
    """Bytes that are loaded or stored at once; the value is the opcode's."""

    U8, U16, U32, U64 = 0x10, 0x08, 0x00, 0x18


U8, U16, U32, U64 = Width


class Kind(enum.IntEnum):
    """Where a program runs (BPF_PROG_TYPE_*)."""

    CLASSIFIER = 3  # where packets arrive on an interface or leave it, by tc
    XDP = 6  # in the driver, before there is an skb


GO_ON, DROP, REDIRECT = 0, 2, 7
"""Verdicts of a classifier (linux/pkt_cls.h): TC_ACT_OK, TC_ACT_SHOT, TC_ACT_REDIRECT."""
NEXT = -1
"""TC_ACT_UNSPEC: no opinion, the next program or filter is asked.  With GO_ON it is not."""
XDP_DROP, XDP_PASS = 1, 2

SKB_LENGTH, SKB_MARK, SKB_PROTOCOL, SKB_IFINDEX, PACKET, PACKET_END, PACKET_META = 0, 8, 16, 40, 76, 80, 140
SKB_GSO_SEGMENTS, SKB_GSO_SIZE = 164, 176
"""Offsets in a classifier's context (struct __sk_buff), all U32."""
XDP_PACKET, XDP_PACKET_END, XDP_META = 0, 4, 8
"""And in that of an XDP program (struct xdp_md)."""


class Helper(enum.IntEnum):
    """Functions of the kernel (bpf-helpers(7))."""

    MAP_LOOKUP = 1
    STORE_BYTES = 9
    REDIRECT = 23
    LOAD_BYTES = 26
    CSUM_DIFF = 28
    CHANGE_PROTO = 31
    CHANGE_TAIL = 38
    PULL_DATA = 39
    XDP_ADJUST_HEAD = 44
    ADJUST_ROOM = 50
    XDP_ADJUST_META = 54
    FIB_LOOKUP = 69
    ECN_SET_CE = 97
    REDIRECT_NEIGH = 152
    REDIRECT_PEER = 155


_ALU = {"add": 0x00, "sub": 0x10, "mul": 0x20, "or": 0x40, "and": 0x50, "lsh": 0x60, "rsh": 0x70, "xor": 0xA0, "mov": 0xB0}
_JUMPS = {"==": 0x10, ">": 0x20, ">=": 0x30, "&": 0x40, "!=": 0x50, "<": 0xA0, "<=": 0xB0}
_ALU64, _ALU32, _JMP64, _JMP32, _FROM_REGISTER = 0x07, 0x04, 0x05, 0x06, 0x08
_LDX, _ST, _STX, _SWAP = 0x61, 0x62, 0x63, 0xDC
_JUMP, _CALL, _EXIT, _WIDE, _MAP = 0x05, 0x85, 0x95, 0x18, 1
_INSTRUCTION = struct.Struct("=BBhi")
_NAME = re.compile(r"[A-Za-z0-9_.]{1,15}")


@dataclass(frozen=True, slots=True)
class Instruction:
    """`label`: where it jumps to; `map`: whose descriptor is its number.  `more`: the upper half of a number of 64 bits."""

    opcode: int
    target: int = 0
    source: int = 0
    offset: int = 0
    number: int = 0
    label: str = ""
    map: str = ""
    more: int | None = None

    @property
    def slots(self) -> int:
        return 1 if self.more is None else 2


@dataclass(frozen=True, slots=True)
class Step:
    reason: str
    instructions: tuple[Instruction, ...]
    label: str = ""


def step(reason: str, *instructions: Instruction) -> Step:
    return Step(reason, instructions)


def at(label: str, reason: str, *instructions: Instruction) -> Step:
    """A step that is jumped to."""
    return Step(reason, instructions, label)


def mov(target: Register, value: Register | int) -> Instruction:
    """A number may have 64 bits; one of 32 without sign is not extended."""
    if isinstance(value, Register) or _fits(value):
        return _alu("mov", target, value)
    if 0 <= value < 1 << 32:
        return Instruction(_ALU32 | _ALU["mov"], target.value, number=value)
    return Instruction(_WIDE, target.value, number=value & 0xFFFFFFFF, more=value >> 32 & 0xFFFFFFFF)


def add(target: Register, value: Register | int) -> Instruction:
    return _alu("add", target, value)


def sub(target: Register, value: Register | int) -> Instruction:
    return _alu("sub", target, value)


def mul(target: Register, value: Register | int) -> Instruction:
    return _alu("mul", target, value)


def and_(target: Register, value: Register | int) -> Instruction:
    return _alu("and", target, value)


def or_(target: Register, value: Register | int) -> Instruction:
    return _alu("or", target, value)


def xor(target: Register, value: Register | int) -> Instruction:
    return _alu("xor", target, value)


def lsh(target: Register, value: Register | int) -> Instruction:
    return _alu("lsh", target, value)


def rsh(target: Register, value: Register | int) -> Instruction:
    return _alu("rsh", target, value)


def swap16(target: Register) -> Instruction:
    """Between the host's order and the network's; what is above 16 bits goes."""
    return Instruction(_SWAP, target.value, number=16)


def swap32(target: Register) -> Instruction:
    return Instruction(_SWAP, target.value, number=32)


def load(target: Register, width: Width, base: Register, offset: int = 0) -> Instruction:
    return Instruction(_LDX | width, target.value, base.value, offset)


def store(width: Width, base: Register, offset: int, value: Register | int) -> Instruction:
    if isinstance(value, Register):
        return Instruction(_STX | width, base.value, value.value, offset)
    return Instruction(_ST | width, base.value, offset=offset, number=value)


def jump(label: str) -> Instruction:
    return Instruction(_JUMP, label=label)


def jump_if(left: Register, relation: str, right: Register | int, label: str, *, bits: int = 64) -> Instruction:
    """`relation`: ==, !=, <, <=, >, >= of numbers without sign, or & for "have a bit in common"."""
    opcode = _JUMPS[relation] | {64: _JMP64, 32: _JMP32}[bits]
    if isinstance(right, Register):
        return Instruction(opcode | _FROM_REGISTER, left.value, right.value, label=label)
    if bits == 64 and not _fits(right):
        raise ValueError(
            f"{right:#x} would get the wrong upper half in a comparison of 64 bits; say bits=32, or use a register"
        )
    return Instruction(opcode, left.value, number=right, label=label)


def call(helper: Helper) -> Instruction:
    return Instruction(_CALL, number=int(helper))


def leave() -> Instruction:
    """With the verdict in r0."""
    return Instruction(_EXIT)


def map_into(target: Register, name: str) -> Instruction:
    """The map, as an argument for a call."""
    return Instruction(_WIDE, target.value, _MAP, map=name, more=0)


def network16(value: int) -> int:
    """The number that stands for `value` where two bytes of a packet were loaded."""
    return int.from_bytes(value.to_bytes(2, "big"), sys.byteorder)


def network32(value: int) -> int:
    return int.from_bytes(value.to_bytes(4, "big"), sys.byteorder)


def words(value: bytes) -> tuple[int, ...]:
    """Bytes as the numbers that U32 loads would find there; the last may be shorter."""
    return tuple(int.from_bytes(value[i : i + 4], sys.byteorder) for i in range(0, len(value), 4))


@dataclass(frozen=True, slots=True)
class Program:
    """`name`: what the kernel shows it by, 1 to 15 letters, digits, dots and underscores."""

    name: str
    kind: Kind
    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r}: a program's name has 1 to 15 letters, digits, dots and underscores")
        labels = [step.label for step in self.steps if step.label]
        if twice := {label for label in labels if labels.count(label) > 1}:
            raise ValueError(f"program {self.name} has the label {', '.join(sorted(twice))} twice")
        unknown = {i.label for i in self._instructions() if i.label} - set(labels)
        if unknown:
            raise ValueError(f"program {self.name} jumps to {', '.join(sorted(unknown))}, which is nowhere")

    @property
    def maps(self) -> frozenset[str]:
        """The names of those that it uses."""
        return frozenset(i.map for i in self._instructions() if i.map)

    def code(self, maps: Mapping[str, int]) -> bytes:
        """As the kernel takes it; `maps`: descriptors by name."""
        places = self._places()
        code = bytearray()
        for instruction in self._instructions():
            here = len(code) // _INSTRUCTION.size
            offset = places[instruction.label] - here - 1 if instruction.label else instruction.offset
            number = maps[instruction.map] if instruction.map else instruction.number
            code += self._encoded(instruction, offset, number)
        return bytes(code)

    def step_of(self, slot: int) -> Step | None:
        """The step that instruction number `slot` of the code belongs to: the verifier speaks of those numbers."""
        start = 0
        for each in self.steps:
            start += sum(i.slots for i in each.instructions)
            if slot < start:
                return each
        return None

    def __str__(self) -> str:
        """A listing: number of the first instruction, label, reason."""
        start, lines = 0, []
        for each in self.steps:
            lines.append(f"{start:4} {each.label:12} {each.reason}")
            start += sum(i.slots for i in each.instructions)
        return "\n".join(lines)

    def _instructions(self) -> Iterator[Instruction]:
        return (instruction for each in self.steps for instruction in each.instructions)

    def _places(self) -> dict[str, int]:
        places, here = {}, 0
        for each in self.steps:
            if each.label:
                places[each.label] = here
            here += sum(i.slots for i in each.instructions)
        return places

    def _encoded(self, i: Instruction, offset: int, number: int) -> bytes:
        if not -(1 << 15) <= offset < 1 << 15:
            raise ValueError(f"program {self.name}: {offset} is too far for a jump or an offset")
        code = _INSTRUCTION.pack(i.opcode, i.source << 4 | i.target, offset, _signed(number))
        return code if i.more is None else code + _INSTRUCTION.pack(0, 0, 0, _signed(i.more))


def _alu(operation: str, target: Register, value: Register | int) -> Instruction:
    opcode = _ALU64 | _ALU[operation]
    if isinstance(value, Register):
        return Instruction(opcode | _FROM_REGISTER, target.value, value.value)
    if not _fits(value):
        raise ValueError(f"{operation} cannot take {value:#x}: more than 32 bits with sign; use a register")
    return Instruction(opcode, target.value, number=value)


def _fits(number: int) -> bool:
    """Whether 32 bits with sign are enough: to 64 bits it is extended by its sign."""
    return -(1 << 31) <= number < 1 << 31


def _signed(number: int) -> int:
    """The same 32 bits as a number with sign."""
    if not -(1 << 31) <= number < 1 << 32:
        raise ValueError(f"{number:#x} has more than 32 bits")
    return number - (1 << 32) if number >= 1 << 31 else number
