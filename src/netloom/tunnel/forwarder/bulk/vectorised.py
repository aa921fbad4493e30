"""A column of all packets at a time, by numpy.

Packets lie as rows of a matrix of bytes; a field is a few columns of it.  A call of numpy costs 0.5 µs before it has touched a byte, and
adds up 60 KB in 6 µs: so there are few calls, and what is the same for all rows, or differs in the last only, is done in Python.

Sums are those of words in the machine's own byte order: the one's complement sum does not mind which, as long as it is the same for
all that is added up (RFC 1071, section 2 B), and what comes out is stored in that order.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from netloom.tunnel.forwarder.bulk import MOST_BYTES, MOST_SEGMENTS, Datagrams, Written
from netloom.tunnel.forwarder.bulk.flows import ALONE, LAST, Shape, continues, is_sound, make_one, pseudo_sum, shape
from netloom.tunnel.forwarder.bulk.templates import Template, template
from netloom.tunnel.forwarder.checksums import MODULUS, total
from netloom.tunnel.forwarder.offload import PLAIN, Super
from netloom.tunnel.forwarder.packets import TCP, UDP, V6_HEADER

Matrix = npt.NDArray[np.uint8]
Column = npt.NDArray[np.uint32]

_ROOM = 128 << 10
"""Bytes of packets that are made at a time: a whole TCP packet of 64 KiB, with headers for each; of tiny segments it is a part."""
_COUNT = np.arange(_ROOM // 29, dtype=np.uint32)
_LITTLE = sys.byteorder == "little"
_BUT_LAST = int.from_bytes(bytes((0xFF, 0xFF & ~LAST, 0xFF, 0xFF)), sys.byteorder)
"""Of the word with TCP's flags: those that the last one alone may have."""


