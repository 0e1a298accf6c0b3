"""Counters, gauges and histograms that cost the request path a few tens of nanoseconds each.

The `prometheus_client` package exposes them, but its own instruments take a lock and walk their buckets at
every observation, which is more than the rest of a small request. Here one thread writes, the event loop's,
so none is needed; a scrape reads from another thread and may be one observation behind.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class Value:
    """One counter or gauge."""

    __slots__ = ("read", "value")

    def __init__(self) -> None:
        self.value = 0.0
        self.read: Callable[[], float] = self._own

    def inc(self, amount: float = 1) -> None:
        """Add."""
        self.value += amount

    def dec(self) -> None:
        """Take one away."""
        self.value -= 1

    def set(self, value: float) -> None:
        """Be that."""
        self.value = value

    def _own(self) -> float:
        return self.value


class Histogram:
    """One histogram: how many observations fell at or below each bound, and their sum."""

    __slots__ = ("_bounds", "_counts", "_total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def observe(self, value: float) -> None:
        """Count one observation."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    @property
    def total(self) -> tuple[int, float]:
        """How many observations, and their sum."""
        return sum(self._counts), self._total

    def read(self) -> tuple[list[tuple[str, float]], float]:
        """Cumulative buckets as Prometheus writes them, and the sum."""
        total = self._total
        buckets, cumulative = [], 0
        for bound, count in zip((*self._bounds, float("inf")), tuple(self._counts), strict=True):
            cumulative += count
            buckets.append((floatToGoString(bound), float(cumulative)))  # type: ignore[no-untyped-call]
        return buckets, total


Instrument = TypeVar("Instrument", Value, Histogram)


class Family(Generic[Instrument]):
    """A metric by name, with an instrument for every combination of its labels that was asked for."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str], make: Callable[[], Instrument]) -> None:
        self.name = name
        self.documentation = documentation
        self.label_names = labels
        self._make: Callable[[], Instrument] = make
        self._children: dict[tuple[str, ...], Instrument] = {}

    def labels(self, *values: str) -> Instrument:
        """The instrument of these label values: made when first asked for, to be kept by who uses it often."""
        child = self._children.get(values)
        if child is None:
            child = self._children[values] = self._make()
        return child

    def forget(self, *values: str) -> None:
        """Show these label values no more."""
        self._children.pop(values, None)

    def children(self) -> list[tuple[tuple[str, ...], Instrument]]:
        """All there are."""
        return list(self._children.items())


class Instruments(Collector):
    """All metrics of a server, as one collector."""

    def __init__(self) -> None:
        self._counters: list[Family[Value]] = []
        self._gauges: list[Family[Value]] = []
        self._histograms: list[Family[Histogram]] = []

    def counter(self, name: str, documentation: str, labels: Sequence[str]) -> Family[Value]:
        """A counter; its name ends in `_total`."""
        family: Family[Value] = Family(name, documentation, labels, Value)
        self._counters.append(family)
        return family

    def gauge(self, name: str, documentation: str, labels: Sequence[str]) -> Family[Value]:
        """A gauge."""
        family: Family[Value] = Family(name, documentation, labels, Value)
        self._gauges.append(family)
        return family

    def histogram(
        self, name: str, documentation: str, labels: Sequence[str], bounds: Sequence[float]
    ) -> Family[Histogram]:
        """A histogram with these upper bounds, in order, and one above them all."""
        family: Family[Histogram] = Family(name, documentation, labels, lambda: Histogram(bounds))
        self._histograms.append(family)
        return family

    def forget(self, **labels: str) -> None:
        """Show no metric any more that has all of these labels, with these values."""
        families: list[Family[Value] | Family[Histogram]] = [*self._counters, *self._gauges, *self._histograms]
        for family in families:
            if labels.keys() <= set(family.label_names):
                wanted = {family.label_names.index(name): value for name, value in labels.items()}
                for values, _ in family.children():
                    if all(values[index] == value for index, value in wanted.items()):
                        family.forget(*values)

    def collect(self) -> Iterator[Metric]:
        """For Prometheus."""
        for family in self._counters:
            counter = CounterMetricFamily(family.name, family.documentation, labels=family.label_names)
            for labels, value in family.children():
                counter.add_metric(labels, value.read())
            yield counter
        for family in self._gauges:
            gauge = GaugeMetricFamily(family.name, family.documentation, labels=family.label_names)
            for labels, value in family.children():
                gauge.add_metric(labels, value.read())
            yield gauge
        for histograms in self._histograms:
            histogram = HistogramMetricFamily(histograms.name, histograms.documentation, labels=histograms.label_names)
            for labels, child in histograms.children():
                buckets, total = child.read()
                histogram.add_metric(labels, buckets, total)
            yield histogram
