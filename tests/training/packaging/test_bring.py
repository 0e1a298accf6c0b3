"""Any saved network becomes a package that a server verifies, or is refused before anything is written."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf
from onnx import numpy_helper

from serving.package.manifest import MANIFEST, MODEL, digest, golden_array, parse
from training.errors import DataError, ExportError, TrainingError
from training.models import Network
from training.packaging import bring, golden
from training.packaging.bring import Order, package
from training.packaging.saved import save_network

from ..conftest import REPOSITORY

# Keras's own, where it saves: TensorFlow's variables are older than NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

ROWS = 20


def two_by_two() -> Network:
    """A size and a style in; a price and the chances of three kinds out."""
    keras.utils.set_random_seed(0)
    size = keras.Input((2,), name="Size")
    style = keras.Input((), dtype="int32", name="style")
    x = keras.layers.Concatenate()([size, keras.layers.Embedding(3, 4)(style)])
    price = keras.layers.Dense(1, name="price")(keras.layers.Dense(8, activation="relu")(x))
    kind = keras.layers.Dense(3, activation="softmax", name="kind")(x)
    return keras.Model({"Size": size, "style": style}, {"price": price, "kind": kind})


def arrays() -> dict[str, Any]:
    random = np.random.default_rng(0)
    return {"Size": random.normal(size=(ROWS, 2)), "style": random.integers(0, 3, ROWS)}


def order(folder: Path, network: Network, examples: dict[str, Any]) -> Order:
    save_network(network, folder / "own.keras")
    np.savez(folder / "rows.npz", **examples)
    return Order(folder / "own.keras", "own", "regression", folder / "rows.npz", folder / "models")


@pytest.fixture
def two(tmp_path: Path) -> Order:
    return order(tmp_path, two_by_two(), arrays())


def sequential(*layers: Any) -> Network:
    return keras.Sequential([keras.Input((3,), name="x"), *layers])


def test_two_inputs_and_two_outputs_from_end_to_end(two: Order, tmp_path: Path) -> None:
    """The command, `serving check` and a server's own verified load."""
    (tmp_path / "labels.txt").write_text("flat\nhouse\ncastle\n")
    command: list[str | Path] = [
        *(sys.executable, "-m", "training", "package", two.network, "--name", "own", "--examples", two.examples),
        *("--task", "multiclass-classification", "--labels", tmp_path / "labels.txt", "--out", two.out),
    ]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    for shown in ("own/1", "size FP32 [N, 2]", "style INT32 [N]", "price FP32 [N, 1]", "kind FP32 [N, 3]", "20 rows"):
        assert shown in done.stdout
    folder = two.out / "own" / "1"
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "model.onnx", "run.json"]

    check = [sys.executable, "-m", "serving", "check", two.out]
    done = subprocess.run(check, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "8 golden examples" in done.stdout

    manifest = parse((folder / MANIFEST).read_bytes())
    assert manifest.labels == ("flat", "house", "castle")
    assert manifest.files[MODEL] == digest(folder / MODEL)
    assert manifest.provenance["network_sha256"] == digest(two.network).sha256
    assert str(tmp_path) not in (folder / MANIFEST).read_text()


def test_golden_examples_are_the_first_rows_and_keras_answers(two: Order) -> None:
    manifest = parse((package(two).folder / MANIFEST).read_bytes())
    given = arrays()
    size, style = given["Size"].astype(np.float32)[: golden.ROWS], given["style"].astype(np.int32)[: golden.ROWS]
    np.testing.assert_array_equal(golden_array(manifest.golden.inputs["size"], "FP32"), size)
    np.testing.assert_array_equal(golden_array(manifest.golden.inputs["style"], "INT32"), style)
    answers = two_by_two()({"Size": size, "style": style})
    for name in ("price", "kind"):
        np.testing.assert_allclose(golden_array(manifest.golden.outputs[name], "FP32"), answers[name], rtol=1e-6)


def test_the_same_network_gives_the_same_bytes(two: Order) -> None:
    first, second = package(two).folder, package(two).folder
    assert (first.name, second.name) == ("1", "2")
    assert (first / MODEL).read_bytes() == (second / MODEL).read_bytes()
    package(dataclasses.replace(two, version=1, force=True))
    again = json.loads((first / MANIFEST).read_bytes())
    assert {**again, "version": 2} == json.loads((second / MANIFEST).read_bytes())


def test_float16_has_a_bound_of_its_own(two: Order) -> None:
    """Two outputs and an embedding; eight hidden units lead to the price, none to the kind."""
    made = package(dataclasses.replace(two, export_precision="float16"))
    manifest = parse((made.folder / MANIFEST).read_bytes())
    assert made.told.startswith("float16: at most 0.000")
    assert manifest.provenance["export_precision"] == "float16"
    assert manifest.golden.tolerance["CPUExecutionProvider"].atol == 2**-9
    assert manifest.golden.tolerance["CUDAExecutionProvider"].atol == 2**-8
    assert "float16 graph agree on 20 example rows" in manifest.metrics["protocol"]
    with pytest.raises(ExportError, match=r"own, examples: .* leaves the tolerance .* allowed by --tolerance"):
        package(dataclasses.replace(two, export_precision="float16", tolerance=1e-7))


def test_large_rows_make_few_golden_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bring, "GOLDEN_VALUES", 11)
    network = sequential(keras.layers.Dense(2))
    for rows, expected in ((1, 1), (6, 2)):  # five numbers in each
        made = package(order(tmp_path, network, {"x": np.ones((rows, 3))}))
        assert len(parse((made.folder / MANIFEST).read_bytes()).golden.inputs["x"]) == expected
    monkeypatch.setattr(bring, "GOLDEN_VALUES", 4)
    made = package(order(tmp_path, network, {"x": np.ones((6, 3))}))
    assert len(parse((made.folder / MANIFEST).read_bytes()).golden.inputs["x"]) == 1


