"""Metrics in Prometheus' text form.  Base units, `_total` on counters, no pod's name in a label."""

from __future__ import annotations

import netloom
from netloom.agent import exposition
from netloom.agent.exposition import Counter, Gauge, Histogram
from netloom.agent.reconciling import Pass

_CNI_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0)
_PASS_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0)


class Metrics:
    def __init__(self) -> None:
        self._build = Gauge("netloom_build_info", "Version of the agent", ("version",))
        self._requests = Counter("netloom_cni_requests_total", "CNI calls by command and code", ("cmd", "code"))
        self._durations = Histogram("netloom_cni_duration_seconds", "Time of a CNI call", _CNI_BUCKETS, ("cmd",))
        self._passes = Histogram("netloom_pass_duration_seconds", "Time of a pass", _PASS_BUCKETS)
        self._changes = Counter("netloom_dataplane_changes_total", "Entries written or taken away", ("table",))
        self._failures = Counter("netloom_dataplane_failures_total", "Entries that the kernel refused", ("table",))
        self._addresses = Gauge("netloom_ipam_addresses", "Addresses of this node", ("state",))
        self._connected = Gauge("netloom_datastore_connected", "1 while the datastore answers")
        self._synced = Gauge("netloom_dataplane_in_sync", "1 while the kernel agrees with what is wanted")
        self._build.set(1, netloom.__version__)

    def call(self, command: str, code: int, seconds: float) -> None:
        self._requests.add(1, command, str(code))
        self._durations.observe(seconds, command)

    def passed(self, done: Pass, *, in_sync: bool) -> None:
        self._passes.observe(done.milliseconds / 1000)
        self._synced.set(int(in_sync))
        for table, outcome in done.outcomes.items():
            self._changes.add(outcome.put + outcome.deleted, table)
            self._failures.add(len(outcome.failures), table)

    def addresses(self, used: int, cooling: int) -> None:
        self._addresses.set(used, "used")
        self._addresses.set(cooling, "cooling")

    def connected(self, connected: bool) -> None:
        self._connected.set(int(connected))

    def text(self) -> bytes:
        return exposition.text(
            (
                self._build,
                self._requests,
                self._durations,
                self._passes,
                self._changes,
                self._failures,
                self._addresses,
                self._connected,
                self._synced,
            )
        )
