"""Compiles client.c:  python -m netloom.cni.native.build

The same compiler and linker give the same bytes: nothing of the time, the path or the machine goes in.  So `compiler.txt` beside
an executable names both, and whoever has these versions can prove that the bytes come from the source.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from netloom.cni.native import HERE, MACHINES

SOURCE = HERE / "client.c"
SIZE_LIMIT = 8192  # bytes

_LANGUAGE = ("-std=c11", "-Os", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror")
_FREESTANDING = (
    "-ffreestanding",
    "-nostdlib",
    "-static",
    "-fno-pie",
    "-no-pie",
    "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables",
    "-fno-unwind-tables",
    "-fno-ident",
    "-fno-tree-loop-distribute-patterns",  # else memset() is compiled to a call of memset()
)
_LINK = ("-Wl,--build-id=none,--fatal-warnings", "-Wl,-z,noexecstack,-z,norelro,-z,noseparate-code", "-s")
_MACHINE = {"x86_64": (), "aarch64": ("-mgeneral-regs-only",)}


def compiler(machine: str) -> str | None:
    """Path of the compiler for this machine type; None if it is not installed (Debian: gcc, gcc-aarch64-linux-gnu)."""
    return shutil.which(f"{machine}-linux-gnu-gcc")


def versions(machine: str) -> str:
    """Compiler and linker, a line each."""
    tools = (f"{machine}-linux-gnu-gcc", f"{machine}-linux-gnu-ld")
    texts = (subprocess.run([tool, "--version"], capture_output=True, text=True, check=True).stdout for tool in tools)
    return "".join(text.splitlines()[0] + "\n" for text in texts)


def build(machine: str, target: Path) -> None:
    gcc = compiler(machine)
    if gcc is None:
        raise FileNotFoundError(f"{machine}-linux-gnu-gcc")
    subprocess.run([gcc, *_LANGUAGE, *_FREESTANDING, *_MACHINE[machine], *_LINK, "-o", str(target), str(SOURCE)], check=True)


def main() -> None:
    for machine in MACHINES:
        directory = HERE / machine
        directory.mkdir(exist_ok=True)
        build(machine, directory / "netloom-cni")
        (directory / "compiler.txt").write_text(versions(machine))


if __name__ == "__main__":
    main()
