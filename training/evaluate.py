"""Measuring: a network's or a package's figures on the test set, and whether the two compute the same."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from serving.package.manifest import MANIFEST, MODEL, Manifest, Tolerance, parse
from serving.package.text import flatten
from training.data import Array, Data, Inputs, Sequences, load
from training.errors import ExportError, TrainingError, one_line
from training.measure.outputs import closeness, correct
from training.models import RECIPES, Network, Recipe
from training.text import rebuild

PREDICT_ROWS = 512
PROVIDER = "CPUExecutionProvider"

Feeds = dict[str, Array]


def predict(recipe: Recipe, network: Network, x: Inputs) -> Array:
    """float32 [len(x), outputs]: a recipe's network's outputs, computed `PREDICT_ROWS` at a time."""
    x = recipe.encode(x, network)
    # Called directly: for a last batch of its own size, predict_on_batch would compile the network again.
    return np.concatenate([np.asarray(network(x.batch(rows), training=False)) for rows in _batches(len(x))])


def score(recipe: Recipe, predictions: Array, targets: Array) -> dict[str, float]:
    """The recipe's figures for `predictions` [N, outputs] against `targets` [N].

    Accuracy is a share; mae is in the target's unit (thousand dollars), mse in its square.
    """
    if recipe.task == "regression":
        errors = predictions[:, 0].astype(np.float64) - targets
        return {"mae": float(np.abs(errors).mean()), "mse": float(np.square(errors).mean())}
    return {"accuracy": float(per_sample(recipe, predictions, targets).mean())}


def per_sample(recipe: Recipe, predictions: Array, targets: Array) -> Array:
    """float64 [N], higher is better: 1 where the class is right and 0 where it is not; minus the absolute error."""
    return closeness(predictions, targets) if recipe.task == "regression" else correct(predictions, targets)


def open_session(model: Path | bytes) -> ort.InferenceSession:
    """ONNX Runtime on the CPU for `model`, a file or its bytes."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(model, options, providers=[PROVIDER])


def run(session: ort.InferenceSession, batches: Iterable[Feeds]) -> dict[str, Array]:
    """All outputs by name, of all `batches` in turn."""
    names = [output.name for output in session.get_outputs()]
    results = [session.run(names, feeds) for feeds in batches]
    return {name: np.concatenate(parts) for name, parts in zip(names, zip(*results, strict=True), strict=True)}


def text_feeds(texts: Sequence[bytes]) -> Iterator[Feeds]:
    """Batches of normalised texts, in the flat layout."""
    return (flatten("text", texts[rows[0] : rows[-1] + 1]) for rows in _batches(len(texts)))


def array_feeds(arrays: Feeds, batch: int = PREDICT_ROWS) -> Iterator[Feeds]:
    """Batches of arrays by input, axis 0 the rows, as many in each."""
    rows = len(next(iter(arrays.values())))
    return ({name: array[part] for name, array in arrays.items()} for part in _batches(rows, batch))


def test_feeds(recipe: Recipe, data: Data) -> Iterator[Feeds]:
    """The whole test set as a package takes it; texts are rebuilt from their sequences through the word index."""
    if isinstance(data.x_test, Sequences):
        return text_feeds(rebuild(data.x_test, data.word_index))
    return array_feeds({recipe.input: data.x_test.values})


def check_parity(
    what: str, expected: dict[str, Array], actual: dict[str, Array], tolerance: Tolerance, source: str = "Keras"
) -> None:
    """Hold `actual` to `expected`, what `source` gives, output by output.

    Raises:
        ExportError: they differ by more than `tolerance` somewhere; names the worst difference and its row.
    """
    for name, wanted in expected.items():
        got = actual[name]
        if got.shape != wanted.shape:
            raise ExportError(f"{what}: {name} has shape {list(got.shape)}, {source} gives {list(wanted.shape)}")
        wanted, got = (array.reshape(len(array), -1).astype(np.float64) for array in (wanted, got))
        difference = np.abs(got - wanted)
        excess = difference - (tolerance.atol + tolerance.rtol * np.abs(wanted))
        excess[~np.isfinite(excess)] = np.inf  # NaN compares false with everything, so it would pass
        row, column = np.unravel_index(excess.argmax(), excess.shape)
        if excess[row, column] > 0:
            raise ExportError(
                f"{what}: {name} leaves the tolerance (atol {tolerance.atol:g}, rtol {tolerance.rtol:g}) in "
                f"{(excess > 0).any(axis=1).sum()} of {len(excess)} rows. The worst is row {row}: "
                f"{got[row, column]:.9g}, where {source} gives {wanted[row, column]:.9g}."
            )


def answers(recipe: Recipe, data: Data, model: Path | bytes, name: str) -> Array:
    """[N, outputs]: what a package's graph answers to the whole test set.

    Args:
        recipe: of the model.
        data: its data set.
        model: the graph, a file or its bytes.
        name: of the package, for errors.

    Raises:
        TrainingError: it can't be run, or does not answer as this model does.
    """
    try:
        found = run(open_session(model), test_feeds(recipe, data))[recipe.output]
    except Exception as error:  # ONNX Runtime's own have no common ancestor
        raise TrainingError(f"{name} can't be measured: {one_line(error)}") from error
    if found.shape != (wanted := (len(data.y_test), recipe.outputs)):
        raise TrainingError(f"{name} can't be measured: its outputs are {list(found.shape)}, expected {list(wanted)}")
    return found


def check_graph(recipe: Recipe, model: bytes, name: str) -> None:
    """See that `model` is a graph that gives what `recipe`'s do.

    Raises:
        TrainingError: it isn't.
    """
    try:
        outputs = {output.name for output in open_session(model).get_outputs()}
    except Exception as error:  # ONNX Runtime's own have no common ancestor
        raise TrainingError(f"{name} has a graph that can't be run: {one_line(error)}") from error
    if recipe.output not in outputs:
        raise TrainingError(f"{name} has a graph that gives {', '.join(sorted(outputs))}: expected {recipe.output}")


def evaluate(package: Path, folder: Path | None) -> tuple[Manifest, Recipe, dict[str, float]]:
    """Measure the package in `package` on its test set, its own `model.onnx` and nothing of Keras.

    Returns:
        The package's manifest, its recipe, and its figures.

    Raises:
        TrainingError: there is no package there, or it isn't one of the reference models.
    """
    try:
        manifest = parse((package / MANIFEST).read_bytes())
    except (OSError, ValueError) as error:
        hint = (
            f"; it holds versions, such as {packages[0].parent}"
            if (packages := sorted(package.glob(f"*/{MANIFEST}")))
            else ""
        )
        raise TrainingError(f"{package} is not a model package: {one_line(error)}{hint}") from error
    recipe = RECIPES.get(manifest.name)
    if recipe is None:
        raise TrainingError(f"{package}: no test set is known for {manifest.name!r}, only for {', '.join(RECIPES)}")
    data = load(recipe.dataset, folder)
    outputs = answers(recipe, data, package / MODEL, str(package))
    return manifest, recipe, score(recipe, outputs, data.y_test)


def _batches(rows: int, batch: int = PREDICT_ROWS) -> list[Any]:
    return np.split(np.arange(rows), range(batch, rows, batch))
