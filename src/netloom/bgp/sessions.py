"""Sessions: one `protocol bgp` for each, a line for each field that is not BIRD's own default.

What all have in common is in the template `session`: a peer that is not there is tried every few seconds, and one that made an error is
given half a minute at the most.

BFD and graceful restart are at odds: the one says within a second that a peer has gone, the other asks everybody to wait for it.  With
BFD alone a peer that is silent is gone; with both, `bfd graceful` keeps its routes for the restart time.

A BIRD that has come back tells nothing before it has heard everybody, or half a minute has passed.  When it dies again in that time, graceful
restart forgets what it has told (RFC 4724, section 4.2).  Nodes therefore go by the long-lived kind among themselves at once (RFC 9494),
which keeps it through any number of deaths; also when the hold time has run out.  Routers outside may not know that kind.  With BFD they
say so, too, though BFD is quicker: what is agreed when a session begins stays the same, so BFD comes and goes without a new one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from operator import attrgetter

from netloom.bgp import tokens
from netloom.bgp.filtering import export_filter, import_filter
from netloom.bgp.rules import Rules
from netloom.bgp.tokens import MOST, address, asn, comment, flag, number, quoted, session_name
from netloom.model.addresses import Address
from netloom.model.routing import BgpConfig, NextHop, Secret, Session, Trust
from netloom.model.showing import shown

TEMPLATE = (
    "template bgp session {",
    "    connect delay time 1;",
    "    connect retry time 5;",
    "    error wait time 1, 30;",
    "    error forget time 60;",
    "}",
)
CONFIDENTIAL = "    password "
"""How the one kind of line begins that nobody is to see."""
_OWN = ("name", "origin", "address", "via", "other_end")
_LIKE = attrgetter("address.version", *(each.name for each in fields(Session) if each.name not in _OWN))
"""Of two sessions for which it is the same, all but the first lines are."""
_NEXT_HOPS = {NextHop.AUTO: "", NextHop.SELF: " next hop self;", NextHop.KEEP: " next hop keep;"}
_STALE = 120
"""Seconds that nodes keep what one has told that is silent, unless said; with BFD they never have to."""
_PORT = 179


class Writer:
    """Of one config.  Most sessions of a mesh differ in name and address alone: what else they say is made once for all of them."""

    def __init__(self, config: BgpConfig, rules: Rules, secrets: Mapping[Secret, str]) -> None:
        self._config, self._rules, self._secrets = config, rules, secrets
        self._likes: dict[object, str] = {}

    def lines(self, session: Session) -> tuple[str, ...]:
        """Raises ValueError."""
        like = _LIKE(session)
        rest = self._likes.get(like)
        if rest is None:
            rest = self._likes[like] = "\n".join(self._rest(session))
        return (
            comment(session.origin),
            f"protocol bgp {session_name(session.name)} from session {{",
            f"    neighbor {address(session.address)}{_port(session.port)} as {asn(session.remote_as)};",
            rest,
            "}",
        )

    def _rest(self, session: Session) -> Iterator[str]:
        config = self._config
        yield f"    local{_local(config, session)} as {asn(session.local_as)};"
        yield from _reaching(session)
        if config.listen:
            yield "    strict bind on;"
        if flag(session.passive):
            yield "    passive on;"
        if session.password is not None:
            yield f"{CONFIDENTIAL}{_password(session.password, self._secrets)};"
        if session.hold_time != 0:
            yield f"    hold time {number(session.hold_time, 3, 65535)};"
        if session.keepalive_time != 0:
            yield f"    keepalive time {number(session.keepalive_time, 1, 65535)};"
        yield from _surviving(session)
        if session.reflects is not None:
            yield f"    rr client; rr cluster id {address(session.reflects)};"
        if session.allowed_local_as != 0:
            yield f"    allow local as {number(session.allowed_local_as, 1, 255)};"
        if not session.families:
            raise ValueError("it carries routes of no family")
        for family in session.families:
            yield from _channel(config, session, self._rules, family)


def source_of(config: BgpConfig, session: Session) -> Address | None:
    """The address that it speaks from; None: what the kernel chooses."""
    if session.source is not None:
        return session.source
    return next((each for each in config.listen if each.version == session.address.version), None)


def _local(config: BgpConfig, session: Session) -> str:
    source = source_of(config, session)
    if source is not None and source.version != session.address.version:
        raise ValueError(f"it cannot speak from {source} to {session.address}")
    if source is None and config.listen:
        raise ValueError(f"nothing listens on an IPv{session.address.version} address here, which {session.address} needs")
    return (f" {address(source)}" if source is not None else "") + _port(config.port)


def _port(port: int) -> str:
    return "" if port == _PORT else f" port {number(port, 1, 65535)}"


def _reaching(session: Session) -> Iterator[str]:
    """How many hops away.  With ttl security, so many and no more (RFC 5082)."""
    if session.ttl != 0:
        hops = number(session.ttl, 1, 254)
        yield f"    multihop {hops}; ttl security on;" if flag(session.multihop) else "    direct; ttl security on;"
    else:
        yield "    multihop;" if flag(session.multihop) else "    direct;"


def _surviving(session: Session) -> Iterator[str]:
    inside = session.trust is Trust.POOLS
    if session.restart_time is None and not (inside and session.bfd is not None):
        yield "    graceful restart aware;"
    elif inside:
        stale = number(_STALE if session.restart_time is None else session.restart_time, 0, 4095)
        yield f"    graceful restart on; graceful restart time 0; long lived graceful restart on; long lived stale time {stale};"
    else:
        yield f"    graceful restart on; graceful restart time {number(session.restart_time, 0, 4095)};"
    if session.bfd is not None:
        interval, multiplier = number(session.bfd.interval, 10, 60_000), number(session.bfd.multiplier, 1, 255)
        kind = "on" if session.restart_time is None else "graceful"
        yield f"    bfd {kind}; bfd {{ interval {interval} ms; multiplier {multiplier}; }};"


def _password(secret: Secret, secrets: Mapping[Secret, str]) -> str:
    if secret not in secrets:
        raise ValueError(f"its password is missing: key {shown(secret.key)} of secret {shown(secret.name)}")
    return quoted(secrets[secret], f"its password, key {shown(secret.key)} of secret {shown(secret.name)},")


def _channel(config: BgpConfig, session: Session, rules: Rules, family: int) -> Iterator[str]:
    yield f"    ipv{tokens.family(family)} {{"
    yield f"        import filter {import_filter(session, rules, family)};"
    yield f"        export filter {export_filter(config, session, rules, family)};"
    if session.limit != 0:
        yield f"        import limit {number(session.limit, 1, MOST)} action restart;"
    # what a router on our link says leads to our link; what others say is looked up in what is known already
    options = "gateway direct;" if session.external and not session.multihop else "gateway recursive;"
    if session.next_hop not in _NEXT_HOPS:
        raise ValueError(f"{shown(str(session.next_hop))} is no kind of next hop")
    options += _NEXT_HOPS[session.next_hop]
    if not session.external:
        options += " add paths on;"
        if family == 6:
            options += " next hop prefer global;"  # not the peer's link-local one, which is all that its route would show
    own = next((each for each in config.addresses if each.version == family), None)
    if family != session.address.version and own is not None:
        options += f" next hop address {address(own)};"
    yield f"        {options}"
    yield "    };"