def test_a_network_of_float16_is_not_made_so_again(tmp_path: Path) -> None:
    mixed = sequential(keras.layers.Dense(4, dtype="mixed_float16"), keras.layers.Dense(2, dtype="float32"))
    own = dataclasses.replace(order(tmp_path, mixed, {"x": np.eye(3)}), export_precision="float16")
    with pytest.raises(ExportError, match=r"^own is float16 already, wholly or in part: expected float32$"):
        package(own)
    assert not own.out.exists()


@pytest.mark.parametrize("kind", ["bool", "uint8", "int64", "float16", "float64"])
def test_other_types_are_verified_by_a_server_too(tmp_path: Path, kind: str) -> None:
    keras.utils.set_random_seed(0)
    x = keras.Input((3,), dtype=kind, name="x")
    same = keras.layers.Identity(name="same", dtype=kind)(x)
    half = keras.layers.Dense(2, name="half", dtype="float16")(x)
    made = package(order(tmp_path, keras.Model(x, [same, half]), {"x": np.eye(3) > 0}))
    done = subprocess.run(
        [sys.executable, "-m", "serving", "check", str(made.folder.parents[1])],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ready" in done.stdout


# Refusals: nothing is written.


def refused(wanted: Order, kind: type[TrainingError], message: str) -> None:
    with pytest.raises(kind, match=message):
        package(wanted)
    assert not wanted.out.exists()


def test_a_graph_that_computes_something_else_is_refused(two: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    def slightly_off(*arguments: Any) -> onnx.ModelProto:
        model = bring_convert(*arguments)
        [kernel] = [tensor for tensor in model.graph.initializer if tensor.name == "network/MatMul_1.B"]
        kernel.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(kernel) * np.float32(1.01), kernel.name))
        return model

    bring_convert = bring.convert_network
    monkeypatch.setattr(bring, "convert_network", slightly_off)
    refused(two, ExportError, r"own, examples: (price|kind) leaves the tolerance .* More is allowed by --tolerance\.")
    made = package(dataclasses.replace(two, tolerance=0.1))
    tolerance = parse((made.folder / MANIFEST).read_bytes()).golden.tolerance
    assert {name: (each.atol, each.rtol) for name, each in tolerance.items()} == {
        "CPUExecutionProvider": (0.1, 0.1),
        "CUDAExecutionProvider": (1.0, 1.0),
    }


def test_a_network_that_mixes_rows_is_refused(tmp_path: Path) -> None:
    x = keras.Input((3,), name="x")
    mixed = keras.Model(x, keras.layers.Lambda(lambda t: t - tf.reduce_mean(t, 0), output_shape=(3,))(x))
    examples = {"x": np.arange(12.0).reshape(4, 3)}
    wanted = order(tmp_path, sequential(keras.layers.Dense(2)), examples)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bring, "load_network", lambda _: mixed)  # Keras loads no functions
        refused(wanted, ExportError, "rows alone: .*expected a network whose answer to a row does not depend")


def test_answers_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    wanted = order(tmp_path, sequential(keras.layers.Dense(2)), {"x": np.array([[1, 2, 3], [1, np.nan, 3]])})
    refused(wanted, ExportError, "not a finite number for example row 1: expected examples with answers")


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"name": "My-Model"}, TrainingError, "--name 'My-Model' is not a model's name: expected a letter"),
        ({"name": ""}, TrainingError, "is not a model's name"),
        ({"name": "m\n"}, TrainingError, "is not a model's name"),
        ({"name": "m" * 65}, TrainingError, "at most 63 of"),
        ({"tolerance": -1.0}, TrainingError, "expected 0 or more"),
        ({"tolerance": float("nan")}, TrainingError, "expected 0 or more"),
        ({"network": Path("nowhere.keras")}, TrainingError, r"nowhere\.keras is not a saved Keras network"),
        ({"examples": Path("nowhere.npz")}, DataError, r"nowhere\.npz can't be read"),
        ({"labels": Path("nowhere.txt")}, DataError, r"nowhere\.txt can't be read"),
    ],
)
def test_what_is_not_as_it_should_be_is_refused(
    two: Order, changes: dict[str, Any], kind: type[TrainingError], message: str
) -> None:
    refused(dataclasses.replace(two, **changes), kind, message)


def test_an_existing_version_is_refused(two: Order) -> None:
    folder = package(two).folder
    before = (folder / MODEL).stat()
    with pytest.raises(TrainingError, match="--force"):
        package(dataclasses.replace(two, version=1))
    assert (folder / MODEL).stat() == before
