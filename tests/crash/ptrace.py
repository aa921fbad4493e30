"""Standing beside a process and deciding, at each system call that changes something, what becomes of it.

    with Tracer(pid, folder) as tracer:
        tracer.arm(Kill(Point("write run/journal", 2)))   the process dies before it does this for the second time from now on
        ...
        tracer.points                                 what it did, in such words

`strace -e inject=` can do nearly that, but it counts for each thread by itself, so calls of a second thread are never reached,
and it sees numbers where the subject is needed: a write to a log changes nothing, one to the journal does.  Here all threads
share the counters, and a call counts only if it changes the kernel's tables, a file, or what somebody else has been told.

Every stop goes through Python, some 30 µs; an ADD becomes ten times slower, and nothing else changes.  ptrace(2) binds tracees
to the thread that seized them, so one thread does it all; `__WNOTHREAD` keeps it from reaping other threads' children.
x86-64 only: numbers and registers are.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import socket
import struct
import threading
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from types import TracebackType

_CONTINUE_TO_CALL, _GETREGS, _SETREGS = 24, 12, 13  # linux/ptrace.h, asm/ptrace-abi.h
_SEIZE, _INTERRUPT, _LISTEN, _GET_SYSCALL_INFO = 0x4206, 0x4207, 0x4208, 0x420E
_SYSGOOD, _FORK, _VFORK, _CLONE, _EXEC, _EXITKILL = 1, 2, 4, 8, 0x10, 0x100000
_OPTIONS = _SYSGOOD | _FORK | _VFORK | _CLONE | _EXEC | _EXITKILL
_EVENT_STOP = 128
_WALL, _WNOTHREAD = 0x40000000, 0x20000000  # linux/wait.h
_ENDS = (os.CLD_EXITED, os.CLD_KILLED, os.CLD_DUMPED)
_PIDFD_GETFD = 438
_SYSCALL_ENTRY = 1
_STOPS = (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)

_NUMBERS = {  # asm/unistd_64.h
    "write": (1,),
    "pwrite": (18,),
    "writev": (20,),
    "open": (257,),
    "fsync": (74, 75),
    "truncate": (77,),
    "allocate": (285,),
    "rename": (82, 264, 316),
    "unlink": (87, 263),
    "mkdir": (83, 258),
    "rmdir": (84,),
    "link": (86, 265),
    "symlink": (88, 266),
    "send": (44, 46),
    "connect": (42,),
    "bind": (49,),
    "setns": (308,),
    "mount": (165,),
    "umount": (166,),
}
_NAMES = {number: name for name, numbers in _NUMBERS.items() for number in numbers}
_OF_A_DESCRIPTOR = {"write", "pwrite", "writev", "fsync", "truncate", "allocate"}
_OF_A_SOCKET = {"send", "connect", "bind"}
_SENDTO = 44
_PATH_ARGUMENT = {257: 1, 264: 3, 316: 3, 82: 1, 263: 1, 258: 1, 265: 3, 266: 2, 86: 1, 88: 1}  # of the result; else 0
_O_WRITES = os.O_CREAT | os.O_TRUNC
_NETLINK_ROUTE, _NETLINK_NETFILTER = 0, 12
_ROUTE_MESSAGES = {16: "LINK", 20: "ADDR", 24: "ROUTE", 28: "NEIGH", 32: "RULE", 36: "QDISC", 72: "NETCONF", 80: "MDB"}
_VERBS = ("NEW", "DEL", "GET", "SET")
_NFT, _CONNTRACK = 10, 1  # linux/netfilter/nfnetlink.h
_NFT_MESSAGES = ("TABLE", "CHAIN", "RULE", "SET", "ELEMENT", "GEN", "TRACE", "OBJECT", "FLOWTABLE")

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_libc.ptrace.restype = ctypes.c_long


@dataclass(frozen=True, slots=True)
class Point:
    """A call, by what it does; `nth`: the same may come more than once.  A number among all calls would not do: two threads do not
    always come in the same order."""

    what: str
    nth: int = 1

    def __str__(self) -> str:
        return self.what if self.nth == 1 else f"{self.what} ({self.nth})"


@dataclass(frozen=True, slots=True)
class Kill:
    """The process dies before this call."""

    point: Point


@dataclass(frozen=True, slots=True)
class Fail:
    """This call does nothing and fails with `code`."""

    point: Point
    code: int


Order = Kill | Fail


_RAX, _ORIG_RAX = 10, 15  # sys/user.h: struct user_regs_struct


class Tracer:
    """`folder`: the files that count lie below it (and sysctls).  `points`: what was done since `arm`; `hit`: the one that the
    order met, None as long as it was not met.  `close` kills it if it lives."""

    def __init__(self, pid: int, folder: str) -> None:
        self._pid, self._folder = pid, folder
        self.points: list[str] = []
        self.hit: Point | None = None
        self.last = time.monotonic()
        self._order: Order | None = None
        self._failing: dict[int, int] = {}
        self._ready = threading.Event()
        self._error: OSError | None = None
        self._pidfd = os.pidfd_open(pid)
        self._thread = threading.Thread(target=self._run, name="tracing", daemon=True)

        self._thread.start()
        self._ready.wait()
        if self._error:
            raise self._error

    def __enter__(self) -> Tracer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        self.join()
        os.close(self._pidfd)

    def join(self) -> None:
        """Until the process has ended."""
        self._thread.join(60)

    def arm(self, order: Order | None) -> None:
        self.points, self.hit, self.last = [], None, time.monotonic()
        self._order = order

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def settle(self, quiet: float = 0.5, longest: float = 10.0) -> None:
        """Until the process has ended, or has changed nothing for `quiet` seconds: an agent publishes what it did a little later."""
        deadline = time.monotonic() + longest
        while not self.ended and time.monotonic() < deadline and time.monotonic() - self.last < quiet:
            self._thread.join(0.01)
        if isinstance(self._order, Kill) and self.hit:
            self._thread.join(10)

    # The thread

    def _run(self) -> None:
        try:
            self._seize()
        except OSError as e:
            self._error = e
            return
        finally:
            self._ready.set()
        while True:
            seen = os.waitid(os.P_ALL, 0, os.WEXITED | os.WSTOPPED | os.WNOWAIT | _WALL | _WNOTHREAD)
            assert seen is not None
            if seen.si_pid == self._pid and seen.si_code in _ENDS:
                return  # whoever started it reaps it
            thread, status = os.waitpid(seen.si_pid, _WALL | _WNOTHREAD)
            if os.WIFSTOPPED(status):
                with suppress(ProcessLookupError):  # killed meanwhile
                    self._stopped(thread, status)

    def _seize(self) -> None:
        """All threads; those that begin meanwhile come by the clone event of one that is traced, or are found on another look."""
        seized: set[int] = set()
        while True:
            threads = {int(name) for name in os.listdir(f"/proc/{self._pid}/task")} - seized
            if not threads:
                return
            for thread in threads:
                try:
                    _ptrace(_SEIZE, thread, 0, _OPTIONS)
                except PermissionError:
                    if not seized:
                        raise
                    continue  # it is ours already, by its maker's clone event
                _ptrace(_INTERRUPT, thread)
            seized |= threads

    def _stopped(self, thread: int, status: int) -> None:
        number, event = os.WSTOPSIG(status), status >> 16
        if number == signal.SIGTRAP | 0x80:
            self._call(thread)
        elif event == _EVENT_STOP and number in _STOPS:
            _ptrace(_LISTEN, thread)
            return
        elif not event:
            _ptrace(_CONTINUE_TO_CALL, thread, 0, number)
            return
        _ptrace(_CONTINUE_TO_CALL, thread)

    def _call(self, thread: int) -> None:
        info = ctypes.create_string_buffer(88)
        _ptrace(_GET_SYSCALL_INFO, thread, len(info), ctypes.addressof(info))
        if info.raw[0] != _SYSCALL_ENTRY:
            if thread in self._failing:
                self._write_registers(thread, _RAX, -self._failing.pop(thread))
            return
        number, *arguments = struct.unpack_from("=7Q", info.raw, 24)
        name = _NAMES.get(number)
        point = self._describe(thread, number, name, arguments) if name else None
        if point is None:
            return
        self.points.append(point)
        self.last = time.monotonic()
        if self._order is None or self._order.point != Point(point, self.points.count(point)):
            return
        self.hit = self._order.point
        if isinstance(self._order, Kill):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        else:
            self._failing[thread] = self._order.code
            self._write_registers(thread, _ORIG_RAX, -1)

    def _write_registers(self, thread: int, index: int, value: int) -> None:
        registers = ctypes.create_string_buffer(27 * 8)
        _ptrace(_GETREGS, thread, 0, ctypes.addressof(registers))
        struct.pack_into("=q", registers, index * 8, value)
        _ptrace(_SETREGS, thread, 0, ctypes.addressof(registers))

    # What a call is about; None if it changes nothing that counts

    def _describe(self, thread: int, number: int, name: str, arguments: list[int]) -> str | None:
        if name in _OF_A_DESCRIPTOR:
            where = self._descriptor(arguments[0])
            if where.startswith("pipe:"):
                return "write stdout" if arguments[0] == 1 else None
            file = self._file(where)
            return f"{name} {file}" if file else None
        if name in _OF_A_SOCKET:
            return self._on_socket(thread, number, name, arguments)
        if name == "setns":
            return name
        if name == "open" and not arguments[2] & _O_WRITES:
            return None
        file = self._file(self._text(thread, arguments[_PATH_ARGUMENT.get(number, 0)]))
        return f"{name} {file}" if file else None

    def _file(self, path: str) -> str | None:
        if path.startswith(self._folder + "/"):
            file = path.removeprefix(self._folder + "/")
            return None if file.endswith(".log") else _anonymous(file)
        return "sysctl" if path.startswith("/proc/sys/") else None

    def _descriptor(self, number: int) -> str:
        with suppress(OSError):
            return os.readlink(f"/proc/{self._pid}/fd/{number}")
        return ""

    def _on_socket(self, thread: int, number: int, name: str, arguments: list[int]) -> str | None:
        copy = _libc.syscall(_PIDFD_GETFD, self._pidfd, ctypes.c_int(arguments[0]), 0)
        if copy < 0:
            return None
        try:
            with closing(socket.socket(fileno=copy)) as here:
                if here.family == socket.AF_NETLINK:
                    if number != _SENDTO:
                        return None
                    return _messages(here.proto, self._memory(thread, arguments[1], min(arguments[2], 1 << 17)))
                if here.family != socket.AF_UNIX:
                    return None
                if name in ("connect", "bind"):
                    where = self._text(thread, arguments[1] + 2)
                else:
                    where = str(here.getsockname() or _peer(here) or "")
        except OSError:
            return None
        file = self._file(where)
        return f"{name} {file}" if file else None

    def _text(self, thread: int, address: int) -> str:
        return self._memory(thread, address, 512).partition(b"\0")[0].decode(errors="replace")

    def _memory(self, thread: int, address: int, length: int) -> bytes:
        with open(f"/proc/{thread}/mem", "rb", buffering=0) as memory:
            try:
                return os.pread(memory.fileno(), length, address)
            except OSError:  # it reaches into a page that is not there: up to its end
                return os.pread(memory.fileno(), min(length, 4096 - address % 4096), address)


def _peer(here: socket.socket) -> object:
    with suppress(OSError):
        return here.getpeername()
    return None


def _anonymous(file: str) -> str:
    """Names that hold a time or a process are all the same thing."""
    folder, _, name = file.rpartition("/")
    return f"{folder}/TOMBSTONE" if folder.endswith("tombstones") and name != "tombstones" else file


def _messages(protocol: int, data: bytes) -> str | None:
    """The requests in one send; None if they only ask."""
    names = []
    offset = 0
    while offset + 16 <= len(data):
        length, kind = struct.unpack_from("=IH", data, offset)
        names.append(_message(protocol, kind))
        if length < 16:
            break
        offset += length + 3 & ~3
    shown = [name for name in names if name and not name.startswith("GET")]
    if not shown:
        return None
    return ("netlink " if protocol == _NETLINK_ROUTE else "netfilter ") + " ".join(dict.fromkeys(shown))


def _message(protocol: int, kind: int) -> str:
    if protocol == _NETLINK_ROUTE:
        return _VERBS[kind % 4] + _ROUTE_MESSAGES.get(kind & ~3, str(kind))
    if protocol != _NETLINK_NETFILTER:
        return ""
    family, number = kind >> 8, kind & 0xFF
    if family == _CONNTRACK:
        return ("NEWCONNTRACK", "GETCONNTRACK", "DELCONNTRACK")[number] if number < 3 else "GET"
    if family != _NFT:
        return ""  # the batch's begin and end
    if number >= 18:
        return f"NFT{number}" if number != 19 else "GET"
    verb = ("NEW", "GET", "DEL")[number % 3]
    return verb + _NFT_MESSAGES[number // 3]


def _ptrace(request: int, thread: int, address: int = 0, data: int = 0) -> None:
    if _libc.ptrace(request, thread, address, data) < 0:
        code = ctypes.get_errno()
        if code == errno.ESRCH:
            raise ProcessLookupError(code, os.strerror(code))
        raise OSError(code, f"ptrace: {os.strerror(code)}")
