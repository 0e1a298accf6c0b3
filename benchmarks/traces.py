"""The batcher's policy beside others, on the same arrivals, with no wall time: it can't depend on the machine."""

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

from benchmarks.arrivals import MAX_ROWS, SHAPES, Arrival, trace
from benchmarks.session import Session
from benchmarks.simulation import Cost, Outcome, this_policy, window
from benchmarks.stats import percentile, ratio
from benchmarks.tables import Cell, Table

NAME = "traces"

MODELS: dict[str, tuple[Cost, int]] = {
    "house price": (Cost(57e-6, 12.1e-6), 52),
    "sentiment": (Cost(101e-6, 27.0e-6), 1290),
}
"""For each model what a batch costs, and the bytes of a row.

Fitted through the server's CPU time a request at 1 and at 64 in flight, native transport, and the mean rows of its
batches (benchmark `transports`, 2026-11-20): everything that the server's core does for these rows, transport and
parsing included. That much, and not the model's arithmetic alone, is what batching can save.
"""

PATIENCE = (0.1, 0.01)
"""Seconds until the deadline of most requests, and of one in ten."""

Policy = Callable[[Sequence[Arrival], Cost, int], Outcome]

POLICIES: dict[str, Policy] = {
    "this policy": this_policy,
    "window of 1 ms": lambda arrivals, cost, _: window(arrivals, cost, 0.001),
    "window of 5 ms": lambda arrivals, cost, _: window(arrivals, cost, 0.005),
    "Triton-like, no delay": lambda arrivals, cost, _: window(arrivals, cost, 0.0, splits=False),
    "Triton-like, 8/64, 1 ms": lambda arrivals, cost, _: window(arrivals, cost, 0.001, (8, 64), splits=False),
    "Triton-like, 8/64, 5 ms": lambda arrivals, cost, _: window(arrivals, cost, 0.005, (8, 64), splits=False),
}


def run(session: Session) -> dict[str, Any]:
    """Every policy on every trace, for each model."""
    requests = int(session.pick(100_000, 2_000))
    summary: list[dict[str, Any]] = []
    with session.reporter.benchmark(NAME, len(MODELS) * len(SHAPES)):
        for model, name in product(MODELS, SHAPES):
            summary += study(model, name, requests)
            session.reporter.step(f"{model}, {name}: {summary[-len(POLICIES)]['p99_ms']:.2f} ms p99 by this policy")
    costs = {model: {"batch_us": cost.batch * 1e6, "row_us": cost.row * 1e6} for model, (cost, _) in MODELS.items()}
    settings = {"requests": requests, "max_batch_rows": MAX_ROWS, "costs": costs, "patience_seconds": PATIENCE}
    return {"settings": settings, "summary": summary, "rounds": summary}


def study(model: str, name: str, requests: int) -> list[dict[str, Any]]:
    """Every policy on one trace."""
    cost, row_bytes = MODELS[model]
    arrivals = trace(name, requests, cost.rows_per_second, PATIENCE)
    return [
        {"model": model, "trace": name, "policy": policy, **_figures(play(arrivals, cost, row_bytes), arrivals)}
        for policy, play in POLICIES.items()
    ]


def tables(record: dict[str, Any]) -> list[Table]:
    """One table a model."""
    return [_table(record, model) for model in record["settings"]["costs"]]


def _table(record: dict[str, Any], model: str) -> Table:
    settings = record["settings"]
    cost = settings["costs"][model]
    rows: list[list[Cell]] = [
        [
            *(one["trace"], one["policy"], one["p50_ms"], one["p95_ms"], one["p99_ms"]),
            *(one["in_time_per_second"], one["mean_rows"], f"{one['missed']:.2%}"),
        ]
        for one in record["summary"]
        if one["model"] == model
    ]
    usual, hurried = settings["patience_seconds"]
    note = (
        f"{settings['requests']:,} requests a trace, the same for each policy; a batch of n rows costs "
        f"{cost['batch_us']:.0f} + {cost['row_us']:.1f}·n µs, at most {settings['max_batch_rows']} rows. Simulated "
        "time: the same on every machine. Steady: 60% of capacity; bursty: a fifth of the time 200%, else 10%; "
        "diurnal: from 5% to 105% and back; heavy-tailed: steady, with Pareto's sizes. Deadlines: "
        f"{usual * 1e3:.0f} ms, and {hurried * 1e3:.0f} ms for one request in ten. Missed: answered late, or not at "
        "all; latencies are of what was answered, late or not. This policy is the server's own batcher; it refuses or "
        "drops what can't be answered in time, the others compute it all the same."
    )
    columns = ("trace", "policy", "p50 ms", "p95 ms", "p99 ms", "in time/s", "rows/batch", "missed")
    return Table(f"Batching policies, {model}", columns, rows, note, labels=2)


def _figures(outcome: Outcome, arrivals: Sequence[Arrival]) -> dict[str, Any]:
    return {
        **{f"p{percent}_ms": percentile(outcome.latencies, percent) * 1e3 for percent in (50, 95, 99)},
        "answered": len(outcome.latencies),
        "in_time_per_second": ratio(outcome.in_time, outcome.end - arrivals[0].at),
        "mean_rows": ratio(outcome.rows, outcome.batches),
        "missed": 1 - ratio(outcome.in_time, len(arrivals)),
    }
