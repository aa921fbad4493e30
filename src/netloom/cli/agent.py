"""`netloom agent`: runs this node's agent in the foreground, as systemd and the lab do."""

from __future__ import annotations

import os

import click

from netloom.cli.context import Context, connection
from netloom.config import Settings
from netloom.errors import ConfigError

_SETTINGS = "\n".join(line.strip() for line in (Settings.__doc__ or "").strip().splitlines())


@click.command(epilog=f"\b\nSettings, in FILE or as NETLOOM_NODE_NAME and so on:\n{_SETTINGS}")
@connection
@click.pass_obj
def agent(context: Context) -> None:
    """Run this node's agent until SIGTERM.  Traffic flows on without it.

    \b
    netloom agent
    NETLOOM_NODE_NAME=a netloom agent --config agent.yaml
    """
    from netloom.agent.main import run

    settings = context.settings
    if os.geteuid() != 0:
        raise ConfigError("an agent writes the kernel's tables, and that takes root", hint="sudo netloom agent")

    run(settings)
