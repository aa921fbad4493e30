"""Copying: all of one datastore into another, whatever engines they have.

    source  ─ list ─▶  what differs  ─ create, update, delete ─▶  target, marked as a copy that is not whole
            ─ list once more: has anybody written to it?  read the target back: is it the same?  ─▶  the mark goes, last

The mark (`DatastoreCopy`) is the first object of an empty store and says which store it is a copy of.  So a copy that was cut short goes on
where it was: what is there already is compared, not written.  A target that has other objects and no mark is somebody's cluster, and
is left alone.

Nobody may write to the source meanwhile: what is written after the second list would be missing.  That is found out and said, and then the
copy is not whole; for the agents that do it are to be stopped first, which costs no packet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from netloom.datastore import Datastore, Listing, Stored
from netloom.errors import ConfigError, Conflict, NotFound
from netloom.model.resources import AnyResource, DatastoreCopy, DatastoreCopySpec, Metadata

MARK = "DatastoreCopy"
_MOST = 3  # objects that a message names

Key = tuple[str, str]


def copy(source: Datastore, target: Datastore, written: Callable[[], None] = lambda: None) -> Counter[str]:
    """How many objects of each kind there are now.  `written` is called after each that had to be written.

    Raises ConfigError: these two are not to be copied; Conflict: somebody writes to one of them, and the copy is not whole; Unavailable:
    do it again, it goes on."""
    if source.identity == target.identity:
        raise ConfigError("both are the same datastore", path="--to")
    before = source.list()
    _require_readable(before, "--from")
    if any(stored.resource.kind == MARK for stored in before.items):
        raise ConfigError("is itself a copy that is not whole", path="--from", hint="end that copy first: do it again")
    _begin(target, source.identity)
    wanted = _by_key(before)
    _write(target, wanted, written)
    _require_unchanged(source, before)
    _require_same(target, wanted)
    target.delete(MARK, DatastoreCopy.NAME)
    return Counter(kind for kind, _ in wanted)


def _begin(target: Datastore, identity: str) -> None:
    mark = target.get(MARK, DatastoreCopy.NAME)
    if mark is not None:
        assert isinstance(mark.resource, DatastoreCopy)
        if mark.resource.spec.source != identity:
            hint = "copy that one once more, to its end; or begin with an empty store"
            raise ConfigError(
                f"is a copy of another datastore ({mark.resource.spec.source}), which is not whole", path="--to", hint=hint
            )
        return
    present = target.list()
    if present.items or present.broken:
        names = [*(f"{s.resource.kind} {s.resource.key}" for s in present.items), *(name for name, _ in present.broken)]
        more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
        hint = "a copy needs an empty store: another file, or another prefix"
        raise ConfigError(f"is not empty: {', '.join(names[:_MOST])}{more}", path="--to", hint=hint)
    target.create(DatastoreCopy(metadata=Metadata(name=DatastoreCopy.NAME), spec=DatastoreCopySpec(source=identity)))


def _write(target: Datastore, wanted: Mapping[Key, Stored], written: Callable[[], None]) -> None:
    listing = target.list()
    _require_readable(listing, "--to")
    present = _by_key(listing)
    try:
        for key, stored in wanted.items():
            there = present.get(key)
            if there is None:
                target.create(stored.resource)
            elif there.resource != stored.resource:
                target.update(stored.resource, there.revision)
            else:
                continue
            written()
        for (kind, name), there in present.items():
            if (kind, name) not in wanted:
                target.delete(kind, name, there.revision)
    except (Conflict, NotFound) as e:
        raise Conflict(
            f"somebody else writes to the new datastore: {e}", hint="stop who does, and begin with an empty one"
        ) from e


def _require_readable(listing: Listing, path: str) -> None:
    if listing.broken:
        name, reason = listing.broken[0]
        more = f"; and {len(listing.broken) - 1} more" if len(listing.broken) > 1 else ""
        hint = "apply them again, or delete them: netloom delete KIND NAME"
        raise ConfigError(f"{name} cannot be read: {reason}{more}", path=path, hint=hint)


def _require_unchanged(source: Datastore, before: Listing) -> None:
    """By the revision of each object; the store's own grows for other reasons, too."""
    then = {key: stored.revision for key, stored in _by_key(before).items()}
    now = {key: stored.revision for key, stored in _by_key(source.list()).items()}
    if changed := sorted(key for key in then.keys() | now.keys() if then.get(key) != now.get(key)):
        raise Conflict(
            f"{_named(changed)} changed while they were copied: the copy is not whole",
            hint="stop the agents that use the old datastore (their pods go on), and copy again: it goes on where it was",
        )


def _require_same(target: Datastore, wanted: Mapping[Key, Stored]) -> None:
    listing = target.list()
    _require_readable(listing, "--to")
    found: dict[Key, AnyResource] = {key: stored.resource for key, stored in _by_key(listing).items()}
    should = {key: stored.resource for key, stored in wanted.items()}
    if wrong := sorted(key for key in found.keys() | should.keys() if found.get(key) != should.get(key)):
        hint = "somebody else writes there; stop it, and copy again"
        raise Conflict(f"{_named(wrong)} is not in the new datastore as in the old one", hint=hint)


def _named(keys: list[Key]) -> str:
    more = f" and {len(keys) - _MOST} more" if len(keys) > _MOST else ""
    return ", ".join(f"{kind} {key}" for kind, key in keys[:_MOST]) + more


def _by_key(listing: Listing) -> dict[Key, Stored]:
    """All but the mark."""
    return {(s.resource.kind, s.resource.key): s for s in listing.items if s.resource.kind != MARK}
