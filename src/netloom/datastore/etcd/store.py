"""The Datastore on etcd: each method of the Protocol as one request, and what an answer says beside: is this still our store?

A write is a transaction: `if the store is ours and the key is as expected, put`; its header has the new revision, and its other
branch finds out what stood in the way.  A listing comes in pages, all as of the revision of the first one.

The tricky thing is that etcd can become another store under us: restored from a snapshot, or wiped, with the same cluster ID.
So a key below the prefix has the store's name since it was made; every write is bound to that key's value, every answer to the
cluster ID, and to a revision not before those that were seen when the question was sent.  One that was restored, and has been written to
so much since that its revision has passed the old one, is known by what was written last: a watch goes on from there only if it is there.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence

import msgspec

from netloom.datastore import Listing, Revision, Stored
from netloom.datastore.etcd import messages
from netloom.datastore.etcd.connection import Connection
from netloom.datastore.etcd.layout import Layout, Span
from netloom.datastore.etcd.line import TooLarge
from netloom.datastore.etcd.messages import Done, Found, Header, KeyValue
from netloom.datastore.etcd.target import parse
from netloom.datastore.etcd.watch import EtcdWatch, Seen, Stream
from netloom.datastore.etcd.wire import NotAMessage
from netloom.datastore.records import Expect, Record, Writer, check, listing, stored
from netloom.errors import Compacted, Replaced, Unavailable

SCHEMA = 1
_PAGE = 2000  # records
_LISTINGS = 3  # tries, where each is overtaken by a compaction


class _Identity(msgspec.Struct, frozen=True):
    """The record that says which store this is."""

    identity: str
    schema: int = SCHEMA


class EtcdDatastore(Writer):
    """`target`: as in netloom.datastore.etcd.target.  `create`: what is not there yet is made.  `newest`: the last write that listings
    have shown.  Raises Unavailable."""

    def __init__(self, target: str, *, create: bool = True) -> None:
        parsed = parse(target)
        self._layout, self._closed, self._another = Layout(parsed.prefix), False, ""
        self.newest: Seen | None = None
        self._seen = 0
        """The latest revision that an answer has had."""
        self._cluster, self._proof, self._name = 0, b"", ""
        """Of our store: its cluster's ID, its identity as etcd has it, and the name in it.  Empty: not known yet."""
        self._connection = Connection(parsed, messages.find(self._layout.identity), self._judge)
        try:
            self._connection.line()
            if not self._proof:
                self._make(f"{parsed} at {parsed.prefix}", create=create)
        except BaseException:
            self._connection.close()
            raise

    @property
    def identity(self) -> str:
        self.require_open()
        return f"{self._cluster:x}-{self._name}"

    def get(self, kind: str, key: str) -> Stored | None:
        found = self._find(messages.find(self._layout.key(kind, key)))
        return stored(self._record(found.records[0])) if found.records else None

    def list(self, kind: str | None = None) -> Listing:
        span = self._layout.all if kind is None else self._layout.kind(kind)
        for _ in range(_LISTINGS):
            try:
                return self._listed(span)
            except Compacted:
                continue
        raise Unavailable("etcd is compacted faster than a listing can be read", hint="compact it less often")

    def keys(self, kind: str) -> Sequence[str]:
        span = self._layout.kind(kind)
        found = self._find(messages.find(span.first, span.end, keys_only=True))
        return [self._layout.read(record.key)[1] for record in found.records]

    def watch(self, since: Revision) -> EtcdWatch:
        return EtcdWatch(self, since)

    def close(self) -> None:
        self._closed = True
        self._connection.close()

    # For the watch

    def stream(self, since: Revision, last: Seen | None = None) -> Stream:
        """Changes after `since`.  `last`: what the changes until then ended with.  Raises Compacted, Replaced, Unavailable."""
        since = max(since, 1)  # etcd begins with 1, and has nothing before it
        if last is None:
            self._find(messages.find(self._layout.identity, revision=since))
        elif not self._has(last, since):
            raise self._turned("it went back to an earlier state, and has been written to since")
        return Stream(self._connection.line(), self._layout.all, since)

    def _has(self, last: Seen, since: Revision) -> bool:
        """Whether that was written here, and nothing after it until `since`.  What was taken away has to have been there before."""
        found = self._find(messages.find(last.key, revision=max(since, last.revision))).records
        if last.modified:
            return [record.modified for record in found] == [last.modified]
        return not found and bool(self._find(messages.find(last.key, revision=last.revision - 1)).records)

    def lose(self, stream: Stream) -> None:
        """What it came by is of no use."""
        self._connection.lose(stream.line)

    def changed(self, change: messages.Change) -> Record:
        """Raises Unavailable if this change ends our store."""
        deleted, record = change
        if record.key == self._layout.identity:
            self._require_ours([] if deleted else [record])
        return Record(record.modified, *self._layout.read(record.key), None if deleted else record.value)

    def require_open(self) -> None:
        if self._another:
            raise Replaced(self._another)
        if self._closed:
            raise Unavailable("the datastore is closed")

    # Reading

    def _listed(self, span: Span) -> Listing:
        first = self._page(span.first, span.end, 0)
        revision = first.header.revision
        return listing(revision, map(self._record, self._pages(first, span.end)))

    def _pages(self, page: Found, end: bytes) -> Iterator[KeyValue]:
        revision = page.header.revision
        while True:
            for record in page.records:
                if record.key != self._layout.identity:
                    if self.newest is None or record.modified > self.newest.modified:
                        self.newest = Seen(record.key, record.modified, revision)
                    yield record
            if not page.more or not page.records:
                return
            page = self._page(page.records[-1].key + b"\0", end, revision)

    def _page(self, first: bytes, end: bytes, revision: int) -> Found:
        """Fewer records where many are too long for one answer."""
        limit = _PAGE
        while True:
            try:
                return self._find(messages.find(first, end, limit=limit, revision=revision))
            except TooLarge:
                if limit == 1:
                    raise
                limit = max(limit // 8, 1)

    def _find(self, request: bytes) -> Found:
        self.require_open()
        seen = self._seen
        try:
            found = messages.found(self._connection.read(messages.RANGE, request))
        except NotAMessage as e:
            raise Unavailable(f"etcd gave an answer that cannot be read: {e}") from e
        self._check(found.header, seen)
        return found

    def _record(self, found: KeyValue) -> Record:
        return Record(found.modified, *self._layout.read(found.key), found.value)

    # Writing

    def _write(self, kind: str, key: str, value: bytes | None, expected: Revision | Expect) -> Revision:
        where = self._layout.key(kind, key)
        conditions = [messages.holds(self._layout.identity, self._proof), *_conditions(where, expected)]
        step = messages.deleting(where) if value is None else messages.putting(where, value)
        done = self._do(conditions, [step], [messages.finding(where), messages.finding(self._layout.identity)])
        if not done.succeeded:
            present, identity = done.found
            self._require_ours(identity)
            check(kind, key, present[0].modified if present else None, expected)
            raise Unavailable(f"etcd did not do what nothing stood in the way of: {kind} {key}", hint="do it again")
        return done.header.revision

    def _do(self, conditions: Sequence[bytes], then: Sequence[bytes], otherwise: Sequence[bytes]) -> Done:
        self.require_open()
        seen = self._seen
        answer = self._connection.write(messages.TXN, messages.transaction(conditions, then, otherwise))
        try:
            done = messages.done(answer)
        except NotAMessage as e:
            raise Unavailable(f"etcd gave an answer that cannot be read: {e}") from e
        self._check(done.header, seen)
        if not done.succeeded and len(done.found) != len(otherwise):
            raise Unavailable("etcd gave an answer that says nothing", hint="do it again")
        return done

    # Which store it is

    def _make(self, place: str, *, create: bool) -> None:
        """The identity, unless another one comes first."""
        if not create:
            raise Unavailable(f"there is no datastore of Netloom in {place}", hint="netloom apply makes one; or set etcdPrefix")
        where, value = self._layout.identity, msgspec.json.encode(_Identity(identity=str(uuid.uuid4())))
        self._do([messages.was_created_at(where, 0)], [messages.putting(where, value)], [messages.finding(where)])
        self._judge(messages.found(self._connection.read(messages.RANGE, messages.find(where))))
        if not self._proof:
            raise Unavailable(f"the datastore in {place} was removed while it was made", hint="do it again")

    def _judge(self, greeting: Found) -> None:
        """What a server has said at first.  Whether its revision is a later one the next answer says."""
        if not self._proof:
            self._cluster, self._seen = greeting.header
            self._proof, self._name = _read_identity(greeting.records)
        else:
            self._check(greeting.header, 0)
            self._require_ours(greeting.records)

    def _check(self, header: Header, seen: Revision) -> None:
        """`seen`: the latest revision that was known when the question was sent."""
        if header.cluster != self._cluster:
            raise self._turned(f"cluster {header.cluster:x} answers, and not {self._cluster:x}")
        if header.revision < seen:
            raise self._turned(f"it is at revision {header.revision}, and was at {seen}")
        self._seen = max(self._seen, header.revision)

    def _require_ours(self, identity: Sequence[KeyValue]) -> None:
        if [record.value for record in identity] != [self._proof]:
            raise self._turned("its identity was removed or replaced")

    def _turned(self, how: str) -> Replaced:
        """Nothing more is asked of it: whoever opens it anew learns which store is there now."""
        self._another = f"another store is in etcd now: {how}"
        self._connection.close()
        return Replaced(self._another)


def _conditions(where: bytes, expected: Revision | Expect) -> Sequence[bytes]:
    if expected is Expect.NOTHING:
        return [messages.was_created_at(where, 0)]
    if expected is Expect.ANYTHING:
        return [messages.exists(where)]
    assert isinstance(expected, int)
    return [messages.exists(where), messages.was_modified_at(where, max(expected, 0))]


def _read_identity(records: Sequence[KeyValue]) -> tuple[bytes, str]:
    """As etcd has it, and the name in it; empty where there is none."""
    if not records:
        return b"", ""
    try:
        identity = msgspec.json.decode(records[0].value, type=_Identity)
    except msgspec.MsgspecError as e:
        where = records[0].key.decode(errors="backslashreplace")
        raise Unavailable(f"{where} in etcd is another program's: {e}", hint="set etcdPrefix to one of Netloom's own") from e
    if identity.schema != SCHEMA:
        raise Unavailable(
            f"the datastore in etcd has schema {identity.schema}; this Netloom knows {SCHEMA}", hint="upgrade this node"
        )
    return records[0].value, identity.identity
