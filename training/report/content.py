"""What a report says, as plain values that templates only have to lay out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from training.data import Array
from training.errors import TrainingError
from training.measure.metrics import ClassFigures, ClassificationReport, RegressionReport, classification, regression
from training.report import gallery, wording
from training.report.comparison import Comparison, Headline, compare, headline
from training.report.gallery import Picture
from training.runs import Mistake, Record
from training.speed import Speed, duration, speeds

WORST_CONFUSIONS = 10
SHOWN, WHOLE = 280, 420
"""Characters of a mistake's text that are shown; the rest is folded away, but a text up to `WHOLE` is not cut."""


@dataclass(frozen=True)
class ClassRow:
    """A class in the table of classes."""

    label: str
    support: str
    precision: str
    recall: str
    f1: str


@dataclass(frozen=True)
class Confusion:
    """Samples of one class that were guessed to be of another."""

    true: str
    guessed: str
    count: str
    share: str
    """Of the true class's samples."""


@dataclass(frozen=True)
class Told:
    """A mistake, its text cut in two where it is long."""

    row: str
    target: str
    predicted: str
    score: str
    start: str
    rest: str


@dataclass(frozen=True)
class Pace:
    """How long the epochs of a stage took."""

    stage: str
    samples: str
    epochs: str
    first: str
    others: str
    rate: str
    """Samples a second, without the first epoch."""


@dataclass(frozen=True)
class Group:
    """Some facts of a kind."""

    title: str
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Content:
    """A whole report."""

    title: str
    headline: Headline
    comparison: Comparison
    protocol: str
    package: str
    gate: str
    duplicates: str
    is_regression: bool
    curves: tuple[Picture, ...] = ()
    outcome: tuple[Picture, ...] = ()
    """Calibration and confusion, or what a regression's errors look like."""
    classes: tuple[ClassRow, ...] = ()
    confusions: tuple[Confusion, ...] = ()
    mistakes: tuple[Told, ...] = ()
    devices: str = ""
    paces: tuple[Pace, ...] = ()
    provenance: tuple[Group, ...] = ()
    note: str = ""
    """What is missing, and why."""
    pictures: tuple[Picture, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pictures", self.curves + self.outcome)


def content(record: Record, predicted: tuple[Array, Array] | None) -> Content:
    """All that a report says of the run `record`.

    Args:
        record: what was run, and what came out.
        predicted: the test set's predictions [N, outputs] and targets [N], where the run has them.
    """
    target = wording.TARGETS.get(record.model, wording.Target())
    is_regression = record.task == "regression"
    report: ClassificationReport | RegressionReport | None = None
    outcome: tuple[Picture, ...] = ()
    note = ""
    if predicted is None:
        note = "This run has no predictions of the test set: what follows from them is left out."
    else:
        try:
            if is_regression:
                report = regression(*predicted, target.edges)
                outcome = gallery.regression(report, *predicted, target)
            else:
                report = classification(*predicted, record.labels)
                outcome = gallery.classification(report, *predicted)
        except TrainingError as error:  # a network that diverged still has curves to look at
            note = f"The predictions could not be measured: {error}."
    test = ({} if report is None else report.flat()) | record.test
    classes = report.classes if isinstance(report, ClassificationReport) else ()
    return Content(
        title=wording.printable(f"{record.model} · recipe {record.recipe} · seed {record.seed}"),
        headline=headline(record, test, target.unit),
        comparison=compare(record, test, target.unit),
        protocol=wording.printable(record.protocol),
        package=wording.printable(record.package),
        gate=wording.printable(record.gate),
        duplicates=wording.printable(record.duplicates),
        is_regression=is_regression,
        curves=gallery.learning(record, target.unit),
        outcome=outcome,
        classes=tuple(map(_class_row, sorted(classes, key=lambda each: -each.support))),
        confusions=_confusions(report) if isinstance(report, ClassificationReport) else (),
        mistakes=tuple(_told(each, is_regression, target.unit) for each in record.mistakes),
        devices=wording.printable(" and ".join(map(str, record.devices))),
        paces=tuple(map(_pace, speeds(record.epochs))),
        provenance=_provenance(record),
        note=note,
    )


def _class_row(found: ClassFigures) -> ClassRow:
    return ClassRow(
        wording.printable(found.label),
        f"{found.support:,}",
        wording.share(found.precision),
        wording.share(found.recall),
        wording.share(found.f1),
    )


def _confusions(report: ClassificationReport) -> tuple[Confusion, ...]:
    wrong = report.confusion.copy()
    np.fill_diagonal(wrong, 0)
    size = len(wrong)
    worst = np.argsort(-wrong, axis=None, kind="stable")[:WORST_CONFUSIONS]
    return tuple(
        Confusion(
            wording.printable(report.classes[row].label),
            wording.printable(report.classes[column].label),
            f"{wrong[row, column]:,}",
            wording.share(wrong[row, column] / report.classes[row].support),
        )
        for row, column in (divmod(int(place), size) for place in worst)
        if wrong[row, column]
    )


def _told(mistake: Mistake, is_regression: bool, unit: str) -> Told:
    text = wording.printable(mistake.text)
    cut = len(text)
    if len(text) > WHOLE:
        cut = text.rfind(" ", SHOWN // 2, SHOWN)
        cut = SHOWN if cut < 0 else cut
    return Told(
        row=f"{mistake.row:,}",
        target=wording.printable(mistake.target),
        predicted=wording.printable(mistake.predicted),
        score=wording.value("mae", mistake.score, unit) if is_regression else wording.share(mistake.score, 2),
        start=text[:cut],
        rest=text[cut:].strip(),
    )


def _pace(found: Speed) -> Pace:
    rate = found.samples_per_second
    return Pace(
        stage=wording.printable(found.stage),
        samples=f"{found.samples:,}",
        epochs=f"{found.epochs:,}",
        first=duration(found.first),
        others=wording.NONE if found.median is None else duration(found.median),
        rate=wording.NONE if rate is None else f"{rate:,.0f}",
    )


def _provenance(record: Record) -> tuple[Group, ...]:
    run = {
        "package": record.package,
        "publishing gate": record.gate,
        "seed": record.seed,
        "validation": record.protocol,
        "whole run": wording.seconds(record.seconds),
        "training of the final network": wording.seconds(record.training_seconds),
        "peak memory": f"{record.peak_memory_bytes / 2**30:.2f} GiB",
    }
    nested = {key: value for key, value in record.provenance.items() if isinstance(value, Mapping)}
    loose = {key: value for key, value in record.provenance.items() if key not in nested}
    parts = {"run": run, "hyperparameters": record.hyperparameters, "origin": loose, **nested}
    groups = (
        Group(wording.printable(wording.plain(title)).capitalize(), _facts(facts)) for title, facts in parts.items()
    )
    return tuple(group for group in groups if group.facts)


def _facts(facts: Mapping[str, Any], prefix: str = "") -> tuple[tuple[str, str], ...]:
    """Keys and values, nested ones with dots; what is empty is left out."""
    flat: list[tuple[str, str]] = []
    for key, value in facts.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat += _facts(value, f"{name}.")
        elif isinstance(value, list | tuple):
            flat.append((wording.printable(name), wording.printable(", ".join(map(str, value)) or wording.NONE)))
        elif value not in ("", None):
            flat.append((wording.printable(name), wording.printable(str(value))))
    return tuple(flat)
