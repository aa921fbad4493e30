"""netloom system datastore copy: from one datastore to another.

$ netloom system datastore copy --from sqlite:/var/lib/netloom/datastore.db --to etcd:https://10.0.0.1:2379
KIND      OBJECTS
Endpoint  12
IPBlock   2
…
copied and compared: 16 objects
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from netloom.cli.context import Context, connection, require_store
from netloom.cli.printing import answer, count, table
from netloom.errors import ConfigError, DatastoreError

if TYPE_CHECKING:
    from netloom.datastore import Datastore

_EVERY = 500  # objects between two words


@click.group()
def datastore() -> None:
    """Move a cluster from one datastore to another."""


@datastore.command()
@click.option("--from", "source", metavar="TARGET", required=True, help="The old one: sqlite:PATH, etcd:URL,URL…")
@click.option("--to", "target", metavar="TARGET", required=True, help="The new one: empty, or a copy that was cut short.")
@click.option("-o", "--output", type=click.Choice(("table", "json", "yaml")), default="table", help="How to print (table).")
@connection
@click.pass_obj
def copy(context: Context, *, source: str, target: str, output: str) -> None:
    """Copy everything, and compare it.

    The agents that use the old datastore are stopped before: their pods go on, and nothing is written that would be missing.  What was cut
    short goes on when it is done again.  The settings etcdCaFile and so on are for both, as far as a TARGET does not say them itself.

    \b
      systemctl stop netloom-agent
      netloom system datastore copy --from sqlite:/var/lib/netloom/datastore.db --to etcd:https://10.0.0.1:2379
    """
    from netloom.datastore.copying import copy as copy_all

    progress = _Progress()
    with _opened(context, source, "--from") as old, _opened(context, target, "--to") as new:
        _require_quiet(context, old)
        copied = copy_all(old, new, progress.written)
    if output != "table":
        click.echo(answer(output, "DatastoreCopied", objects=dict(sorted(copied.items()))))
        return
    if copied:
        click.echo(table(("KIND", "OBJECTS"), sorted(copied.items())))
    click.echo(f"copied and compared: {count(copied.total(), 'object')}")


@contextmanager
def _opened(context: Context, target: str, option: str) -> Iterator[Datastore]:
    from netloom.datastore import check_target, connect

    complete = context.settings.completed(target)
    try:
        scheme, path = check_target(complete)
    except ConfigError as e:
        raise ConfigError(str(e), path=option, hint=e.hint) from e
    if scheme == "memory":
        raise ConfigError("memory: is inside one agent, and no other program sees it", path=option)
    if scheme == "sqlite" and option == "--from":
        require_store(path)
    opened = connect(complete, create=option == "--to")
    try:
        yield opened
    finally:
        opened.close()


def _require_quiet(context: Context, old: Datastore) -> None:
    """This node's agent must not use the old one; others are found out by what they write."""
    try:
        state = context.agent_state().datastore
    except DatastoreError:
        return
    if state.connected and state.identity == old.identity:
        raise ConfigError(
            "this node's agent uses it, and may write what would not be copied",
            path="--from",
            hint="systemctl stop netloom-agent; its pods go on",
        )


class _Progress:
    """For who waits at a terminal."""

    def __init__(self) -> None:
        self._objects = 0

    def written(self) -> None:
        self._objects += 1
        if self._objects % _EVERY == 0 and sys.stderr.isatty():
            click.echo(f"{self._objects} objects…", err=True)
