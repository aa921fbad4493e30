"""netloom bgp: this node's BGP, as its agent and its BIRD know it.

$ netloom bgp peers
PEER           ADDRESS         AS      STATE         SINCE   IN   OUT   BFD   NOTE
BGPPeer tor    192.0.2.254     65001   Established   3d4h    12   3     Up    -
Node node-b    192.0.2.2       64512   Active        12s     0    0     -     refused: they expect another AS, we send 64513

What is asked goes through the agent's socket, so nobody needs BIRD's own; only `reset` tells BIRD something, and that is root's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from difflib import unified_diff
from typing import TYPE_CHECKING

import click

from netloom.cli.context import Context, connection, note
from netloom.cli.printing import ago, answer, clean, table
from netloom.errors import ConfigError, NotFound, Unavailable
from netloom.model.showing import shown

if TYPE_CHECKING:
    from netloom.agent.bgp_state import BgpRoute
    from netloom.agent.state import BgpState, SessionState

_PEERS = ("PEER", "ADDRESS", "AS", "STATE", "SINCE", "IN", "OUT", "BFD", "NOTE")
_PEERS_WIDE = (*_PEERS, "NAME", "LOCAL AS", "PORT", "FAMILIES")
_ROUTES = ("DESTINATION", "VIA", "DEVICE", "FROM", "BEST", "AS PATH", "COMMUNITIES")
_ROUTES_WIDE = (*_ROUTES, "KIND", "LOCAL PREF", "SOURCE")
_ESTABLISHED = "Established"

_output: Callable[[Callable[..., object]], Callable[..., object]] = click.option(
    "-o", "--output", type=click.Choice(("table", "wide", "json", "yaml")), default="table", help="How to print (table)."
)


@click.group()
def bgp() -> None:
    """BGP on this node: sessions, routes, and what BIRD is told."""


@bgp.command()
@_output
@connection
@click.pass_obj
def peers(context: Context, output: str) -> None:
    """Sessions, and what is wrong with each.

    Exit code 0: all are up, or BGP is off.  1: one is not.  3: the agent or BIRD did not answer.
    """
    state = _state(context)
    if output in ("json", "yaml"):
        click.echo(answer(output, "BgpPeerList", items=state.sessions))
    elif state.sessions:
        wide = output == "wide"
        now = datetime.now(UTC)
        rows = [_row(session, now, wide=wide) for session in state.sessions]
        click.echo(table(_PEERS_WIDE if wide else _PEERS, rows))
    elif not state.wanted:
        note("BGP is off: there is no BGPConfiguration default and no BGPPeer; docs/bgp.md")
    else:
        note("this node peers with nobody: netloom get bgppeers")
    if state.refused:
        note(f"BIRD has the configuration of before: {state.refused}")
    if state.away:
        raise Unavailable(state.away)
    if any(session.state != _ESTABLISHED or session.problem for session in state.sessions):
        raise click.exceptions.Exit(1)


def _row(session: SessionState, now: datetime, *, wide: bool) -> Sequence[object]:
    families = session.families.values()
    row = (
        session.origin,
        session.address,
        session.remote_as,
        f"{session.state}, restarting" if session.restarting else session.state,
        ago(session.since, now),
        sum(family.imported for family in families),
        sum(family.exported for family in families),
        session.bfd,
        session.problem,
    )
    if not wide:
        return row
    counts = tuple(f"{name} {f.imported}/{f.exported}" if f.up else f"{name} down" for name, f in session.families.items())
    return *row, session.name, session.local_as, session.port, counts


@bgp.command()
@click.argument("prefix", required=False, metavar="[PREFIX]")
@_output
@connection
@click.pass_obj
def routes(context: Context, prefix: str | None, output: str) -> None:
    """Routes that BIRD knows: all; or those to PREFIX, inside it and around it.

    BEST is * for those that BIRD would use, ! where the kernel does not take it: somebody else's route has its metric.  What this kernel
    uses: netloom get routes -o wide.
    """
    from netloom.cli.agent_socket import bgp_routes

    found = bgp_routes(context.settings.api_socket, _prefix(prefix) if prefix else None)
    wide = output == "wide"
    if output in ("json", "yaml"):
        click.echo(answer(output, "BgpRouteList", items=found.routes, complete=found.complete))
    elif found.routes:
        click.echo(table(_ROUTES_WIDE if wide else _ROUTES, [_route(each, wide=wide) for each in found.routes]))
    if not found.complete:
        note(f"these are the first {len(found.routes)}: netloom bgp routes PREFIX")
    if not found.routes and prefix:
        raise NotFound(f"BIRD knows no route to {prefix}", hint="netloom bgp peers")


def _prefix(text: str) -> str:
    from netloom.model.addresses import host_prefix, parse_address, parse_prefix

    try:
        return str(parse_prefix(text) if "/" in text else host_prefix(parse_address(text)))
    except ValueError as e:
        raise ConfigError(str(e), where="PREFIX") from e


def _route(route: BgpRoute, *, wide: bool) -> Sequence[object]:
    via: object = route.via or (None if route.kind == "unicast" else route.kind)
    row = (
        *(route.destination, via, route.device, route.origin or route.source),
        *("!" if route.refused else "*" if route.best else "", route.path, route.communities),
    )
    return (*row, route.kind, route.local_preference or None, route.source) if wide else row


@bgp.command()
@connection
@click.pass_obj
def render(context: Context) -> None:
    """The bird.conf that is wanted, without passwords."""
    from netloom.cli.agent_socket import bgp_text

    text = bgp_text(context.settings.api_socket)
    if text.refused:
        raise ConfigError(text.refused)
    click.echo(text.wanted, nl=False)


@bgp.command()
@connection
@click.pass_obj
def diff(context: Context) -> None:
    """What BIRD's file would have to change.

    Exit code 0: nothing.  1: something, which is shown.  3: the agent did not answer.
    """
    from netloom.cli.agent_socket import bgp_text

    text = bgp_text(context.settings.api_socket)
    if text.refused:
        raise ConfigError(text.refused)
    before = (text.written or "").splitlines(keepends=True)
    lines = [*unified_diff(before, text.wanted.splitlines(keepends=True), text.path, "wanted")]
    click.echo("".join(clean(line.rstrip("\n")) + "\n" for line in lines), nl=False)
    raise click.exceptions.Exit(1 if lines else 0)


@bgp.command()
@click.argument("peer")
@click.option("--soft", is_flag=True, help="The session stays; routes are asked for, and told, anew.")
@connection
@click.pass_obj
def reset(context: Context, peer: str, soft: bool) -> None:
    """Begin a session anew: PEER is an address, or a name out of `netloom bgp peers -o wide`.

    Without --soft its routes are gone until it is up again, unless both ends restart gracefully.
    """
    from netloom.bgp.control import Control

    state = _state(context)
    if state.away:
        raise Unavailable(state.away)
    found = [session for session in state.sessions if peer in (session.name, str(session.address), *_names(session))]
    if not found:
        raise NotFound(f"there is no peer {shown(peer)} here", hint="netloom bgp peers -o wide")
    if len(found) > 1:
        names = ", ".join(session.name for session in found)
        raise ConfigError(f"{shown(peer)} is more than one session: {names}", where="PEER", hint="say which by its name")
    (session,) = found
    Control(state.socket).ask(f"{'reload' if soft else 'restart'} {session.name}")
    click.echo(clean(f"{session.origin} ({session.address}): {'routes are told anew' if soft else 'begun anew'}"))


def _names(session: SessionState) -> tuple[str, ...]:
    """The origin, and its name alone."""
    return session.origin, session.origin.rpartition(" ")[2]


def _state(context: Context) -> BgpState:
    from netloom.cli.agent_socket import bgp as ask

    return ask(context.settings.api_socket).bgp
