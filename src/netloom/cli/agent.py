"""`netloom agent`: runs this node's agent in the foreground, as systemd and the lab do."""

from __future__ import annotations

import click

from netloom.cli.context import Context, connection


@click.command()
@connection
@click.pass_obj
def agent(context: Context) -> None:
    """Run this node's agent until SIGTERM.  Traffic flows on without it.

    \b
    netloom agent
    NETLOOM_NODE_NAME=a netloom agent --config agent.yaml
    """
    from netloom.agent.main import run

    run(context.settings)
