"""Where a command's answers come from: settings, the cluster's datastore, and the agent of this node.

`@connection` gives a command the flags that say which ones.  They may stand before or after the command's name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import click

from netloom.errors import Unavailable

if TYPE_CHECKING:
    from netloom.agent.state import AgentState
    from netloom.config import Settings
    from netloom.datastore import Datastore, Listing

_ANOTHER = "say where it is: --datastore sqlite:PATH"
_Command = TypeVar("_Command", bound=Callable[..., object])


@dataclass
class Context:
    """One call of the command line.  What is heavy is imported when it is asked for."""

    config: str | None = None
    target: str | None = None
    run_dir: str | None = None
    verbose: bool = False

    @cached_property
    def settings(self) -> Settings:
        from netloom import config

        return config.load(self.config, datastore=self.target, run_dir=self.run_dir)

    @contextmanager
    def datastore(self, *, create: bool = False) -> Iterator[Datastore]:
        """Connected for the time of the block.  `create`: a store that does not exist yet is made."""
        from netloom.datastore import check_target, connect

        target = self.settings.target
        scheme, path = check_target(target)
        if scheme == "memory":
            raise Unavailable("the datastore memory: is inside one agent, and no other program sees it", hint=_ANOTHER)
        if scheme == "sqlite" and not create:
            require_store(path)
        datastore = connect(target, create=create)
        try:
            yield datastore
        finally:
            datastore.close()

    def agent_state(self) -> AgentState:
        """What this node's agent knows.  Raises Unavailable."""
        from netloom.cli.agent_socket import state

        return state(self.settings.api_socket)


def require_store(path: str) -> None:
    try:
        os.stat(path)
    except FileNotFoundError as e:
        raise Unavailable(f"there is no datastore at {path}", hint=f"netloom agent makes it; or {_ANOTHER}") from e
    except OSError as e:
        hint = "try it as root" if os.geteuid() != 0 else _ANOTHER
        raise Unavailable(f"the datastore {path} cannot be reached: {e.strerror}", hint=hint) from e


def note(text: str) -> None:
    """Something beside the answer, on stderr."""
    from netloom.cli.printing import clean

    click.echo(f"note: {clean(text)}", err=True)


def note_broken(listing: Listing) -> None:
    for record, reason in listing.broken:
        note(f"{record} cannot be read, and is passed over: {reason}")


def connection(command: _Command) -> _Command:
    """Adds --datastore, --run-dir, --config and -v."""
    for option in _OPTIONS:
        command = option(command)
    return command


def _keep(ctx: click.Context, parameter: click.Parameter, value: object) -> None:
    if value and parameter.name:
        setattr(ctx.ensure_object(Context), parameter.name, value)


output_option = click.option(
    "-o", "--output", type=click.Choice(("table", "json", "yaml")), default="table", help="How to print (table)."
)

_OPTIONS = (
    click.option("-v", "--verbose", is_flag=True, expose_value=False, callback=_keep, help="Show a failure's traceback."),
    click.option("--config", metavar="FILE", expose_value=False, callback=_keep, help="Settings (/etc/netloom/agent.yaml)."),
    click.option("--run-dir", metavar="DIR", expose_value=False, callback=_keep, help="The agent's sockets (/run/netloom)."),
    click.option(
        "--datastore", "target", metavar="TARGET", expose_value=False, callback=_keep, help="sqlite:PATH, etcd:URL,URL…"
    ),
)
