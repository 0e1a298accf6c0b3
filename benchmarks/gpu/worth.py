"""What so many rows a second are in cores, and how much of that a GPU could take over: the sums of docs/gpu.md."""

from dataclasses import dataclass
from typing import Any

from benchmarks import results
from benchmarks.gpu.tables import gains, row_cost
from benchmarks.scaling.sizes import BENCHMARKS, Assumptions, MissingResults, measured, records
from benchmarks.stats import ratio

RATE = 100_000
"""Rows a second of the example."""
_EXAMPLES = {
    "sentiment/1": "reviews a second",
    "sentiment/1, 512 units": "The same with 512 units in each hidden layer",
}
_COUNTED = "scaling"


@dataclass(frozen=True)
class Worth:
    """Of a graph, at its best batch on the CPU."""

    row_us: float
    """Of one core."""
    cores: float
    """For the rate of the example."""
    stays: float
    """The share that no GPU takes over."""
    pays_from: float
    """Rows a second from which all the rest is the work of as many cores as a GPU costs."""


def price() -> float:
    """Of a GPU, in cores."""
    given = Assumptions()
    return given.gpu_hour_usd / given.core_hour_usd


def worth(one: dict[str, Any]) -> Worth:
    """Of one graph that was run in process."""
    seconds, stays = row_cost(one)
    return Worth(seconds * 1e6, seconds * RATE, stays, ratio(price(), seconds * (1 - stays)))


def how_much(record: dict[str, Any]) -> str:
    """The example, what a GPU would do, and what is around the graph, as a list."""
    graphs = {one["graph"]: one for one in record["summary"]["inside"]}
    examples = [_example(what, worth(graphs[name])) for name, what in _EXAMPLES.items() if name in graphs]
    sentences = [
        f"**How much.** A GPU costs as much as {price():.0f} cores, by [assumption](scaling.md#assumptions).",
        *examples,
        "*At the soonest*: if it did its share in no time, and the cores beside it could feed it.",
    ]
    points = [" ".join(sentences), _share(record), _around()]
    return "\n".join(f"- {point}" for point in points if point)


def _example(what: str, found: Worth) -> str:
    start = f"{RATE:,} {what}" if what[0].islower() else what
    return (
        f"{start} at {found.row_us:.1f} µs are {found.cores:.1f} cores, of which {found.cores * (1 - found.stays):.1f} "
        f"could go to a GPU: it pays from {found.pays_from / 1e6:.1f} million a second on at the soonest."
    )


def _share(record: dict[str, Any]) -> str:
    """What a GPU does in the largest batches."""
    found = gains(record)
    wide = [gain for name, gain in found.items() if "units" in name]
    shipped = [gain for name, gain in found.items() if "units" not in name]
    kind = "measured" if record["settings"]["gpu"] else "by the estimate below"
    return (
        f"**In batches of {record['settings']['batches'][-1]:,}** a session on a GPU, with the core that feeds it, "
        f"does the work of {_span(shipped)} cores on the shipped models and of {_span(wide)} on the wide ones, {kind}. "
        f"The GPU's price buys {price():.0f}."
    )


def _span(values: list[float]) -> str:
    low, high = (f"{value:.1f}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _around() -> str:
    """What is left of it in a whole request; nothing where that was never measured."""
    counted = results.load(_COUNTED)
    try:
        of = measured(records(BENCHMARKS), counted["summary"]) if counted else None
    except MissingResults:
        of = None
    if of is None:
        return ""
    best = [f"{ratio(work.best_us, work.best_us - work.graph_us):.2f}× as many {work.what}" for work in of.works]
    return (
        "**Around the graph** there is a request to be parsed and answered: if a GPU computed the graph for nothing, "
        f"the same cores would answer {' and '.join(best)} requests at best "
        "([what is left for a GPU](scaling.md#gpus))."
    )
