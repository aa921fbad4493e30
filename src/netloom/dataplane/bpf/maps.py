"""Maps: what programs look up, and what outlives them.

    LPM_TRIE    keys are a length and that many bits of an address: the longest match counts (`prefix_key`)
    HASH        exact keys
    COUNTERS    exact keys, a value for each processor: `sums` adds them up, and no packet waits for another's

Keys and values are bytes; whoever makes a map knows what they mean.  An element is replaced at once: a packet finds the old or
the new one.  A map lives as long as a program uses it, a descriptor is open, or a file in a bpffs stands for it (`pins`).
"""

from __future__ import annotations

import enum
import errno
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from netloom.dataplane.bpf.system import BpfError, Command, address, attributes, bpf, buffer, call
from netloom.errors import DataplaneError
from netloom.model.addresses import Prefix

_NO_PREALLOC = 1
_BATCH = 1024
_ENOTSUPP = 524  # the kernel's own: this kind of map cannot do that
_INFO = struct.Struct("=IIIIII16s")  # struct bpf_map_info: type, id, sizes of key and value, most elements, flags, name


class Kind(enum.IntEnum):
    """BPF_MAP_TYPE_*"""

    HASH = 1
    ARRAY = 2
    COUNTERS = 5  # per-CPU hash
    LPM_TRIE = 11


@dataclass(frozen=True, slots=True)
class Shape:
    """What a map must be to be taken for one of ours.  Bytes of key and value; of COUNTERS, the value of one processor."""

    kind: Kind
    key: int
    value: int
    room: int


class Map:
    """An open map.  Reading while others write gives what was there at some time."""

    def __init__(self, name: str, shape: Shape, fd: int) -> None:
        self.name, self.shape, self.fd = name, shape, fd

    @classmethod
    def create(cls, name: str, shape: Shape) -> Map:
        flags = 0 if shape.kind is Kind.ARRAY else _NO_PREALLOC  # memory as elements come
        head = (shape.kind, shape.key, shape.value, shape.room, flags, 0, 0, name.encode()[:15])
        return cls(name, shape, bpf(Command.MAP_CREATE, "IIIIIII16s", *head, what=f"map {name}"))

    def close(self) -> None:
        os.close(self.fd)

    @property
    def id(self) -> int:
        return map_info(self.fd, self.name)[0]

    def __getitem__(self, key: bytes) -> bytes:
        """KeyError where there is none."""
        value = self._lookup(key)
        if value is None:
            raise KeyError(key)
        return value

    def __setitem__(self, key: bytes, value: bytes) -> None:
        k, v = buffer(key), buffer(value.ljust(self._value_room, b"\0"))
        bpf(Command.MAP_UPDATE, "IxxxxQQQ", self.fd, address(k), address(v), 0, what=f"map {self.name}")

    def __delitem__(self, key: bytes) -> None:
        """Whether or not it is there."""
        k = buffer(key)
        try:
            bpf(Command.MAP_DELETE, "IxxxxQ", self.fd, address(k), what=f"map {self.name}")
        except BpfError as e:
            if e.errno != errno.ENOENT:
                raise

    def keys(self) -> Iterator[bytes]:
        """Those that are there from beginning to end, and perhaps others.  DataplaneError where others change it too often."""
        seen: set[bytes] = set()
        found, last = buffer(self.shape.key), None
        for _ in range(2 * self.shape.room + 2):
            try:
                at = address(last) if last else 0
                bpf(Command.MAP_NEXT_KEY, "IxxxxQQ", self.fd, at, address(found), what=f"map {self.name}")
            except BpfError as e:
                if e.errno == errno.ENOENT:
                    return
                raise
            if found.raw not in seen:  # if it is, the last one was deleted meanwhile, and the kernel has begun anew
                seen.add(found.raw)
                yield found.raw
            last = buffer(found.raw)
        raise DataplaneError("bpf", f"map {self.name}", "changes faster than it can be read", errno=errno.EAGAIN)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Many at a time where the kernel can."""
        try:
            yield from self._batches()
        except BpfError as e:
            if e.errno not in (errno.EINVAL, _ENOTSUPP):
                raise
            for key in self.keys():
                value = self._lookup(key)
                if value is not None:
                    yield key, value

    def sums(self) -> Iterator[tuple[bytes, tuple[int, ...]]]:
        """Of COUNTERS: each key, and its counters of 64 bits over all processors."""
        width = self.shape.value // 8
        for key, value in self.items():
            numbers = struct.unpack(f"={len(value) // 8}Q", value)
            yield key, tuple(sum(numbers[i::width]) for i in range(width))

    def _batches(self) -> Iterator[tuple[bytes, bytes]]:
        """The first refusal comes before the first element."""
        key, value, more = self.shape.key, self._value_room, True
        last, keys, values = buffer(max(key, 4)), buffer(_BATCH * key), buffer(_BATCH * value)
        after = 0
        while more:
            places = (after, address(last), address(keys), address(values))
            asked = attributes("QQQQIIQQ", *places, _BATCH, self.fd, 0, 0)
            try:
                call(Command.MAP_LOOKUP_BATCH, asked, what=f"map {self.name}")
            except BpfError as e:
                if e.errno != errno.ENOENT:  # that was the end
                    raise
                more = False
            (count,) = struct.unpack_from("=I", asked, 32)
            found_keys, found_values = keys.raw, values.raw
            for n in range(count):
                yield found_keys[n * key : (n + 1) * key], found_values[n * value : (n + 1) * value]
            after = address(last)

    @property
    def _value_room(self) -> int:
        """Per-CPU values lie one after the other, each rounded up to eight bytes."""
        if self.shape.kind is not Kind.COUNTERS:
            return self.shape.value
        return -(-self.shape.value // 8) * 8 * possible_processors()

    def _lookup(self, key: bytes) -> bytes | None:
        k, v = buffer(key), buffer(self._value_room)
        try:
            bpf(Command.MAP_LOOKUP, "IxxxxQQQ", self.fd, address(k), address(v), 0, what=f"map {self.name}")
        except BpfError as e:
            if e.errno == errno.ENOENT:
                return None
            raise
        return v.raw


def map_info(fd: int, name: str) -> tuple[int, Shape | None]:
    """The kernel's number for it, and its shape; None for one of another kind."""
    info = buffer(_INFO.size)
    bpf(Command.INFO, "IIQ", fd, _INFO.size, address(info), what=f"map {name}")
    kind, number, key, value, room, _, _ = _INFO.unpack(info.raw)
    known = kind in set(Kind)
    return number, Shape(Kind(kind), key, value, room) if known else None


def prefix_key(prefix: Prefix, before: bytes = b"") -> bytes:
    """As an LPM_TRIE has it: the length in the host's order, then the bits.  `before`: bytes that must be the same."""
    return struct.pack("=I", 8 * len(before) + prefix.prefixlen) + before + prefix.network_address.packed


@cache
def possible_processors() -> int:
    """Those that may ever be there, `0-3,8`: per-CPU values have room for each."""
    text = Path("/sys/devices/system/cpu/possible").read_text().strip()
    return max(int(part.split("-")[-1]) for part in text.split(",")) + 1
