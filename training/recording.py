"""The record of a fit: its figures beside the baselines', and where it was most wrong."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training import runs
from training.data import Array, Data, Sequences
from training.evaluate import per_sample
from training.measure import baselines, duplicates, metrics
from training.models import Recipe
from training.provenance import sources
from training.text import rebuild

if TYPE_CHECKING:
    from training.packaging.export import Training

BASELINES = "baselines.json"
MISTAKES = 12

HOUSE_FEATURES = (
    *("crime rate", "residential zoning", "industrial area", "by river", "nitric oxides", "rooms"),
    *("built before 1940", "employment distance", "highway access", "tax rate", "pupil-teacher ratio"),
    *("black population index", "lower status"),
)


@dataclass(frozen=True)
class Made:
    """What a fit made, and what it took."""

    package: str
    """Its folder; empty where it was refused."""
    model_sha256: str
    """Of its graph; empty where it was refused."""
    gate: str
    """How it compares with the version before it."""
    seconds: float
    training_seconds: float | None
    peak_memory_bytes: int
    devices: list[runs.Device]
    """What was trained on."""


def record(
    folder: Path,
    recipe: Recipe,
    data: Data,
    predictions: Array,
    training: "Training",
    epochs: list[runs.Epoch],
    made: Made,
) -> None:
    """Write the record of a fit.

    Args:
        folder: the run's, `<runs>/<model>/<run>`; baselines are kept beside it, for they are the same for every run.
        recipe: what was fitted.
        data: its data set.
        predictions: [N, outputs], the final network's on the test set.
        training: what is known of how the network came to be.
        epochs: what was reported.
        made: what came of it.
    """
    found = duplicates.find(data.x_train, data.x_test, y_train=data.y_train, y_test=data.y_test)
    runs.write(
        folder,
        runs.Record(
            model=recipe.name,
            recipe=recipe.variant,
            seed=recipe.seed,
            task=recipe.task,
            metric=recipe.metric,
            labels=list(recipe.labels),
            hyperparameters=training.provenance.get("hyperparameters", recipe.hyperparameters),
            provenance={
                **{name: training.provenance[name] for name in ("options", "forced") if name in training.provenance},
                **sources(recipe.dataset.title, data.sha256),
                "model_sha256": made.model_sha256,
            },
            protocol=training.protocol,
            epochs=epochs,
            validation=training.validation,
            splits=training.splits,
            seconds=made.seconds,
            training_seconds=made.training_seconds,
            peak_memory_bytes=made.peak_memory_bytes,
            devices=made.devices,
            test=figures(recipe, predictions, data.y_test),
            baselines=_baselines(folder.parent / BASELINES, recipe, data),
            book=recipe.book,
            mistakes=mistakes(recipe, data, predictions),
            duplicates=found.describe(),
            package=made.package,
            gate=made.gate,
        ),
        predictions,
        data.y_test,
    )


def figures(recipe: Recipe, predictions: Array, targets: Array) -> dict[str, float]:
    """Every figure of `predictions` [N, outputs] against `targets` [N], by name."""
    if recipe.task == "regression":
        return metrics.regression(predictions, targets).flat()
    return metrics.classification(predictions, targets, recipe.labels).flat()


def mistakes(recipe: Recipe, data: Data, predictions: Array) -> list[runs.Mistake]:
    """The test samples that the network was most wrong about, the worst first."""
    # A single output is a price, or the probability of class 1.
    scores = np.abs(predictions[:, 0] - data.y_test) if recipe.outputs == 1 else predictions.max(axis=1)
    if recipe.task != "regression":
        scores[per_sample(recipe, predictions, data.y_test) == 1] = 0
    worst = [row for row in np.argsort(-scores, kind="stable")[:MISTAKES].tolist() if scores[row] > 0]
    return [
        runs.Mistake(
            row=row,
            text=_described(recipe, data, row),
            target=_named(recipe, float(data.y_test[row])),
            predicted=_named(recipe, _answer(recipe, predictions[row])),
            score=float(scores[row]),
        )
        for row in worst
    ]


def _answer(recipe: Recipe, outputs: Array) -> float:
    if recipe.task == "regression":
        return float(outputs[0])
    return float(outputs[0] > 0.5) if recipe.outputs == 1 else float(outputs.argmax())


def _named(recipe: Recipe, value: float) -> str:
    return recipe.labels[int(value)] if recipe.labels else f"{value:.1f}"


def _described(recipe: Recipe, data: Data, row: int) -> str:
    if isinstance(data.x_test, Sequences):
        raw = next((sample.text for sample in data.raw_test if sample.index == row), None)
        return raw or rebuild(data.x_test.take(np.array([row])), data.word_index)[0].decode()
    if recipe.image:
        return f"test image {row}"
    values = data.x_test.values[row]
    return ", ".join(f"{name} {value:g}" for name, value in zip(HOUSE_FEATURES, values, strict=True))


def _baselines(path: Path, recipe: Recipe, data: Data) -> dict[str, dict[str, float]]:
    """The figures of each baseline; from `path`, if they were measured on the same data."""
    try:
        kept: dict[str, Any] = json.loads(path.read_bytes())
        if kept["dataset_sha256"] == data.sha256:
            known: dict[str, dict[str, float]] = kept["figures"]
            return known
    except (OSError, ValueError, KeyError, TypeError):
        pass  # none yet, or not readable: measured again
    found = baselines.all_for(recipe.task, data.x_train, data.y_train, data.x_test, classes=recipe.outputs)
    measured = {name: figures(recipe, each.predictions, data.y_test) for name, each in found.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"dataset_sha256": data.sha256, "figures": measured}, indent=1))
    return measured
