"""Programs in the kernel: load, try on a packet, ask what one is.

The kernel verifies a program before it takes it.  What it finds wrong it says of an instruction by number; the error says it of the
step, by its reason.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from netloom.dataplane.bpf.assembler import Program
from netloom.dataplane.bpf.maps import Map
from netloom.dataplane.bpf.system import BpfError, Command, address, attributes, bpf, buffer, call

_LOG = 1 << 20
_LICENCE = b"GPL\0"  # some of the kernel's functions are for programs under the GPL only
_INSTRUCTION = re.compile(r"^(\d+): \([0-9a-f]{2}\)", re.MULTILINE)
_CLUTTER = re.compile(r"^(processed|verification time|stack depth|\d+: |R\d|from |;|mark_precise|func#)")
_HEAD, _MAPS, _MAPS_OFFSET, _NAME_OFFSET, _INFO_ROOM = struct.Struct("=4xI8s"), struct.Struct("=IQ"), 52, 64, 80
"""Of struct bpf_prog_info: the program's number and tag, how many maps it uses and where their numbers are to be put, its name."""
_MOST_MAPS = 64
_PACKET_ROOM = 1 << 16
_RESULT = struct.Struct("=4xI4xI")  # of a test run: the verdict, and the length of the packet afterwards


class Loaded:
    """A program that the kernel has taken.  It lives for as long as it is attached, pinned, or open here."""

    def __init__(self, name: str, fd: int) -> None:
        self.name, self.fd = name, fd

    def close(self) -> None:
        os.close(self.fd)

    def __enter__(self) -> Loaded:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class ProgramInfo:
    """`number`: the kernel's for this one, never used again until the next boot.  `tag`: a digest of its instructions.  `maps`: those
    that it uses, by number."""

    number: int
    name: str
    tag: bytes
    maps: frozenset[int]

    def is_same(self, other: ProgramInfo) -> bool:
        """Whether one may stand for the other: the same instructions on the same maps."""
        return (self.name, self.tag, self.maps) == (other.name, other.tag, other.maps)


@dataclass(frozen=True, slots=True)
class Run:
    """What a program makes of a packet.  `verdict`: GO_ON, DROP, REDIRECT, or XDP's."""

    verdict: int
    packet: bytes


def load(program: Program, maps: Mapping[str, Map] | None = None) -> Loaded:
    """`maps`: by the names that the program has for them."""
    code = program.code({name: held.fd for name, held in (maps or {}).items()})
    try:
        return Loaded(program.name, _load(program, code))
    except BpfError as e:
        if e.errno in (errno.EPERM, errno.ENOSYS):
            raise
        log = buffer(_LOG)
        try:
            return Loaded(program.name, _load(program, code, log))
        except BpfError as again:
            raise BpfError(
                f"program {program.name}", again.errno, _complaint(program, log.value.decode(errors="replace"))
            ) from again


def run(program: Loaded, packet: bytes, *, context: bytes = b"", room: int = _PACKET_ROOM) -> Run:
    """BPF_PROG_TEST_RUN: nothing is sent; a redirect stays a verdict.  `context`: the beginning of a struct __sk_buff (for instance
    with the interface that it arrived on), else of loopback."""
    sent, found, given = buffer(packet), buffer(room), buffer(context)
    asked = attributes(
        "IIIIQQIIIIQQ",
        *(program.fd, 0, len(packet), room, address(sent), address(found), 1, 0),
        *(len(context), 0, address(given) if context else 0, 0),
    )
    call(Command.TEST_RUN, asked, what=f"program {program.name}")
    verdict, length = _RESULT.unpack_from(asked.raw)
    return Run(struct.unpack("=i", struct.pack("=I", verdict))[0], found.raw[:length])


def program_info(fd: int) -> ProgramInfo:
    """Of an open program."""
    numbers, info = buffer(4 * _MOST_MAPS), buffer(_INFO_ROOM)
    _MAPS.pack_into(info, _MAPS_OFFSET, _MOST_MAPS, address(numbers))
    bpf(Command.INFO, "IIQ", fd, _INFO_ROOM, address(info), what="program")
    (number, tag), (count, _) = _HEAD.unpack_from(info), _MAPS.unpack_from(info, _MAPS_OFFSET)
    name = info.raw[_NAME_OFFSET:].split(b"\0", 1)[0].decode(errors="replace")
    return ProgramInfo(number, name, tag, frozenset(struct.unpack_from(f"={min(count, _MOST_MAPS)}I", numbers)))


def open_program(number: int) -> int:
    """A descriptor of the program that the kernel has under that number; ENOENT if it is gone."""
    return bpf(Command.PROG_FD_BY_ID, "I", number, what=f"program {number}")


def info_of(number: int) -> ProgramInfo | None:
    """Of a program by the kernel's number; None if it is gone."""
    try:
        fd = open_program(number)
    except BpfError as e:
        if e.errno == errno.ENOENT:
            return None
        raise
    try:
        return program_info(fd)
    finally:
        os.close(fd)


def every() -> Iterator[ProgramInfo]:
    """All programs of this kernel, whoever's they are."""
    number = 0
    while True:
        asked = attributes("II", number, 0)
        try:
            call(Command.PROG_NEXT_ID, asked, what="programs")
        except BpfError as e:
            if e.errno == errno.ENOENT:
                return
            raise
        (number,) = struct.unpack_from("=I", asked, 4)
        found = info_of(number)
        if found is not None:
            yield found


def _load(program: Program, code: bytes, log: ctypes.Array[ctypes.c_char] | None = None) -> int:
    text, licence = buffer(code), buffer(_LICENCE)
    level, room, place = (1, len(log), address(log)) if log else (0, 0, 0)
    name = program.name.encode()[:15]
    head = (program.kind, len(code) // 8, address(text), address(licence), level, room, place, 0, 0, name)
    return bpf(Command.PROG_LOAD, "IIQQIIQII16s", *head, what=f"program {program.name}")


def _complaint(program: Program, log: str) -> str:
    """The verifier's last word, and the step that it was about."""
    numbers = _INSTRUCTION.findall(log)
    words = [line for line in log.splitlines() if line and not _CLUTTER.match(line)]
    step = program.step_of(int(numbers[-1])) if numbers else None
    where = f" (instruction {numbers[-1]}, in the step “{step.reason}”)" if step else ""
    return f"the verifier says: {words[-1] if words else log[-500:].strip() or 'nothing'}{where}"
