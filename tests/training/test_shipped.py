"""The packages in `models/`, on the real data: the figures they claim, and every raw text of the data folder."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from serving.package.manifest import MANIFEST, MODEL, digest, golden_array, parse
from serving.package.text import Normaliser, flatten
from training.data import NUM_WORDS, OUT_OF_VOCABULARY, START, Array, Sequences, load
from training.evaluate import array_feeds, check_parity, evaluate, open_session, run, text_feeds
from training.models import RECIPES
from training.packaging.golden import TOLERANCE
from training.text import RULES, known_words, rebuild, tokens

from .conftest import REPOSITORY

MODELS = REPOSITORY / "models"
CPU = TOLERANCE["CPUExecutionProvider"]


SHIPPED = ("sentiment", "topic", "house_price")


@pytest.fixture(params=SHIPPED)
def package(request: pytest.FixtureRequest) -> Path:
    folder: Path = MODELS / request.param / "1"
    return folder


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
    ("name", "metric", "floor", "ceiling"),
    [
        ("sentiment", "accuracy", 0.87, 1),
        ("topic", "accuracy", 0.78, 1),
        ("house_price", "mae", 0, 2.9),
    ],
)
def test_figures(real_data: Path, name: str, metric: str, floor: float, ceiling: float) -> None:
    manifest, _, test = evaluate(MODELS / name / "1", real_data)
    assert floor <= test[metric] <= ceiling
    assert test[metric] == pytest.approx(manifest.metrics[f"test_{metric}"], abs=2e-4)


@pytest.mark.parametrize("name", ["sentiment", "topic"])
def test_raw_texts_are_answered_as_their_own_sequences(real_data: Path, name: str) -> None:
    package, recipe = MODELS / name / "1", RECIPES[name]
    data = load(recipe.dataset, real_data)
    assert isinstance(data.x_test, Sequences)
    assert len(data.raw_test) == 1_000
    sequences = data.x_test.take(np.array([sample.index for sample in data.raw_test]))
    session = open_session(package / MODEL)
    manifest = parse((package / MANIFEST).read_bytes())
    assert manifest.inputs[0].text == RULES
    normalise = Normaliser(RULES)

    from_raw = run(session, text_feeds([normalise(sample.text) for sample in data.raw_test]))
    from_sequences = run(session, text_feeds(rebuild(sequences, data.word_index)))
    check_parity("raw texts", {recipe.output: from_sequences[recipe.output]}, from_raw, CPU)

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
        "known_words": np.array([known_words(tokens(sample.text), data.word_index) for sample in data.raw_test]),
    }
    check_parity("raw texts", expected, from_raw, CPU)


@pytest.mark.parametrize("name", ["sentiment", "topic"])
def test_a_long_text_does_not_change_its_neighbours(real_data: Path, name: str) -> None:
    recipe = RECIPES[name]
    texts = [sample.text for sample in load(recipe.dataset, real_data).raw_test[:63]]
    session, normalise = open_session(MODELS / name / "1" / MODEL), Normaliser(RULES)
    short = [normalise(text) for text in texts]
    alone = session.run([recipe.output], flatten("text", short))[0]
    beside = session.run([recipe.output], flatten("text", [*short, normalise("the movie was bad " * 2_000)]))[0]
    np.testing.assert_allclose(beside[:-1], alone, atol=1e-6)
