"""Sysctls: files below /proc/sys, of the calling thread's network namespace.  Only the wanted ones are read; none is taken away.

A switch that is not there is off: on a kernel without IPv6, or an interface that is too small for it, there is nothing to close.

Names are paths with slashes (`net/ipv4/conf/loom.vxlan/rp_filter`), because names of interfaces contain dots.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from netloom.errors import DataplaneError
from netloom.model.addresses import IPV6_MTU
from netloom.reconcile import Changes, Outcome

_ROOT = "/proc/sys/"
_OFF = "0"
_LONGEST = 4096  # bytes; the kernel prints a value into one page


class Sysctls:
    """A reconcile.Driver."""

    name = "sysctls"

    def changes(self, want: Mapping[str, str]) -> Changes[str, str]:
        return Changes({name: value for name, value in want.items() if _read(name) != value.split()})

    def apply(self, changes: Changes[str, str]) -> Outcome:
        failures = []
        for name, value in changes.put.items():
            try:
                write_sysctls({name: value})
            except DataplaneError as e:
                failures.append(e)
        return Outcome(put=len(changes.put) - len(failures), failures=tuple(failures))


def write_sysctls(values: Mapping[str, str]) -> None:
    """In the order given; stops at the first refusal."""
    for name, value in values.items():
        try:
            fd = os.open(_path(name), os.O_WRONLY | os.O_CLOEXEC)  # a third of the time of `open`: it is on ADD's path
            try:
                os.write(fd, value.encode())
            finally:
                os.close(fd)
        except OSError as e:
            if isinstance(e, FileNotFoundError) and value == _OFF:
                continue
            raise DataplaneError("sysctls", name, e.strerror or str(e), errno=e.errno or 0) from e


def speaks_ipv6(mtu: int = IPV6_MTU) -> bool:
    """Whether the kernel does, on an interface with this MTU."""
    return mtu >= IPV6_MTU and os.path.exists(f"{_ROOT}net/ipv6")


def _read(name: str) -> list[str] | None:
    """The words of the value; None where it cannot be read, which a write will then report."""
    try:
        fd = os.open(_path(name), os.O_RDONLY | os.O_CLOEXEC)  # half the time of `open`: a pass reads a dozen for each pod
        try:
            return os.read(fd, _LONGEST).decode(errors="replace").split()
        finally:
            os.close(fd)
    except FileNotFoundError:
        return [_OFF]
    except OSError:
        return None


def _path(name: str) -> str:
    parts = name.split("/")
    if not all(parts) or not {".", ".."}.isdisjoint(parts):
        raise DataplaneError("sysctls", name, "is not a path of names below /proc/sys")
    return _ROOT + name
