"""netloom system brake show | release: what this node holds although the datastore has it no more.

$ netloom system brake show
node-7
node-9
$ netloom system brake release node-7
node-7 released
"""

from __future__ import annotations

import asyncio

import click

from netloom.cli.context import Context, connection, output_option
from netloom.cli.printing import answer, clean
from netloom.errors import Conflict, Unavailable


@click.group()
def brake() -> None:
    """What is held although the datastore lost it: most of the nodes at once, or all since it went back."""


@brake.command()
@output_option
@connection
@click.pass_obj
def show(context: Context, output: str) -> None:
    """Which nodes' ways are held by this node's agent.

    Exit code 0: nothing is held.  1: something is.  3: the agent did not answer.
    """
    held = context.agent_state().held
    if output == "table":
        click.echo("\n".join(map(clean, held)) if held else "nothing is held")
    else:
        click.echo(answer(output, "Brake", held=held))
    raise click.exceptions.Exit(1 if held else 0)


@brake.command()
@click.argument("nodes", nargs=-1, metavar="[NODE]...")
@connection
@click.pass_obj
def release(context: Context, nodes: tuple[str, ...]) -> None:
    """Let go what this node's agent holds: of these nodes, or everything.

    They are gone for good: routes to their pods are taken away here, and here alone; other nodes have brakes of their own.
    """
    import msgspec

    from netloom.agent.control import Request, tell

    run_dir = context.settings.run_dir
    try:
        told = asyncio.run(tell(run_dir, Request(command="release-brake", nodes=nodes)))
    except FileNotFoundError as e:
        raise Unavailable(
            f"the agent does not answer in {run_dir}: nobody listens there", hint="start it: netloom agent"
        ) from e
    except (OSError, TimeoutError, msgspec.DecodeError) as e:
        raise Unavailable(f"the agent does not answer in {run_dir}: {e or type(e).__name__}", hint="try it as root") from e
    if told.error:
        raise Conflict(told.error, hint=told.hint)
    click.echo("\n".join(clean(f"{name} released") for name in told.done) or "nothing was held")
