"""netloom system install | uninstall: on this host, or in an image.

$ netloom system install
/opt/cni/bin/netloom created
…
/etc/cni/net.d/10-netloom.conflist created
"""

from __future__ import annotations

import os
import posixpath
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from netloom import __version__
from netloom.cli.context import Context, connection, note
from netloom.cli.printing import clean, count
from netloom.errors import ConfigError, DatastoreError, NetloomError, Unavailable
from netloom.model.showing import shown

if TYPE_CHECKING:
    from netloom.agent.state import AgentState
    from netloom.footprint.files import Layout
    from netloom.footprint.tree import Tree

_PLUGIN_RUN_DIR = "/run/netloom"
_BETWEEN_LOOKS = 0.2  # seconds
_NAMED = 3  # pods

root_option = click.option(
    "--root", metavar="DIR", default="/", help="An image's root: only its files, no service, nothing of this host's kernel."
)
dry_option = click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")


@click.command()
@dry_option
@root_option
@click.option("--cni-bin-dir", metavar="DIR", help="Where the runtime looks for plugins (what containerd says; /opt/cni/bin).")
@click.option("--cni-conf-dir", metavar="DIR", help="And for networks (what containerd says; /etc/cni/net.d).")
@click.option("--cni-version", type=click.Choice(["1.0.0", "1.1.0"]), help="Of the network (1.1.0 where containerd is 2.x).")
@click.option("--network-name", metavar="NAME", default="pods", show_default=True, help="The network's name.")
@click.option("--wiring", type=click.Choice(["routed", "bridge"]), default="routed", show_default=True, help="Of its pods.")
@click.option("--program", metavar="PATH", help="What the service starts (this program; with --root /opt/netloom/bin/netloom).")
@click.option("--machine", metavar="TYPE", default="", help="With --root: x86_64, aarch64, …, if it is not this one's.")
@click.option("--without-agent", is_flag=True, help="Put the network in place although no agent answers: for images.")
@click.option(
    "--timeout", type=click.FloatRange(0, 600), default=30.0, show_default=True, help="Seconds to wait for the agent."
)
@click.option("--force", is_flag=True, help="Overwrite files of others, and what was changed by hand.")
@connection
@click.pass_obj
def install(
    context: Context,
    *,
    dry_run: bool,
    root: str,
    cni_bin_dir: str | None,
    cni_conf_dir: str | None,
    cni_version: str | None,
    network_name: str,
    wiring: str,
    program: str | None,
    machine: str,
    without_agent: bool,
    timeout: float,
    force: bool,
) -> None:
    """Put plugin, service, network and what belongs to them in place.

    The network (a conflist) comes last, when this node's agent answers: from then on the runtime makes pods with it.  Done again, it changes
    only what is not as it should be; so it is the upgrade, too.

    \b
      netloom system install --dry-run
      netloom system install --root /mnt/image --without-agent
    """
    from netloom.footprint import kernel, services
    from netloom.footprint.files import conflist, files
    from netloom.footprint.installing import Installation, Step
    from netloom.footprint.tree import Tree

    tree = Tree(root)
    _require_root(tree, dry_run)
    _hold(tree, dry_run)
    layout = _layout(tree, cni_bin_dir, cni_conf_dir, cni_version, network_name, wiring, program, machine)
    installation = Installation(tree, files(layout), conflist(layout), force=force)
    managed = tree.is_host and services.running()

    def say(step: Step) -> None:
        _say(step.file.path, step.word.value, dry_run)

    for directory in installation.directories:
        _say(directory, "created", dry_run)
    if dry_run:
        for step in installation.steps:
            say(step)
    else:
        installation.begin(kernel.switches() if tree.is_host else {})
        for step in installation.put():
            say(step)
    if managed:
        _serve(context, dry_run)
    if not without_agent and not (dry_run and tree.is_host):
        _wait_for_agent(context, tree, timeout, installation.last.file.path)
    say(installation.last if dry_run else installation.finish())
    if tree.is_host:
        _note_problems(context)


