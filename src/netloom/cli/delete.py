"""netloom delete KIND NAME... | -f FILE: take objects out of the datastore, after asking.

A pool whose blocks are claimed, and what nodes write about their pods, is refused.  A Node is a person's to delete: that says
the machine is gone for good, and its blocks become free for the others.
"""

from __future__ import annotations

import sys

import click

from netloom.cli.context import Context, connection
from netloom.cli.files import manifests
from netloom.cli.kinds import complete_kind, complete_name, find_view, split_name
from netloom.cli.printing import clean
from netloom.datastore import Datastore, Listing
from netloom.errors import ConfigError, NetloomError, NotFound
from netloom.model import admission
from netloom.model.resources import Endpoint
from netloom.model.snapshot import Snapshot

Key = tuple[str, str]


@click.command()
@click.argument("kind", required=False, shell_complete=complete_kind)
@click.argument("names", metavar="[NAME]...", nargs=-1, shell_complete=complete_name)
@click.option("-f", "--filename", "sources", multiple=True, metavar="FILE|DIR|-", help="Delete what these manifests name.")
@click.option("-n", "--namespace", default="default", metavar="NAME", help="The namespace (default).")
@click.option("--dry-run", is_flag=True, help="Say what would happen, and delete nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@connection
@click.pass_obj
def delete(
    context: Context,
    kind: str | None,
    names: tuple[str, ...],
    sources: tuple[str, ...],
    namespace: str,
    dry_run: bool,
    yes: bool,
) -> None:
    """Delete objects.

    \b
    netloom delete pool old --yes
    netloom delete -f pools.yaml
    """
    wanted = _wanted(kind, names, sources, namespace)
    with context.datastore() as datastore:
        listing = datastore.list()
        _admit(wanted, listing)
        if not dry_run and not yes:
            _ask(wanted)
        missing = [key for key in wanted if not _delete(datastore, key, listing, dry_run=dry_run)]
    if missing:
        raise NotFound(f"there is no {', '.join(map(_subject, missing))}", hint=f"netloom get {find_view(missing[0][0]).title}")


def _wanted(kind: str | None, names: tuple[str, ...], sources: tuple[str, ...], namespace: str) -> list[Key]:
    if bool(kind) == bool(sources):
        raise ConfigError("say what to delete: KIND NAME, or -f FILE", hint="netloom delete --help")
    if sources:
        return [(item.resource.kind, item.resource.key) for item in manifests(sources)]
    assert kind is not None  # one of the two is given
    if "/" in kind and not names:
        kind, _, name = kind.partition("/")
        names = (name,)
    view = find_view(kind)
    if view.singular == "pod":
        hint = "its runtime takes a pod away; what nodes left behind: netloom ipam check"
        raise NetloomError("a pod is written by its node, not by people", hint=hint)
    if not names:
        raise ConfigError(f"say which of the {view.title}", hint=f"netloom get {view.title}")
    return [(view.kind, "/".join(part for part in split_name(view, name, namespace) if part)) for name in names]


def _admit(wanted: list[Key], listing: Listing) -> None:
    existing = Snapshot.of(listing.revision, (s.resource for s in listing.items))
    removed = [s.resource for s in listing.items if (s.resource.kind, s.resource.key) in wanted]
    endpoints = [s.resource for s in listing.items if isinstance(s.resource, Endpoint)]
    problems = admission.check_deletion(existing, removed, endpoints)
    if problems:
        reasons = [NetloomError(f"{_subject((p.resource.kind, p.resource.key))}: {p.message}", hint=p.hint) for p in problems]
        raise ExceptionGroup("nothing was deleted; try again without what is refused", reasons)


def _ask(wanted: list[Key]) -> None:
    what = ", ".join(map(_subject, wanted))
    if not sys.stdin.isatty():
        raise ConfigError(f"deleting {what} needs a yes", where="--yes", hint="add --yes, or see what it would do: --dry-run")
    if not click.confirm(f"delete {clean(what)}?", err=True):
        raise click.exceptions.Exit(1)


def _delete(datastore: Datastore, key: Key, listing: Listing, *, dry_run: bool) -> bool:
    """Whether it was there.  A record that cannot be decoded is deleted as well: this is how one gets rid of it."""
    revision = {(s.resource.kind, s.resource.key): s.revision for s in listing.items}.get(key)
    if revision is None and "/".join(key) not in dict(listing.broken):
        return False
    if not dry_run:
        datastore.delete(*key, revision)
    click.echo(f"{clean(_subject(key))} deleted{' (dry run)' if dry_run else ''}")
    return True


def _subject(key: Key) -> str:
    return f"{key[0].lower()}/{key[1]}"
