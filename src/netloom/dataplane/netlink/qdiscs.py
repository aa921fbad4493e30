"""Queueing disciplines as bytes: what holds an interface to a rate, and what leads all that arrives on one to another.

    tbf     at an interface's root: a token bucket for what the interface sends
    clsact  where filters for what arrives hang; one of ours (u32, which every kernel has) takes everything, and its action (mirred)
            hands it to another interface, as if that one sent it; or filters that are eBPF programs (`bpf.hooks`), for either way

Ours are told from others' by a handle and a preference.  The kernel keeps a bucket's size as the time that it takes to fill, in ticks
of 64 ns, so what a dump says of it is never quite what was asked for: `Bucket.is_like` compares.

Sources: linux/rtnetlink.h, linux/pkt_sched.h, linux/pkt_cls.h, linux/tc_act/tc_mirred.h, net/sched/sch_tbf.c.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from netloom.dataplane.netlink.wire import (
    AF_UNSPEC,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    attribute,
    attributes,
    message,
    nested,
    text,
    to_int,
    to_text,
    u32,
)

RTM_NEWQDISC, RTM_DELQDISC, RTM_GETQDISC = 36, 37, 38
RTM_NEWTFILTER, RTM_DELTFILTER, RTM_GETTFILTER = 44, 45, 46
TCMSG = struct.Struct("=BxxxiIII")  # family, index, handle, parent, info

OUR_HANDLE = 0x4E4C0000  # "NL": `tc` shows 4e4c:
OUR_PREFERENCE = 79  # the number of our routes, too
CLASSIFIER_PREFERENCE = 80  # and up: one each
CLSACT_HANDLE = 0xFFFF0000
_ROOT, _CLSACT = 0xFFFFFFFF, 0xFFFFFFF1  # TC_H_ROOT, TC_H_CLSACT
_ARRIVING, _LEAVING = 0xFFFFFFF2, 0xFFFFFFF3  # the halves of clsact

TCA_KIND, TCA_OPTIONS, TCA_CHAIN = 1, 2, 11
TCA_TBF_PARMS, TCA_TBF_RATE64, TCA_TBF_BURST = 1, 4, 6
TCA_U32_SEL, TCA_U32_ACT = 5, 7
TCA_ACT_KIND, TCA_ACT_OPTIONS, TCA_MIRRED_PARMS = 1, 2, 2
TCA_BPF_FD, TCA_BPF_NAME, TCA_BPF_FLAGS, TCA_BPF_ID, TCA_BPF_FLAG_ACT_DIRECT = 6, 7, 8, 11, 1
TC_LINKLAYER_ETHERNET, TC_U32_TERMINAL, TC_ACT_STOLEN, TCA_EGRESS_REDIR = 1, 1, 4, 1
_ETH_P_ALL = socket.htons(0x0003)
_EVERYTHING = OUR_PREFERENCE << 16 | _ETH_P_ALL

_RATE = struct.Struct("=BBHhHI")  # struct tc_ratespec: cell_log, linklayer, overhead, cell_align, mpu, rate
_NO_RATE = bytes(_RATE.size)
_BUCKET = struct.Struct("=III")  # the end of struct tc_tbf_qopt: limit, buffer, mtu
_TBF_LENGTH = 2 * _RATE.size + _BUCKET.size
_RATE64 = struct.Struct("=Q")
_MIRRED = struct.Struct("=IIiiiiI")  # index, capabilities, action, references, binds, what to do, interface
_SELECTOR = struct.Struct("!BBBxHHhhIIIii")  # struct tc_u32_sel, and one key: mask, value, offset, its mask
_ALL = _SELECTOR.pack(TC_U32_TERMINAL, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0)

_U32 = 0xFFFFFFFF
_TICK = 64  # nanoseconds
_PRECISION = 10_000


@dataclass(frozen=True, slots=True)
class Bucket:
    """A tbf as a dump has it: bytes per second, ticks that the bucket takes to fill (their last 32 bits), bytes that may wait."""

    rate: int
    fill: int
    queue: int

    def is_like(self, rate: int, burst: int, queue: int) -> bool:
        ticks = burst * 10**9 // rate // _TICK
        off = (self.fill - ticks) & _U32
        return (self.rate, self.queue) == (rate, queue) and min(off, -off & _U32) <= 1 + ticks // _PRECISION


@dataclass(frozen=True, slots=True)
class Qdisc:
    """What stands at an interface's root, or where filters for what arrives hang (`arriving`)."""

    index: int
    kind: str
    handle: int
    arriving: bool
    bucket: Bucket | None

    @property
    def ours(self) -> bool:
        return self.handle == OUR_HANDLE and self.kind == "tbf"


