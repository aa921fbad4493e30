"""What a node wants of forwarders, in the shape of reconcile: which devices have one, and what each is told.

Forwarding starts and asks them; these three compare.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from netloom.agent.forwarding import Forwarding
from netloom.errors import DataplaneError
from netloom.model.addresses import Address
from netloom.model.desired import SenderKey, Tunnel, TunnelKey
from netloom.reconcile import Changes, Outcome, diff


class Forwarders:
    """A reconcile.Driver: of devices, those whose tunnel is a forwarder's.  A start takes longer than a pass may, so what it has started is
    a failure until it answers."""

    name = "forwarders"

    def __init__(self, forwarding: Forwarding) -> None:
        self._forwarding = forwarding

    def changes(self, want: Mapping[str, Tunnel]) -> Changes[str, Tunnel]:
        put = {device: want[device] for device in self._forwarding.differ(want)}
        return Changes(put, frozenset(self._forwarding.running() - want.keys()))

    def apply(self, changes: Changes[str, Tunnel]) -> Outcome:
        started = _each(changes.put, self._forwarding.start)
        stopped = _each(changes.delete, self._forwarding.stop)
        return Outcome(started.put, stopped.put, (*started.failures, *stopped.failures))


class Forwarded:
    """A reconcile.Driver of those in `Desired.tunnels` whose device has a forwarder."""

    name = "forwarded"

    def __init__(self, forwarding: Forwarding) -> None:
        self._forwarding = forwarding

    def changes(self, want: Mapping[TunnelKey, Address]) -> Changes[TunnelKey, Address]:
        known = self._forwarding.known()
        have = {TunnelKey(device, prefix): to for device, each in known.items() for prefix, to in each.tunnels.items()}
        return diff({key: value for key, value in want.items() if key.device in known}, have)

    def apply(self, changes: Changes[TunnelKey, Address]) -> Outcome:
        def carry(device: str) -> None:
            put = {key.prefix: address for key, address in changes.put.items() if key.device == device}
            gone = frozenset(key.prefix for key in changes.delete if key.device == device)
            self._forwarding.change(device, put, gone)

        return _by_device(changes, carry)


class Believed:
    """A reconcile.Driver of those in `Desired.senders` whose device has a forwarder."""

    name = "believed"

    def __init__(self, forwarding: Forwarding) -> None:
        self._forwarding = forwarding

    def changes(self, want: Mapping[SenderKey, Address | None]) -> Changes[SenderKey, Address | None]:
        known = self._forwarding.known()
        have = {SenderKey(device, address): now for device, each in known.items() for address, now in each.senders.items()}
        wanted = {key: present for key, present in want.items() if key.device in known}
        put = {key: present for key, present in wanted.items() if key not in have or have[key] != present}
        return Changes(put, frozenset(have.keys() - wanted.keys()))

    def apply(self, changes: Changes[SenderKey, Address | None]) -> Outcome:
        def carry(device: str) -> None:
            believe = {key.address: present for key, present in changes.put.items() if key.device == device}
            gone = frozenset(key.address for key in changes.delete if key.device == device)
            self._forwarding.change(device, believe=believe, disbelieve=gone)

        return _by_device(changes, carry)


def _by_device(changes: Changes[Any, Any], carry: Callable[[str], None]) -> Outcome:  # Any: keys of either table
    devices = {key.device for key in (*changes.put, *changes.delete)}
    done = _each(devices, carry)
    refused = {failure.key for failure in done.failures}
    put, deleted = (sum(key.device not in refused for key in some) for some in (changes.put, changes.delete))
    return Outcome(put, deleted, done.failures)


def _each(devices: Iterable[str], carry: Callable[[str], None]) -> Outcome:
    """One that refuses does not stop the others."""
    done, failures = 0, []
    for device in sorted(devices):
        try:
            carry(device)
            done += 1
        except DataplaneError as e:
            failures.append(e)
    return Outcome(put=done, failures=tuple(failures))
