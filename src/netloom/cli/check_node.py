"""netloom check node: the pre-flight.  Will pods have a network on this host, and if not, what is to be typed?

$ netloom check node
✗ networks: /etc/cni/net.d/10-flannel.conflist comes before 10-netloom.conflist: the runtime gives pods network 'cbr0' (flannel)
      repair: mv /etc/cni/net.d/10-flannel.conflist /etc/cni/net.d/10-flannel.conflist.off
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import click

from netloom import __version__
from netloom.cli.context import Context, connection, output_option
from netloom.cli.printing import answer, clean, count
from netloom.errors import DatastoreError, Unavailable

if TYPE_CHECKING:
    from netloom.agent.state import AgentState
    from netloom.findings import Finding
    from netloom.ipam.audit import Records
    from netloom.preflight.facts import Facts

Judgement = Mapping[str, tuple["Finding", ...]]
_WIDTH = 110


@click.command()
@output_option
@connection
@click.pass_obj
def node(context: Context, output: str) -> None:
    """What on this host stands in the way of a network, and the command that repairs it.

    Needs no agent.  With one, it also says what `netloom status` says of this node.  Nothing is changed.

    Exit code 0: nothing, or only warnings.  1: something will not work.  3: something could not be found out.
    """
    from netloom.findings import exit_code
    from netloom.preflight.judging import judge
    from netloom.preflight.reading import read

    state, silent = _state(context)
    facts = read(context.settings, state, _records(context))
    judgement = {**judge(facts), "agent": tuple(_agent(facts, silent))}
    if output == "table":
        click.echo("\n".join(_screen(facts, judgement)))
    else:
        click.echo(answer(output, "NodeCheck", **_fields(facts, judgement)))
    raise click.exceptions.Exit(exit_code(_all(judgement)))


def _state(context: Context) -> tuple[AgentState | None, Unavailable | None]:
    try:
        return context.agent_state(), None
    except Unavailable as e:
        return None, e


def _records(context: Context) -> Records | None:
    """None: there is no datastore yet, or none that answers; the agent says so, where there is one."""
    from netloom.ipam.audit import Records

    try:
        with context.datastore() as datastore:
            listing = datastore.list()
    except DatastoreError:
        return None
    return Records.of(listing.revision, (stored.resource for stored in listing.items))


def _agent(facts: Facts, silent: Unavailable | None) -> Iterator[Finding]:
    """As `netloom status` has it; where nothing was installed, nobody expects one."""
    from netloom.cli.health import of_agent
    from netloom.findings import Finding, Level

    if facts.agent is not None:
        yield from of_agent(facts.agent)
    elif facts.installed:
        yield Finding(Level.PROBLEM, str(silent), "systemctl status netloom-agent; without systemd: netloom agent")


def _all(judgement: Judgement) -> list[Finding]:
    return [finding for findings in judgement.values() for finding in findings]


def _screen(facts: Facts, judgement: Judgement) -> Iterator[str]:
    from netloom.findings import SIGNS

    agent = f"agent {facts.agent.version}" if facts.agent else "no agent"
    yield clean(f"node {facts.settings.node_name} · netloom {__version__} · {agent} · kernel {facts.release}")
    yield ""
    yield from _wrapped([name for name, findings in judgement.items() if not findings])
    for finding, name in sorted(((f, n) for n, found in judgement.items() for f in found), key=lambda pair: -pair[0].level):
        where = f"{finding.where} " if finding.where else ""
        yield clean(f"{SIGNS[finding.level]} {name}: {where}{finding.message}")
        if finding.hint:
            yield clean(f"      repair: {finding.hint}")
    yield ""
    yield _summary(judgement)


def _wrapped(names: list[str]) -> Iterator[str]:
    """The checks that found nothing, a few on a line."""
    line = ""
    for name in names:
        if len(line) + len(name) > _WIDTH:
            yield line.rstrip()
            line = ""
        line += f"✓ {name}  "
    yield line.rstrip()


def _summary(judgement: Judgement) -> str:
    from netloom.findings import Level

    found = _all(judgement)
    words = {Level.WARNING: "warning", Level.PROBLEM: "problem", Level.UNKNOWN: "unknown thing"}
    counted = [count(number, words[level]) for level in words if (number := sum(f.level is level for f in found))]
    return ", ".join(
        [f"{sum(not findings for findings in judgement.values())} of {len(judgement)} checks found nothing", *counted]
    )


def _fields(facts: Facts, judgement: Judgement) -> dict[str, object]:
    return {
        "node": facts.settings.node_name,
        "kernel": facts.release,
        "agent": facts.agent.version if facts.agent else None,
        "checks": list(judgement),
        "findings": list(_listed(judgement.items())),
    }


def _listed(judgement: Iterable[tuple[str, tuple[Finding, ...]]]) -> Iterator[dict[str, object]]:
    for name, findings in judgement:
        for f in findings:
            yield {
                "check": name,
                "level": f.level.name.lower(),
                "where": f.where or None,
                "message": f.message,
                "repair": f.hint or None,
            }
