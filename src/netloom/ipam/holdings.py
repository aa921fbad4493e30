"""Holdings: which attachments this node has, which addresses they hold, and when the others were released.

It is the sum of records and nothing else: the journal replays its file through `apply` at a start, and every later change
goes through the same `apply`.  A record that makes no sense here (an end without a beginning) raises ValueError and
changes nothing.

Addresses are counted as integers, per family: a block's free addresses are then one set difference.  A LEAVING attachment
still holds its addresses; only `Gone` frees them, and from then on they are cooling.
"""

from __future__ import annotations

import ipaddress

import msgspec

from netloom.model.addresses import Address, Prefix
from netloom.model.attachments import Attachment, AttachmentKey, State


class Hold(msgspec.Struct, frozen=True, tag="hold", tag_field="is"):
    """The attachment exists, in the state that it carries."""

    attachment: Attachment


class Mark(msgspec.Struct, frozen=True, tag="mark", tag_field="is", omit_defaults=True):
    """The attachment with this sequence number is now in this state.  `secondary`: see Attachment; known when it is READY."""

    sequence: int
    state: State
    secondary: tuple[int, ...] = ()


class Size(msgspec.Struct, frozen=True, tag="size", tag_field="is"):
    """The attachment with this sequence number has interfaces of this MTU now."""

    sequence: int
    mtu: int


class Gone(msgspec.Struct, frozen=True, tag="gone", tag_field="is"):
    """The attachment is no more; its addresses cool since `at` (seconds of CLOCK_BOOTTIME)."""

    sequence: int
    at: float


class Cool(msgspec.Struct, frozen=True, tag="cool", tag_field="is"):
    """The address was released at `at`, by an attachment of which nothing else is left."""

    address: Address
    at: float


Record = Hold | Mark | Size | Gone | Cool

_NEXT = {State.PENDING: {State.READY, State.LEAVING}, State.READY: {State.LEAVING}, State.LEAVING: frozenset[State]()}


class Holdings:
    """used      per family: address → number of attachments that hold it (more than one only in a damaged kernel)
    released  per family: address → when it was released; an address in use is not in it
    bridges   number of attachments by their bridge; None: the routed ones
    """

    def __init__(self, sequence: int = 0) -> None:
        self.attachments: dict[AttachmentKey, Attachment] = {}
        self.sequence = sequence
        self.used: dict[int, dict[int, int]] = {4: {}, 6: {}}
        self.released: dict[int, dict[int, float]] = {4: {}, 6: {}}
        self.bridges: dict[str | None, int] = {}
        self._keys: dict[int, AttachmentKey] = {}
        self._publishers: dict[tuple[str, int], set[int]] = {}

    def apply(self, record: Record) -> None:
        match record:
            case Hold():
                self._hold(record.attachment)
            case Mark():
                self._mark(self._named(record.sequence), record.state, record.secondary)
            case Size():
                attachment = self._named(record.sequence)
                self.attachments[attachment.key] = msgspec.structs.replace(attachment, mtu=record.mtu)
            case Gone():
                self._drop(self._named(record.sequence), record.at)
            case Cool():
                self._cool(record.address, record.at)

    def holder(self, address: Address) -> Attachment | None:
        """The attachment that holds `address`."""
        if int(address) not in self.used[address.version]:
            return None
        return next(a for a in self.attachments.values() if any(i.ip == address for i in a.addresses))

    def publishers(self, protocol: str, host_port: int) -> list[Attachment]:
        """Attachments that publish this port of the host on some address of it."""
        return [self._named(sequence) for sequence in self._publishers.get((protocol, host_port), ())]

    def forget(self, cidr: Prefix) -> None:
        """Drops when addresses of a block were released."""
        first, end = int(cidr.network_address), int(cidr.broadcast_address) + 1
        stamps = self.released[cidr.version]
        for number in [number for number in stamps if first <= number < end]:
            del stamps[number]

    def records(self) -> list[Record]:
        """The shortest way to the present state, but for the sequence number."""
        made: list[Record] = [Hold(a) for a in self.attachments.values()]
        made += (Cool(address_of(v, n), at) for v, stamps in self.released.items() for n, at in stamps.items())
        return made

    def _cool(self, address: Address, at: float) -> None:
        if int(address) in self.used[address.version]:
            raise ValueError(f"{address} is in use and cannot be cooling")
        self.released[address.version][int(address)] = at

    def _named(self, sequence: int) -> Attachment:
        key = self._keys.get(sequence)
        if key is None:
            raise ValueError(f"no attachment has the sequence number {sequence}")
        return self.attachments[key]

    def _hold(self, attachment: Attachment) -> None:
        if attachment.key in self.attachments or attachment.sequence in self._keys:
            raise ValueError(f"{attachment.key} is attached already")
        self.attachments[attachment.key] = attachment
        self._keys[attachment.sequence] = attachment.key
        self.bridges[attachment.bridge] = self.bridges.get(attachment.bridge, 0) + 1
        self.sequence = max(self.sequence, attachment.sequence)
        for interface in attachment.addresses:
            used, number = self.used[interface.version], int(interface.ip)
            used[number] = used.get(number, 0) + 1
            self.released[interface.version].pop(number, None)
        for port in attachment.ports:
            self._publishers.setdefault((port.protocol, port.host_port), set()).add(attachment.sequence)

    def _mark(self, attachment: Attachment, state: State, secondary: tuple[int, ...]) -> None:
        if state not in _NEXT[attachment.state]:
            raise ValueError(f"{attachment.key} is {attachment.state.value} and cannot become {state.value}")
        self.attachments[attachment.key] = msgspec.structs.replace(
            attachment, state=state, secondary=secondary or attachment.secondary
        )

    def _drop(self, attachment: Attachment, at: float) -> None:
        if attachment.state is State.READY:
            raise ValueError(f"{attachment.key} is ready; it leaves before it is gone")
        del self.attachments[attachment.key], self._keys[attachment.sequence]
        self.bridges[attachment.bridge] -= 1
        if not self.bridges[attachment.bridge]:
            del self.bridges[attachment.bridge]
        for interface in attachment.addresses:
            used, number = self.used[interface.version], int(interface.ip)
            used[number] -= 1
            if not used[number]:
                del used[number]
                self.released[interface.version][number] = at
        for port in attachment.ports:
            if same := self._publishers.get((port.protocol, port.host_port)):
                same.discard(attachment.sequence)
                if not same:
                    del self._publishers[port.protocol, port.host_port]


def address_of(version: int, number: int) -> Address:
    return ipaddress.IPv4Address(number) if version == 4 else ipaddress.IPv6Address(number)
