"""What a batch costs, and how fast a queue moves: learned from the batches that ran."""

import math

_WEIGHT = 0.2
"""Of a new measurement in the running mean: one stall can't move the estimate by more than a fifth of itself."""


class CostModel:
    """Running mean of batch seconds for each power of two of the batch's size in bytes.

    A table rather than a line fitted through all sizes: batches cost a constant up to some size and grow
    after it, text and tensors differently, and the table needs no assumption about either.
    """

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}

    def observe(self, size: int, seconds: float) -> None:
        """A batch of `size` bytes took `seconds`."""
        bucket = size.bit_length()
        before = self._seconds.get(bucket)
        self._seconds[bucket] = seconds if before is None else before + _WEIGHT * (seconds - before)

    def predict(self, size: int) -> float:
        """Seconds that a batch of `size` bytes will take; 0 as long as nothing is known."""
        bucket = size.bit_length()
        known = self._seconds.get(bucket)
        if known is not None:
            return known
        below = max((b for b in self._seconds if b < bucket), default=None)
        if below is not None:
            return float(self._seconds[below] * 2 ** (bucket - below))
        return min(self._seconds.values(), default=0.0)


MAX_STRETCH = 16.0
_PACE_WEIGHT = 0.1


class Pace:
    """How many times as long as its batches take a queue takes to move on: the event loop has other work, too."""

    def __init__(self) -> None:
        self.stretch = 1.0
        self._moved = math.inf
        """When the last batch was through, if rows waited for it."""

    def observe(self, now: float, seconds: float, *, waiting: bool) -> None:
        """A batch that took `seconds` is through, and more rows are `waiting`, or not."""
        pace = 1.0
        if self._moved < now:
            pace = min(max((now - self._moved) / max(seconds, 1e-6), 1.0), MAX_STRETCH)
        self.stretch += _PACE_WEIGHT * (pace - self.stretch)
        self._moved = now if waiting else math.inf
