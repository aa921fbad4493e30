"""The assembler: bytes as clang makes them, labels, maps, numbers of every width, and what it refuses."""

from __future__ import annotations

import struct
import sys

import pytest

from netloom.dataplane.bpf.assembler import (
    FP,
    GO_ON,
    R0,
    R1,
    R2,
    R6,
    U8,
    U16,
    U32,
    U64,
    Helper,
    Instruction,
    Kind,
    Program,
    Step,
    add,
    and_,
    at,
    call,
    jump,
    jump_if,
    leave,
    load,
    lsh,
    map_into,
    mov,
    network16,
    network32,
    or_,
    rsh,
    step,
    store,
    sub,
    swap16,
    swap32,
    words,
    xor,
)

END = step("done", mov(R0, GO_ON), leave())


def program(*steps: Step) -> Program:
    return Program("loom_t", Kind.CLASSIFIER, steps)


def code(*instructions: Instruction) -> str:
    return program(step("all", *instructions)).code({"ports": 5}).hex(" ", 8)


@pytest.mark.parametrize(
    ("instruction", "bytes_"),
    [  # as llvm-mc prints them for a little-endian machine
        (mov(R6, R1), "bf16000000000000"),
        (mov(R0, 2), "b700000002000000"),
        (mov(R0, -1), "b7000000ffffffff"),
        (mov(R2, 0x80000000), "b402000000000080"),
        (mov(R2, 0x0123456789ABCDEF), "18020000efcdab89 0000000067452301"),
        (add(R2, 14), "070200000e000000"),
        (sub(R1, R2), "1f21000000000000"),
        (or_(R1, R2), "4f21000000000000"),
        (and_(R2, 0xFFFF), "57020000ffff0000"),
        (xor(R1, 0xFFFF), "a7010000ffff0000"),
        (lsh(R1, 8), "6701000008000000"),
        (rsh(R1, 16), "7701000010000000"),
        (swap16(R1), "dc01000010000000"),
        (swap32(R1), "dc01000020000000"),
        (load(R2, U8, R1, 23), "7112170000000000"),
        (load(R2, U16, R1, 12), "69120c0000000000"),
        (load(R2, U32, R6, 76), "61624c0000000000"),
        (load(R2, U64, FP, -8), "79a2f8ff00000000"),
        (store(U8, FP, -4, 0x45), "720afcff45000000"),
        (store(U16, FP, -4, R2), "6b2afcff00000000"),
        (store(U32, FP, -4, 0xFFFFFFFF), "620afcffffffffff"),
        (store(U64, FP, -8, R2), "7b2af8ff00000000"),
        (call(Helper.MAP_LOOKUP), "8500000001000000"),
        (map_into(R1, "ports"), "1811000005000000 0000000000000000"),
        (leave(), "9500000000000000"),
    ],
)
@pytest.mark.skipif(sys.byteorder == "big", reason="the same instructions have other bytes there")
def test_an_instruction_has_its_bytes(instruction: Instruction, bytes_: str) -> None:
    assert code(instruction) == bytes_


def offsets(p: Program) -> list[int]:
    raw = p.code({"ports": 5})
    return [struct.unpack_from("=h", raw, place + 2)[0] for place in range(0, len(raw), 8)]


def test_a_jump_leads_to_its_label_forth_and_back_over_wide_instructions() -> None:
    p = program(
        at("again", "begin", jump_if(R1, "==", 0, "end")),
        step("a number and a map take two places each", mov(R2, 1 << 40), map_into(R1, "ports")),
        step("back", jump_if(R1, ">", R2, "again"), jump("end")),
        at("end", "done", leave()),
    )
    assert offsets(p) == [6, 0, 0, 0, 0, -6, 0, 0]


@pytest.mark.parametrize(("relation", "opcode"), [("==", 0x15), ("!=", 0x55), (">", 0x25), ("<", 0xA5), ("&", 0x45)])
def test_a_comparison_of_32_bits_has_a_class_of_its_own(relation: str, opcode: int) -> None:
    for bits, expected in ((64, opcode), (32, opcode + 1)):
        p = program(step("?", jump_if(R1, relation, 7, "end", bits=bits)), at("end", "done", leave()))
        assert p.code({})[0] == expected


def test_the_upper_half_of_the_numbers_is_for_comparisons_of_32_bits() -> None:
    address = network32(0x0A0000FE)  # 10.0.0.254
    assert jump_if(R1, "==", address, "end", bits=32).number == address
    with pytest.raises(ValueError, match="say bits=32"):
        jump_if(R1, "==", 0xFE00000A, "end")
    with pytest.raises(ValueError, match="use a register"):
        add(R1, 1 << 31)


def test_numbers_of_a_packet_are_turned_round_beforehand() -> None:
    assert network16(8285).to_bytes(2, sys.byteorder) == b"\x20\x5d"
    assert network32(0x0A000001).to_bytes(4, sys.byteorder) == b"\x0a\0\0\1"
    assert [w.to_bytes(4, sys.byteorder) for w in words(b"abcdefgh")] == [b"abcd", b"efgh"]


def test_a_label_that_is_nowhere_or_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="jumps to nirgends, which is nowhere"):
        program(step("?", jump("nirgends")))
    with pytest.raises(ValueError, match="has the label end twice"):
        program(at("end", "one", leave()), at("end", "two", leave()))


def test_a_jump_that_is_too_far_is_refused() -> None:
    far = step("much", *[mov(R0, 0)] * 40_000)
    with pytest.raises(ValueError, match="40000 is too far"):
        program(step("?", jump("end")), far, at("end", "done", leave())).code({})


@pytest.mark.parametrize("name", ["", "of_sixteen_chars", "a space", "dash-ed"])
def test_a_name_that_the_kernel_would_refuse_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="1 to 15 letters"):
        Program(name, Kind.CLASSIFIER, (END,))


def test_an_instruction_is_found_in_its_step() -> None:
    p = program(step("first", map_into(R1, "ports"), mov(R2, FP)), at("end", "second", mov(R0, 0), leave()))
    assert [p.step_of(n).reason for n in range(5)] == ["first"] * 3 + ["second"] * 2  # type: ignore[union-attr]
    assert p.step_of(5) is None
    assert p.maps == {"ports"}
    assert str(p).splitlines() == ["   0              first", "   3 end          second"]
