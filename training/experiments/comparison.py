"""The experiments with one model side by side: a table of figures, and a table of findings."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from training import runs
from training.experiments import history
from training.experiments.findings import FINDINGS, Records, verdicts
from training.experiments.run import folder, recorded
from training.experiments.variants import BOOK, MISSING, VARIANTS
from training.models import RECIPES, Recipe

ABSENT = "–"
HIDDEN = f"MAE with {100 * MISSING:g} % of the features hidden (none)"


@dataclass(frozen=True)
class Rows:
    """A table: a heading for each column, and rows of as many cells."""

    title: str
    headings: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def markdown(self) -> str:
        """The same as a Markdown table."""
        lines = [self.headings, ("---",) * len(self.headings), *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def read(run_folders: Path, model: str) -> dict[str, runs.Record]:
    """The records of the experiments with `model`, by variant; those of other recipes are left out."""
    at = folder(run_folders, model)
    found = {variant.name: recorded(at / variant.name, variant.recipe(model)) for variant in VARIANTS[model]}
    return {name: record for name, record in found.items() if record is not None}


def figures(model: str, records: Records) -> Rows:
    """What came of each experiment: its validation loss and metric, where they are best and where they end."""
    recipe = RECIPES[model]
    is_regression = recipe.metric == "mae"
    metric = "MAE, k$" if is_regression else recipe.metric
    headings = (
        *("experiment", "asks", "weights", "lowest loss", "at epoch", "loss at the end"),
        *(f"best {metric}", "at epoch", f"{metric} at the end"),
        *((HIDDEN,) if is_regression else ()),
        "time",
    )
    rows = []
    for variant in VARIANTS[model]:
        if variant.name in records:
            cells = _measured(variant.recipe(model), records[variant.name])
        else:
            cells = (ABSENT,) * (len(headings) - 2)
        rows.append((variant.name, variant.asks, *cells))
    return Rows(f"{model}: experiments, on validation samples", headings, rows)


def _measured(recipe: Recipe, record: runs.Record) -> tuple[str, ...]:
    loss, metric = history.loss(record), history.metric(record)
    decimals = 2 if record.task == "regression" else 3
    return (
        f"{weights(recipe):,}",
        f"{loss.best:.{decimals}f}",
        str(loss.best_epoch),
        f"{loss.last:.{decimals}f} ({history.percent(loss.rise)})",
        f"{metric.best:.{decimals}f}",
        str(metric.best_epoch),
        f"{metric.last:.{decimals}f}",
        *(_hidden(record.validation) if record.metric == "mae" else ()),
        duration(record.seconds),
    )


def _hidden(validation: dict[str, float]) -> tuple[str]:
    return (f"{validation['mae_missing']:.2f} ({validation['mae']:.2f})",)


def weights(recipe: Recipe) -> int:
    """How many numbers the network learns."""
    widths = (recipe.features, *recipe.hidden, recipe.outputs)
    return sum((width + 1) * units for width, units in pairwise(widths))


def found(model: str, records: Records) -> Rows:
    """What the book says, and whether it was seen."""
    rows = [
        (verdict.finding.says, verdict.finding.section, verdict.finding.threshold, verdict.outcome, verdict.figures)
        for verdict in verdicts(FINDINGS[model], records)
    ]
    return Rows(f"{model}: findings", ("the book says", "where", "counts as seen", "here", "figures"), rows)


def protocol(records: Records) -> str:
    """How the figures were measured, for people."""
    return (records.get(BOOK) or next(iter(records.values()))).protocol


def duration(seconds: float) -> str:
    """`seconds` for people."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
