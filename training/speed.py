"""How long epochs take: the first of a stage, which compiles, apart from the median of the rest."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from training.runs import Epoch


@dataclass(frozen=True)
class Speed:
    """The epochs of one stage."""

    stage: str
    samples: int
    """Of an epoch."""
    epochs: int
    first: float
    """Seconds of the first, compilation included."""
    median: float | None
    """Seconds of one of the others; None where there are none."""

    @property
    def samples_per_second(self) -> float | None:
        """Trained on, in an epoch that does not compile; None where there was none."""
        return self.samples / self.median if self.median else None

    def __str__(self) -> str:
        """For people."""
        if self.median is None or self.samples_per_second is None:
            return f"{duration(self.first)} for its one epoch, compilation included"
        return (
            f"{duration(self.median)} an epoch, {self.samples_per_second:,.0f} samples/s (the median; "
            f"the first, with compilation, {duration(self.first)})"
        )


def speeds(epochs: Sequence[Epoch]) -> list[Speed]:
    """The speed of each stage, in the order in which they were trained; of stages that were not timed none."""
    stages: dict[str, list[Epoch]] = {}
    for epoch in epochs:
        if epoch.samples:
            stages.setdefault(epoch.stage, []).append(epoch)
    return [
        Speed(
            stage,
            samples=its[0].samples,
            epochs=len(its),
            first=its[0].seconds,
            median=statistics.median(epoch.seconds for epoch in its[1:]) if its[1:] else None,
        )
        for stage, its in stages.items()
    ]


def duration(seconds: float) -> str:
    """`seconds` with three digits, in milliseconds below one."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 100 else f"{seconds:,.0f} s"
