"""netloom get KIND [NAME...]: what is declared, from the datastore; `routes` and `config`: what this node holds and uses.

    select → print, and with -w: → every change, as it happens

JSON and YAML are the resources themselves, so `netloom get pools -o yaml | netloom apply -f -` changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from netloom.cli import labels, routes
from netloom.cli.context import Context, connection, note, note_broken
from netloom.cli.kinds import VIEWS, View, complete_kind, complete_name, find_view, split_name
from netloom.cli.printing import Table, clean, structured, table
from netloom.errors import Compacted, ConfigError, NotFound
from netloom.model.resources import API_VERSION, AnyResource, builtins

if TYPE_CHECKING:
    from netloom.datastore import Datastore, Listing

OUTPUTS = ("table", "wide", "json", "yaml", "name")


@dataclass(frozen=True, slots=True)
class Selection:
    """Which objects of a view are meant.  `names` empty: all; `namespace` None: in all of them."""

    view: View
    names: tuple[tuple[str | None, str], ...]
    namespace: str | None
    matches: Callable[[dict[str, str]], bool]

    def takes(self, resource: AnyResource) -> bool:
        namespace = resource.metadata.namespace
        if self.names and not any(self._is(resource, *wanted) for wanted in self.names):
            return False
        inside = bool(self.names) or self.namespace in (None, namespace)
        return inside and self.matches(resource.metadata.labels)

    def _is(self, resource: AnyResource, namespace: str | None, name: str) -> bool:
        return self.view.name(resource) == name and namespace in (None, resource.metadata.namespace)

    def missing(self, found: Iterable[AnyResource]) -> list[str]:
        resources = list(found)
        return [name for namespace, name in self.names if not any(self._is(r, namespace, name) for r in resources)]


@click.command(epilog="Kinds: " + ", ".join((*(view.title for view in VIEWS), "routes", "config")) + ".")
@click.argument("kind", shell_complete=complete_kind)
@click.argument("names", metavar="[NAME]...", nargs=-1, shell_complete=complete_name)
@click.option("-n", "--namespace", metavar="NAME", help="Look in this namespace (default).")
@click.option("-A", "--all-namespaces", is_flag=True, help="Look in all namespaces.")
@click.option("-l", "--selector", default="", metavar="LABELS", help="For example app=web,tier in (a,b),!old")
@click.option("-o", "--output", type=click.Choice(OUTPUTS), default="table", help="How to print (table).")
@click.option("-w", "--watch", is_flag=True, help="Go on: print every change as it happens.")
@connection
@click.pass_obj
def get(
    context: Context,
    kind: str,
    names: tuple[str, ...],
    namespace: str | None,
    all_namespaces: bool,
    selector: str,
    output: str,
    watch: bool,
) -> None:
    """Show objects of one kind.

    \b
    netloom get pods -A -o wide
    netloom get pools -o yaml
    """
    if kind in _LOCAL:
        if watch:
            raise ConfigError(
                f"{kind} cannot be watched", where="-w", hint="what the datastore holds can be: netloom get pods -w"
            )
        _LOCAL[kind](context, names, output)
        return
    if "/" in kind and not names:
        kind, _, name = kind.partition("/")
        names = (name,)
    view = find_view(kind)
    namespace = None if all_namespaces or not view.namespaced else namespace or "default"
    wanted = tuple(split_name(view, name, namespace) for name in names)
    selection = Selection(view, wanted, namespace, labels.parse(selector))
    with context.datastore() as datastore:
        listing = datastore.list(view.kind)
        note_broken(listing)
        if watch:
            _watch(datastore, listing, selection, output)
        else:
            _show([s.resource for s in listing.items], selection, output)
            if view.kind == "IPPool" and output in ("table", "wide"):
                _note_moves(context, datastore)


def _show(resources: list[AnyResource], selection: Selection, output: str) -> None:
    found = sorted(filter(selection.takes, resources), key=lambda r: (r.metadata.namespace or "", selection.view.name(r)))
    missing = selection.missing(found)
    single = len(selection.names) == 1 and len(found) == 1
    if found or (not selection.names and output in ("json", "yaml")):
        _print(found, selection.view, output, single=single)
    elif not selection.names:
        where = f" in namespace {selection.namespace}; -A looks in all" if selection.namespace else ""
        note(f"no {selection.view.title}{where}")
    if missing:
        everywhere = " -A" if selection.view.namespaced else ""
        hint = f"see what there is: netloom get {selection.view.title}{everywhere}"
        raise NotFound(f"there is no {selection.view.singular} {', '.join(missing)}", hint=hint)


def _note_moves(context: Context, datastore: Datastore) -> None:
    """Pools whose packets still go another way than they want."""
    from netloom.calc.progress import progress
    from netloom.cli.moving import numbers
    from netloom.model.snapshot import Snapshot

    listing = datastore.list()
    cluster = Snapshot.of(listing.revision, (s.resource for s in listing.items))
    for each in progress(cluster, numbers(context.settings)):
        note(each.words())


def _print(resources: list[AnyResource], view: View, output: str, *, single: bool) -> None:
    if output in ("json", "yaml"):
        values = [document(r) for r in resources]
        click.echo(structured(values[0] if single else {"apiVersion": API_VERSION, "kind": "List", "items": values}, output))
    elif output == "name":
        click.echo("\n".join(_reference(r, view) for r in resources))
    else:
        wide = output == "wide"
        click.echo(table(view.headers(wide=wide), [row for r in resources for row in view.lines(r, wide=wide)]))


def document(resource: AnyResource) -> dict[str, Any]:  # Any: JSON-like values
    """The resource as people write it: apiVersion first."""
    value = builtins(resource)
    return {"apiVersion": value.pop("apiVersion"), **value}


def _reference(resource: AnyResource, view: View) -> str:
    namespace = f"{resource.metadata.namespace}/" if view.namespaced else ""
    return clean(f"{view.singular}/{namespace}{view.name(resource)}")


def _watch(datastore: Datastore, listing: Listing, selection: Selection, output: str) -> None:
    wide = output == "wide"
    lines = Table(["EVENT", *selection.view.headers(wide=wide)])
    there = filter(selection.takes, (stored.resource for stored in listing.items))
    lines.make_room([("MODIFIED", *row) for resource in there for row in selection.view.lines(resource, wide=wide)])
    for word, resource in changes(datastore, selection.view.kind, listing):
        if not selection.takes(resource):
            continue
        if output in ("json", "yaml"):
            click.echo(
                ("---\n" if output == "yaml" else "") + structured({"event": word, "object": document(resource)}, output)
            )
        elif output == "name":
            click.echo(f"{word} {_reference(resource, selection.view)}")
        else:
            rows = [(word, *row) for row in selection.view.lines(resource, wide=wide)]
            click.echo("\n".join(lines.lines(rows)))


def changes(datastore: Datastore, kind: str, listing: Listing) -> Iterator[tuple[str, AnyResource]]:
    """What is there, as `ADDED`, and then every change, for ever.  Of what was deleted the last form is given."""
    known: dict[str, AnyResource] = {}
    while True:
        now = {s.resource.key: s.resource for s in listing.items}
        yield from (("DELETED", known.pop(key)) for key in sorted(known.keys() - now.keys()))
        for key, resource in now.items():
            if known.get(key) != resource:
                yield ("MODIFIED" if key in known else "ADDED"), resource
        known = now
        try:
            watch = datastore.watch(listing.revision)
            while True:
                for event in watch.next(None):
                    if event.kind != kind or event.error:
                        continue
                    if event.resource is not None:
                        yield ("MODIFIED" if event.key in known else "ADDED"), event.resource
                        known[event.key] = event.resource
                    elif event.key in known:
                        yield "DELETED", known.pop(event.key)
        except Compacted:
            listing = datastore.list(kind)


# What only this node knows.


def _config(context: Context, names: tuple[str, ...], output: str) -> None:
    import msgspec

    settings = msgspec.to_builtins(context.settings, enc_hook=str)
    unknown = [name for name in names if name not in settings]
    if unknown:
        raise NotFound(f"there is no setting {', '.join(unknown)}", hint="see them all: netloom get config")
    chosen = {name: value for name, value in settings.items() if not names or name in names}
    if output in ("json", "yaml"):
        click.echo(structured(chosen, output))
    elif output == "name":
        click.echo("\n".join(chosen))
    else:
        click.echo(table(("SETTING", "VALUE"), chosen.items()))


_LOCAL: dict[str, Callable[[Context, tuple[str, ...], str], None]] = {
    "routes": routes.show,
    "route": routes.show,
    "config": _config,
}
