"""`netloom agent`: runs this node's agent in the foreground, as systemd and the lab do."""

from __future__ import annotations

import click

from netloom import config


@click.command(name="agent")
@click.option("--config", "file", metavar="FILE", help="Settings; default /etc/netloom/agent.yaml if it is there.")
def command(file: str | None) -> None:
    """Run this node's agent until SIGTERM.  Traffic flows on without it.

    \b
    Examples:
      netloom agent
      NETLOOM_NODE_NAME=a netloom agent --config agent.yaml
    """
    from netloom.agent.main import run

    run(config.load(file))
