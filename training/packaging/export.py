"""Export: a trained network becomes the files of a model package, or is refused because they would not agree."""

from dataclasses import dataclass, field
from typing import Any

from serving.package.manifest import MANIFEST, MODEL, Manifest, dump
from training.data import Array, Data, Sequences
from training.evaluate import PROVIDER, check_parity, open_session, run, score, test_feeds, text_feeds
from training.models import Network, Recipe
from training.options import ExportPrecision
from training.packaging.convert import convert
from training.packaging.golden import TOLERANCE, golden, text_outputs
from training.packaging.half import half
from training.packaging.half_parity import hold, metrics_of, told, tolerance
from training.packaging.package import digest_of
from training.packaging.signature import of_recipe
from training.provenance import sources
from training.text import known_words_of, normalise, unreachable


@dataclass(frozen=True)
class Training:
    """What is known of how a network came to be."""

    validation: dict[str, float]
    """Figures on held-out training samples."""
    protocol: str
    """How those were measured, for people."""
    provenance: dict[str, Any]
    """Seed and hyperparameters, or where the network came from."""
    splits: dict[str, dict[str, float]] = field(default_factory=dict)
    """The validation figures of each split, by its name."""


@dataclass(frozen=True)
class Graph:
    """A network's graph, held to it on the whole test set."""

    model: bytes
    predictions: Array
    """[N, outputs]: what its figures on the test set are measured with: Keras's; in float16 its own."""
    precision: ExportPrecision = "float32"
    metrics: dict[str, float | int] = field(default_factory=dict)
    """What more is known of it."""
    told: str = ""
    """The same, for people."""


@dataclass(frozen=True)
class Exported:
    """A package not yet on disk, and the network's figures on the test set."""

    files: dict[str, bytes]
    test: dict[str, float]


def graph_of(
    recipe: Recipe, data: Data, network: Network, predictions: Array, precision: ExportPrecision = "float32"
) -> Graph:
    """Make the graph of `network` and hold it to Keras on the whole test set.

    Args:
        recipe: what the network is.
        data: its data set.
        network: trained, in Keras.
        predictions: [N, outputs], the network's on the test set.
        precision: what the graph is to compute in.

    Raises:
        ExportError: the network is not the recipe's, or the graph's outputs leave the parity bound.
    """
    converted = convert(recipe, network, data.word_index)
    model = converted.SerializeToString(deterministic=True)
    _check(recipe, data, network, predictions, model)
    if precision == "float32":
        return Graph(model, predictions)
    halved = half(converted)
    expected = _expected(recipe, data, network, predictions)
    held = hold(f"{recipe.name}, test set", halved, expected, lambda: test_feeds(recipe, data), recipe.task)
    answers = held.answers[recipe.output]
    metrics = metrics_of(held, score(recipe, predictions, data.y_test))
    return Graph(
        halved.SerializeToString(deterministic=True), answers, precision, metrics, told(held, unit=recipe.unit)
    )


def export(recipe: Recipe, data: Data, network: Network, graph: Graph, version: int, training: Training) -> Exported:
    """Make a package of `network` and its graph.

    Args:
        recipe: what the network is.
        data: its data set.
        network: trained, in Keras.
        graph: its own.
        version: of the package.
        training: what is known of how it came to be.
    """
    test = score(recipe, graph.predictions, data.y_test)
    half_precision = graph.precision == "float16"
    signature = of_recipe(recipe)
    manifest = Manifest(
        format=1,
        name=recipe.name,
        version=version,
        task=recipe.task,
        inputs=signature.inputs,
        outputs=signature.outputs,
        labels=recipe.labels,
        metrics={
            **{f"test_{name}": round(value, 6) for name, value in test.items()},
            **{f"validation_{name}": round(value, 6) for name, value in training.validation.items()},
            f"book_test_{recipe.metric}": recipe.book,
            **graph.metrics,
            "protocol": f"test: the {len(data.y_test):,} test samples, measured once, with the "
            f"{'float16 graph' if half_precision else 'network'} exported here; validation: {training.protocol}.",
        },
        provenance={
            **sources(recipe.dataset.title, data.sha256),
            **_word_index(data),
            **training.provenance,
            **({"export_precision": graph.precision} if half_precision else {}),
        },
        files={MODEL: digest_of(graph.model)},
        golden=golden(recipe, data, network, tolerance() if half_precision else TOLERANCE),
    )
    return Exported({MODEL: graph.model, MANIFEST: dump(manifest)}, test)


def _check(recipe: Recipe, data: Data, network: Network, predictions: Array, model: bytes) -> None:
    """Hold the graph to `predictions`, Keras's for the whole test set, and to Keras on raw texts if there are any."""
    session = open_session(model)
    expected = _expected(recipe, data, network, predictions)
    allowed = TOLERANCE[PROVIDER]
    check_parity(f"{recipe.name}, test set", expected, run(session, test_feeds(recipe, data)), allowed)
    if data.raw_test:
        texts = [sample.text for sample in data.raw_test]
        raw_expected = text_outputs(recipe, network, texts, data.word_index)
        actual = run(session, text_feeds([normalise(text) for text in texts]))
        check_parity(f"{recipe.name}, raw texts", raw_expected, actual, allowed)


def _expected(recipe: Recipe, data: Data, network: Network, predictions: Array) -> dict[str, Array]:
    """What the graph must answer to the whole test set."""
    if isinstance(data.x_test, Sequences):
        return {recipe.output: predictions, "known_words": known_words_of(data.x_test, recipe.known(network))}
    return {recipe.output: predictions}


def _word_index(data: Data) -> dict[str, Any]:
    if not data.word_index:
        return {}
    return {"words": len(data.word_index), "unreachable_words": len(unreachable(data.word_index))}