class Vectorised:
    name = "numpy"

    def __init__(self, *, udp_as_one: bool = True) -> None:
        self._protocols = (TCP, UDP) if udp_as_one else (TCP,)
        self._room = bytearray(_ROOM)
        self._view = memoryview(self._room)
        self._bytes = np.frombuffer(self._room, np.uint8)

    def cut(self, packet: memoryview, many: Super) -> Iterator[Datagrams]:
        t = template(packet, many)
        full = len(t.header) + t.size
        payload = np.frombuffer(packet, np.uint8)[len(t.header) :]
        at_a_time = max(1, _ROOM // full)
        most = max(1, min(MOST_SEGMENTS, MOST_BYTES // full)) * full
        for first in range(0, t.packets, at_a_time):
            length = self._fill(t, payload, first, min(at_a_time, t.packets - first))
            for start in range(0, length, most):
                yield self._view[start : min(start + most, length)], full

    def _fill(self, t: Template, payload: Matrix, first: int, count: int) -> int:
        """Packets `first` and on; returns how many bytes they are."""
        l4, size, header = t.l4, t.size, len(t.header)
        has_last = first + count == t.packets
        short = has_last and t.rest < size
        full = count - short
        rows = self._bytes[: count * (header + size)].reshape(count, header + size)
        rows[:, :header] = np.frombuffer(t.header, np.uint8)
        body = payload[first * size : (first + full) * size].reshape(full, size)
        rows[:full, header:] = body
        sums = np.empty(count, np.uint64)
        sums[:full] = _row_sums(body)
        sums += _native(t.l4_sum_with(size))
        if short:
            tail = payload[(first + full) * size :]
            last = rows[full]
            last[header : header + t.rest] = tail
            last[:header] = np.frombuffer(t.header_with(t.rest), np.uint8)
            sums[full] = _native(t.l4_sum_with(t.rest) + total(tail.tobytes()))
        if t.identification is not None:
            self._count_on(t, rows, first, short=short)
        if t.is_tcp:
            sequence = _COUNT[:count] * np.uint32(size)
            sequence += np.uint32(t.sequence + first * size & 0xFFFFFFFF)
            on_wire = sequence.astype(">u4")
            rows[:, l4 + 4 : l4 + 8] = on_wire.view(np.uint8).reshape(count, 4)
            sums += on_wire.view(np.uint32)
            if first == 0 and t.first_flags:
                rows[0, l4 + 13] |= t.first_flags
                sums[0] += _native(t.first_flags)
            if has_last and t.last_flags:
                rows[count - 1, l4 + 13] |= t.last_flags
                sums[count - 1] += _native(t.last_flags)
        _store(rows, t.checksum, sums)
        return full * (header + size) + (header + t.rest if short else 0)

    def _count_on(self, t: Template, rows: Matrix, first: int, *, short: bool) -> None:
        """Identifications, and with them the checksums of IPv4 headers."""
        assert t.identification is not None
        numbers = (_COUNT[: len(rows)] + np.uint32(first + t.identification) & np.uint32(0xFFFF)).astype(">u2")
        rows[:, 4:6] = numbers.view(np.uint8).reshape(-1, 2)
        sums = numbers.view(np.uint16).astype(np.uint64)
        sums += _native(t.ip_sum)
        if short:  # its header says another length
            sums[-1] += _native(t.rest - t.size)
        _store(rows, 10, sums)

    def merge(self, datagrams: memoryview, size: int) -> Iterator[Written]:
        full, rest = divmod(len(datagrams), size)
        of = shape(datagrams[:size], self._protocols)
        if of is None or len(datagrams) == size:
            yield from _all_alone(datagrams, size)
            return
        rows = np.frombuffer(datagrams, np.uint8, full * size).reshape(full, size)
        with_last = bool(rest) and _continues_with(datagrams, (full - 1) * size, full * size, of)
        start = 0
        ends = [] if _are_one(rows, datagrams, of) else _ends(rows, of)
        for end in (*ends, full):
            reaches = with_last and end == full
            if end - start > 1 or reaches:
                yield self._one(rows, datagrams, start, end, of, rest if reaches else 0)
            else:
                yield PLAIN, datagrams[start * size : end * size]
            start = end
        if rest and not with_last:
            yield PLAIN, datagrams[full * size :]

    def _one(self, rows: Matrix, datagrams: memoryview, start: int, end: int, of: Shape, rest: int) -> Written:
        header, count = of.header, end - start
        width = rows.shape[1]
        size = width - header
        length = header + count * size + (rest - header if rest else 0)
        room = self._bytes
        room[:header] = rows[start, :header]
        room[header : header + count * size].reshape(count, size)[:] = rows[start:end, header:]
        last = end - 1 if not rest else end
        if rest:
            room[header + count * size : length] = np.frombuffer(datagrams, np.uint8)[end * width + header :]
        whole = self._view[:length]
        return make_one(whole, of, datagrams[last * width :], size), whole


def _are_one(rows: Matrix, datagrams: memoryview, of: Shape) -> bool:
    """Whether all belong together for certain, which is the usual case and is found out by few calls on words of four bytes.
    `datagrams` begin with the first row."""
    l4, header, (count, width) = of.l4, of.header, rows.shape
    if width & 3 or of.counted:
        return False
    words = rows.view(np.uint32)
    differ = words[1:, : header >> 2] ^ words[0, : header >> 2]
    differ &= _alike(of)
    if of.protocol == TCP:
        if datagrams[l4 + 13] & LAST and count > 1:
            return False
        differ[-1:, l4 + 12 >> 2] &= _BUT_LAST
        sequence = words[:, l4 + 4 >> 2].astype(np.uint32)
        if _LITTLE:
            sequence.byteswap(inplace=True)
        sequence -= _offsets(width - header)[:count]
        if np.count_nonzero(sequence != sequence[0]):
            return False
    if np.count_nonzero(differ):
        return False
    sums = np.add.reduce(words, axis=1, dtype=np.uint64)
    fixed = pseudo_sum(datagrams, of, width) - (total(datagrams[:V6_HEADER]) if of.version == 6 else 0)
    sums += _native(fixed)
    sums %= MODULUS
    return not np.count_nonzero(sums)


@lru_cache(maxsize=64)
def _alike(of: Shape) -> Column:
    """A mask of what is the same in all that belong together and are of one length: more than in any that belong together."""
    mask = bytearray(of.same)
    lengths = [(2, 4)] if of.version == 4 else [(4, 6)]
    if of.protocol == TCP:
        mask[of.l4 + 13] = 0xFF
    else:
        lengths.append((of.l4 + 4, of.l4 + 6))
    for start, end in lengths:
        mask[start:end] = b"\xff\xff"
    return np.frombuffer(bytes(mask), np.uint32)


@lru_cache(maxsize=64)
def _offsets(size: int) -> Column:
    """Where the payload of each begins."""
    return _COUNT[: _ROOM // size + 1] * np.uint32(size)


def _ends(rows: Matrix, of: Shape) -> list[int]:
    """Rows before which something new begins.  `of`: the shape of the first row; a row of another one stays alone."""
    l4, header = of.l4, of.header
    heads = np.ascontiguousarray(rows[:, :header])
    alike = (heads[1:] ^ heads[:-1]) & np.frombuffer(of.same, np.uint8)
    belongs = ~alike.any(axis=1)
    fits = _is_sound(rows, heads, of)
    lengths = slice(2, 4) if of.version == 4 else slice(4, 6)
    fits &= (heads[:, lengths] == heads[0, lengths]).all(axis=1)
    fixed = [0, 6, 7, 9] if of.version == 4 else [0, 6]
    if of.protocol == TCP:
        flags = heads[:, l4 + 13]
        fits &= flags & ALONE == 0
        belongs &= flags[:-1] & LAST == 0
        sequence = np.ascontiguousarray(heads[:, l4 + 4 : l4 + 8]).view(">u4").ravel().astype(np.uint32)
        belongs &= sequence[1:] - sequence[:-1] == rows.shape[1] - header
        fixed.append(l4 + 12)
    else:
        fits &= (heads[:, l4 + 4 : l4 + 6] == heads[0, l4 + 4 : l4 + 6]).all(axis=1)
        fits &= heads[:, l4 + 6 : l4 + 8].any(axis=1)
    fits &= (heads[:, fixed] == heads[0, fixed]).all(axis=1)
    if of.counted:
        numbers = np.ascontiguousarray(heads[:, 4:6]).view(">u2").ravel().astype(np.uint16)
        belongs &= numbers[1:] - numbers[:-1] == 1
    belongs &= fits[1:] & fits[:-1]
    return [int(i) + 1 for i in np.flatnonzero(~belongs)]


def _is_sound(rows: Matrix, heads: Matrix, of: Shape) -> npt.NDArray[np.bool_]:
    """Whether a row's checksums are right.  An IPv4 header sums up to 0, so the whole row and the pseudo header do so, too; in IPv6 the
    header does not count, but for the addresses, which are in the pseudo header."""
    sums = _row_sums(rows).astype(np.int64)
    length = rows.shape[1] - of.l4
    if of.version == 4:
        sums += _row_sums(np.ascontiguousarray(heads[:, 12:20]))
    else:
        sums -= _row_sums(np.ascontiguousarray(heads[:, :8]))
    sums += _native(of.protocol + length)
    sound: npt.NDArray[np.bool_] = sums % MODULUS == 0
    return sound


def _continues_with(datagrams: memoryview, before: int, at: int, of: Shape) -> bool:
    """Whether what is left at the end belongs to the row before it."""
    packet = datagrams[at:]
    return (
        shape(packet) == of
        and shape(datagrams[before:at]) == of
        and continues(datagrams[before:at], packet, of)
        and is_sound(packet, of)
        and is_sound(datagrams[before:at], of)
    )


def _all_alone(datagrams: memoryview, size: int) -> Iterator[Written]:
    for at in range(0, len(datagrams), size):
        yield PLAIN, datagrams[at : at + size]


def _row_sums(rows: Matrix) -> Column:
    """Of each row, not folded; a row of odd length as if a zero followed."""
    if rows.shape[1] & 1:
        even: Column = np.add.reduce(rows[:, ::2], axis=1, dtype=np.uint32)
        odd: Column = np.add.reduce(rows[:, 1::2], axis=1, dtype=np.uint32)
        return even + (odd << 8) if _LITTLE else odd + (even << 8)
    sums: Column = np.add.reduce(rows.view(np.uint16), axis=1, dtype=np.uint32)
    return sums


def _store(rows: Matrix, at: int, sums: npt.NDArray[np.uint64]) -> None:
    """Checksums for these sums, into two columns."""
    sums %= MODULUS
    made = (MODULUS - sums).astype(np.uint16)
    rows[:, at : at + 2] = made.view(np.uint8).reshape(-1, 2)


def _native(sum_: int) -> int:
    """A sum of words as they are on the wire, as one of the machine's."""
    sum_ %= MODULUS
    return (sum_ & 0xFF) << 8 | sum_ >> 8 if _LITTLE else sum_
