"""What BIRD is told and what it knows, as documents on the agent's socket, beside `state`.

    GET /v1/bgp                     sessions, asked of BIRD now
    GET /v1/bgp/config              the file that is wanted, and the one that is there; without passwords
    GET /v1/bgp/routes?prefix=P     routes in BIRD's tables: all, or those for P and inside it

Each is made in the thread that asks, by a question to BIRD that has a deadline; the agent's loop is not held up.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Literal

import msgspec

from netloom.agent.routing import Routing, View
from netloom.agent.state import BgpState, FamilyState, Part, SessionState
from netloom.bgp import status
from netloom.bgp.applying import Place
from netloom.bgp.control import Control
from netloom.bgp.rendering import CONTENT, render_for_people
from netloom.bgp.tokens import prefix
from netloom.bgp.wording import trouble
from netloom.errors import NetloomError
from netloom.model.addresses import Address, Prefix, parse_address, parse_prefix
from netloom.model.resources import API_VERSION, dec_hook
from netloom.model.routing import BgpConfig, Session

BGP_PATH, CONFIG_PATH, BIRD_ROUTES_PATH = "/v1/bgp", "/v1/bgp/config", "/v1/bgp/routes"
MOST_ROUTES = 10_000
_LONGEST_ANSWER = 64 << 20  # bytes
_HIDDEN = re.compile(rf'(\bpassword\s+)"[^"]*"?|(\bpassword[ \t]+)[^"\s;]+|^define {CONTENT} = .*\n?', re.MULTILINE)
"""In our own text, and in any other that is there in its place.  The fingerprint is of the text with its passwords."""


class BgpDocument(Part, frozen=True, kw_only=True, tag_field="kind", tag="BgpState", omit_defaults=False):
    api_version: Literal["netloom.io/v1"] = API_VERSION
    node: str
    bgp: BgpState


class BgpText(Part, frozen=True, kw_only=True, tag_field="kind", tag="BgpText", omit_defaults=False):
    """`wanted`: as it is made from the cluster; `refused`: why it cannot be.  `written`: what the file holds; None: there is none."""

    api_version: Literal["netloom.io/v1"] = API_VERSION
    path: str
    wanted: str = ""
    refused: str = ""
    written: str | None = None


class BgpRoute(Part, frozen=True, kw_only=True):
    """`source`: the session that told it, or what of BIRD's own; `origin`: that session's resource.  `kind`: unicast, blackhole,
    unreachable.  `best`: BIRD would use it; `refused`: the kernel does not take it.  `path`: AS numbers."""

    destination: Prefix
    kind: str
    source: str
    origin: str = ""
    best: bool = False
    refused: bool = False
    via: tuple[Address, ...] = ()
    device: str = ""
    path: str = ""
    communities: tuple[str, ...] = ()
    local_preference: int = 0


class BgpRoutes(Part, frozen=True, kw_only=True, tag_field="kind", tag="BgpRoutes", omit_defaults=False):
    """`complete`: there are no more."""

    api_version: Literal["netloom.io/v1"] = API_VERSION
    complete: bool = True
    routes: tuple[BgpRoute, ...] = ()


_encoder = msgspec.json.Encoder(enc_hook=str)
_documents = msgspec.json.Decoder(BgpDocument, dec_hook=dec_hook)
_texts = msgspec.json.Decoder(BgpText, dec_hook=dec_hook)
_routes = msgspec.json.Decoder(BgpRoutes, dec_hook=dec_hook)


def decode_bgp(data: bytes) -> BgpDocument:
    """Raises msgspec.DecodeError, as the others."""
    return _documents.decode(data)


def decode_text(data: bytes) -> BgpText:
    return _texts.decode(data)


def decode_bgp_routes(data: bytes) -> BgpRoutes:
    return _routes.decode(data)


def bgp_state(view: View, place: Place, now: float) -> BgpState:
    config = view.config
    return BgpState(
        wanted=config is not None,
        bird="" if view.away or view.daemon is None else view.daemon.version,
        since=_time(view.since),
        away=view.away,
        refused=view.refused,
        draining=config is not None and config.draining,
        withdrawn=config is not None and config.withdrawn,
        config=place.config,
        socket=place.socket,
        sessions=tuple(_session(each, view, now) for each in config.sessions) if config else (),
    )


def _session(session: Session, view: View, now: float) -> SessionState:
    peer = view.peers.get(session.name)
    channels = peer.channels if peer else {}
    return SessionState(
        name=session.name,
        origin=session.origin,
        address=session.address,
        remote_as=session.remote_as,
        local_as=session.local_as,
        port=session.port,
        state=peer.state if peer else "",
        since=_time(peer.since) if peer else None,
        families={f"ipv{family}": _family(channels.get(family, status.Channel())) for family in session.families},
        bfd=view.bfd.get(str(session.address), "Down") if session.bfd and not view.away else "",
        restarting=peer is not None and peer.restarting,
        problem="" if view.away else trouble(session, peer, now),
    )


def _family(channel: status.Channel) -> FamilyState:
    return FamilyState(up=channel.up, imported=channel.imported, filtered=channel.filtered, exported=channel.exported)


def _time(seconds: float) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


class Pages:
    """For any thread."""

    def __init__(self, node: str, routing: Routing) -> None:
        self._node, self._place, self._routing = node, routing.place, routing

    def sessions(self, query: str) -> bytes:
        del query
        state = bgp_state(self._routing.asked(), self._place, time.time())
        return _encoder.encode(BgpDocument(node=self._node, bgp=state))

    def config(self, query: str) -> bytes:
        del query
        wanted, refused = "", ""
        try:
            wanted = without_secrets(render_for_people(self._config, self._node))
        except NetloomError as e:
            refused = e.sentence
        try:
            with open(self._place.config, encoding="utf-8", errors="replace") as file:
                written = without_secrets(file.read())
        except OSError:
            written = None
        return _encoder.encode(BgpText(path=self._place.config, wanted=wanted, refused=refused, written=written))

    def routes(self, query: str) -> bytes:
        """Raises ValueError for a query that is none, Unavailable."""
        from urllib.parse import parse_qs

        texts = parse_qs(query).get("prefix", [])
        wanted = parse_prefix(texts[0]) if texts else None
        command = "show route all"
        if wanted is not None:
            text = prefix(wanted)
            command = f"show route table master{wanted.version} where net ~ [ {text}+, {text}- ] all"
        found, complete = status.routes(Control(self._place.socket).lines(command, _LONGEST_ANSWER), MOST_ROUTES)
        config = self._config
        origins = {session.name: session.origin for session in config.sessions} if config else {}
        told = sorted((_route(each, origins) for each in found), key=lambda each: (each.destination.version, each.destination))
        return _encoder.encode(BgpRoutes(complete=complete, routes=tuple(told)))

    @property
    def _config(self) -> BgpConfig | None:
        return self._routing.view.config


def without_secrets(text: str) -> str:
    return _HIDDEN.sub(lambda found: f'{found[1] or found[2]}"(hidden)"' if found[1] or found[2] else "", text)


def _route(found: status.BirdRoute, origins: dict[str, str]) -> BgpRoute:
    return BgpRoute(
        destination=parse_prefix(found.destination),
        kind=found.kind,
        source=found.protocol,
        origin=origins.get(found.protocol, ""),
        best=found.best,
        refused=found.refused,
        via=tuple(parse_address(each.partition("%")[0]) for each in found.via),
        device=found.device,
        path=found.path,
        communities=found.communities,
        local_preference=found.preference,
    )
