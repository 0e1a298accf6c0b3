"""From which batch on a GPU is faster than a CPU, and stays so."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.stats import ratio


@dataclass(frozen=True)
class Crossover:
    """Where the GPU overtakes the CPU."""

    batch: int | None
    """The smallest measured batch from which the GPU is faster at every measured one; None: there is none."""
    rows: float | None
    """The same between two measured batches, where the two would take equally long."""
    gain: float
    """CPU time by GPU time of the largest batch measured; NaN where there was none."""

    @property
    def is_always(self) -> bool:
        """Faster at every batch measured."""
        return self.batch is not None and self.rows is None

    def __str__(self) -> str:
        if self.batch is None:
            return "never"
        return f"always, from {self.batch}" if self.rows is None else f"{self.rows:,.0f} rows"


def at_best(seconds: Mapping[int, float]) -> dict[int, float]:
    """Seconds for so many rows where they may be taken in smaller batches, too.

    A server does that: where large batches gain nothing, or lose by outgrowing a cache, it makes smaller ones.

    Args:
        seconds: of a run, by its rows, each a multiple of the smaller ones.
    """
    return {rows: min(rows / part * seconds[part] for part in seconds if part <= rows) for rows in sorted(seconds)}


def crossover(seconds: Mapping[int, tuple[float, float]]) -> Crossover:
    """Out of the seconds of a run on the CPU and on the GPU, by rows.

    Between the last batch at which the GPU is not faster and the next, the logarithm of the ratio is taken to be a
    straight line over the logarithm of the rows, as it nearly is while one cost or the other is fixed.
    """
    sizes = sorted(seconds)
    if not sizes:
        return Crossover(None, None, math.nan)
    gain = ratio(*seconds[sizes[-1]])
    slower = [size for size in sizes if seconds[size][1] >= seconds[size][0]]
    if not slower:
        return Crossover(sizes[0], None, gain)
    if slower[-1] == sizes[-1]:
        return Crossover(None, None, gain)
    last, first = slower[-1], sizes[sizes.index(slower[-1]) + 1]
    below, above = (math.log(ratio(*seconds[size])) for size in (last, first))
    share = -below / (above - below)
    return Crossover(first, math.exp(math.log(last) + share * math.log(first / last)), gain)
