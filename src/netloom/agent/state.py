"""What one node's agent knows, as a document: GET /v1/state on the unix socket RUN_DIR/netloom.sock; and, as GET /v1/routes, what its
kernel routes by, everybody's routes.  What BIRD is told and knows is in `bgp_state`.

    {"apiVersion": "netloom.io/v1", "kind": "AgentState", "node": "a", "ready": true, "lastPass": {...}, ...}

The agent fills it after each pass, and whoever asks (the command line, the page) reads it; nothing is ever written through
it.  The shape is part of the interface: fields are added, never renamed or taken away, and a reader passes over fields that
it does not know.  So a command and an agent one version apart understand each other.

Times are RFC 3339 in UTC.  Prefixes and addresses are text in JSON and `ipaddress` objects here.
"""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Literal

import msgspec

from netloom.model.addresses import Address, Interface, Mac, Prefix
from netloom.model.attachments import State, Wiring
from netloom.model.resources import API_VERSION, dec_hook

STATE_PATH, ROUTES_PATH = "/v1/state", "/v1/routes"


class Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    pass


class DatastoreState(Part, frozen=True, kw_only=True):
    """`since`: connected, or away, for how long.  `error`: the reason, while it is away.  `revision`, `identity`: what the
    agent last saw there; another identity is another store."""

    target: str = ""
    connected: bool = False
    since: datetime | None = None
    error: str | None = None
    revision: int = 0
    identity: str = ""


class PassState(Part, frozen=True, kw_only=True):
    """One run of snapshot → desired → changes → kernel.  `tables` maps each table to its outcome: `same`, or `+2-1` (written
    and taken away), with `!1` for what the kernel refused; `failures` names each refusal."""

    number: int
    revision: int
    at: datetime
    milliseconds: float
    tables: dict[str, str] = {}
    failures: tuple[str, ...] = ()


class BlockState(Part, frozen=True, kw_only=True):
    """A block of this node, in addresses.  `kept` ones are the node's own (tunnel, gateway, broadcast), `cooling` ones were
    given back and wait; used + kept + cooling + free is the block's size."""

    cidr: Prefix
    pool: str
    used: int = 0
    kept: int = 0
    cooling: int = 0
    free: int = 0


class RouteFor(enum.Enum):
    """Why the route is there: a pod of this node, another node's block, or a block of ours whose free addresses lead nowhere."""

    POD = "pod"
    NODE = "node"
    BLACKHOLE = "blackhole"


class RouteState(Part, frozen=True, kw_only=True):
    """A route of ours that the kernel holds.  `owner`: `namespace/pod` or the node that it leads to, where known.  `encapsulation`: the
    form in which packets cross, with its numbers; `why`: in words."""

    destination: Prefix
    kind: RouteFor
    via: Address | None = None
    device: str = ""
    metric: int = 0
    protocol: int = 0
    owner: str = ""
    pool: str = ""
    encapsulation: str = ""
    why: str = ""


class PoolState(Part, frozen=True, kw_only=True):
    """What tells whose routes of others are; pools of networks are not here."""

    name: str
    cidr: Prefix
    encapsulation: str


class AttachmentState(Part, frozen=True, kw_only=True):
    """One interface of one sandbox, out of this node's journal: the authority on what the pod holds."""

    namespace: str
    pod: str
    container_id: str = msgspec.field(name="containerID")
    interface: str
    host_interface: str
    mac: Mac
    addresses: tuple[Address, ...]
    state: State
    network: str = ""
    wiring: Wiring = Wiring.ROUTED


class EngineState(Part, frozen=True, kw_only=True):
    """Who carries `carrier` (IPIP, UDP) here, and why it is that one; `engine` empty: nobody can.  `used`: a tunnel of it is there.
    `process` and `bulk`: of a forwarder, and by what it handles many packets at once; `lost`: packets that got nowhere, by reason."""

    carrier: str
    engine: str = ""
    because: str = ""
    used: bool = False
    process: int = 0
    bulk: str = ""
    lost: dict[str, int] = {}


class ProbesState(Part, frozen=True, kw_only=True):
    """How many other nodes were asked whether packets come through, and how many of them answered when they were last asked.
    `silent`: some of those that did not."""

    asked: int = 0
    answered: int = 0
    silent: tuple[str, ...] = ()


