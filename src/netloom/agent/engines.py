"""Engines: who carries what on this host, and why: programs of ours in the kernel, the kernel's own device, or a process.

                    auto, the first that can                 tunnelEngine names another
    IPIP            ebpf, kernel (its `ipip`)                 ebpf, kernel
    UDP             ebpf, forwarder (needs a TUN)             ebpf, forwarder

What a host allows is not written anywhere: privileges, seccomp, lockdown and the kernel's configuration all have a say.  So it is
tried, in a namespace that is thrown away: a map of one element and an `ifb` with a program of two instructions; a TUN; an `ipip` device.
What was chosen stands while the agent runs: a tunnel does not change hands under traffic because something was refused once.
"""

from __future__ import annotations

import errno
import ipaddress
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from netloom.dataplane import netns, tun
from netloom.dataplane.bpf import BpfError, Map, Shape, Way, attach, load, maps
from netloom.dataplane.bpf.assembler import NEXT, R0, Kind, Program, leave, mov, step
from netloom.dataplane.netlink import Netlink, NetlinkError, device, new_ifb, new_ipip
from netloom.errors import DataplaneError
from netloom.model.addresses import Mac
from netloom.model.desired import Carrier, Engine

ABLE: Mapping[Carrier, tuple[Engine, ...]] = {
    Carrier.IPIP: (Engine.EBPF, Engine.KERNEL),
    Carrier.UDP: (Engine.EBPF, Engine.FORWARDER),
}
"""Who can carry what, the best first."""
_MAC = Mac("02:00:00:00:00:01")
_NOTHING = Program("loom_try", Kind.CLASSIFIER, (step("the next program decides", mov(R0, NEXT), leave()),))

Trial = Callable[[], str | None]
"""→ why not; None: it can."""


@dataclass(frozen=True, slots=True)
class Choice:
    """`engine` None: nobody can.  `reason`: for whoever asks why it is this one, or why it is none."""

    carrier: Carrier
    engine: Engine | None
    reason: str


def choose(wish: str, trials: Mapping[Engine, Trial] | None = None) -> tuple[Choice, ...]:
    """`wish`: `auto`, or the name of an engine, which then carries what it can; for what it cannot, as `auto`."""
    known: dict[Engine, str | None] = {}
    trials = TRIALS if trials is None else trials

    def why_not(engine: Engine) -> str | None:
        if engine not in known:
            try:
                known[engine] = trials[engine]()
            except OSError as e:
                known[engine] = f"it cannot be tried: {e.strerror}"
        return known[engine]

    return tuple(_choice(carrier, wish, why_not) for carrier in Carrier)


def _choice(carrier: Carrier, wish: str, why_not: Callable[[Engine], str | None]) -> Choice:
    wished = [engine for engine in ABLE[carrier] if engine.value == wish]
    refusals: list[str] = []
    for engine in wished or ABLE[carrier]:
        reason = why_not(engine)
        if reason is None:
            because = "; ".join(refusals) if refusals else "as tunnelEngine says" if wished else "this host allows it"
            return Choice(carrier, engine, because)
        refusals.append(f"no {engine.value}: {reason}")
    return Choice(carrier, None, "; ".join(refusals))


def chosen(choices: Iterable[Choice]) -> dict[Carrier, Engine]:
    return {choice.carrier: choice.engine for choice in choices if choice.engine is not None}


def try_ebpf() -> str | None:
    with _elsewhere() as fd, netns.entered(fd), Netlink(fd) as there:
        try:
            Map.create("loom_try", Shape(maps.Kind.LPM_TRIE, key=8, value=4, room=1)).close()
            there.transact(new_ifb("loom.try", mac=_MAC, mtu=1500))
            made = device(there, "loom.try")
            assert made is not None
            with load(_NOTHING) as loaded:
                attach(there, made.index, Way.LEAVING, loaded)
        except (BpfError, NetlinkError) as e:
            return e.reason
        except DataplaneError as e:
            return str(e)
    return None


def try_forwarder() -> str | None:
    with _elsewhere() as fd, netns.entered(fd):
        try:
            os.close(tun.attach("loom.try"))
        except OSError as e:
            return f"/dev/net/tun: {e.strerror}"
    return None


def try_kernel() -> str | None:
    with _elsewhere() as fd, Netlink(fd) as there:
        try:
            there.transact(new_ipip("loom.try", ipaddress.IPv4Address("192.0.2.1"), mtu=1480))
        except NetlinkError as e:
            return "it has no ipip" if e.errno == errno.EOPNOTSUPP else e.reason
    return None


@contextmanager
def _elsewhere() -> Iterator[int]:
    """A namespace that is gone afterwards: a device that is only tried is nobody's news."""
    fd = netns.create()
    try:
        yield fd
    finally:
        os.close(fd)


TRIALS: Mapping[Engine, Trial] = {Engine.EBPF: try_ebpf, Engine.FORWARDER: try_forwarder, Engine.KERNEL: try_kernel}
