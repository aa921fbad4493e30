"""Tables of ours in the kernel: built in one transaction, and from then on only their elements are compared and written.

    do the rules stand as wanted? ─┬─ yes: elements are read, and written where they differ
                                   └─ no, or not known: all is built, in place of whatever stands under the name

They stand as wanted where this agent has built them so, or an earlier life of it (`standing`), and nobody else has touched them
since.  No packet sees half of it.

Most hosts need some tables never: `WhileNeeded` is there only while somebody does.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from netloom.dataplane.nft.events import Change
from netloom.dataplane.nft.nfnetlink import Message, Nfnetlink
from netloom.dataplane.nft.objects import (
    Set,
    TableId,
    add_elements,
    add_table,
    delete_elements,
    delete_table,
    flush_set,
    get_elements,
    get_sets,
    keys_of,
)
from netloom.dataplane.nft.standing import Standing
from netloom.errors import DataplaneError
from netloom.reconcile import Outcome

Keys = Mapping[Set, frozenset[bytes]]
"""What sets hold, or have to."""

_ABSENT: Final = ""


class Tables:
    """On the driver's socket.  `record` as of `Standing`.

    Their rules have few forms; a form has a name, by which they are known to stand as wanted without being compared."""

    def __init__(self, kernel: Nfnetlink, tables: Sequence[TableId], record: str | None) -> None:
        self._kernel, self._tables, self._standing = kernel, tables, Standing(kernel, tables, record)
        self._form: str | None = None
        """The form in which they stand; _ABSENT; None where that is not known."""
        self.spoilt = False
        """Somebody else has changed them since they were built, and since we look."""

    def notice(self, changes: Sequence[Change]) -> bool:
        """Whether others have changed these."""
        changed = any(change.concerns(table) for change in changes for table in self._tables)
        if changed:
            self._form, self.spoilt = None, True
        return changed

    def stands(self, form: str, batch: Callable[[], Sequence[Message]]) -> bool:
        """Whether we have built them so, with what `batch` makes, and nobody has changed them since."""
        if self._form is None and not self.spoilt and self._standing.is_of(batch()):
            self._form = form
        return self._form == form

    def put_in_place(self, form: str, want: Keys, batch: Callable[[], Sequence[Message]]) -> Outcome:
        """`batch` builds everything, elements included, over whatever stands."""
        if self.stands(form, batch):
            try:
                return self.adjust(want)
            except DataplaneError:
                pass  # something is missing after all
        try:
            return self.build(form, batch())
        except DataplaneError as error:
            self._form = None
            return Outcome(failures=(error,))

    def build(self, form: str, batch: Sequence[Message]) -> Outcome:
        self._kernel.transact(batch)
        self._form, self.spoilt = form, False
        self._standing.put_down(batch)
        return Outcome(put=len(batch))

    def adjust(self, want: Keys) -> Outcome:
        batch: list[Message] = []
        put = deleted = 0
        for definition, wanted in want.items():
            have = self.read(definition)
            if have == wanted:
                continue
            missing, surplus = wanted - have, have - wanted
            put, deleted = put + len(missing), deleted + len(surplus)
            if definition.interval:
                batch += (flush_set(definition), *add_elements(definition, wanted))
            else:  # a key that leads elsewhere now goes first
                batch += (*without(definition, surplus), *add_elements(definition, missing))
        if batch:
            self._kernel.transact(batch)
        return Outcome(put, deleted)

    def read(self, definition: Set) -> frozenset[bytes]:
        return keys_of(definition, [body for _, _, body in self._kernel.dump(get_elements(definition))])

    def hold(self, elements: Keys) -> bool:
        """Whether all of these are there."""
        try:
            return all(found <= self.read(definition) for definition, found in elements.items())
        except DataplaneError as error:
            if error.errno == errno.ENOENT:  # a table itself is missing
                return False
            raise

    def take_out(self, elements: Keys) -> None:
        """Also what is gone already.  Where a table is missing, whoever builds it anew leaves them out."""
        for deleting in (delete_elements, without) if elements else ():
            try:
                self._kernel.transact(
                    [message for definition, gone in elements.items() for message in deleting(definition, gone)]
                )
            except DataplaneError as error:
                if error.errno != errno.ENOENT:
                    raise
            else:
                return

    def exist(self) -> bool:
        try:
            for table in self._tables:
                self._kernel.dump(get_sets(table))
        except DataplaneError as error:
            if error.errno == errno.ENOENT:
                return False
            raise
        return True

    def remove(self) -> None:
        self._kernel.transact(removal(self._tables))
        self._form, self.spoilt = _ABSENT, False
        self._standing.forget()


class WhileNeeded(Tables):
    """A table that stands only while it is needed.  `structure`: all of it but the elements."""

    _FORM: Final = "needed"

    def __init__(
        self, kernel: Nfnetlink, table: TableId, structure: Callable[[], Sequence[Message]], record: str | None
    ) -> None:
        super().__init__(kernel, (table,), record)
        self._structure = structure

    def reconcile(self, want: Keys | None) -> Outcome:
        """None: nobody needs it."""
        if want is not None:
            return self.put_in_place(self._FORM, want, lambda: self._batch(want))
        try:
            if self._form != _ABSENT and (self._form or self.exist()):
                self.remove()
                return Outcome(deleted=1)
        except DataplaneError as error:
            self._form = None
            return Outcome(failures=(error,))
        self._form = _ABSENT
        return Outcome()

    def is_standing(self) -> bool:
        return self.stands(self._FORM, lambda: self._batch({}))

    def add(self, elements: Keys, others: Sequence[Message] = (), besides: Keys | None = None) -> bool:
        """In one transaction with the `others`, which fails where their tables are missing.  This one is built where it is: then
        with what `besides` says, too, and the answer is True."""
        try:
            self._kernel.transact([*others, *added(elements)])
        except DataplaneError as error:
            if error.errno != errno.ENOENT or self.exist():
                raise
            self.build(self._FORM, [*self._batch({**elements, **(besides or {})}), *others])
            return True
        return False

    def _batch(self, elements: Keys) -> list[Message]:
        return [*removal(self._tables), *self._structure(), *added(elements)]


def removal(tables: Sequence[TableId]) -> list[Message]:
    """A table has to be there to be deleted."""
    return [message for table in tables for message in (add_table(table), delete_table(table))]


def added(elements: Keys) -> Iterator[Message]:
    for definition, found in elements.items():
        yield from add_elements(definition, found)


def without(definition: Set, found: frozenset[bytes]) -> Iterator[Message]:
    """The kernel refuses to delete what is not there, so what may be missing is added before."""
    yield from add_elements(definition, found)
    yield from delete_elements(definition, found)
