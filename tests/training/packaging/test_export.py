"""A package says what it is, proves what it does, and is refused when it does something else."""

import dataclasses
import hashlib
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from serving.package.manifest import Manifest, golden_array, parse
from serving.package.text import Normaliser, flatten
from training.data import Data, RawText, Table, load
from training.errors import ExportError
from training.evaluate import open_session, predict
from training.models import Network, Recipe, build
from training.packaging import golden
from training.packaging.convert import convert
from training.packaging.export import Exported, Training, export, graph_of

from ..conftest import Tiny

TEXT_NAMES = ["sentiment", "topic"]
NAMES = [*TEXT_NAMES, "house_price", "digits"]


@dataclasses.dataclass(frozen=True)
class Case:
    recipe: Recipe
    data: Data
    network: Network

    def export(self, **changes: Any) -> Exported:
        data = dataclasses.replace(self.data, **changes)
        graph = graph_of(self.recipe, data, self.network, predict(self.recipe, self.network, data.x_test))
        return export(self.recipe, data, self.network, graph, 7, Training({"accuracy": 0.5}, "by hand", {"seed": 0}))


@pytest.fixture(scope="module", params=NAMES)
def case(request: pytest.FixtureRequest, tiny: Tiny) -> Case:
    recipe = tiny.recipes[request.param]
    data = load(recipe.dataset, tiny.data)
    return Case(recipe, data, build(recipe, data.x_train))


@pytest.fixture(scope="module")
def exported(case: Case) -> Exported:
    return case.export()


def run(exported: Exported, manifest: Manifest) -> dict[str, Any]:
    """The golden inputs through the package's graph, as a server would feed them."""
    session = open_session(exported.files["model.onnx"])
    [spec] = manifest.inputs
    inputs = manifest.golden.inputs[spec.name]
    if spec.text is None:
        feeds = {spec.name: golden_array(inputs, spec.datatype)}
    else:
        normalise = Normaliser(spec.text)
        feeds = flatten(spec.name, [normalise(text) for text in inputs])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def test_manifest(case: Case, exported: Exported) -> None:
    manifest = parse(exported.files["model.json"])
    model = exported.files["model.onnx"]
    assert (manifest.name, manifest.version, manifest.task) == (case.recipe.name, 7, case.recipe.task)
    assert manifest.labels == case.recipe.labels
    assert manifest.files["model.onnx"].bytes == len(model)
    assert manifest.files["model.onnx"].sha256 == hashlib.sha256(model).hexdigest()
    assert manifest.provenance["dataset_sha256"] == case.data.sha256
    assert manifest.provenance["seed"] == 0
    assert manifest.metrics["validation_accuracy"] == 0.5
    assert manifest.metrics["protocol"].endswith("validation: by hand.")
    assert manifest.metrics[f"test_{case.recipe.metric}"] == pytest.approx(exported.test[case.recipe.metric], abs=1e-6)
    assert str(Path.cwd()) not in exported.files["model.json"].decode()


def test_golden_examples_reproduce(exported: Exported) -> None:
    manifest = parse(exported.files["model.json"])
    tolerance = manifest.golden.tolerance["CPUExecutionProvider"]
    for name, got in run(exported, manifest).items():
        expected = golden_array(manifest.golden.outputs[name], "FP32")
        np.testing.assert_allclose(got, expected, atol=tolerance.atol, rtol=tolerance.rtol)


def test_golden_inputs_cover_the_edges(case: Case, exported: Exported) -> None:
    inputs = parse(exported.files["model.json"]).golden.inputs
    if case.recipe.is_text:
        assert inputs["text"][-1] == ""
        assert not all(text.isascii() for text in inputs["text"])
    elif case.recipe.image:
        # One image of each class that the test set has, in order.
        assert isinstance(case.data.x_test, Table)
        firsts = [case.data.y_test.tolist().index(digit) for digit in sorted(set(case.data.y_test.tolist()))]
        assert inputs == {"pixels": case.data.x_test.values[firsts].tolist()}
    else:
        absent = [row.count(None) for row in inputs["features"]]
        assert absent == [0] * golden.ROWS + [1, case.recipe.features]
    assert 10 <= len(next(iter(inputs.values()))) <= 12


def test_the_same_twice(case: Case, exported: Exported) -> None:
    assert case.export().files == exported.files