@dataclass(frozen=True, slots=True)
class Classifier:
    """A filter that is an eBPF program; `program`: the kernel's number for it."""

    name: str
    preference: int
    program: int


def put_bucket(index: int, rate: int, burst: int, queue: int) -> bytes:
    """Bytes, at most 2^32 - 1 but for the rate.  Takes the place of what the kernel put there by itself, or of another of ours."""
    spec = _RATE.pack(0, TC_LINKLAYER_ETHERNET, 0, 0, 0, min(rate, _U32))
    options = (
        attribute(TCA_TBF_PARMS, spec + _NO_RATE + _BUCKET.pack(queue, 0, 0))
        + (attribute(TCA_TBF_RATE64, _RATE64.pack(rate)) if rate > _U32 else b"")
        + u32(TCA_TBF_BURST, burst)
    )
    head = TCMSG.pack(AF_UNSPEC, index, OUR_HANDLE, _ROOT, 0)
    return message(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, head + text(TCA_KIND, "tbf") + nested(TCA_OPTIONS, options))


def new_clsact(index: int) -> bytes:
    head = TCMSG.pack(AF_UNSPEC, index, CLSACT_HANDLE, _CLSACT, 0)
    return message(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, head + text(TCA_KIND, "clsact"))


def delete_root(index: int) -> bytes:
    return message(RTM_DELQDISC, 0, TCMSG.pack(AF_UNSPEC, index, 0, _ROOT, 0))


def delete_arriving(index: int) -> bytes:
    """With all filters that hang there."""
    return message(RTM_DELQDISC, 0, TCMSG.pack(AF_UNSPEC, index, 0, _CLSACT, 0))


def new_redirect(index: int, to: int) -> bytes:
    """Everything that arrives on `index` goes to `to`, which sends it; it then goes on from where it was taken."""
    parameters = _MIRRED.pack(0, 0, TC_ACT_STOLEN, 0, 0, TCA_EGRESS_REDIR, to)
    action = text(TCA_ACT_KIND, "mirred") + nested(TCA_ACT_OPTIONS, attribute(TCA_MIRRED_PARMS, parameters))
    options = attribute(TCA_U32_SEL, _ALL) + nested(TCA_U32_ACT, attribute(1, action))
    head = TCMSG.pack(AF_UNSPEC, index, 0, _ARRIVING, _EVERYTHING)
    return message(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, head + text(TCA_KIND, "u32") + nested(TCA_OPTIONS, options))


def delete_redirect(index: int) -> bytes:
    """All filters of our preference."""
    return message(RTM_DELTFILTER, 0, TCMSG.pack(AF_UNSPEC, index, 0, _ARRIVING, _EVERYTHING))


def get_qdiscs() -> bytes:
    """To be dumped: of all interfaces."""
    return message(RTM_GETQDISC, 0, TCMSG.pack(AF_UNSPEC, 0, 0, 0, 0))


def put_classifier(index: int, program: int, name: str, preference: int, *, leaving: bool) -> bytes:
    """An open eBPF program, by descriptor, that also gives the verdict.  Takes the place of one of the same preference; needs clsact."""
    options = u32(TCA_BPF_FD, program) + text(TCA_BPF_NAME, name) + u32(TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT)
    head = TCMSG.pack(AF_UNSPEC, index, 1, _LEAVING if leaving else _ARRIVING, preference << 16 | _ETH_P_ALL)
    return message(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_REPLACE, head + text(TCA_KIND, "bpf") + nested(TCA_OPTIONS, options))


