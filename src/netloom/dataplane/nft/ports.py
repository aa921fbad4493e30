"""Published ports: a table of its own, which is there while any port is published.

A connection to an address of this host is looked up once, whatever the number of ports: `ports4` is keyed by protocol, host address
and port, `any4` by protocol and port for those that are published on every address; both lead to a pod's address and port
(`ports6`, `any6` likewise).  What is not in them goes on to the host.  That happens where packets come in and where the host's own
begin, so the host reaches the port by its own addresses, 127.0.0.1 included; and before the rules of others at the usual
priority.

The pod sees its client's address, but where the answer would take another way than the question:

    hairpin4, hairpin6   (pod, pod): the client is the pod itself
    beside4, beside6     (bridge, network): the client is on the same bridge, in the pod's own network, and would be answered directly
    127.0.0.0/8          the client is the host, by an address that means the pod itself there

Such connections get the host's address.  A packet for or from 127.0.0.0/8 on any interface but lo is dropped before anything else
looks at it: `route_localnet`, which the host's own connections need, would let it in (CVE-2020-8558).

A process of the host that listens on a published port is not looked for: the mapping comes first, as with the reference plugin.  Some
runtimes (podman) hold the port themselves to keep others off.

::1 is passed over.  IPv6 has no `route_localnet`: what goes to a pod would carry a source that no pod can answer.
"""

from __future__ import annotations

import errno
import functools
import ipaddress
import struct
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final

from netloom.dataplane.nft import expressions as e
from netloom.dataplane.nft.expressions import Header, Meta
from netloom.dataplane.nft.nfnetlink import Message, Nfnetlink
from netloom.dataplane.nft.objects import (
    ADDRESS,
    IFNAME,
    INET,
    INET_PROTO,
    INET_SERVICE,
    Hook,
    Map,
    Ranges,
    Set,
    TableId,
    add_chain,
    add_rule,
    add_set,
    add_table,
)
from netloom.dataplane.nft.tables import WhileNeeded
from netloom.errors import DataplaneError
from netloom.model.addresses import host_prefix
from netloom.model.desired import Published
from netloom.reconcile import Outcome

TABLE: Final = TableId(INET, "netloom-ports")

PROTOCOLS: Final = {"tcp": 6, "udp": 17, "sctp": 132}

_PREROUTING, _OUTPUT, _POSTROUTING = 0, 3, 4  # linux/netfilter.h
_RAW, _BEFORE_DSTNAT, _BEFORE_SRCNAT = -300, -105, 95
_HOOKS: Final = {
    "raw": Hook(_PREROUTING, _RAW),
    "prerouting": Hook(_PREROUTING, _BEFORE_DSTNAT, "nat"),
    "output": Hook(_OUTPUT, _BEFORE_DSTNAT, "nat"),
    "postrouting": Hook(_POSTROUTING, _BEFORE_SRCNAT, "nat"),
}
_LOOPBACK = "lo"
_LOOPBACK_NET = ipaddress.ip_network("127.0.0.0/8")
_LOOPBACK6 = ipaddress.ip_network("::1/128")
_PROTOCOL, _PORT = struct.Struct(">Bxxx"), struct.Struct(">Hxx")  # a register each

PORTS: Final = {v: Map(TABLE, f"ports{v}", (INET_PROTO, ADDRESS[v], INET_SERVICE), (ADDRESS[v], INET_SERVICE)) for v in (4, 6)}
ANY: Final = {v: Map(TABLE, f"any{v}", (INET_PROTO, INET_SERVICE), (ADDRESS[v], INET_SERVICE)) for v in (4, 6)}
HAIRPIN: Final = {v: Set(TABLE, f"hairpin{v}", (ADDRESS[v], ADDRESS[v])) for v in (4, 6)}
BESIDE: Final = {v: Ranges(TABLE, f"beside{v}", (IFNAME, ADDRESS[v])) for v in (4, 6)}
SETS: Final[tuple[Set, ...]] = (*PORTS.values(), *ANY.values(), *HAIRPIN.values(), *BESIDE.values())


class Ports:
    """On the driver's socket.  `record` as of `Standing`."""

    def __init__(self, kernel: Nfnetlink, record: str | None) -> None:
        self.table = WhileNeeded(kernel, TABLE, _structure, record)

    def admit(self, published: Collection[Published], others: Sequence[Message]) -> None:
        """In one transaction with the `others`.  Fails where their tables are missing."""
        self.table.add(keys(published), others)

    def expel(self, published: Collection[Published], *, last: bool) -> None:
        """Also if they are gone already.  `last`: no other is published, and the table goes.  Networks may be those of other pods, too,
        and stay."""
        if last:
            self.table.remove()
        else:
            self.table.take_out({d: found for d, found in keys(published).items() if d not in BESIDE.values()})

    def holds(self, published: Collection[Published]) -> bool:
        """Whether the kernel leads all of these to their pods."""
        return self.table.hold(keys(published))

    def published(self) -> frozenset[Published]:
        """What the kernel holds, whoever put it there; without the pods' interfaces and networks."""
        try:
            return frozenset(
                port
                for version in (4, 6)
                for definition in (PORTS[version], ANY[version])
                for element in self.table.read(definition)
                if (port := _decoded(version, element, anywhere=definition is ANY[version]))
            )
        except DataplaneError as error:
            if error.errno == errno.ENOENT:
                return frozenset()
            raise

    def reconcile(self, published: Collection[Published]) -> Outcome:
        return self.table.reconcile({d: frozenset[bytes]() for d in SETS} | keys(published) if published else None)


