"""Arrival traces for the batcher: when requests come, how many rows they have, and how long they may take."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

MAX_ROWS = 256
"""Of one request: as many as a batch may have, so that a policy that never splits takes it, too."""

_TAIL = 1.3
"""Exponent of the Pareto distribution of sizes: its mean exists, its variance does not."""

_HURRIED_SHARE = 0.1


class Arrival(NamedTuple):
    """One request."""

    at: float
    """Seconds after the trace begins."""
    rows: int
    deadline: float
    """Seconds after the trace begins."""


Shape = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]
"""The load at each moment, as a share of capacity; moments from 0 to 1 are the trace's length."""

_BURSTS = 6


def _steady(moment: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.full_like(moment, 0.6)


def _bursty(moment: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """A fifth of the time twice what can be served, else next to nothing: the queue grows, and empties again."""
    return np.where((moment * _BURSTS) % 1 < 0.2, 2.0, 0.1)


def _diurnal(moment: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """A day from its night on: up to a little more than can be served, and down again."""
    return 0.55 - 0.5 * np.cos(2 * math.pi * moment)


SHAPES: dict[str, tuple[Shape, bool]] = {
    "steady": (_steady, False),
    "bursty": (_bursty, False),
    "diurnal": (_diurnal, False),
    "heavy-tailed sizes": (_steady, True),
}
"""Each trace: its load over time, and whether sizes vary."""


def trace(
    name: str, requests: int, rows_per_second: float, patience: tuple[float, float], seed: int = 0
) -> list[Arrival]:
    """So many requests of a trace, for an executor that computes so many rows a second.

    Args:
        name: of `SHAPES`.
        requests: how many, exactly.
        rows_per_second: what the executor can do at best.
        patience: seconds that most callers wait, and those in a hurry.
        seed: the same seed, the same trace.
    """
    shape, varied = SHAPES[name]
    chance = np.random.default_rng([seed, *name.encode()])
    rows = np.ones(requests, int)
    if varied:
        rows = np.minimum(np.ceil(chance.pareto(_TAIL, requests) + 1e-9), MAX_ROWS).astype(int)
    # Time is stretched so that the load fits: arrivals are evenly random in work, and work is the load's integral.
    moments = np.linspace(0, 1, 10_001)
    load = shape((moments[1:] + moments[:-1]) / 2)
    work = np.concatenate([[0.0], np.cumsum(load) / len(load)])
    seconds = rows.sum() / rows_per_second / work[-1]
    gaps = chance.exponential(1.0, requests)
    at = np.interp(np.cumsum(gaps) / gaps.sum() * work[-1], work, moments) * seconds
    usual, hurried = patience
    deadlines = at + np.where(chance.random(requests) < _HURRIED_SHARE, hurried, usual)
    return [Arrival(*one) for one in zip(at.tolist(), rows.tolist(), deadlines.tolist(), strict=True)]
