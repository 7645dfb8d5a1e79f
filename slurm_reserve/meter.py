"""Counts by label, and a picture of them all at one moment. Pure: it knows neither what is counted nor who looks."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

Labels = tuple[str, ...]


class Kind(StrEnum):
    """As Prometheus knows them."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One that is counted. The values of its labels must be few, and known beforehand."""

    name: str
    kind: Kind
    help: str
    labels: Labels = ()
    bounds: tuple[float, ...] = ()  # upper ends of a histogram's classes; the last one, without end, is not named


@dataclass(frozen=True, slots=True)
class Spread:
    """How many values fell into each class of a histogram, and their sum."""

    counts: tuple[int, ...]
    total: float = 0.0


Rows = Mapping[Labels, float | Spread]
Picture = tuple[tuple[Metric, Rows], ...]


class Meter:
    """The values of some metrics."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = {metric.name: metric for metric in metrics}
        self._rows: dict[str, dict[Labels, float | Spread]] = {name: {} for name in self._metrics}

    def add(self, name: str, amount: float, *labels: str) -> None:
        """Count on; an amount of 0 makes the row visible, so that its first increase is seen as one."""
        rows = self._of(name, labels, Kind.COUNTER)
        held = rows.get(labels, 0.0)
        rows[labels] = amount + (held if isinstance(held, float) else 0.0)

    def set(self, name: str, value: float, *labels: str) -> None:
        """The value as it is now; a counter's where something else does the counting."""
        self._of(name, labels, Kind.GAUGE, Kind.COUNTER)[labels] = float(value)

    def observe(self, name: str, value: float, *labels: str) -> None:
        """One more value of a histogram."""
        rows, bounds = self._of(name, labels, Kind.HISTOGRAM), self._metrics[name].bounds
        held = rows.get(labels)
        counts = list(held.counts) if isinstance(held, Spread) else [0] * (len(bounds) + 1)
        counts[sum(value > bound for bound in bounds)] += 1
        rows[labels] = Spread(tuple(counts), value + (held.total if isinstance(held, Spread) else 0.0))

    def keep_only(self, label: str, values: Collection[str]) -> None:
        """Forget rows whose label has another value than these, of every metric that has the label."""
        for name, metric in self._metrics.items():
            if label in metric.labels:
                at, rows = metric.labels.index(label), self._rows[name]
                self._rows[name] = {labels: held for labels, held in rows.items() if labels[at] in values}

    def picture(self) -> Picture:
        """All values as they are now; what is counted afterwards does not change it."""
        return tuple((metric, dict(self._rows[name])) for name, metric in self._metrics.items())

    def _of(self, name: str, labels: Labels, *kinds: Kind) -> dict[Labels, float | Spread]:
        metric = self._metrics[name]
        if metric.kind not in kinds or len(labels) != len(metric.labels):
            raise ValueError(f"{name} is a {metric.kind} of {', '.join(metric.labels) or 'no labels'}")
        return self._rows[name]
