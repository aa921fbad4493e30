"""netloom apply -f FILE: make what manifests say.

    read all → admit all against what is there → one write per object that differs

Nothing is written unless everything was read and admitted.  Each write names the revision that it was decided on, so what
somebody else changed meanwhile is never overwritten.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import click
import msgspec

from netloom.cli.context import Context, connection, note_broken
from netloom.cli.files import manifests
from netloom.cli.printing import clean
from netloom.datastore import Datastore, Listing, Stored
from netloom.errors import ConfigError, Conflict
from netloom.model import admission
from netloom.model.before import KEY as NOTE
from netloom.model.before import noting
from netloom.model.manifest import Item
from netloom.model.problem import Problem
from netloom.model.resources import AnyResource, Node, NodeSpec, builtins
from netloom.model.secret import Secret
from netloom.model.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Step:
    """`old` None: the object is new."""

    new: AnyResource
    old: Stored | None

    @property
    def word(self) -> str:
        if self.old is None:
            return "created"
        return "unchanged" if self.old.resource == self.new else "configured"

    @property
    def subject(self) -> str:
        return clean(f"{self.new.kind.lower()}/{self.new.key}")


@click.command()
@click.option("-f", "--filename", "sources", multiple=True, required=True, metavar="FILE|DIR|-", help="What to apply.")
@click.option("--dry-run", is_flag=True, help="Say what would happen, and write nothing.")
@click.option("--diff", is_flag=True, help="Show what differs, and write nothing; exit code 1 if anything does.")
@connection
@click.pass_obj
def apply(context: Context, sources: tuple[str, ...], dry_run: bool, diff: bool) -> None:
    """Make what manifests say: netloom.io/v1, Calico's IPPool, IPReservation, FelixConfiguration, BGPConfiguration, BGPPeer, BGPFilter and
    Node, core Namespace and Secret, and Flannel's net-conf.json or the ConfigMap that it is in.

    \b
    netloom apply -f pools.yaml --diff
    kubectl get ippools -o yaml | netloom apply -f -
    netloom apply -f /etc/kube-flannel/net-conf.json
    """
    items = manifests(sources)
    with context.datastore(create=not (dry_run or diff)) as datastore:
        listing = datastore.list()
        note_broken(listing)
        admit(items, listing)
        steps = list(plan(items, listing))
        if diff:
            _show_differences(steps)
            return
        for step in steps:
            if not dry_run:
                write(datastore, step)
            click.echo(f"{step.subject} {step.word}{' (dry run)' if dry_run else ''}")


def admit(items: tuple[Item, ...], listing: Listing) -> None:
    """Raises ExceptionGroup of ConfigError that names every reason against."""
    existing = Snapshot.of(listing.revision, (stored.resource for stored in listing.items))
    by_key = {(item.resource.kind, item.resource.key): item for item in items}
    problems = admission.check_against(existing, [item.resource for item in items])
    if problems:
        hint = "nothing was written; correct the manifest and try again"
        raise ExceptionGroup(hint, [_error(p, by_key[p.resource.kind, p.resource.key]) for p in problems])


def _error(problem: Problem, item: Item) -> ConfigError:
    return ConfigError(problem.message, where=item.where(problem.path), path=problem.path, hint=problem.hint)


def plan(items: tuple[Item, ...], listing: Listing) -> Iterator[Step]:
    stored = {(s.resource.kind, s.resource.key): s for s in listing.items}
    for item in items:
        old = stored.get((item.resource.kind, item.resource.key))
        yield Step(_merged(item.resource, old), old)


def _merged(new: AnyResource, old: Stored | None) -> AnyResource:
    """A Node's spec is the node's own but for what people say there: a manifest keeps what it does not say.  Of some what they said before
    is noted, for `undo`."""
    if isinstance(new, Node) and old is not None and isinstance(old.resource, Node):
        before, said = old.resource.spec, new.spec
        bgp = before.bgp if said.bgp is None else said.bgp
        draining = before.draining if said.draining is None else said.draining
        if said.of_people(NodeSpec()) == NodeSpec():
            said = before
        return msgspec.structs.replace(new, spec=msgspec.structs.replace(said, bgp=bgp, draining=draining))
    return noting(new, old.resource if old else None)


def write(datastore: Datastore, step: Step) -> None:
    try:
        if step.old is None:
            datastore.create(step.new)
        elif step.word == "configured":
            datastore.update(step.new, step.old.revision)
    except Conflict as e:
        raise Conflict(
            f"{step.subject} was changed by somebody else meanwhile", hint="look at it, and apply again: --diff"
        ) from e


def _show_differences(steps: list[Step]) -> None:
    different = [step for step in steps if step.word != "unchanged"]
    for step in different:
        click.echo(f"{'+' if step.old is None else '~'} {step.subject}")
        for line in differences(step):
            click.echo(f"    {clean(line)}")
    if different:
        raise click.exceptions.Exit(1)


def differences(step: Step) -> Iterator[str]:
    """`field: old → new` for each field that differs; of a new object only what it says."""
    old = dict(_fields(builtins(step.old.resource))) if step.old else {}
    new = dict(_fields(builtins(step.new)))
    for path in sorted(old.keys() | new.keys()):
        before, after = old.get(path, "-"), new.get(path, "-")
        if before != after and path != f"metadata.annotations.{NOTE}":
            yield f"{path}: {after}" if step.old is None else f"{path}: {before} → {after}"
    if isinstance(step.new, Secret) and step.old is not None and isinstance(step.old.resource, Secret):
        had, has = step.old.resource.data, step.new.data
        yield from (f"data.{key}: another value" for key in sorted(had.keys() & has.keys()) if had[key] != has[key])


def _fields(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if path or name not in ("apiVersion", "kind"):
                yield from _fields(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        yield path, ", ".join(map(str, value)) or "-"
    else:
        yield path, str(value).lower() if isinstance(value, bool) else str(value)