def delete_classifier(index: int, preference: int, *, leaving: bool) -> bytes:
    head = TCMSG.pack(AF_UNSPEC, index, 0, _LEAVING if leaving else _ARRIVING, preference << 16 | _ETH_P_ALL)
    return message(RTM_DELTFILTER, 0, head)


def get_filters(index: int, *, leaving: bool = False) -> bytes:
    """To be dumped: what hangs at an interface for what arrives, or leaves."""
    return message(RTM_GETTFILTER, 0, TCMSG.pack(AF_UNSPEC, index, 0, _LEAVING if leaving else _ARRIVING, 0))


def is_made(body: bytes) -> bool:
    """Whether somebody made this qdisc: those that the kernel puts there by itself have no handle.  They are the most by far."""
    return bool(TCMSG.unpack_from(body)[2])


def parse_qdisc(body: bytes) -> Qdisc | None:
    """None for one that hangs below another."""
    _, index, handle, parent, _ = TCMSG.unpack_from(body)
    if parent not in (_ROOT, _CLSACT):
        return None
    found = attributes(body, TCMSG.size)
    kind = to_text(found.get(TCA_KIND, b""))
    bucket = _parse_bucket(found.get(TCA_OPTIONS, b"")) if kind == "tbf" else None
    return Qdisc(index, kind, handle, parent == _CLSACT, bucket)


def parse_redirects(bodies: Iterable[bytes]) -> list[int]:
    """Of a dump of filters, where each rule of our preference leads; 0 for one that is no rule of ours."""
    found = []
    for body in bodies:
        _, _, handle, _, info = TCMSG.unpack_from(body)
        if info >> 16 == OUR_PREFERENCE and handle & 0xFFF:  # a rule, and not the table that it is in
            found.append(_leads_to(attributes(body, TCMSG.size)) if info == _EVERYTHING else 0)
    return found


def parse_classifiers(bodies: Iterable[bytes]) -> list[Classifier]:
    """Of a dump of filters, those that are eBPF programs."""
    found = []
    for body in bodies:
        each = attributes(body, TCMSG.size)
        options = attributes(each.get(TCA_OPTIONS, b"")) if to_text(each.get(TCA_KIND, b"")) == "bpf" else {}
        if TCA_BPF_ID in options:
            *_, info = TCMSG.unpack_from(body)
            found.append(Classifier(to_text(options.get(TCA_BPF_NAME, b"")), info >> 16, to_int(options[TCA_BPF_ID])))
    return found


def _parse_bucket(options: bytes) -> Bucket | None:
    found = attributes(options)
    parameters = found.get(TCA_TBF_PARMS, b"")
    if len(parameters) != _TBF_LENGTH:
        return None
    *_, rate = _RATE.unpack_from(parameters)
    queue, fill, smallest = _BUCKET.unpack_from(parameters, 2 * _RATE.size)
    if smallest or any(parameters[_RATE.size : 2 * _RATE.size]):
        return None  # with a second bucket, for a peak rate
    return Bucket(to_int(found[TCA_TBF_RATE64]) if TCA_TBF_RATE64 in found else rate, fill, queue)


def _leads_to(found: dict[int, bytes]) -> int:
    options = attributes(found.get(TCA_OPTIONS, b""))
    actions = attributes(options.get(TCA_U32_ACT, b""))
    if to_text(found.get(TCA_KIND, b"")) != "u32" or to_int(found.get(TCA_CHAIN, b"")):
        return 0
    if not options.get(TCA_U32_SEL, b"").startswith(_ALL) or len(actions) != 1:
        return 0
    [action] = (attributes(one) for one in actions.values())
    parameters = attributes(action.get(TCA_ACT_OPTIONS, b"")).get(TCA_MIRRED_PARMS, b"")
    if to_text(action.get(TCA_ACT_KIND, b"")) != "mirred" or len(parameters) < _MIRRED.size:
        return 0
    _, _, verdict, _, _, way, interface = _MIRRED.unpack_from(parameters)
    return int(interface) if (verdict, way) == (TC_ACT_STOLEN, TCA_EGRESS_REDIR) else 0
