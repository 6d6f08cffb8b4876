"""Counters and histograms that only the event loop writes, and every push does: without a lock.

prometheus-client's own take about a microsecond each, and a push counts in six of them: as much as all else that
is done for it. A scrape, on another thread, reads each number by itself.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prometheus_client import CollectorRegistry

Labels = tuple[str, ...]


@dataclass(slots=True)
class Count:
    """One series of a counter."""

    value: int = 0

    def inc(self, amount: int = 1) -> None:
        """So many more."""
        self.value += amount


class LoopCounter(Collector):
    """A counter by label values; `name` without `_total`."""

    def __init__(
        self, name: str, documentation: str, labels: Sequence[str], registry: CollectorRegistry = REGISTRY
    ) -> None:
        self._name, self._documentation, self._labels = name, documentation, labels
        self._series: dict[Labels, Count] = {}
        registry.register(self)

    def labels(self, *values: str) -> Count:
        """The series with these label values, to be kept by who counts often."""
        return self._series.setdefault(values, Count())

    def collect(self) -> Iterator[CounterMetricFamily]:
        """As prometheus-client asks for it."""
        family = CounterMetricFamily(self._name, self._documentation, labels=self._labels)
        for labels, count in list(self._series.items()):
            family.add_metric(labels, count.value)
        yield family


@dataclass(slots=True)
class Observations:
    """One series of a histogram: how many values are in each bucket and above the last one, and their sum."""

    bounds: Sequence[float]
    counts: list[int]
    sum: float = 0.0

    def observe(self, value: float) -> None:
        """One more."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class LoopHistogram(Collector):
    """A histogram by label values; `buckets` are upper bounds, in order."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str],
        buckets: Sequence[float],
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self._name, self._documentation, self._labels, self._buckets = name, documentation, labels, buckets
        self._series: dict[Labels, Observations] = {}
        registry.register(self)

    def labels(self, *values: str) -> Observations:
        """The series with these label values, to be kept by who observes often."""
        series = self._series.get(values)
        if series is None:
            series = self._series[values] = Observations(self._buckets, [0] * (len(self._buckets) + 1))
        return series

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """As prometheus-client asks for it: each bucket holds those below it, too."""
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        for labels, series in list(self._series.items()):
            total, buckets = 0, []
            for bound, count in zip((*self._buckets, float("inf")), tuple(series.counts), strict=True):
                total += count
                buckets.append(("+Inf" if bound == float("inf") else str(float(bound)), total))
            family.add_metric(labels, buckets, series.sum)
        yield family
