"""Packet by packet, with nothing but Python: a fifth of what numpy does, and still more than a system call per packet."""

from __future__ import annotations

from collections.abc import Iterator

from netloom.tunnel.forwarder.bulk import MOST_BYTES, MOST_SEGMENTS, Datagrams, Written
from netloom.tunnel.forwarder.bulk.flows import Shape, continues, is_sound, make_one, shape
from netloom.tunnel.forwarder.bulk.templates import template
from netloom.tunnel.forwarder.checksums import MODULUS, total
from netloom.tunnel.forwarder.offload import PLAIN, Super
from netloom.tunnel.forwarder.packets import TCP, UDP


class Plain:
    name = "plain Python"

    def __init__(self, *, udp_as_one: bool = True) -> None:
        self._protocols = (TCP, UDP) if udp_as_one else (TCP,)

    def cut(self, packet: memoryview, many: Super) -> Iterator[Datagrams]:
        t = template(packet, many)
        full, length = t.size + len(t.header), len(t.header)
        most = max(1, min(MOST_SEGMENTS, MOST_BYTES // full))
        out = bytearray()
        for i in range(t.packets):
            at = length + i * t.size
            payload = packet[at : at + t.size]
            size = len(payload)
            header = t.header
            if t.identification is not None:
                header = t.header_with(size, t.identification + i & 0xFFFF)
            elif size < t.size:
                header = t.header_with(size)
            made = bytearray(header)
            sum_ = t.l4_sum_with(size) + total(payload)
            if t.is_tcp:
                sequence = t.sequence + i * t.size & 0xFFFFFFFF
                made[t.l4 + 4 : t.l4 + 8] = sequence.to_bytes(4, "big")
                flags = (t.first_flags if i == 0 else 0) | (t.last_flags if i == t.packets - 1 else 0)
                made[t.l4 + 13] |= flags
                sum_ += sequence + flags
            made[t.checksum : t.checksum + 2] = (MODULUS - sum_ % MODULUS).to_bytes(2, "big")
            out += made
            out += payload
            if (i + 1) % most == 0 or i == t.packets - 1:
                yield memoryview(out), full
                out = bytearray()

    def merge(self, datagrams: memoryview, size: int) -> Iterator[Written]:
        run: list[memoryview] = []
        run_shape: Shape | None = None
        for at in range(0, len(datagrams), size):
            packet = datagrams[at : at + size]
            found = shape(packet, self._protocols)
            if found is not None and not is_sound(packet, found):
                found = None
            if run and (found is None or found != run_shape or not continues(run[-1], packet, found)):
                yield _one(run, run_shape)
                run = []
            run.append(packet)
            run_shape = found
            if found is None:
                yield _one(run, None)
                run = []
        if run:
            yield _one(run, run_shape)


def _one(run: list[memoryview], of: Shape | None) -> Written:
    if of is None or len(run) == 1:
        return PLAIN, run[0]
    whole = memoryview(bytearray(b"".join((run[0][: of.header], *(packet[of.header :] for packet in run)))))
    return make_one(whole, of, run[-1], len(run[0]) - of.header), whole
