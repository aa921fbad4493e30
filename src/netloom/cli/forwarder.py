"""`netloom forwarder`: the UDP tunnel in user space.  The agent starts it where no other engine is allowed."""

from __future__ import annotations

import os

import click

from netloom.cli.context import Context, connection
from netloom.config import LOG_LEVELS
from netloom.errors import ConfigError
from netloom.model.showing import shown


@click.command()
@click.option("--device", default="loom.udp", show_default=True, help="The TUN device; made if there is none.")
@click.option("--local", required=True, metavar="ADDRESS", help="This node's address on outer packets.")
@click.option("--also", multiple=True, metavar="ADDRESS", help="Another address of this node that datagrams may come to.")
@click.option("--port", default=8285, show_default=True, help="UDP, source and destination.")
@click.option("--log-level", type=click.Choice(LOG_LEVELS), default="info", show_default=True)
@connection
@click.pass_obj
def forwarder(context: Context, device: str, local: str, also: tuple[str, ...], port: int, log_level: str) -> None:
    """Carry pods' packets between nodes in UDP datagrams, as Flannel's udp does, without anything of the kernel but a TUN.

    Started again it takes over from the one that runs, and no packet is lost.  Whom it sends to it is told at
    RUN_DIR/loom.udp.sock.

    \b
    netloom forwarder --local 192.0.2.11
    """
    from netloom.agent.notify import notify
    from netloom.model.addresses import parse_address
    from netloom.tunnel.forwarder import process

    if os.geteuid() != 0:
        raise ConfigError("a forwarder opens a TUN device, and that takes root", hint="sudo netloom forwarder")
    if not 1 <= port < 1 << 16:
        raise ConfigError(f"{port} is out of range; 1 to 65535", where="--port")
    try:
        address, *others = map(parse_address, (local, *also))
    except ValueError as e:
        raise ConfigError(str(e), where="--local, --also") from e
    if not 0 < len(device) <= 15:
        raise ConfigError(f"{shown(device)} is no name of an interface: 1 to 15 characters", where="--device")
    process.log_to_stderr(log_level)
    run_dir = context.run_dir or context.settings.run_dir
    process.run(process.Parameters(run_dir, device, address, port, tuple(others)), lambda: notify("READY=1"))
