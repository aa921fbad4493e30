"""Before: what a pool, or the cluster's numbers, said until the last change, kept beside what they say now.

    metadata.annotations["netloom.io/before"]: '{"cidr": "10.244.0.0/16", "encapsulation": "VXLAN"}'

`apply` writes it with each change of the spec, and `undo` makes it what is said; what it replaces is then what was before.  Whoever writes
the object by other means leaves the note as it is, and an undo then goes one step further back; what it is going to say is shown.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from netloom.model.resources import AnyResource, FelixConfiguration, IPPool, builtins, convert

KEY = "netloom.io/before"
_KINDS = (IPPool, FelixConfiguration)
R = TypeVar("R", bound=AnyResource)


def noting(new: R, old: AnyResource | None) -> R:
    """With what `old` says, if that is something else; with the same note, if it is not."""
    if not isinstance(new, _KINDS) or not isinstance(old, type(new)):
        return new
    kept = {key: value for key, value in new.metadata.annotations.items() if key != KEY}
    if new.spec != old.spec:
        kept[KEY] = msgspec.json.encode(builtins(old)["spec"]).decode()
    elif (note := old.metadata.annotations.get(KEY)) is not None:
        kept[KEY] = note
    return msgspec.structs.replace(new, metadata=msgspec.structs.replace(new.metadata, annotations=kept))


def before(now: AnyResource) -> AnyResource | None:
    """The object as it was; None where nothing is known of that.  Raises ValueError: somebody has changed the note."""
    note = now.metadata.annotations.get(KEY) if isinstance(now, _KINDS) else None
    if note is None:
        return None
    try:
        spec = msgspec.json.decode(note)
        return convert({**builtins(now), "spec": spec})
    except (msgspec.DecodeError, msgspec.ValidationError) as e:
        raise ValueError(f"metadata.annotations.{KEY}: {e}") from e
