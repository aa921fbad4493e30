"""netloom system: install and uninstall, version, and the shell's completion."""

from __future__ import annotations

import platform

import click

from netloom import __version__
from netloom.cli.context import Context, connection, output_option
from netloom.cli.printing import answer, table
from netloom.cli.system_brake import brake
from netloom.cli.system_datastore import datastore
from netloom.cli.system_install import install, uninstall
from netloom.errors import Unavailable


@click.group()
def system() -> None:
    """Install and uninstall; version; shell completion."""


system.add_command(brake)
system.add_command(datastore)
system.add_command(install)
system.add_command(uninstall)


@system.command()
@output_option
@connection
@click.pass_obj
def version(context: Context, output: str) -> None:
    """The version of this program, and of the agent on this node."""
    versions: dict[str, str | None] = {
        "netloom": __version__,
        "python": platform.python_version(),
        "kernel": platform.release(),
    }
    try:
        versions["agent"] = context.agent_state().version
    except Unavailable:
        versions["agent"] = None
    if output == "table":
        click.echo(table(("PART", "VERSION"), [(part, version or "does not answer") for part, version in versions.items()]))
    else:
        click.echo(answer(output, "Versions", **versions))


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
