from __future__ import annotations

import struct
from pathlib import Path

import pytest

from netloom.cni import client
from netloom.cni.native import HERE, MACHINES, executable
from netloom.cni.native.build import SIZE_LIMIT, build, compiler, versions

PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_GNU_STACK = 1, 2, 3, 0x6474E551
WRITABLE_AND_EXECUTABLE = 3


def segments(file: Path) -> list[tuple[int, int]]:
    """(type, flags) of each program header; elf(5), 64 bit, little endian."""
    data = file.read_bytes()
    assert data[:6] == b"\x7fELF\x02\x01"
    (start,), (size, count) = struct.unpack_from("<Q", data, 32), struct.unpack_from("<HH", data, 54)
    return [struct.unpack_from("<II", data, start + i * size) for i in range(count)]  # type: ignore[misc]


@pytest.mark.parametrize("machine", MACHINES)
def test_the_executable_is_small_and_stands_alone(machine: str) -> None:
    file = executable(machine)
    assert file == HERE / machine / "netloom-cni"
    assert file.stat().st_mode & 0o111
    assert file.stat().st_size <= SIZE_LIMIT
    found = segments(file)
    assert {kind for kind, _ in found} == {PT_LOAD, PT_GNU_STACK}  # neither a loader nor libraries
    assert all(flags & WRITABLE_AND_EXECUTABLE != WRITABLE_AND_EXECUTABLE for _, flags in found)


@pytest.mark.parametrize("machine", MACHINES)
def test_the_bytes_come_from_the_source(machine: str, tmp_path: Path) -> None:
    if compiler(machine) is None or versions(machine) != (HERE / machine / "compiler.txt").read_text():
        pytest.skip(f"another compiler for {machine}, or none")
    build(machine, tmp_path / "netloom-cni")
    assert (tmp_path / "netloom-cni").read_bytes() == executable(machine).read_bytes()


def test_other_machines_get_the_python_client() -> None:
    assert executable("riscv64") == Path(client.__file__)
    assert executable("riscv64").stat().st_mode & 0o111
