"""The group of all commands, and the one place where errors become words and exit codes.

A command raises what went wrong, or leaves with `click.exceptions.Exit(1)` for "no"; it catches nothing to print it.  A
command's module is `netloom.cli.NAME`, its click object has that name too, and it is imported only when it is typed: the
help of the whole is written out of the table below.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from typing import Any

import click

from netloom import __version__
from netloom.cli.context import Context, connection
from netloom.cli.printing import clean
from netloom.errors import ConfigError, Conflict, DataplaneError, DatastoreError, NetloomError, NotFound

COMMANDS: Mapping[str, str] = {
    "status": "Is the network well, and if not, what is the first thing to do?",
    "get": "Nodes, pods, pools, blocks, routes and more: as table, JSON or YAML.",
    "apply": "Make what manifests say: pools, reservations, namespaces, labels.",
    "delete": "Delete objects by kind and name, or those of a file.",
    "undo": "Take back the last change of a pool, or of the FelixConfiguration.",
    "drain": "Let no new pod come to a node, and traffic that only passes it go elsewhere.",
    "check": "Prove that the network does what it must; find what stands in the way.",
    "ipam": "Addresses: how many are used, whose is this one, is any leaked?",
    "bgp": "BGP on this node: sessions, routes, and what BIRD is told.",
    "lab": "A cluster out of network namespaces, on this machine.",
    "system": "Install and uninstall on this host; version; shell completion.",
    "agent": "Run this node's agent.",
    "forwarder": "Run the UDP tunnel in user space; the agent does so where it has to.",
}

_LONGEST = 2000  # characters of an error or a hint


class Root(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f"netloom.cli.{cmd_name}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def main(self, *args: Any, **extra: Any) -> Any:  # Any: click's own signature
        """Runs a command and ends the process with its exit code."""
        context = Context()
        extra.update(standalone_mode=False, obj=context)
        try:
            code = super().main(*args, **extra)
        except click.exceptions.Abort:
            click.echo("interrupted", err=True)
            sys.exit(130)
        except Exception as e:
            if context.verbose:
                sys.excepthook(type(e), e, e.__traceback__)
            sys.exit(report(e))
        sys.exit(code if isinstance(code, int) else 0)


def report(error: Exception) -> int:
    """Says on stderr what went wrong and what to type next; returns the exit code.  A group's message is the hint for all."""
    if isinstance(error, ExceptionGroup):
        code = max(report(e) for e in error.exceptions)
        _say("hint", error.message)
        return code
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return exit_code(error)
    _say("error", _message(error))
    hint = _hint(error)
    if hint:
        _say("hint", hint)
    return exit_code(error)


def _say(what: str, text: str) -> None:
    """`text` may quote what was typed, however long that is."""
    shown = text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 2 :]}"
    click.echo(f"{what}: {clean(shown)}", err=True)


def exit_code(error: Exception) -> int:
    match error:
        case click.ClickException() | ConfigError():
            return 2
        case Conflict() | NotFound():
            return 1
        case DatastoreError() | DataplaneError():
            return 3
        case NetloomError():
            return 1
    return 3


def _message(error: Exception) -> str:
    if isinstance(error, click.ClickException):
        return error.format_message().removesuffix(".")
    if isinstance(error, OSError):
        return ": ".join(str(part) for part in (error.filename, error.strerror) if part) or type(error).__name__
    return str(error) if isinstance(error, NetloomError) else f"{type(error).__name__}: {error}"


def _hint(error: Exception) -> str | None:
    match error:
        case click.UsageError() if error.ctx is not None:
            return f"{error.ctx.command_path} --help"
        case NetloomError():
            return error.hint
        case PermissionError() if os.geteuid() != 0:
            return "try it as root"
        case OSError():
            return "the system refused it; add -v to see where"
        case click.ClickException():
            return None
    return "this is a mistake in netloom; add -v for the traceback, and please report it"


@click.group(
    cls=Root,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start here: netloom status, netloom get pods -A, netloom lab up",
)
@click.version_option(__version__, "--version", message="netloom %(version)s")
@connection
def netloom() -> None:
    """A cluster network that people can read."""
