"""The packages in `models/`, on the real data: the figures they claim, and every raw text of the data folder."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from serving.package.manifest import MANIFEST, MODEL, digest, golden_array, parse
from serving.package.text import Normaliser, flatten
from training.data import NUM_WORDS, OUT_OF_VOCABULARY, START, Array, Data, Sequences, load
from training.evaluate import array_feeds, check_parity, evaluate, open_session, per_sample, run, score, text_feeds
from training.measure.bootstrap import paired
from training.models import RECIPES, SENTIMENT, Recipe
from training.packaging.golden import TOLERANCE
from training.text import RULES, known_words, rebuild, tokens

from .conftest import REPOSITORY

MODELS = REPOSITORY / "models"
CPU = TOLERANCE["CPUExecutionProvider"]
COLUMNS = SENTIMENT.known(None)
"""The ids of the words that have a column in version 1."""


SHIPPED = ("sentiment", "topic", "house_price")
TEXTS = ("sentiment", "topic")
MB = 1e6


@pytest.fixture(params=[f"{name}/{version}" for name in SHIPPED for version in (1, 2)])
def package(request: pytest.FixtureRequest) -> Path:
    folder: Path = MODELS / request.param
    return folder


def answers(package: str, texts: list[bytes]) -> dict[str, Array]:
    """What `package` says of normalised `texts`."""
    return run(open_session(MODELS / package / MODEL), text_feeds(texts))


def weights(package: Path) -> tuple[list[Array], list[Array]]:
    """Kernels and biases of the network, first layer first, read from the graph by nothing but their place in it."""
    graph = onnx.load(package / MODEL).graph
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    kernels = [tensors[node.input[1]] for node in graph.node if node.op_type == "MatMul"]
    biases = []
    for node in graph.node:
        if node.op_type == "Add" and (bias := [tensors[name] for name in node.input if name in tensors]):
            biases += bias
    return kernels, biases


def forward(package: Path, multi_hot: Array, activation: str) -> Array:
    """The network in NumPy, in double precision."""
    kernels, biases = weights(package)
    hidden = multi_hot.astype(np.float64)
    for kernel, bias in zip(kernels[:-1], biases[:-1], strict=True):
        hidden = np.maximum(hidden @ kernel + bias, 0)
    last = hidden @ kernels[-1] + biases[-1]
    if activation == "sigmoid":
        answers: Array = 1 / (1 + np.exp(-last))
    else:
        exponentials = np.exp(last - last.max(axis=1, keepdims=True))
        answers = exponentials / exponentials.sum(axis=1, keepdims=True)
    return answers


def test_the_package_is_whole(package: Path) -> None:
    manifest = parse((package / MANIFEST).read_bytes())
    assert {path.name for path in package.iterdir()} == {MODEL, MANIFEST, "run.json"}
    assert manifest.files[MODEL] == digest(package / MODEL)
    assert (manifest.name, str(manifest.version)) == (package.parent.name, package.name)
    assert manifest.provenance["seed"] == 0
    if package.name == "2":
        assert manifest.provenance["recipe"] == "best"
    assert manifest.files[MODEL].bytes <= 30 * MB


@pytest.mark.parametrize("name", SHIPPED)
def test_clients_see_no_difference_between_versions(name: str) -> None:
    first, second = (parse((MODELS / name / version / MANIFEST).read_bytes()) for version in ("1", "2"))
    for what in ("name", "task", "inputs", "outputs", "labels"):
        assert getattr(second, what) == getattr(first, what)


def test_golden_examples_reproduce(package: Path) -> None:
    manifest = parse((package / MANIFEST).read_bytes())
    [spec] = manifest.inputs
    inputs = manifest.golden.inputs[spec.name]
    if spec.text is not None:
        normalise = Normaliser(spec.text)
        feeds = text_feeds([normalise(text) for text in inputs])
    else:
        feeds = array_feeds({spec.name: golden_array(inputs, "FP32")})
    expected = {name: golden_array(values, "FP32") for name, values in manifest.golden.outputs.items()}
    check_parity(manifest.name, expected, run(open_session(package / MODEL), feeds), CPU)


@pytest.mark.parametrize(
    ("name", "metric", "bounds"),
    [
        ("sentiment", "accuracy", [(0.87, 1), (0.912, 1)]),
        ("topic", "accuracy", [(0.78, 1), (0.82, 1)]),
        ("house_price", "mae", [(0, 2.9), (0, 2.25)]),
    ],
)
def test_figures(
    real_data: Path,
    name: str,
    metric: str,
    bounds: list[tuple[float, float]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = load(RECIPES[name].dataset, real_data)
    monkeypatch.setattr("training.evaluate.load", lambda *_: data)  # once for both, for it takes a second
    scores: list[Array] = []

    def kept(*arguments: Any) -> dict[str, float]:
        scores.append(per_sample(*arguments))
        return score(*arguments)

    monkeypatch.setattr("training.evaluate.score", kept)
    for version, (least, most) in enumerate(bounds, 1):
        manifest, _, test = evaluate(MODELS / name / str(version), real_data)
        assert least <= test[metric] <= most
        assert test[metric] == pytest.approx(manifest.metrics[f"test_{metric}"], abs=2e-4)
    first, second = scores
    compared = paired(second, first, seed=0)
    assert compared.difference > 0
    if name in TEXTS:  # a hundred houses are too few to tell
        assert compared.significantly_better
    assert not compared.significantly_worse


@pytest.fixture(scope="module", params=TEXTS)
def texts(request: pytest.FixtureRequest, real_data: Path) -> tuple[Recipe, Data]:
    recipe = RECIPES[request.param]
    return recipe, load(recipe.dataset, real_data)


def test_raw_texts_are_answered_as_their_own_sequences(texts: tuple[Recipe, Data]) -> None:
    recipe, data = texts
    package = MODELS / recipe.name / "1"
    assert isinstance(data.x_test, Sequences)
    assert len(data.raw_test) == 1_000
    sequences = data.x_test.take(np.array([sample.index for sample in data.raw_test]))
    normalise = Normaliser(RULES)
    raw, rebuilt = [normalise(sample.text) for sample in data.raw_test], rebuild(sequences, data.word_index)
    for version in ("1", "2"):
        manifest = parse((MODELS / recipe.name / version / MANIFEST).read_bytes())
        assert manifest.inputs[0].text == RULES
        from_raw, from_sequences = (answers(f"{recipe.name}/{version}", batch) for batch in (raw, rebuilt))
        check_parity("raw texts", {recipe.output: from_sequences[recipe.output]}, from_raw, CPU)
    from_raw = answers(f"{recipe.name}/1", raw)

    # The data set's encoding by hand, and the network in NumPy; the start mark is in the bias, its column empty.
    multi_hot = np.zeros((len(sequences), NUM_WORDS), np.float32)
    for row in range(len(sequences)):
        for word in sequences[row]:
            multi_hot[row, word if word < NUM_WORDS else OUT_OF_VOCABULARY] = 1
    assert (multi_hot[:, START] == 1).all()
    kernel = weights(package)[0][0]
    assert not kernel[[0, START]].any()
    expected: dict[str, Any] = {
        recipe.output: forward(package, multi_hot, recipe.activation),
        "known_words": np.array(
            [known_words(tokens(sample.text), data.word_index, COLUMNS) for sample in data.raw_test]
        ),
    }
    check_parity("raw texts", expected, from_raw, CPU)


def test_words_of_version_2_are_those_of_the_training_texts(texts: tuple[Recipe, Data]) -> None:
    recipe, data = texts
    assert isinstance(data.x_train, Sequences)
    seen = np.setdiff1d(data.x_train.ids, [START])
    normalise = Normaliser(RULES)
    got = answers(f"{recipe.name}/2", [normalise(sample.text) for sample in data.raw_test])
    expected = [known_words(tokens(sample.text), data.word_index, seen) for sample in data.raw_test]
    np.testing.assert_allclose(got["known_words"], expected, rtol=1e-6)
    np.testing.assert_allclose(got[recipe.output].sum(axis=1) if recipe.outputs > 1 else 1, 1, rtol=1e-5)


@pytest.mark.parametrize("version", ["1", "2"])
def test_a_long_text_does_not_change_its_neighbours(texts: tuple[Recipe, Data], version: str) -> None:
    recipe, data = texts
    session, normalise = open_session(MODELS / recipe.name / version / MODEL), Normaliser(RULES)
    short = [normalise(sample.text) for sample in data.raw_test[:63]]
    alone = session.run([recipe.output], flatten("text", short))[0]
    long = normalise("the movie was bad " * 2_000)
    for batch, places in (([*short, long], slice(-1)), ([long, *short], slice(1, None))):
        beside = session.run([recipe.output], flatten("text", batch))[0]
        np.testing.assert_allclose(beside[places], alone, rtol=0, atol=1e-6)