@click.command()
@dry_option
@root_option
@click.option("--purge", is_flag=True, help="And what survives a reboot: the node's identity, claims, the datastore.")
@click.option("--force", is_flag=True, help="Although there are pods: they lose their network.")
@connection
@click.pass_obj
def uninstall(context: Context, *, dry_run: bool, root: str, purge: bool, force: bool) -> None:
    """Take away what install has put, and what the agent has made in the kernel.

    The network goes first, so no pod comes any more.  What was changed by hand stays.  With pods that still have an interface
    it refuses: drain the node before.

    \b
      netloom system uninstall --dry-run
      netloom system uninstall --purge
    """
    from netloom.footprint import kernel, services
    from netloom.footprint.removing import Removing
    from netloom.footprint.tree import Tree

    tree = Tree(root)
    _require_root(tree, dry_run)
    _hold(tree, dry_run)
    removing = Removing(tree, dry=dry_run)
    managed = tree.is_host and services.running()
    if tree.is_host and not force:
        _refuse_pods(kernel.pods())
    if tree.is_host and not managed and not dry_run:
        _hold_namespace()
    _say_all(removing.conflist(), dry_run)
    if tree.is_host:
        if managed:
            _say_all(_services(services.stop(dry=dry_run)), dry_run)
            if not dry_run:
                _hold_namespace()
        if not force:
            _refuse_pods(kernel.pods())  # one that came before the network went
        _say_all(kernel.remove(dry=dry_run), dry_run)
        if removing.record:
            _say_all(kernel.put_checks_back(removing.record.sysctls, dry=dry_run), dry_run)
        _say_all(kernel.remove_run_dir(context.settings, dry=dry_run), dry_run)
    _say_all(removing.files(), dry_run)
    if managed:
        _say_all(_services(services.forget(dry=dry_run)), dry_run)
    if purge and tree.is_host:
        _say_all(kernel.purge(context.settings, dry=dry_run), dry_run)
    if removing.record is None:
        note("no record of an installation: files that were put by hand are not known")
    elif tree.is_host:
        for name, before in kernel.changed_switches(removing.record.sysctls).items():
            note(f"{name} was {before} before; if nobody else needs it: sysctl -w {name}={before}")


def _layout(
    tree: Tree,
    bin_dir: str | None,
    conf_dir: str | None,
    version: str | None,
    network: str,
    wiring: str,
    program: str | None,
    machine: str,
) -> Layout:
    """What was said, else what this host's runtime says."""
    from netloom.footprint import runtimes
    from netloom.footprint.files import Layout
    from netloom.model.attachments import Wiring

    if machine and tree.is_host:
        raise ConfigError("this host's machine type is known", path="--machine", hint="it goes with --root DIR")
    runtime = runtimes.find(tree)
    layout = Layout(
        cni_bin_dir=_absolute("--cni-bin-dir", bin_dir or runtime.bin_dir),
        cni_conf_dir=_absolute("--cni-conf-dir", conf_dir or runtime.conf_dir),
        cni_version=version or runtime.cni_version,
        network=_network_name(network),
        wiring=Wiring(wiring),
        machine=machine,
    )
    own = program or (_own_program() if tree.is_host else layout.program)
    return replace(layout, program=own)


def _absolute(option: str, path: str) -> str:
    if not path.startswith("/"):
        raise ConfigError(f"{shown(path)} is not an absolute path", path=option)
    return posixpath.normpath("/" + path.lstrip("/"))


def _network_name(name: str) -> str:
    """libcni refuses others, for they become names of files."""
    if not name or not name[0].isalnum() or not all(c.isalnum() or c in "_.-" for c in name) or not name.isascii():
        raise ConfigError(
            f"{shown(name)} is not the name of a network", path="--network-name", hint="letters, digits, '_', '.', '-'"
        )
    return name


