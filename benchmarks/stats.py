"""The few statistics that the tables need."""

import math
import statistics
from collections.abc import Iterable, Sequence


def percentile(values: Iterable[float], percent: float) -> float:
    """The smallest value that at least `percent` of a hundred values do not exceed; NaN where there are none.

    A value that was measured, never one between two: with few samples the highest percentiles are the maximum.
    """
    ordered = sorted(values)
    if not ordered:
        return math.nan
    return ordered[max(math.ceil(len(ordered) * percent / 100), 1) - 1]


def median(values: Iterable[float]) -> float:
    """The median; NaN where there are no values."""
    known = list(values)
    return statistics.median(known) if known else math.nan


def ratio(value: float, base: float) -> float:
    """How many times `base` a value is; NaN where that means nothing."""
    return value / base if base else math.nan


def overlapping(
    spans: Iterable[tuple[float, float]], others: Sequence[tuple[float, float]]
) -> list[tuple[float, float]]:
    """Those of `spans` (start, end) that have a moment in common with one of `others`, which follow one another."""
    kept = []
    position = 0
    for start, end in sorted(spans):
        # Spans come by their start: what ended before this one began is over for all later ones, too.
        while position < len(others) and others[position][1] < start:
            position += 1
        if position < len(others) and others[position][0] <= end:
            kept.append((start, end))
    return kept