class FamilyState(Part, frozen=True, kw_only=True):
    """Routes of one family in a session.  `up`: the peer carries them."""

    up: bool = False
    imported: int = 0
    filtered: int = 0
    exported: int = 0


class SessionState(Part, frozen=True, kw_only=True):
    """A BGP session.  `name`: what BIRD calls it; `origin`: the resource that asks for it.  `state`: Established, or the protocol's word
    for how far it is (RFC 4271); `problem`: what is wrong, in words.  `families`: by `ipv4` and `ipv6`.  `bfd`: Up, Down, Init; empty
    without."""

    name: str
    origin: str
    address: Address
    remote_as: int = msgspec.field(name="remoteAS")
    local_as: int = msgspec.field(name="localAS")
    port: int = 179
    state: str = ""
    since: datetime | None = None
    families: dict[str, FamilyState] = {}
    bfd: str = ""
    restarting: bool = False
    problem: str = ""


class BgpState(Part, frozen=True, kw_only=True):
    """`wanted`: something asks this node to speak BGP.  `bird`: its version, while it answers; `since`: that it does, or does not, which
    `away` says why.  `refused`: why BIRD does not have the configuration that is wanted, but the one before."""

    wanted: bool = False
    bird: str = ""
    since: datetime | None = None
    away: str = ""
    refused: str = ""
    draining: bool = False
    withdrawn: bool = False
    config: str = ""
    socket: str = ""
    sessions: tuple[SessionState, ...] = ()


class Problem(Part, frozen=True, kw_only=True):
    """What is wrong, in one sentence that names the object, and the next thing to type."""

    message: str
    hint: str = ""


class AgentState(Part, frozen=True, kw_only=True, tag_field="kind", tag="AgentState", omit_defaults=False):
    """`ready`: this node serves ADD.  `in_sync_since`: from when the kernel has agreed with what is wanted; None: it does not.
    `pass_due`: something has happened since the last pass, and the next one is called for.  `held`: nodes that the datastore has lost,
    and the ways to which are held.  `mtu`: of new pods' interfaces, in bytes.  `addresses`: those that the other nodes use;
    `addresses_because`: by which rule; `passed_over`: what else there was."""

    api_version: Literal["netloom.io/v1"] = API_VERSION
    node: str
    version: str
    pid: int
    started: datetime
    ready: bool
    in_sync_since: datetime | None = None
    pass_due: bool = False
    held: tuple[str, ...] = ()
    mtu: int = 0
    addresses: tuple[Interface, ...] = ()
    addresses_because: str = ""
    passed_over: tuple[str, ...] = ()
    probes: ProbesState = ProbesState()
    engines: tuple[EngineState, ...] = ()
    bgp: BgpState = BgpState()
    datastore: DatastoreState = DatastoreState()
    last_pass: PassState | None = None
    problems: tuple[Problem, ...] = ()
    blocks: tuple[BlockState, ...] = ()
    routes: tuple[RouteState, ...] = ()
    pools: tuple[PoolState, ...] = ()
    attachments: tuple[AttachmentState, ...] = ()


class KernelRoute(Part, frozen=True, kw_only=True):
    """A route of the kernel's main table, whoever's it is."""

    destination: Prefix
    via: Address | None = None
    device: str = ""
    metric: int = 0
    protocol: int = 0


class KernelRoutes(Part, frozen=True, kw_only=True, tag_field="kind", tag="KernelRoutes", omit_defaults=False):
    api_version: Literal["netloom.io/v1"] = API_VERSION
    routes: tuple[KernelRoute, ...] = ()


_decoder = msgspec.json.Decoder(AgentState, dec_hook=dec_hook)
_routes_decoder = msgspec.json.Decoder(KernelRoutes, dec_hook=dec_hook)
_encoder = msgspec.json.Encoder(enc_hook=str)


def encode(state: AgentState) -> bytes:
    return _encoder.encode(state)


def decode(data: bytes) -> AgentState:
    """Raises msgspec.ValidationError (with the field's path) or msgspec.DecodeError."""
    return _decoder.decode(data)


def encode_routes(routes: KernelRoutes) -> bytes:
    return _encoder.encode(routes)


def decode_routes(data: bytes) -> KernelRoutes:
    """As `decode`."""
    return _routes_decoder.decode(data)
