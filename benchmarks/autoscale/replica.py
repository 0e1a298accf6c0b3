"""One pod as it was measured: at each rate, what it answers in time, how long requests wait, what its metrics say."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.telemetry.metrics import SECONDS as BUCKETS

BENCHMARKS = ("transports", "load", "overload", "neighbours")
"""Whose results are read here."""

DEADLINE = 0.1
"""Seconds that callers give a request: as in the benchmark `overload`."""

WHAT = "sentiment"
STEP = 250
"""Requests a second from one line of the tables to the next."""
_TOP = 200_000

_Z99 = 2.326
"""Standard deviations of a normal distribution below which 99 % of it lie."""

Column = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Replica:
    """Tables by rate, in steps of `STEP`: what a pod of one core does with so many requests a second."""

    maximum: float
    """Requests a second under h2load, 64 in flight."""
    in_time: Column
    """Share answered within the deadline."""
    wait_p99: Column
    """Seconds in the queue."""
    in_flight: Column
    """Requests accepted and not answered, on average."""
    queued: Column
    """Of these, rows that wait."""
    cpu: Column
    """Cores."""
    below: npt.NDArray[np.float64]
    """For each rate and each bucket of the server's histogram, the share of waits that are not longer."""

    @staticmethod
    def line(rate: float) -> int:
        """Where a rate stands in the tables."""
        return min(round(rate / STEP), _TOP // STEP)


def points(records: Mapping[str, dict[str, Any]]) -> list[dict[str, float]]:
    """What was measured, by rate: below half load by `transports`, from there on by `overload`."""
    overload = [one for one in records["overload"]["summary"]["cells"] if one["server"] == "native"]
    least = min(one["rate"] for one in overload)
    light = [
        {"rate": one["rate"], "in_time": 1.0, "p50": one["p50_ms"] / 1e3, "p99": one["p99_ms"] / 1e3}
        for one in records["transports"]["summary"]["open_loop"]
        if one["server"] == "native" and one["what"].startswith(WHAT) and one["rate"] < least * 0.9
    ]
    heavy = [
        {
            "rate": one["rate"],
            "in_time": min(one["in_time_per_second"] / one["rate"], 1.0),
            "p50": one["p50_ms"] / 1e3,
            "p99": one["p99_ms"] / 1e3,
        }
        for one in overload
    ]
    return sorted(light + heavy, key=lambda one: one["rate"])


def cpu_points(records: Mapping[str, dict[str, Any]]) -> list[tuple[float, float]]:
    """Requests a second, and cores, wherever both were measured of this kind of request."""
    cells = [one for one in records["transports"]["summary"]["cells"] if one["what"].startswith(WHAT)]
    found = [(one["native"]["per_second"], one["native"]["server_cores"]) for one in cells]
    steady = next(one for one in records["neighbours"]["summary"]["variants"] if one["text"] == "nothing")
    found.append((steady["per_second"], steady["server_cores"]))
    found += [
        (one["server"]["per_second"], one["server"]["server_cores"])
        for one in records["load"]["summary"]
        if one["what"].startswith(WHAT)
    ]
    return [(0.0, 0.0), *sorted(found)]


def replica(records: Mapping[str, dict[str, Any]]) -> Replica:
    """The tables, out of the results of `BENCHMARKS`.

    Between two rates that were measured, shares are straight lines and times straight lines of their logarithm. What
    a caller waits beyond what it waits of an idle server is taken for the queue's; waits are log-normal. Beyond the
    maximum only what is answered in time waits in the queue for long, and never beyond the deadline.
    """
    found = points(records)
    rates = np.arange(0, _TOP + STEP, STEP, dtype=np.float64)
    at = [one["rate"] for one in found]
    in_time = np.interp(rates, at, [one["in_time"] for one in found])
    # Beyond what was measured, no more is answered than at the last point.
    last = found[-1]
    beyond = rates > last["rate"]
    in_time[beyond] = last["rate"] * last["in_time"] / rates[beyond]
    p50, p99 = (_times(rates, at, [one[key] for one in found]) for key in ("p50", "p99"))
    idle = found[0]["p50"]
    wait50, wait99 = np.maximum(p50 - idle, 1e-6), np.maximum(p99 - idle, 2e-6)
    spread = np.maximum(np.log(wait99 / wait50) / _Z99, 0.05)
    answered = rates * in_time
    wait = np.minimum(wait50 * np.exp(spread**2 / 2), DEADLINE)
    known, cores = zip(*cpu_points(records), strict=True)
    return Replica(
        maximum=float(records["overload"]["summary"]["maxima"]["native"]),
        in_time=in_time,
        wait_p99=wait99,
        in_flight=answered * (wait + idle),
        queued=answered * wait,
        cpu=np.minimum(np.maximum.accumulate(np.interp(rates, known, cores)), 1.0),
        below=_below(wait50, spread),
    )


def _times(rates: Column, at: Sequence[float], seconds: Sequence[float]) -> Column:
    """Refusals at once make the median of an overloaded server small again: what waits does not wait less."""
    known = np.minimum(np.maximum.accumulate(seconds), DEADLINE)
    return np.exp(np.interp(rates, at, np.log(known)))


def _below(median: Column, spread: Column) -> npt.NDArray[np.float64]:
    table = np.empty((len(median), len(BUCKETS) + 1))
    for number, bound in enumerate(BUCKETS):
        table[:, number] = [
            0.5 * (1 + math.erf(math.log(bound / middle) / (wide * math.sqrt(2))))
            for middle, wide in zip(median, spread, strict=True)
        ]
    table[:, -1] = 1.0
    table[:, np.asarray([*BUCKETS, math.inf]) >= DEADLINE] = 1.0
    return table
