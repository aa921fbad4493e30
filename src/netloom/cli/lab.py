"""netloom lab: a cluster out of network namespaces, on this machine.

$ netloom lab up
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING

import click

from netloom.cli import lab_pictures as pictures
from netloom.cli.context import output_option
from netloom.cli.printing import answer, table
from netloom.errors import ConfigError, NetloomError, NotFound
from netloom.model.showing import shown

if TYPE_CHECKING:
    from netloom.lab.topology import Topology

ENCAPSULATIONS = {
    "vxlan": "VXLAN",
    "ipip": "IPIP",
    "udp": "UDP",
    "host-gw": "None",
    "bgp": "None",
    "cross-subnet": "VXLANCrossSubnet",
    "ipip-cross-subnet": "IPIPCrossSubnet",
    "udp-cross-subnet": "UDPCrossSubnet",
}
"""As people say them; `cross-subnet` alone is VXLAN's.  `bgp`: BIRD's routes instead of the agents'."""
encapsulation_option = click.option(
    "--encapsulation", type=click.Choice(list(ENCAPSULATIONS)), help="How packets cross from node to node (vxlan)."
)
wiring_option = click.option(
    "--wiring", type=click.Choice(["routed", "bridge"]), help="How a pod is connected to its node (routed)."
)


def complete_lab(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    from netloom.lab import record

    return [name for name in record.names() if name.startswith(incomplete)]


def complete_place(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Nodes, pods and so on of the lab that is meant; nothing where none is."""
    from netloom.lab import record

    try:
        found = record.read(record.the_only_one(ctx.params.get("name")))
    except NetloomError:
        return []
    return [place for place in found.places() if place.startswith(incomplete)]


@click.group()
def lab() -> None:
    """A cluster out of network namespaces, on this machine."""


@lab.command()
@click.argument("file", required=False)
@click.option("--name", metavar="NAME", help="The lab's name (lab, or what the file says).")
@encapsulation_option
@wiring_option
@click.option("--nodes", type=click.IntRange(1, 50), default=3, show_default=True, help="Without a file: how many nodes.")
@click.option("--pods", type=click.IntRange(0, 200), default=6, show_default=True, help="Without a file: how many pods.")
@click.option("--etcd", type=click.IntRange(0, 9), default=0, help="Without a file: with an etcd of how many members (none).")
def up(
    file: str | None, name: str | None, encapsulation: str | None, wiring: str | None, nodes: int, pods: int, etcd: int
) -> None:
    """Build a cluster: nodes with a real agent each, pods through the real CNI plugin.

    FILE describes it (see examples/); without one it is three nodes on one switch.

    \b
      netloom lab up
      netloom lab up examples/two-racks.yaml --wiring bridge
    """
    from netloom.lab import cluster
    from netloom.lab.manifest import load
    from netloom.lab.topology import one_switch

    require_root()
    topology = load(file) if file else one_switch(nodes=nodes, pods=pods, etcd=etcd)
    end_on_sigterm()
    topology = altered(topology, name, encapsulation, wiring)
    click.echo(f"{pictures.summary(topology)}\n")
    lab = cluster.up(topology, pictures.say)
    click.echo(f"\n{pictures.nodes(lab)}\n\n{pictures.pods(lab)}\n\n{pictures.next_steps(lab)}")


@lab.command(name="try")
@encapsulation_option
@wiring_option
@click.option("--name", metavar="NAME", help="The lab's name (demo); one that was kept under it is taken down first.")
@click.option("--keep", is_flag=True, help="Leave the lab up, to look around.")
def try_(encapsulation: str | None, wiring: str | None, name: str | None, keep: bool) -> None:
    """See a cluster network work: build one, look at it, prove it, take it down.

    \b
      netloom lab try
      netloom lab try --encapsulation host-gw --keep
    """
    from netloom.cli.lab_tour import tour
    from netloom.lab.topology import one_switch

    require_root()
    end_on_sigterm()
    if not tour(altered(one_switch("demo"), name, encapsulation, wiring), keep=keep):
        raise click.exceptions.Exit(1)


@lab.command()
@click.argument("name", required=False, shell_complete=complete_lab)
def down(name: str | None) -> None:
    """Take a lab down: processes, namespaces, files.  Nothing of it is left."""
    from netloom.lab import cluster, record

    require_root()
    if name is None and not record.names():
        click.echo("there is no lab")
        return
    name = record.the_only_one(name, "netloom lab down")
    click.echo(f"lab {name} is gone" if cluster.down(name) else f"there is no lab {name}")


@lab.command()
@click.argument("name", required=False, shell_complete=complete_lab)
@output_option
def ls(name: str | None, output: str) -> None:
    """List labs; with NAME, the nodes and pods of one."""
    from netloom.lab import cluster, record

    if record.names():
        require_root()
    if name:
        lab = cluster.open_lab(name)
        if output == "table":
            click.echo(f"{pictures.nodes(lab)}\n\n{pictures.pods(lab)}")
        else:
            click.echo(answer(output, "Lab", record=lab.record))
        return
    rows = [_row(each) for each in record.names()]
    if output == "table":
        click.echo(table([column.upper() for column in _COLUMNS], rows) if rows else "there is no lab")
    else:
        click.echo(answer(output, "LabList", items=[dict(zip(_COLUMNS, row, strict=True)) for row in rows]))


_COLUMNS = ("lab", "nodes", "pods", "state")


def _row(name: str) -> tuple[object, ...]:
    from netloom.lab import record

    try:
        found = record.read(name)
    except (ConfigError, NotFound):
        return name, None, None, "no record"
    return name, len(found.topology.nodes), len(found.sandboxes), "up" if found.complete else "half-made"


@lab.command(name="exec", context_settings={"ignore_unknown_options": True})
@click.option("--lab", "name", metavar="NAME", help="Which lab, where there are several.", shell_complete=complete_lab)
@click.argument("place", shell_complete=complete_place)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(name: str | None, place: str, command: tuple[str, ...]) -> None:
    """Run a command inside a node, pod, router or switch.

    On a node, `netloom` speaks with that node's agent; where a BIRD runs, `birdc` speaks with it.

    \b
      netloom lab exec pod-0 -- ip route
      netloom lab exec node-1 -- netloom status
    """
    from netloom.dataplane import netns
    from netloom.lab import birds, cluster, packages
    from netloom.lab.processes import marked
    from netloom.lab.record import folder

    require_root()
    lab = cluster.open_lab(name)
    environment = marked(lab.name, "exec", place)
    environment["PATH"] = f"{os.path.dirname(sys.executable)}:{environment.get('PATH', os.defpath)}"
    if place in (node.name for node in lab.topology.nodes):
        environment["NETLOOM_CONFIG"] = folder(lab.name, place, "agent.yaml")
    if socket := next((bird.socket for bird in birds.of(lab.topology) if bird.place == place), None):
        own = packages.bird().environment
        environment |= own | {"PATH": f"{environment['PATH']}:{own['PATH']}"}
        if command[0] in ("birdc", "birdcl"):
            command = (command[0], "-s", socket, *command[1:])
    with lab.namespace(place) as namespace, netns.entered(namespace):
        program = shutil.which(command[0], path=environment["PATH"])
        if program is None:
            raise NotFound(f"there is no program {shown(command[0])} on this machine", hint=f"apt-cache search {command[0]}")
        os.execve(program, command, environment)  # noqa: S606  # there is no shell in between


def require_root() -> None:
    """Raises ConfigError whose hint is the same command, by sudo."""
    if os.geteuid() != 0:
        command = click.get_current_context().command_path
        raise ConfigError("labs and their network namespaces are root's", hint=f"sudo {command}")


def end_on_sigterm() -> None:
    """So that `up` takes everything down again, as it does on Ctrl-C."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)


def altered(topology: Topology, name: str | None, encapsulation: str | None, wiring: str | None) -> Topology:
    """The topology with what the flags say; None: not given."""
    from netloom.lab import topology as topologies
    from netloom.model.attachments import Wiring
    from netloom.model.resources import Encapsulation

    try:
        return topologies.altered(
            topology,
            name=name,
            encapsulation=Encapsulation(ENCAPSULATIONS[encapsulation]) if encapsulation else None,
            wiring=Wiring(wiring) if wiring else None,
            mesh=encapsulation == "bgp",
        )
    except ValueError as e:
        raise ConfigError(str(e), hint=f"{click.get_current_context().command_path} --help") from e
