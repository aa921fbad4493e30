"""Exposition: counters, gauges and histograms, and the text in which Prometheus reads them (text format 0.0.4).

Counted in the agent's loop, shown in whatever thread is asked: each figure is right, though two of them may be a moment apart.
Prometheus' own client would do; it brings a web server, TLS and three megabytes along.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

Labels = tuple[str, ...]


class Metric:
    """`labels`: their names; a figure is kept for each combination of their values."""

    kind = ""

    def __init__(self, name: str, words: str, labels: Sequence[str] = ()) -> None:
        self.name, self.words, self.labels = name, words, labels

    def lines(self) -> Iterator[str]:
        yield f"# HELP {self.name} {_escaped(self.words)}"
        yield f"# TYPE {self.name} {self.kind}"
        yield from self.samples()

    def samples(self) -> Iterator[str]:
        raise NotImplementedError

    def _sample(self, values: Labels, figure: float, suffix: str = "", **more: str) -> str:
        pairs = [*zip(self.labels, values, strict=True), *more.items()]
        shown = ",".join(f'{name}="{_quoted(value)}"' for name, value in pairs)
        return f"{self.name}{suffix}{{{shown}}} {figure}" if shown else f"{self.name}{suffix} {figure}"


class _Figures(Metric):
    def __init__(self, name: str, words: str, labels: Sequence[str] = ()) -> None:
        super().__init__(name, words, labels)
        self._figures: dict[Labels, float] = {} if labels else {(): 0}

    def samples(self) -> Iterator[str]:
        return (self._sample(values, figure) for values, figure in self._figures.copy().items())


class Counter(_Figures):
    kind = "counter"

    def add(self, amount: float, *values: str) -> None:
        self._figures[values] = self._figures.get(values, 0) + amount


class Gauge(_Figures):
    kind = "gauge"

    def set(self, figure: float, *values: str) -> None:
        self._figures[values] = figure


class Histogram(Metric):
    """`limits`: the upper ends of its buckets, which include them."""

    kind = "histogram"

    def __init__(self, name: str, words: str, limits: Sequence[float], labels: Sequence[str] = ()) -> None:
        super().__init__(name, words, labels)
        self._limits = tuple(limits)
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}
        if not labels:
            self._begin(())

    def observe(self, figure: float, *values: str) -> None:
        if values not in self._counts:
            self._begin(values)
        self._counts[values][bisect_left(self._limits, figure)] += 1
        self._sums[values] += figure

    def samples(self) -> Iterator[str]:
        for values, counts in self._counts.copy().items():
            upto = list(accumulate(counts.copy()))
            for limit, count in zip((*map(str, self._limits), "+Inf"), upto, strict=True):
                yield self._sample(values, count, "_bucket", le=limit)
            yield self._sample(values, upto[-1], "_count")
            yield self._sample(values, self._sums[values], "_sum")

    def _begin(self, values: Labels) -> None:
        self._sums[values], self._counts[values] = 0, [0] * (len(self._limits) + 1)


def text(metrics: Iterable[Metric]) -> bytes:
    return "".join(f"{line}\n" for metric in metrics for line in metric.lines()).encode()


def _escaped(words: str) -> str:
    return words.replace("\\", r"\\").replace("\n", r"\n")


def _quoted(value: str) -> str:
    return _escaped(value).replace('"', r"\"")
