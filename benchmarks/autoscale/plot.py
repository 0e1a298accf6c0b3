"""The simulated day as a picture: load, pods, waits and misses, over the day and around its two events."""

import io
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from benchmarks.autoscale.day import HOUR, Day
from benchmarks.autoscale.fleet import Trace
from benchmarks.servers import REPOSITORY

PICTURE = REPOSITORY / "docs" / "scaling-day.svg"

_STYLE: Any = {
    "axes.edgecolor": "#4b535c",
    "axes.facecolor": "#fbfaf7",
    "axes.labelcolor": "#1d2329",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "#fbfaf7",
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "grid.color": "#d9dce0",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "path.simplify_threshold": 0.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "triptych",
    "xtick.color": "#4b535c",
    "ytick.color": "#4b535c",
}
_LINES = (("#2f7d5b", "-"), ("#b7791f", "-"), ("#3b6fb6", "--"), ("#7a7f87", ":"))
_INK = "#1d2329"

Series = npt.NDArray[np.float64]


def write(traces: Mapping[str, Trace], day: Day) -> None:
    """The picture of a few policies on one day, into `docs`."""
    # Start, end and seconds a point of each column.
    spans = (
        ("the day", 0, 24 * HOUR, 300),
        ("the node that is lost", int(day.loss_at) - 120, int(day.loss_at) + 600, 5),
        ("the flash crowd", int(day.crowd_at) - 120, int(day.crowd_at) + 600, 5),
    )
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(11.5, 8.2), layout="constrained")
        FigureCanvasSVG(figure)
        grid = figure.subplots(4, len(spans), sharex="col", width_ratios=(2, 1, 1))
        for column, (title, start, end, step) in enumerate(spans):
            _column(grid[:, column], traces, start, end, step)
            grid[0, column].set_title(title, color=_INK, fontsize=10)
        for row, label in enumerate(("thousand requests/s", "pods that are ready", "queue wait p99, ms", "missed, %")):
            grid[row, 0].set_ylabel(label)
        figure.legend(*grid[1, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(traces))
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    PICTURE.write_text(stream.getvalue(), encoding="utf-8")


def _column(axes: npt.NDArray[np.object_], traces: Mapping[str, Trace], start: int, end: int, step: int) -> None:
    load, pods, wait, missed = axes
    long = end - start > HOUR * 2
    at = np.arange(start, end, step) / HOUR if long else (np.arange(start, end, step) - start - 120) / 60
    first = next(iter(traces.values()))
    load.plot(at, _mean(first.offered[start:end], step) / 1e3, color=_INK, linewidth=1.2)
    load.set_ylim(0)
    for number, ((name, trace), (colour, dash)) in enumerate(zip(traces.items(), _LINES, strict=True)):
        # The first lies above the others.
        style: Any = {"color": colour, "linestyle": dash, "linewidth": 0.8 if long else 1.4, "zorder": 3 - number / 10}
        pods.step(
            at, _mean(trace.pods[start:end], step) if not long else trace.pods[start:end:step], label=name, **style
        )
        wait.plot(at, _most(trace.wait_p99[start:end], step) * 1e3, **style)
        share = 1 - _mean(trace.in_time[start:end], step) / _mean(trace.offered[start:end], step)
        missed.plot(at, share * 100, **style)
    pods.set_ylim(0)
    wait.set_yscale("log")
    missed.set_yscale("symlog", linthresh=1, linscale=0.6)
    missed.set_ylim(-0.05, 100)
    missed.set_yticks([0, 1, 10, 100], ["0", "1", "10", "100"])
    wait.set_yticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
    missed.set_xlabel("hour" if long else "minutes from the event")
    for one in axes:
        _tidy(one, long)


def _tidy(axes: Axes, long: bool) -> None:
    axes.grid(visible=True)
    axes.set_axisbelow(True)
    axes.margins(x=0)
    if long:
        axes.set_xticks(range(0, 25, 4))


def _mean(values: Series, step: int) -> Series:
    averaged: Series = values.reshape(-1, step).mean(1)
    return averaged


def _most(values: Series, step: int) -> Series:
    highest: Series = values.reshape(-1, step).max(1)
    return highest
