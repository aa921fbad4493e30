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
from collections.abc import Collection, Iterable, Iterator, Mapping
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
    add_elements,
    add_rule,
    add_set,
    add_table,
    delete_elements,
    delete_table,
    get_elements,
    get_sets,
    keys_of,
)
from netloom.dataplane.nft.standing import Standing
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
    """The table in the kernel, on the driver's socket.  `record` as of `Standing`."""

    def __init__(self, kernel: Nfnetlink, record: str | None) -> None:
        self._kernel, self._standing = kernel, Standing(kernel, (TABLE,), record)
        self._stands: bool | None = None
        """Whether the table is there as we built it; None where that is not known."""
        self._spoilt = False

    def changed_by_others(self) -> None:
        self._stands, self._spoilt = None, True

    def admit(self, published: Collection[Published], others: list[Message]) -> None:
        """In one transaction with the `others`.  Fails where their tables are missing."""
        elements = list(_added(keys(published)))
        try:
            self._kernel.transact([*others, *elements])
        except DataplaneError as error:
            if error.errno != errno.ENOENT or self._exists():
                raise
            self._kernel.transact([*_structure(), *others, *elements])
            self._built()

    def expel(self, published: Collection[Published], *, last: bool) -> None:
        """Also if they are gone already.  `last`: no other is published, and the table goes.  Networks may be those of other pods, too,
        and stay."""
        if last:
            self._remove()
            return
        gone = {definition: found for definition, found in keys(published).items() if definition not in BESIDE.values()}
        # the kernel refuses to delete what is not there, so what may be missing is added before
        for batch in (list(_deleted(gone)), [*_added(gone), *_deleted(gone)]):
            try:
                self._kernel.transact(batch)
            except DataplaneError as error:
                if error.errno != errno.ENOENT:
                    raise
            else:
                return

    def holds(self, published: Collection[Published]) -> bool:
        """Whether the kernel leads all of these to their pods."""
        try:
            return all(found <= self._read(definition) for definition, found in keys(published).items())
        except DataplaneError as error:
            if error.errno == errno.ENOENT:  # the table itself is missing
                return False
            raise

    def published(self) -> frozenset[Published]:
        """What the kernel holds, whoever put it there; without the pods' interfaces and networks."""
        try:
            return frozenset(
                port
                for version in (4, 6)
                for definition in (PORTS[version], ANY[version])
                for element in self._read(definition)
                if (port := _decoded(version, element, anywhere=definition is ANY[version]))
            )
        except DataplaneError as error:
            if error.errno == errno.ENOENT:
                return frozenset()
            raise

    def reconcile(self, published: Collection[Published]) -> Outcome:
        try:
            if published:
                return self._put_in_place(published)
            if self._stands is not False and (self._stands or self._exists()):
                self._remove()
                return Outcome(deleted=1)
        except DataplaneError as error:
            self._stands = None
            return Outcome(failures=(error,))
        self._stands = False
        return Outcome()

    def _put_in_place(self, published: Collection[Published]) -> Outcome:
        want = {definition: frozenset[bytes]() for definition in SETS} | keys(published)
        if self._stands or (self._stands is None and not self._spoilt and self._standing.is_of(_structure())):
            try:
                outcome = self._adjust(want)
            except DataplaneError:
                pass  # something is missing after all
            else:
                self._stands = True
                return outcome
        batch = [add_table(TABLE), delete_table(TABLE), *_structure(), *_added(want)]
        self._kernel.transact(batch)
        self._built()
        return Outcome(put=len(batch))

    def _adjust(self, want: Mapping[Set, frozenset[bytes]]) -> Outcome:
        have = {definition: self._read(definition) for definition in want}
        surplus = {definition: found - want[definition] for definition, found in have.items()}
        missing = {definition: wanted - have[definition] for definition, wanted in want.items()}
        batch = [*_added(surplus), *_deleted(surplus), *_added(missing)]  # a key that leads elsewhere now goes first
        if batch:
            self._kernel.transact(batch)
        return Outcome(sum(map(len, missing.values())), sum(map(len, surplus.values())))

    def _built(self) -> None:
        self._stands, self._spoilt = True, False
        self._standing.put_down(_structure())

    def _remove(self) -> None:
        self._kernel.transact(remove())
        self._stands, self._spoilt = False, False
        self._standing.forget()

    def _exists(self) -> bool:
        try:
            self._kernel.dump(get_sets(TABLE))
        except DataplaneError as error:
            if error.errno == errno.ENOENT:
                return False
            raise
        return True

    def _read(self, definition: Set) -> frozenset[bytes]:
        return keys_of(definition, [body for _, _, body in self._kernel.dump(get_elements(definition))])


def remove() -> list[Message]:
    return [add_table(TABLE), delete_table(TABLE)]


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


def _added(elements: Mapping[Set, Collection[bytes]]) -> Iterator[Message]:
    for definition, found in elements.items():
        yield from add_elements(definition, found)


def _deleted(elements: Mapping[Set, Collection[bytes]]) -> Iterator[Message]:
    for definition, found in elements.items():
        yield from delete_elements(definition, found)


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
