"""Shaping of interfaces: token buckets at their roots, and what leads all that arrives on one to another.

Ours are a bucket with our handle and filters of our preference.  Where nothing is wanted, others' are left alone: another plugin in
the chain may limit a pod of ours.  Where something is wanted, what stands in its place is taken away.

The kernel is asked for all qdiscs at once, 1.5 ms for a thousand pods, and for filters only where some may hang.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from netloom.dataplane.netlink import Netlink, NetlinkError, device_names, indexes
from netloom.dataplane.netlink.qdiscs import (
    Qdisc,
    delete_arriving,
    delete_redirect,
    delete_root,
    get_filters,
    get_qdiscs,
    is_made,
    new_clsact,
    new_redirect,
    parse_qdisc,
    parse_redirects,
    put_bucket,
)
from netloom.errors import DataplaneError
from netloom.model.desired import Limit, Shaping
from netloom.reconcile import Changes, Outcome

_NOTHING = Shaping()
_LACKING = ("kind is unknown", "classifier not found", "Failed to load TC action")
_MODULES = "limits need the kernel's ifb, sch_tbf, sch_ingress, cls_u32 and act_mirred"


@dataclass(slots=True)
class _Found:
    """What somebody made on one interface.  `redirects`: where each filter of ours leads; 0 for one that is no more what it was."""

    root: Qdisc | None = None
    arriving: Qdisc | None = None
    redirects: tuple[int, ...] = ()

    @property
    def bears_ours(self) -> bool:
        return bool(self.redirects or (self.root is not None and self.root.ours))

    def limits(self, limit: Limit | None) -> bool:
        """Whether what the interface sends is held to that.  Somebody else's root does not matter where we want none."""
        ours = self.root if self.root is not None and self.root.ours else None
        if limit is None or ours is None:
            return limit is None and ours is None
        return ours.bucket is not None and ours.bucket.is_like(limit.rate, limit.burst, limit.queue)

    def leads(self, to: int) -> bool:
        """Whether all that arrives goes to that interface; 0: whether none of ours leads anywhere."""
        return self.redirects == ((to,) if to else ())


class Shapings:
    """A reconcile.Driver."""

    name = "shaping"

    def __init__(self, netlink: Netlink) -> None:
        self._netlink = netlink

    def changes(self, want: Mapping[str, Shaping]) -> Changes[str, Shaping]:
        found = self._read()
        if not want and not found:
            return Changes()
        at = self._resolve(want)
        put = {name: shaping for name, shaping in want.items() if not _is_sound(name, shaping, at, found)}
        strays = {index for index, one in found.items() if one.bears_ours} - {at[name] for name in want if name in at}
        names = device_names(self._netlink) if strays else {}
        return Changes(put, frozenset(names[index] for index in strays if index in names))

    def apply(self, changes: Changes[str, Shaping]) -> Outcome:
        found, at = self._read(), self._resolve({**dict.fromkeys(changes.delete, _NOTHING), **changes.put})
        put = deleted = 0
        failures = []
        for name, shaping in changes.put.items():
            try:
                self._put(name, shaping, found, at)
                put += 1
            except DataplaneError as e:
                failures.append(e)
        for name in changes.delete & at.keys():
            try:
                self._netlink.transact(*_repairs(at[name], found.get(at[name], _Found()), _NOTHING, 0))
                deleted += 1
            except NetlinkError as e:
                failures.append(refusal(name, e))
        return Outcome(put, deleted, tuple(failures))

    def _put(self, name: str, shaping: Shaping, found: Mapping[int, _Found], at: Mapping[str, int]) -> None:
        for needed in (name, shaping.redirect):
            if needed and needed not in at:
                raise DataplaneError(self.name, name, f"needs interface {needed}, which does not exist", errno=errno.ENODEV)
        index, to = at[name], at.get(shaping.redirect, 0)
        try:
            self._netlink.transact(*_repairs(index, found.get(index, _Found()), shaping, to))
        except NetlinkError as e:
            raise refusal(name, e) from e

    def _resolve(self, want: Mapping[str, Shaping]) -> Mapping[str, int]:
        return indexes(self._netlink, _named(want))

    def _read(self) -> dict[int, _Found]:
        """By index of the interface.  A kernel that has no qdiscs at all has none of ours."""
        found: dict[int, _Found] = {}
        try:
            bodies = self._netlink.dump(get_qdiscs())
        except NetlinkError as e:
            if e.errno != errno.EOPNOTSUPP:
                raise
            return found
        for body in bodies:
            qdisc = parse_qdisc(body) if is_made(body) else None
            if qdisc is None:
                continue
            one = found.setdefault(qdisc.index, _Found())
            if qdisc.arriving:
                one.arriving = qdisc
            else:
                one.root = qdisc
        for index, one in found.items():
            if one.arriving is not None and one.arriving.kind == "clsact":
                one.redirects = tuple(parse_redirects(self._netlink.dump(get_filters(index))))
        return found


def shape(index: int, want: Shaping, to: int) -> Iterator[bytes]:
    """For an interface that is new, and has nothing yet.  `to`: the index of `want.redirect`."""
    return _repairs(index, _Found(), want, to)


def refusal(name: str, error: NetlinkError) -> DataplaneError:
    """The kernel knows no such device, qdisc, classifier or action: it says which, and here is what to do."""
    lacking = error.errno == errno.EOPNOTSUPP or any(words in error.text for words in _LACKING)
    return DataplaneError("shaping", name, f"{error.reason}; {_MODULES}" if lacking else error.reason, errno=error.errno)


def _is_sound(name: str, shaping: Shaping, at: Mapping[str, int], found: Mapping[int, _Found]) -> bool:
    if not _named({name: shaping}) <= at.keys():
        return False
    have = found.get(at[name], _Found())
    return have.limits(shaping.limit) and have.leads(at[shaping.redirect] if shaping.redirect else 0)


def _named(want: Mapping[str, Shaping]) -> set[str]:
    """Every interface that is named there."""
    return ({*want} | {shaping.redirect for shaping in want.values()}) - {""}


def _repairs(index: int, have: _Found, want: Shaping, to: int) -> Iterator[bytes]:
    if not have.limits(want.limit):
        if have.root is not None and not (want.limit and have.root.ours):
            yield delete_root(index)
        if want.limit:
            yield put_bucket(index, want.limit.rate, want.limit.burst, want.limit.queue)
    if not have.leads(to):
        stands = have.arriving is not None and have.arriving.kind == "clsact"
        if have.redirects:
            yield delete_redirect(index)
        if have.arriving is not None and not stands:
            yield delete_arriving(index)
        if to and not stands:
            yield new_clsact(index)
        if to:
            yield new_redirect(index, to)
