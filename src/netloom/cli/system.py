"""netloom system: version, and the shell's completion."""

from __future__ import annotations

import platform

import click

from netloom import __version__
from netloom.cli.context import Context, connection
from netloom.cli.printing import table
from netloom.errors import Unavailable


@click.group()
def system() -> None:
    """Version and shell completion."""


@system.command()
@connection
@click.pass_obj
def version(context: Context) -> None:
    """The version of this program, and of the agent on this node."""
    rows: list[tuple[str, str]] = [
        ("netloom", __version__),
        ("python", platform.python_version()),
        ("kernel", platform.release()),
    ]
    try:
        rows.append(("agent", context.agent_state().version))
    except Unavailable:
        rows.append(("agent", "does not answer"))
    click.echo(table(("PART", "VERSION"), rows))


@system.command()
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion(shell: str) -> None:
    """Print the script that makes TAB complete commands, kinds and names.

    \b
    source <(netloom system completion bash)
    netloom system completion fish > ~/.config/fish/completions/netloom.fish
    """
    from click.shell_completion import get_completion_class

    from netloom.cli.root import netloom

    kind = get_completion_class(shell)
    assert kind is not None  # click knows all three
    click.echo(kind(netloom, {}, "netloom", "_NETLOOM_COMPLETE").source())
