"""Metrics in Prometheus' text form.  Base units, `_total` on counters, no pod's name in a label."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.registry import Collector

import netloom
from netloom.agent.reconciling import Pass
from netloom.reconcile import Outcome

_CNI_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5, 30)
_SAME = Outcome()
_PASS_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5)


class Metrics:
    def __init__(self) -> None:
        self._tables = set[str]()
        """Those that have been told of."""
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more each, of which this text form has no use
        self._registry = registry = CollectorRegistry()
        build = Gauge("netloom_build_info", "Version of the agent", ["version"], registry=registry)
        build.labels(netloom.__version__).set(1)
        self._requests = Counter("netloom_cni_requests", "CNI calls by command and code", ["cmd", "code"], registry=registry)
        self._durations = Histogram(
            "netloom_cni_duration_seconds", "Time of a CNI call", ["cmd"], buckets=_CNI_BUCKETS, registry=registry
        )
        self._passes = Histogram("netloom_pass_duration_seconds", "Time of a pass", buckets=_PASS_BUCKETS, registry=registry)
        self._changes = Counter("netloom_dataplane_changes", "Entries written or taken away", ["table"], registry=registry)
        self._failures = Counter("netloom_dataplane_failures", "Entries that the kernel refused", ["table"], registry=registry)
        self._addresses = Gauge("netloom_ipam_addresses", "Addresses of this node", ["state"], registry=registry)
        self._connected = Gauge("netloom_datastore_connected", "1 while the datastore answers", registry=registry)
        self._held = Gauge(
            "netloom_brake_held_nodes", "Nodes that the datastore has lost, and the ways to which are held", registry=registry
        )
        self._contested = Gauge("netloom_ipam_contested_blocks", "Blocks of this node that another claims", registry=registry)
        self._synced = Gauge("netloom_dataplane_in_sync", "1 while the kernel agrees with what is wanted", registry=registry)

    def call(self, command: str, code: int, seconds: float) -> None:
        self._requests.labels(command, str(code)).inc()
        self._durations.labels(command).observe(seconds)

    def passed(self, done: Pass, *, in_sync: bool) -> None:
        self._passes.observe(done.milliseconds / 1000)
        self._synced.set(in_sync)
        for table, outcome in done.outcomes.items():
            if outcome == _SAME and table in self._tables:
                continue
            self._tables.add(table)
            self._changes.labels(table).inc(outcome.put + outcome.deleted)
            self._failures.labels(table).inc(len(outcome.failures))

    def addresses(self, used: int, cooling: int) -> None:
        self._addresses.labels("used").set(used)
        self._addresses.labels("cooling").set(cooling)

    def connected(self, connected: bool) -> None:
        self._connected.set(connected)

    def doubts(self, *, held: int, contested: int) -> None:
        self._held.set(held)
        self._contested.set(contested)

    def also(self, collector: Collector) -> None:
        """What somebody else counts."""
        self._registry.register(collector)

    def text(self) -> bytes:
        return generate_latest(self._registry)
