"""What the metrics look like to Prometheus: read by its own client."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from netloom.agent.exposition import Counter, Gauge, Histogram, Metric, text
from netloom.agent.metrics import Metrics
from netloom.agent.reconciling import Pass
from netloom.reconcile import Outcome

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(content: bytes) -> Samples:
    families = text_string_to_metric_families(content.decode())
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def of(*metrics: Metric) -> Samples:
    return read(text(metrics))


def labelled(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


def test_figures_are_kept_for_each_combination_of_labels() -> None:
    calls, free = Counter("calls_total", "Calls", ("cmd", "code")), Gauge("free", "Free")
    calls.add(1, "ADD", "0")
    calls.add(2, "ADD", "0")
    calls.add(1, "DEL", "0")
    free.set(2.5)
    assert of(calls, free) == {
        labelled("calls_total", cmd="ADD", code="0"): 3,
        labelled("calls_total", cmd="DEL", code="0"): 1,
        labelled("free"): 2.5,
    }


def test_a_histogram_counts_what_is_up_to_each_limit() -> None:
    times = Histogram("seconds", "Times", (0.1, 1.0), ("cmd",))
    for seconds in (0.05, 0.1, 0.5, 30):
        times.observe(seconds, "ADD")
    buckets = {"0.1": 2, "1.0": 3, "+Inf": 4}
    assert of(times) == {
        **{labelled("seconds_bucket", cmd="ADD", le=limit): count for limit, count in buckets.items()},
        labelled("seconds_count", cmd="ADD"): 4,
        labelled("seconds_sum", cmd="ADD"): 30.65,
    }


def test_what_never_happened_is_shown_where_it_has_no_labels() -> None:
    assert of(Counter("none_total", "None", ("cmd",)), Gauge("low", "Low")) == {labelled("low"): 0}
    assert of(Histogram("seconds", "Times", (1.0,)))[labelled("seconds_count")] == 0


def test_whatever_stands_in_a_label_is_read_as_it_was() -> None:
    odd = 'a "quoted"\\ word\nin two lines, {and} = braces'
    gauge = Gauge("odd", "First \\ line\nsecond", ("word",))
    gauge.set(1, odd)
    assert of(gauge) == {labelled("odd", word=odd): 1}


def test_the_agents_own_are_read_whole() -> None:
    metrics = Metrics()
    metrics.call("ADD", 0, 0.0012)
    metrics.passed(Pass(7, 0.0, 12.0, {"routes": Outcome(put=3, deleted=1)}), in_sync=True)
    metrics.addresses(2, 1)
    found = read(metrics.text())
    assert found[labelled("netloom_cni_duration_seconds_bucket", cmd="ADD", le="0.002")] == 1
    assert found[labelled("netloom_dataplane_changes_total", table="routes")] == 4
    assert found[labelled("netloom_ipam_addresses", state="cooling")] == 1
    assert found[labelled("netloom_dataplane_in_sync")] == 1
