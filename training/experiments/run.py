"""Running experiments: each in a process of its own, what is done skipped, each folder whole or absent."""

import shutil
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from training import runs
from training.data import load
from training.errors import TrainingError
from training.experiments.stale import differs, inputs
from training.experiments.variants import Variant
from training.models import Recipe
from training.options import DEFAULT, Options
from training.placement import devices, settle
from training.process import run_in_own_process
from training.progress import Display, Log
from training.provenance import peak_memory, sources
from training.quiet import silent_stderr


@dataclass(frozen=True)
class Experiment:
    """A variant's recipe, the folder of data sets, the folder that its record goes to, and the device."""

    recipe: Recipe
    data: Path | None
    folder: Path
    options: Options = DEFAULT


def folder(run_folders: Path, model: str) -> Path:
    """Where the experiments with `model` go, a folder for each variant, and what compares them."""
    return run_folders / "experiments" / model


def recorded(path: Path, recipe: Recipe) -> runs.Record | None:
    """The record of the experiment `recipe` in the folder `path`; None where there is none, or one of another."""
    try:
        record = runs.read(path)
    except TrainingError:
        return None
    return None if differs(record, recipe) else record


def run_all(
    model: str,
    variants: Iterable[Variant],
    data: Path | None,
    run_folders: Path,
    again: bool = False,
    options: Options = DEFAULT,
) -> int:
    """Run the `variants` of `model` that are not done; returns how many that were.

    Args:
        model: a model's name.
        variants: of that model.
        data: folder of the data sets; None means as `training.data.load` does.
        run_folders: the folder of run records.
        again: whether what is done is run once more, too.
        options: what they are trained on.

    Raises:
        TrainingError: the data is not as it should be.
        KeyboardInterrupt: it was interrupted; what was done until then is kept, and nothing half-done is.
    """
    at = folder(run_folders, model)
    due: list[Experiment] = []
    done: list[Experiment] = []
    for variant in variants:
        recipe = variant.recipe(model)
        record = recorded(at / variant.name, recipe)
        (due if record is None or again else done).append(Experiment(recipe, data, at / variant.name, options))
    if done:
        print(f"{model}: done already: {', '.join(experiment.recipe.variant for experiment in done)}", flush=True)
    for number, experiment in enumerate(due, start=1):
        print(f"{model}: {experiment.recipe.variant}, {number} of {len(due)}", flush=True)
        run_in_own_process(run, experiment, f"{model} {experiment.recipe.variant}")
    return len(due)


def run(experiment: Experiment) -> None:
    """Train and measure one variant on training samples alone, and write its record."""
    started = time.perf_counter()
    recipe = experiment.recipe
    display = Display(f"{recipe.name} {recipe.variant}")
    options = settle(experiment.options, recipe, display.say)
    # Data first: reading it takes the most memory, and TensorFlow then reuses what it gave back.
    data = load(recipe.dataset, experiment.data)
    x, y, sha256 = data.x_train, data.y_train, data.sha256
    del data  # the test set: no experiment sees it
    with silent_stderr():
        import tensorflow  # noqa: F401

    from training.experiments.measure import measure

    with display:
        log = Log(display)
        validation, protocol = measure(recipe, x, y, log, options)
    record = runs.Record(
        model=recipe.name,
        recipe=recipe.variant,
        seed=recipe.seed,
        task=recipe.task,
        metric=recipe.metric,
        labels=list(recipe.labels),
        hyperparameters=inputs(recipe)["hyperparameters"],
        provenance=sources(recipe.dataset.title, sha256),
        protocol=protocol,
        epochs=log.epochs,
        validation=validation,
        seconds=time.perf_counter() - started,
        training_seconds=None,
        peak_memory_bytes=peak_memory(),
        devices=devices(options),
    )
    _write(experiment.folder, record)


def _write(path: Path, record: runs.Record) -> None:
    """Write `record` to a folder beside `path`, then put that in the place of whatever `path` holds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    new, old = temporary / "new", temporary / "old"
    try:
        runs.write(new, record)
        if path.exists():
            path.rename(old)
        new.rename(path)
    finally:
        if old.exists() and not path.exists():
            old.rename(path)
        shutil.rmtree(temporary, ignore_errors=True)
