"""A run's figures beside the book's and the baselines'."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from training.report import wording
from training.runs import Record


@dataclass(frozen=True)
class Headline:
    """The figure that a run is judged by."""

    title: str
    value: str
    beside: tuple[tuple[str, str], ...]
    """The same of the book and of each baseline."""


@dataclass(frozen=True)
class Cell:
    """A figure in the table."""

    text: str
    is_best: bool = False
    is_aside: bool = False
    """Whether it was measured on other samples, and so is no rival."""


@dataclass(frozen=True)
class Row:
    """A figure of all columns."""

    title: str
    hint: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Comparison:
    """The table of figures."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def has_best(self) -> bool:
        """Whether any figure is marked as the best."""
        return any(cell.is_best for row in self.rows for cell in row.cells)


def headline(record: Record, test: Mapping[str, float], unit: str) -> Headline:
    """The run's metric on the test set, or on validation samples where it never saw that set."""
    metric = record.metric
    where, figures = ("test", test) if metric in test else ("validation", record.validation)
    beside = [(_plain(name), each[metric]) for name, each in record.baselines.items() if metric in each]
    if record.book is not None:
        beside.insert(0, ("book" if where == "test" else "book, test", record.book))
    return Headline(
        f"{wording.figure(metric).title}, {where}",
        wording.value(metric, figures.get(metric), unit),
        tuple((name, wording.value(metric, value, unit)) for name, value in beside),
    )


def compare(record: Record, test: Mapping[str, float], unit: str) -> Comparison:
    """All figures of the run, of the book and of the baselines, the best of each marked.

    Args:
        record: the run.
        test: its figures on the test set; empty where it never saw that set.
        unit: of a regression's target.
    """
    book: Mapping[str, float] = {} if record.book is None else {record.metric: record.book}
    baselines: dict[str, Mapping[str, float]] = {_plain(name): figures for name, figures in record.baselines.items()}
    rivals: dict[str, Mapping[str, float]] = {"this run": test} if test else {}
    aside: dict[str, Mapping[str, float]] = {}
    if test:
        rivals |= ({"book": book} if book else {}) | baselines
        aside = {"this run, validation": record.validation} if record.validation else {}
    else:
        # Other samples than the book's, and maybe than the baselines', which then are no rivals.
        aside = {"this run, validation": record.validation} | ({"book, test": book} if book else {}) | baselines
    columns = rivals | aside
    names = wording.in_order({name: None for figures in columns.values() for name in figures})
    rows = tuple(
        Row(
            wording.printable(wording.figure(name).title),
            wording.figure(name).hint,
            tuple(
                Cell(wording.value(name, figures.get(name), unit), column in _best(name, rivals), column in aside)
                for column, figures in columns.items()
            ),
        )
        for name in names
    )
    return Comparison(tuple(columns), rows)


def _best(name: str, rivals: Mapping[str, Mapping[str, float]]) -> set[str]:
    """The columns whose figure is best; none where there is nothing to compare or no way is better."""
    better = wording.figure(name).better
    given = {column: figures[name] for column, figures in rivals.items() if math.isfinite(figures.get(name, math.nan))}
    if better == "neither" or len(given) < 2:
        return set()
    best = (max if better == "high" else min)(given.values())
    return {column for column, value in given.items() if value == best}


def _plain(name: str) -> str:
    return wording.printable(wording.plain(name))
