"""Export: a trained network becomes the files of a model package, or is refused because they would not agree."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

from serving.package.manifest import MANIFEST, MODEL, FileDigest, Manifest, dump
from training.data import Array, Data, Sequences
from training.evaluate import PROVIDER, check_parity, open_session, run, score, test_feeds, text_feeds
from training.models import Network, Recipe
from training.packaging.convert import convert
from training.packaging.golden import TOLERANCE, golden, text_outputs
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
class Exported:
    """A package not yet on disk, and the network's figures on the test set."""

    files: dict[str, bytes]
    test: dict[str, float]


def export(
    recipe: Recipe,
    data: Data,
    network: Network,
    predictions: Array,
    version: int,
    training: Training,
) -> Exported:
    """Make a package of `network` and hold it to Keras on the whole test set.

    Args:
        recipe: what the network is.
        data: its data set.
        network: trained, in Keras.
        predictions: [N, outputs], the network's on the test set.
        version: of the package.
        training: what is known of how it came to be.

    Raises:
        ExportError: the network is not the recipe's, or the graph's outputs leave the CPU tolerance.
    """
    model = convert(recipe, network, data.word_index).SerializeToString(deterministic=True)
    _check(recipe, data, network, predictions, model)
    test = score(recipe, predictions, data.y_test)
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
            "protocol": f"test: the {len(data.y_test):,} test samples, measured once, with the network exported here; "
            f"validation: {training.protocol}.",
        },
        provenance={
            **sources(recipe.dataset.title, data.sha256),
            **_word_index(data),
            **training.provenance,
        },
        files={MODEL: digest_of(model)},
        golden=golden(recipe, data, network),
    )
    return Exported({MODEL: model, MANIFEST: dump(manifest)}, test)


def digest_of(content: bytes) -> FileDigest:
    """Size and SHA-256 of a file that is not on disk yet."""
    return FileDigest(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def _check(recipe: Recipe, data: Data, network: Network, predictions: Array, model: bytes) -> None:
    """Hold the graph to `predictions`, Keras's for the whole test set, and to Keras on raw texts if there are any."""
    session = open_session(model)
    expected = {recipe.output: predictions}
    if isinstance(data.x_test, Sequences):
        expected["known_words"] = known_words_of(data.x_test, recipe.known(network))
    tolerance = TOLERANCE[PROVIDER]
    check_parity(f"{recipe.name}, test set", expected, run(session, test_feeds(recipe, data)), tolerance)
    if data.raw_test:
        texts = [sample.text for sample in data.raw_test]
        raw_expected = text_outputs(recipe, network, texts, data.word_index)
        actual = run(session, text_feeds([normalise(text) for text in texts]))
        check_parity(f"{recipe.name}, raw texts", raw_expected, actual, tolerance)


def _word_index(data: Data) -> dict[str, Any]:
    if not data.word_index:
        return {}
    return {"words": len(data.word_index), "unreachable_words": len(unreachable(data.word_index))}