@pytest.mark.parametrize("case", TEXT_NAMES, indirect=True)
def test_golden_texts_are_raw_where_raw_texts_are(case: Case) -> None:
    raw = [RawText(f"W{number}, \tCAFÉ!", number) for number in range(20)] + [RawText("long " * 1_000, 20)]
    texts = parse(case.export(raw_test=raw).files["model.json"]).golden.inputs["text"]
    assert texts == [*(sample.text for sample in raw[: golden.ROWS]), raw[0].text, raw[20].text, ""]


def test_a_float16_package_says_so_and_keeps_keras_as_its_witness(case: Case, exported: Exported) -> None:
    predictions = predict(case.recipe, case.network, case.data.x_test)
    graph = graph_of(case.recipe, case.data, case.network, predictions, "float16")
    again = graph_of(case.recipe, case.data, case.network, predictions, "float16")
    assert graph.model == again.model
    assert len(graph.model) < len(exported.files["model.onnx"])
    made = export(case.recipe, case.data, case.network, graph, 7, Training({}, "by hand", {}))
    manifest, before = parse(made.files["model.json"]), parse(exported.files["model.json"])
    assert manifest.provenance["export_precision"] == "float16"
    assert "export_precision" not in before.provenance
    assert (manifest.inputs, manifest.outputs) == (before.inputs, before.outputs)
    assert (manifest.golden.inputs, manifest.golden.outputs) == (before.golden.inputs, before.golden.outputs)
    tolerance = manifest.golden.tolerance
    assert (tolerance["CPUExecutionProvider"].atol, tolerance["CUDAExecutionProvider"].atol) == (2**-9, 2**-8)
    for name, got in run(made, manifest).items():
        np.testing.assert_allclose(got, golden_array(before.golden.outputs[name], "FP32"), atol=2**-9, rtol=2**-9)
    metric = case.recipe.metric
    assert manifest.metrics[f"float32_test_{metric}"] == before.metrics[f"test_{metric}"]
    assert 0 < manifest.metrics["float16_largest_difference"] < 0.2
    assert "with the float16 graph exported here" in manifest.metrics["protocol"]
    assert ("float16_changed_decisions" in manifest.metrics) == (case.recipe.task != "regression")
    assert "float16: at most" in graph.told


def test_a_weight_that_float16_has_not_stops_the_export(case: Case) -> None:
    network = keras.models.clone_model(case.network)
    network.set_weights(case.network.get_weights())
    layer = next(layer for layer in network.layers if isinstance(layer, keras.layers.Dense))
    kernel, bias = layer.get_weights()
    kernel[3] = 1e6
    layer.set_weights([kernel, bias])
    for each in network.layers:
        if isinstance(each, keras.layers.Normalization):
            each.finalize_state()
    predictions = predict(case.recipe, network, case.data.x_test)
    assert graph_of(case.recipe, case.data, network, predictions).model
    with pytest.raises(ExportError, match=rf"{case.recipe.name}: network/MatMul_1.B holds 1e\+06, and float16 ends"):
        graph_of(case.recipe, case.data, network, predictions, "float16")


def test_a_graph_that_computes_something_else_is_refused(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def slightly_off(*arguments: Any) -> onnx.ModelProto:
        model = convert(*arguments)
        last = [tensor for tensor in model.graph.initializer if re.fullmatch(r"network/MatMul_\d\.B", tensor.name)]
        kernel = max(last, key=lambda tensor: tensor.name)
        kernel.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(kernel) * np.float32(1.01), kernel.name))
        return model

    monkeypatch.setattr("training.packaging.export.convert", slightly_off)
    message = rf"{case.recipe.name}, test set: {case.recipe.output} leaves the tolerance .* The worst is row \d+: "
    with pytest.raises(ExportError, match=message):
        case.export()


@pytest.mark.parametrize("case", TEXT_NAMES, indirect=True)
def test_a_graph_that_encodes_something_else_is_refused(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:

    def one_off(recipe: Recipe, network: Network, word_index: dict[str, int]) -> onnx.ModelProto:
        return convert(recipe, network, {word: rank + 1 for word, rank in word_index.items()})

    monkeypatch.setattr("training.packaging.export.convert", one_off)
    with pytest.raises(ExportError, match=f"test set: {case.recipe.output} leaves the tolerance"):
        case.export()
