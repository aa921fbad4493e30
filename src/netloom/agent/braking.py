"""Braking: the brake (`calc.brake`) of one agent, between the watch and everything that goes by the cluster.

    watch ─ as the datastore has it ─▶ Braking ─ as it counts ─▶ allocator, registration, passes, what is remembered

What is held is written to STATE_DIR/brake.json before anything goes by it, so an agent that is killed holds on to the same when it
starts again.  There it also stands that the datastore has jumped, until the quarantine of new claims that follows is over.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress

import msgspec

from netloom.calc import brake
from netloom.calc.brake import Brake
from netloom.calc.claimants import Claimants
from netloom.durable import write_durably
from netloom.errors import NotFound
from netloom.model.resources import AnyResource, decode, encode
from netloom.model.showing import shown
from netloom.model.snapshot import Snapshot

log = logging.getLogger(__name__)

_REST = 4.0  # times what the last look has taken until the next one, while thousands of nodes are held
_RELEASE = "where they are gone for good: netloom system brake release"


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`resources`: what is held, and the Nodes of which it is."""

    nodes: dict[str, bool] = {}
    others: tuple[tuple[str, str], ...] = ()
    jumped: bool = False
    resources: tuple[msgspec.Raw, ...] = ()


class Braking:
    """For the loop.  `counts`: the cluster as it counts here; at first what was remembered.  `clock` in seconds, of any beginning."""

    def __init__(self, state_dir: str, own: str, remembered: Snapshot, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._own, self._clock = f"{state_dir}/brake.json", own, clock
        self._written, held = _read(self._path)
        self._brake, self._claimants = Brake.recalled(self._written.nodes, self._written.others), Claimants()
        self.counts = self._said = brake.held(self._brake, held, remembered, own)
        self._rests_until = float("-inf")
        self._is_late = False

    @property
    def jumped(self) -> bool:
        """Whether the quarantine after a jump of the datastore is not known to be over."""
        return self._written.jumped

    @property
    def held(self) -> tuple[str, ...]:
        """Nodes of which something is held."""
        return tuple(sorted(self._brake.nodes))

    @property
    def problems(self) -> tuple[str, ...]:
        return tuple(f"{words}; {_RELEASE}" for words in brake.in_words(self._brake)) if self._said.complete else ()

    def take(self, snapshot: Snapshot, *, jumped: bool = False) -> None:
        """As the datastore has it: then `counts` is new.  Raises OSError: what is held is in force, and could not be written down."""
        if snapshot.complete and (snapshot is not self._said or jumped):  # else it is the remembered one, and counts already
            self._said = snapshot
            if self._brake.holds and not jumped and self._clock() < self._rests_until:
                self._is_late = True
            else:
                self._step(jumped=jumped)

    @property
    def late(self) -> float | None:
        """Seconds until somebody has to `look`, for what was said last does not count yet."""
        return max(0.0, self._rests_until - self._clock()) if self._is_late else None

    def look(self, *, quarantined: bool) -> bool:
        """Time has passed.  Whether something else counts now.  Raises OSError, as `take`."""
        before = self.counts
        if self._said.complete and (self._brake.holds or self._is_late):
            self._step(jumped=False)
        if self._written.jumped and not quarantined:
            self._write(jumped=False)
        return self.counts is not before

    def release(self, nodes: Collection[str]) -> tuple[str, ...]:
        """These are gone for good; none: everything that is held.  What was let go.  Raises NotFound, OSError."""
        if unknown := sorted(set(nodes) - self._brake.nodes.keys()):
            raise NotFound(f"nothing is held of node {', '.join(map(shown, unknown))}", hint="netloom system brake show")
        let_go = tuple(nodes) or (*self.held, *(f"{kind} {key}" for kind, key in sorted(self._brake.others)))
        self._brake = self._brake.without(nodes or None)
        self.counts = brake.held(self._brake, self.counts, self._said, self._own)
        self._write(jumped=self._written.jumped, fewer=True)
        return let_go

    def _step(self, *, jumped: bool) -> None:
        before, start = self._brake, self._clock()
        self._brake, counts = brake.step(
            before, self.counts, self._said, self._own, start, jumped=jumped, claimants=self._claimants
        )
        end = self._clock()
        self._is_late, self._rests_until = False, end + _REST * (end - start)
        if counts is self._said or counts != self.counts:  # who goes by it goes by its identity
            self.counts = counts
        _tell(before, self._brake)
        self._write(jumped=jumped or self._written.jumped)

    def _write(self, *, jumped: bool, fewer: bool = False) -> None:
        """Only when more is held, or nothing any more: what came back meanwhile is seen to be there.  `fewer`: a person said so."""
        nodes, others = dict(self._brake.nodes), self._brake.others
        written = self._written
        known = nodes.items() <= written.nodes.items() and others <= set(written.others)
        if known and not fewer and written.jumped == jumped and self._brake.holds == bool(written.nodes or written.others):
            return
        resources = tuple(msgspec.Raw(encode(resource)) for resource in _held(self._brake, self.counts))
        file = _File(nodes, tuple(sorted(others)), jumped, resources)
        if file == _File():
            with suppress(FileNotFoundError):
                os.unlink(self._path)
        else:
            write_durably(self._path, msgspec.json.encode(file))
        self._written = file


def _tell(before: Brake, now: Brake) -> None:
    for words in brake.in_words(now) if now.nodes.keys() - before.nodes.keys() or now.others - before.others else ():
        log.warning("brake: %s; %s", words, _RELEASE)
    if before.holds and not now.holds:
        log.info("brake: over, nothing is missing any more")


def _held(held: Brake, counts: Snapshot) -> Iterator[AnyResource]:
    yield from (counts.nodes[name] for name in held.nodes if name in counts.nodes)
    for block in counts.blocks.values() if held.nodes else ():
        if claims := tuple(claim for claim in block.spec.claims if claim.node in held.nodes):
            yield msgspec.structs.replace(block, spec=msgspec.structs.replace(block.spec, claims=claims))
    yield from (found for kind, key in sorted(held.others) if (found := counts.get(kind, key)) is not None)


def _read(path: str) -> tuple[_File, Snapshot]:
    """With what is held.  A file that cannot be read holds nothing; what goes missing then is judged anew."""
    try:
        with open(path, "rb") as stream:
            file = msgspec.json.decode(stream.read(), type=_File)
        return file, Snapshot.of(0, [decode(bytes(resource)) for resource in file.resources])
    except FileNotFoundError:
        return _File(), Snapshot()
    except (OSError, msgspec.MsgspecError, RecursionError) as e:
        log.warning("%s cannot be read, starting without: %s", path, e)
        return _File(), Snapshot()
