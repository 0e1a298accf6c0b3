"""Learning curves: a run's epochs, sorted into the lines of a plot."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from training.report import wording
from training.runs import Epoch

FACTOR = 0.9
"""Of the past in the moving average."""
LEFT_OUT, LONG = 10, 50
"""The first epochs that are left out where there are more than `LONG`: they dwarf all others."""

_FOLD = re.compile(r"\bfold\b")

Kind: TypeAlias = Literal["training", "validation", "final"]
Role: TypeAlias = Literal["only", "part", "mean"]


@dataclass(frozen=True)
class Line:
    """One line of a plot."""

    kind: Kind
    role: Role
    """A line of its own, or one fold, or the mean of the folds."""
    epochs: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Curves:
    """One figure, such as the loss, over all epochs of all stages."""

    figure: str
    lines: tuple[Line, ...]
    folds: int
    """0 where samples were held out."""
    is_smoothed: bool
    best: int | None
    """The epoch after which the validation line was best; None where there is no such line."""


def curves(epochs: Sequence[Epoch], figure: str) -> Curves | None:
    """The learning curves of `figure`; None where no epoch has it.

    Where there are folds of more than `LONG` epochs, lines lose the first `LEFT_OUT`, and all are smoothed.
    Source: Chollet, Deep Learning with Python, §4.3 (its figure "validation MAE by epoch, excluding the first ten").
    """
    stages: dict[str, list[Epoch]] = {}
    for epoch in epochs:
        stages.setdefault(epoch.stage, []).append(epoch)
    folds = [stage for name, stage in stages.items() if _FOLD.search(name)]
    others = [stage for name, stage in stages.items() if not _FOLD.search(name)]
    is_smoothed = bool(folds) and max(map(len, folds)) > LONG
    skip = LEFT_OUT if is_smoothed else 0
    lines: list[Line] = []
    named: tuple[tuple[Kind, str], ...] = (("training", figure), ("validation", f"val_{figure}"))
    for kind, name in named:
        parts = [line for stage in folds if (line := _line(stage, name, kind, "part", skip))]
        lines += [*parts, _mean(parts)] if parts else []
    for stage in others:
        held_out = _line(stage, f"val_{figure}", "validation", "only", skip)
        trained = _line(stage, figure, "training" if held_out else "final", "only", skip)
        lines += [line for line in (trained, held_out) if line]
    if not lines:
        return None
    if is_smoothed:
        lines = [replace(line, values=smooth(line.values)) for line in lines]
    return Curves(figure, tuple(lines), len(folds), is_smoothed, _best(lines, figure))


def smooth(values: Sequence[float]) -> tuple[float, ...]:
    """The exponential moving average of `values`, each `FACTOR` of the one before and the rest its own."""
    smoothed = [values[0]]
    for value in values[1:]:
        smoothed.append(FACTOR * smoothed[-1] + (1 - FACTOR) * value)
    return tuple(smoothed)


def _line(stage: list[Epoch], name: str, kind: Kind, role: Role, skip: int) -> Line | None:
    points = [(epoch.done, epoch.figures[name]) for epoch in stage if name in epoch.figures and epoch.done > skip]
    return Line(kind, role, *zip(*points, strict=True)) if points else None


def _mean(parts: list[Line]) -> Line:
    """The mean of folds, over the epochs that all of them reached."""
    reached = min(len(part.values) for part in parts)
    values = np.mean([part.values[:reached] for part in parts], axis=0)
    return Line(parts[0].kind, "mean", parts[0].epochs[:reached], tuple(values.tolist()))


def _best(lines: list[Line], figure: str) -> int | None:
    for line in lines:
        if line.kind == "validation" and line.role != "part" and np.isfinite(line.values).any():
            best = np.nanargmax if wording.figure(figure).better == "high" else np.nanargmin
            return line.epochs[int(best(line.values))]
    return None
