"""The comparison as files: one page and one picture for a model's folder, or a page of all models for the docs."""

from collections.abc import Mapping
from pathlib import Path

from training.experiments.comparison import duration, figures, found, protocol
from training.experiments.findings import Records
from training.experiments.picture import picture
from training.experiments.variants import MISSING

PICTURES = "experiments"
"""The folder of the pictures, beside the page."""

_INTRODUCTION = """\
# The book's further experiments

What happens if a network has more units, or fewer, or a penalty on its weights? The book proposes such experiments \
(Chollet, *Deep Learning with Python*, 2nd ed., §4.1.6, §4.2.8, §4.3.4, §5.4.4); here they are, run and measured. \
This page is written by

```sh notest
python -m training experiments {models} --all --data DIR --write docs
```

which skips what is done already, so that it can be interrupted and gone on with; `--list` shows the experiments, \
and `python -m training experiments sentiment l2 dropout` runs two of them. Records go to `runs/experiments/`.

- **No experiment sees the test set.** Every figure is of training samples that were held out. The best of twenty \
epochs, or of thirteen variants, is a flattering figure: it says which variant to look at, not how good it is.
- **Each experiment changes one thing** about the book's own recipe, and all have the same seed. One run of each: \
small differences are luck.
- **Losses with a penalty hold the penalty**, as Keras reports them: compare their course, not their height. The \
metric has no such part.
- **Findings** are what the book says, made measurable. Their thresholds were written down before the first result \
was looked at; "not seen" is an answer like any other.
"""


def write_comparison(folder: Path, model: str, records: Records) -> Path:
    """Write `comparison.md` and `curves.svg` of the experiments with `model` to `folder`; returns the page's path."""
    _write(folder / "curves.svg", picture(model, records))
    page = folder / "comparison.md"
    _write(page, f"# {model}\n\n{_section(model, records, 'curves.svg')}".encode())
    return page


def write_page(folder: Path, models: Mapping[str, Records]) -> Path:
    """Write `experiments.md` and `experiments/<model>.svg` of `models` to `folder`; returns the page's path."""
    parts = [_INTRODUCTION.format(models=" ".join(models)), _state(models)]
    for model, records in models.items():
        name = f"{PICTURES}/{model}.svg"
        _write(folder / name, picture(model, records))
        parts.append(f"## {model}\n\n{_section(model, records, name)}")
    page = folder / "experiments.md"
    _write(page, "\n".join(parts).encode())
    return page


def _state(models: Mapping[str, Records]) -> str:
    """How long it took, on what, with which code."""
    every = [record for records in models.values() for record in records.values()]
    seconds = sum(record.seconds for record in every)
    libraries = every[0].provenance["libraries"]
    states = len({record.provenance["code"] for record in every})
    same = "all with the same code" if states == 1 else f"with {states} states of the code"
    return (
        f"These {len(every)} experiments took {duration(seconds)} in all, one after the other, {same}, on Keras "
        f"{libraries['keras']} and TensorFlow {libraries['tensorflow']}.\n"
    )


def _section(model: str, records: Records, picture_name: str) -> str:
    table, findings = figures(model, records), found(model, records)
    smoothed = any(record.task == "regression" for record in records.values())
    notes = [f"Measured: {protocol(records)}."]
    if smoothed:
        notes.append(
            "Losses and MAE by epoch are moving averages (0.9 of what came before) of the mean over the folds, without "
            f"the first ten epochs. The MAE with {100 * MISSING:g} % of the features hidden is not: it is that of the "
            "networks after their last epoch, hidden features imputed with their means, over twenty ways to hide them; "
            "beside it the same networks' with none hidden."
        )
    alt = f"Validation loss and metric of {model} by epoch, a row of plots for each thing varied"
    return (
        f"![{alt}]({picture_name})\n\n{' '.join(notes)} Dots mark where a curve is best.\n\n"
        f"{table.markdown()}\n\n{findings.markdown()}\n"
    )


def _write(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    temporary.write_bytes(content)
    temporary.replace(path)
