"""Facts about this host, as frozen values.  A thing that could not be found out is `Unread`, with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar, Union

from netloom.agent.state import AgentState
from netloom.config import Settings
from netloom.dataplane.netlink import Device
from netloom.dataplane.nft.objects import TableId
from netloom.footprint.runtimes import Runtime
from netloom.ipam.audit import Records
from netloom.model.addresses import Address
from netloom.model.desired import Outer
from netloom.model.host import Uplink

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Unread:
    reason: str


Known = Union[T, Unread]  # noqa: UP007  # an alias that takes a type needs the long form in Python 3.11


class NotKnownError(Exception):
    """A check needs a fact that could not be found out."""


def known(fact: Known[T]) -> T:
    if isinstance(fact, Unread):
        raise NotKnownError(fact.reason)
    return fact


class Chain(NamedTuple):
    """A chain of nftables.  `hook`: empty, or where it hooks in.  Of one for forwarding, `drops`: by its policy, or by a last rule
    without a condition; `ours`: a rule in it names our interfaces.  Of one for input, `closed`: which outer packets of
    other nodes' tunnels are dropped for certain, with their family."""

    table: TableId
    name: str
    hook: str = ""
    drops: bool = False
    ours: bool = False
    closed: frozenset[tuple[int, Outer]] = frozenset()


class Network(NamedTuple):
    """A file of the runtime's network directory.  `name` empty: it cannot be read as a network."""

    path: str
    name: str
    types: tuple[str, ...]


class Put(NamedTuple):
    """A file of our footprint.  `state`: as it was put, changed, missing, or not executable."""

    path: str
    state: str


class Room(NamedTuple):
    """Free on a file system: bytes, and files (-1: it does not count them)."""

    path: str
    bytes: int
    files: int


class Permission(NamedTuple):
    path: str
    owner: int
    mode: int


class Neighbours(NamedTuple):
    """Of one family, in all network namespaces together.  `limit`: gc_thresh3."""

    version: int
    entries: int
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """release      the kernel's
    refused       features that the kernel lacks, with its reason
    switches      sysctls by path below /proc/sys; those that are not there are left out
    read_only     /proc/sys cannot be written
    configured    sysctls by path: value and file, as `sysctl --system` would set them at the next boot
    uplinks       interfaces that are not ours; `default`: those of default routes, the best first
    legacy        iptables' legacy listing by family; None: it is in use, and there is no program to look
    networks      in the order in which the runtime reads them
    plugins       names in the runtime's plugin directory
    put           our footprint's files; None: nothing was installed
    udp           ports that somebody listens on: processes, or the kernel for its own devices
    tracked       connections: how many, and how many there may be
    descriptors   that the agent may open; 0: there is no agent
    skew          seconds by which the datastore's last write lies in the future
    managers      programs that configure interfaces
    link_file     whether udev has our word about loom*
    agent         its state; None: none answers
    cluster       as the datastore has it; None: there is none
    reached       what packets leave with to where the settings ask for it (can-reach)
    """

    settings: Settings
    release: str
    refused: Known[Mapping[str, str]]
    switches: Known[Mapping[str, str]]
    read_only: Known[bool]
    configured: Known[Mapping[str, tuple[str, str]]]
    links: Known[tuple[Device, ...]]
    uplinks: Known[Mapping[str, Uplink]]
    default: Known[tuple[str, ...]]
    chains: Known[tuple[Chain, ...]]
    legacy: Known[Mapping[int, tuple[str, ...] | None]]
    runtime: Known[Runtime]
    networks: Known[tuple[Network, ...]]
    plugins: Known[tuple[str, ...]]
    put: Known[tuple[Put, ...] | None]
    udp: Known[frozenset[int]]
    tracked: Known[tuple[int, int] | None]
    neighbours: Known[tuple[Neighbours, ...]]
    rooms: Known[tuple[Room, ...]]
    descriptors: Known[int]
    permissions: Known[tuple[Permission, ...]]
    now: float
    skew: Known[float]
    managers: Known[frozenset[str]]
    link_file: Known[bool]
    agent: AgentState | None = None
    cluster: Records | None = None
    reached: Known[Mapping[Address, Address]] = field(default_factory=dict)

    @property
    def installed(self) -> bool:
        return not isinstance(self.put, Unread) and self.put is not None