def _own_program() -> str:
    """The command beside this interpreter, as pip puts it there; else the one that is found by its name."""
    beside = os.path.join(os.path.dirname(sys.executable), "netloom")
    found = beside if os.access(beside, os.X_OK) else shutil.which("netloom")
    if found is None:
        raise ConfigError(
            "this program does not know where it is installed", path="--program", hint="--program /PATH/OF/netloom"
        )
    return os.path.abspath(found)


def _unit() -> str:
    from netloom.footprint.files import UNIT

    return UNIT


def _require_root(tree: Tree, dry_run: bool) -> None:
    if tree.is_host and not dry_run and os.geteuid() != 0:
        raise ConfigError("what is put on a host is root's", hint=f"sudo {click.get_current_context().command_path}")


def _hold(tree: Tree, dry_run: bool) -> None:
    """Two at once would each forget what the other has put.  Until the command ends."""
    if not dry_run:
        click.get_current_context().with_resource(tree.held())


def _serve(context: Context, dry_run: bool) -> None:
    from netloom.footprint import services

    try:
        again = context.agent_state().version != __version__
    except DatastoreError:
        again = False
    _say_all(_services(services.start(again=again, dry=dry_run)), dry_run)


def _services(done: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    return ((f"service/{unit}", word) for unit, word in done)


def _wait_for_agent(context: Context, tree: Tree, seconds: float, conflist: str) -> None:
    """Raises Unavailable: then the conflist is not put, and everything else is."""
    if not tree.is_host:
        hint = f"--without-agent puts {conflist} into an image"
        raise Unavailable(
            "no agent answers in an image: the runtime would make pods with a network that is not there", hint=hint
        )
    deadline = time.monotonic() + seconds
    while (reason := _unready(context)) is not None:
        if time.monotonic() > deadline:
            hint = f"everything else is in place; start it (systemctl start {_unit()}; or: netloom agent), then do this again"
            raise Unavailable(f"{conflist} is not put yet: {reason}", hint=hint)
        time.sleep(_BETWEEN_LOOKS)
    if context.settings.run_dir != _PLUGIN_RUN_DIR:
        note(
            f"the plugin looks for the agent in {_PLUGIN_RUN_DIR}; the runtime needs NETLOOM_RUN_DIR={context.settings.run_dir}"
        )


def _unready(context: Context) -> str | None:
    """Why pods could not be made now."""
    try:
        state: AgentState = context.agent_state()
    except Unavailable as e:
        return str(e)
    return None if state.ready else f"the agent of {state.node} is not ready"


def _note_problems(context: Context) -> None:
    """What would keep pods from their network now, for instance another network that the runtime takes first."""
    from netloom.findings import Level
    from netloom.preflight.judging import judge
    from netloom.preflight.reading import read

    problems = [f for findings in judge(read(context.settings)).values() for f in findings if f.level is Level.PROBLEM]
    for problem in problems:
        note(" ".join(filter(None, (problem.where, problem.message))))
    if problems:
        note("netloom check node says how to repair it")


def _hold_namespace() -> None:
    """Nobody may start an agent while its things are taken away.  Raises ConfigError: one runs.  Kept until the process ends."""
    from netloom.agent.alone import hold_namespace

    click.get_current_context().with_resource(closing(hold_namespace()))


def _refuse_pods(found: list[str]) -> None:
    if found:
        named = ", ".join(" ".join(pod.split()[:2]) for pod in found[:_NAMED]) + (", …" if len(found) > _NAMED else "")
        hint = "drain the node first; --force takes the network away under them"
        raise NetloomError(f"{count(len(found), 'pod')} would lose their network: {named}", hint=hint)


def _say_all(done: Iterable[tuple[str, str]], dry_run: bool) -> None:
    for what, word in done:
        _say(what, word, dry_run)


def _say(what: str, word: str, dry_run: bool) -> None:
    click.echo(clean(f"{what} {word}{' (dry run)' if dry_run and not word.startswith(('unchanged', 'kept')) else ''}"))
