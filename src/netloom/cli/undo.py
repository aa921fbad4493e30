"""netloom undo KIND NAME: a pool, or the cluster's numbers, as they were before the last `netloom apply` changed them.

For a change of encapsulation that does not come through: each pair of nodes stays on the old form by itself, so nothing is lost meanwhile,
but the cluster goes on trying until somebody says otherwise.  That is for people, or their tools, to say: what a manifest declares is
not an agent's to change.  Undone twice, it is as it was.
"""

from __future__ import annotations

import click

from netloom.cli.apply import Step, differences, write
from netloom.cli.context import Context, connection, note_broken
from netloom.cli.kinds import complete_kind, complete_name, find_view, split_name
from netloom.cli.printing import clean
from netloom.errors import ConfigError, NotFound
from netloom.model import admission
from netloom.model.before import before, noting
from netloom.model.snapshot import Snapshot


@click.command()
@click.argument("kind", shell_complete=complete_kind)
@click.argument("name", shell_complete=complete_name)
@click.option("--dry-run", is_flag=True, help="Say what would change, and write nothing.")
@connection
@click.pass_obj
def undo(context: Context, kind: str, name: str, dry_run: bool) -> None:
    """Take back the last change of a pool, or of the FelixConfiguration.

    \b
    netloom undo pool default --dry-run
    netloom undo felixconfiguration default
    """
    view = find_view(kind)
    key = "/".join(part for part in split_name(view, name, "default") if part)
    with context.datastore() as datastore:
        listing = datastore.list()
        note_broken(listing)
        stored = next((s for s in listing.items if (s.resource.kind, s.resource.key) == (view.kind, key)), None)
        if stored is None:
            raise NotFound(f"there is no {view.singular} {name}", hint=f"netloom get {view.title}")
        try:
            old = before(stored.resource)
        except ValueError as e:
            raise ConfigError(str(e), where=f"{view.singular} {name}", hint="write what it should say: netloom apply -f") from e
        if old is None:
            hint = f"netloom get {view.title} {name} -o yaml, change it, netloom apply -f"
            raise NotFound(f"of {view.singular} {name} it is not known what it said before", hint=hint)
        existing = Snapshot.of(listing.revision, (s.resource for s in listing.items))
        if problems := [ConfigError(p.message, path=p.path, hint=p.hint) for p in admission.check_against(existing, [old])]:
            raise ExceptionGroup("nothing was written", problems)
        step = Step(noting(old, stored.resource), stored)
        for line in differences(step):
            click.echo(f"    {clean(line)}")
        if not dry_run:
            write(datastore, step)
        click.echo(f"{step.subject} {'would be ' if dry_run else ''}as it was")