def keys(published: Iterable[Published]) -> dict[Set, frozenset[bytes]]:
    """What each set has to hold for these; sets that hold nothing are left out."""
    found: dict[Set, set[bytes]] = {}
    for port in published:
        version = port.address.version
        protocol, host = _PROTOCOL.pack(PROTOCOLS[port.protocol]), port.host_address
        key = protocol + (host.packed if host else b"") + _PORT.pack(port.host_port)
        found.setdefault((PORTS if host else ANY)[version], set()).add(key + port.address.packed + _PORT.pack(port.port))
        found.setdefault(HAIRPIN[version], set()).add(port.address.packed + port.address.packed)
        if port.beside.num_addresses > 1:
            interface, first, last = port.interface.encode().ljust(16, b"\0"), port.beside[0], port.beside[-1]
            found.setdefault(BESIDE[version], set()).add(interface + first.packed + interface + last.packed)
    return {definition: frozenset(elements) for definition, elements in found.items()}


def _decoded(version: int, element: bytes, *, anywhere: bool) -> Published | None:
    """None for a protocol that we never write."""
    length = 4 if version == 4 else 16
    number, rest = element[0], element[4:]
    host = None if anywhere else ipaddress.ip_address(rest[:length])
    rest = rest if anywhere else rest[length:]
    protocol = next((name for name, value in PROTOCOLS.items() if value == number), None)
    if protocol is None:
        return None
    address, port = ipaddress.ip_address(rest[4 : 4 + length]), rest[4 + length :]
    return Published(protocol, host, _PORT.unpack(rest[:4])[0], address, _PORT.unpack(port)[0], "", host_prefix(address))


@functools.cache
def _structure() -> tuple[Message, ...]:
    """All but the elements."""
    batch = [add_table(TABLE), *(add_set(definition, number) for number, definition in enumerate(SETS, 1))]
    batch += (add_chain(TABLE, name, _HOOKS.get(name)) for name in ("published", *_HOOKS))
    batch += (add_rule(TABLE, chain, (steps,), comment) for chain, steps, comment in _rules())
    return tuple(batch)


def _rules() -> Iterator[tuple[str, bytes, str]]:
    outside = e.ip_version(4, bridge=False) + e.from_exactly(_LOOPBACK, invert=True)
    for address in (e.source(4), e.destination(4)):
        yield "raw", outside + address + e.within(_LOOPBACK_NET) + e.counter() + e.drop(), "loopback is the host's own"
    for chain in ("prerouting", "output"):
        yield chain, e.is_local() + e.goto("published"), "to an address of this host"
    here = e.ip_version(6, bridge=False) + e.destination(6) + e.within(_LOOPBACK6)
    yield "published", here + e.accept(), "no pod can answer ::1"
    for version in (4, 6):
        family, protocol = e.ip_version(version, bridge=False), e.load_meta(Meta.L4PROTO)
        address, width = e.destination(version, e.REGISTER + 1), 1 if version == 4 else 4
        exactly = protocol + address + _port_in(e.REGISTER + 1 + width) + e.in_map(PORTS[version].name)
        yield "published", family + exactly + e.to_destination(version), "published on this address"
        anywhere = protocol + _port_in(e.REGISTER + 1) + e.in_map(ANY[version].name)
        yield "published", family + anywhere + e.to_destination(version), "published on every address"
    for version in (4, 6):
        redirected, width = e.is_redirected() + e.ip_version(version, bridge=False), 1 if version == 4 else 4
        itself = e.source(version) + e.destination(version, e.REGISTER + width) + e.in_set(HAIRPIN[version].name)
        yield "postrouting", redirected + itself + e.masquerade(), "a pod's own"
        # a pod that publishes, whoever asks: others who redirect to others do as they like
        publisher = e.destination(version) + e.destination(version, e.REGISTER + width) + e.in_set(HAIRPIN[version].name)
        beside = e.load_meta(Meta.OIFNAME) + e.source(version, e.REGISTER + 4) + e.in_set(BESIDE[version].name)
        yield "postrouting", redirected + publisher + beside + e.masquerade(), "from beside it, on the same bridge"
    own = e.ip_version(4, bridge=False) + e.source(4) + e.within(_LOOPBACK_NET) + e.not_towards(_LOOPBACK)
    yield "postrouting", e.is_redirected() + own + e.masquerade(), "the host's, by 127.0.0.1"


def _port_in(register: int) -> bytes:
    """The destination port; it stands at the same place in TCP, UDP and SCTP."""
    return e.load(Header.TRANSPORT, 2, 2, register)
