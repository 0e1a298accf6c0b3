"""Verified load: a package that would answer wrongly, or not as its manifest says, is never served."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto

from serving.engine.device import CPU, Device
from serving.engine.engine import Runner
from serving.engine.request import Request
from serving.package.manifest import Golden, InputSpec, Manifest, OutputSpec, Tolerance
from serving.repository import disk, verify
from serving.repository.disk import LoadError, Package
from tests.serving import packages
from tests.serving.packages import DOUBLE, change_graph, edit, graph, manifest

DEVICE = Device(CPU)

Json = dict[str, Any]


def read(models: Path, name: str, version: int = 1) -> Package:
    return disk.read(models, models / name / str(version), name, version)


def packed(manifest: Manifest, model: bytes) -> Package:
    return Package(manifest, model, "")


def refusal(package: Package, max_batch_rows: int = 4) -> tuple[str, str]:
    with pytest.raises(LoadError) as caught:
        verify.load(package, DEVICE, max_batch_rows)
    return caught.value.outcome, str(caught.value)


@pytest.mark.parametrize(("name", "version"), packages.EVERY)
def test_shipped_packages_verify(name: str, version: int) -> None:
    package = read(packages.SHIPPED, name, version)
    runner, cost, batch_rows, placement = verify.load(package, DEVICE, 16)
    assert placement is None
    assert 1 <= batch_rows <= 16
    assert runner.session.provider == CPU
    golden = [verify.encode(spec, package.manifest.golden.inputs[spec.name]) for spec in package.manifest.inputs]
    assert 0 < cost.predict(verify.size_of(golden)) < 1, "what was measured is known to the one who serves"


def test_a_tiny_package_verifies() -> None:
    assert verify.load(packed(manifest(), DOUBLE), DEVICE, 4).runner.manifest == manifest()


@pytest.mark.parametrize(
    ("seconds", "most", "rows"),
    [
        ({11: 9.0, 1: 1.0, 2: 1.1, 4: 1.2, 8: 1.4}, 8, 8),  # the more the better
        ({11: 9.0, 1: 1.0, 2: 2.0, 4: 4.0, 8: 8.0, 16: 16.0, 32: 32.0, 64: 64.0}, 64, 16),
        ({11: 9.0, 1: 1.0, 2: 25.0}, 2, 1),
        ({11: 9.0, 1: 1.0}, 1, 1),
    ],
)
def test_a_batch_is_no_larger_than_is_worth_while(seconds: dict[int, float], most: int, rows: int) -> None:
    assert verify.largest_worth_while(seconds, most) == rows


@pytest.mark.parametrize(
    ("golden", "most", "sizes"),
    [(10, 1, [10, 1]), (10, 2, [10, 1, 2]), (3, 8, [3, 1, 2, 4, 8]), (11, 100, [11, 1, 2, 4, 8, 16, 32, 64, 100])],
)
def test_every_power_of_two_and_the_full_batch_are_warmed(golden: int, most: int, sizes: list[int]) -> None:
    assert verify._batch_sizes(golden, most) == sizes


def test_every_step_is_told_in_order() -> None:
    steps: list[str] = []
    verify.load(packed(manifest(), DOUBLE), DEVICE, 4, steps.append)
    assert steps == ["static", "session", "signature", "golden", "warm-up"]
    steps.clear()
    golden = Golden({CPU: Tolerance(0, 0)}, {"x": [[1.0, 2.0]]}, {"y": [[2.0, 5.0]]})
    with pytest.raises(LoadError):
        verify.load(packed(manifest(golden=golden), DOUBLE), DEVICE, 4, steps.append)
    assert steps == ["static", "session", "signature"]


def rows_run(monkeypatch: pytest.MonkeyPatch, package: Package, seconds: Callable[[int], float]) -> list[int]:
    """Sizes of the batches that are tried where batches take so long."""
    tried: list[int] = []

    def timed(runner: Runner, request: Request) -> float:
        tried.append(request.rows)
        return seconds(request.rows)

    monkeypatch.setattr(verify, "_timed", timed)
    verify.load(package, DEVICE, 256)
    return [rows for rows, _ in itertools.groupby(tried)]


def test_batches_that_bring_nothing_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    package = read(packages.SHIPPED, "house_price")
    assert rows_run(monkeypatch, package, lambda rows: 1.0) == [10, 1, 2, 4, 8, 16, 32, 64, 128, 256]
    assert rows_run(monkeypatch, package, lambda rows: float(rows)) == [10, 1, 2, 4, 8, 16, 32, 64]


def test_batches_of_large_rows_have_fewer_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    package = packed(manifest(), DOUBLE)
    monkeypatch.setattr(verify, "MAX_BATCH_BYTES", 8 * 10)
    assert rows_run(monkeypatch, package, lambda rows: 1.0) == [1, 2, 4, 8, 10]
    monkeypatch.setattr(verify, "MAX_BATCH_BYTES", 1)
    assert rows_run(monkeypatch, package, lambda rows: 1.0) == [1]


# The golden examples.


def nudge(name: str, by: float) -> Callable[[Json], None]:
    def change(manifest: Json) -> None:
        row = manifest["golden"]["outputs"][name][3]
        if isinstance(row, list):
            row[0] += by
        else:
            manifest["golden"]["outputs"][name][3] += by

    return change


@pytest.mark.parametrize(
    ("name", "output", "at"),
    [("house_price", "price", "[0]"), ("sentiment", "known_words", "[]"), ("topic", "probability", "[0]")],
)
def test_a_golden_output_that_is_off_is_named(tmp_path: Path, name: str, output: str, at: str) -> None:
    folder = packages.copy(tmp_path, name)
    edit(folder, nudge(output, 1e-2))
    outcome, message = refusal(read(tmp_path, name))
    assert outcome == "golden"
    assert message.startswith(f"golden example 3: {output}{at} is ")
    assert message.endswith("within 1e-05 + 1e-05 of it")


def test_a_golden_output_within_tolerance_passes(tmp_path: Path) -> None:
    edit(packages.copy(tmp_path, "sentiment"), nudge("probability", 5e-6))
    verify.load(read(tmp_path, "sentiment"), DEVICE, 4)


def test_tolerance_is_relative_to_the_golden_value_too() -> None:
    golden = Golden({CPU: Tolerance(0, 1e-3)}, {"x": [[500.0, 500.0]]}, {"y": [[1000.9, 999.1]]})
    verify.load(packed(manifest(golden=golden), DOUBLE), DEVICE, 4)
    golden = Golden({CPU: Tolerance(0, 1e-3)}, {"x": [[500.0, 500.0]]}, {"y": [[1000.0, 998.9]]})
    assert refusal(packed(manifest(golden=golden), DOUBLE)) == (
        "golden",
        "golden example 0: y[1] is 1000.0, expected 998.9 within 0 + 0.001 of it",
    )


@pytest.mark.parametrize(("wanted", "passes"), [([None, 4.0], True), ([2.0, None], False), ([None, None], False)])
def test_nan_agrees_with_nan_alone(wanted: list[float | None], passes: bool) -> None:
    golden = Golden({CPU: Tolerance(1, 1)}, {"x": [[None, 2.0]]}, {"y": [wanted]})
    package = packed(manifest(golden=golden), DOUBLE)
    if passes:
        verify.load(package, DEVICE, 4)
    else:
        assert refusal(package)[0] == "golden"


@pytest.mark.parametrize("tolerance", [{}, {"CUDAExecutionProvider": {"atol": 1, "rtol": 1}}])
def test_a_device_without_a_tolerance_is_refused(tmp_path: Path, tolerance: Json) -> None:
    edit(packages.copy(tmp_path), lambda manifest: manifest["golden"].update(tolerance=tolerance))
    assert refusal(read(tmp_path, "house_price")) == ("golden", f"the manifest gives no tolerance for {CPU}")


def replace_golden(kind: str, tensor: str, values: list[Any]) -> Callable[[Json], None]:
    """As many rows as there were, made of `values` in turn."""

    def change(manifest: Json) -> None:
        golden = manifest["golden"][kind]
        golden[tensor] = list(itertools.islice(itertools.cycle(values), len(golden[tensor])))

    return change


@pytest.mark.parametrize(
    ("kind", "tensor", "values"),
    [
        ("outputs", "price", [1.0]),
        ("outputs", "price", [[1.0, 2.0]]),
        ("outputs", "price", ["much"]),
        ("outputs", "price", [[1.0], [1.0, 2.0]]),
        ("outputs", "price", [{}]),
        ("outputs", "price", [[10**400]]),
        ("inputs", "features", [[1.0] * 12]),
        ("inputs", "features", [[1.0] * 13, [1.0]]),
        ("inputs", "features", ["a house"]),
    ],
)
def test_golden_values_that_are_not_of_their_tensor_are_refused(
    tmp_path: Path, kind: str, tensor: str, values: list[Any]
) -> None:
    edit(packages.copy(tmp_path), replace_golden(kind, tensor, values))
    assert refusal(read(tmp_path, "house_price"))[0] == "golden"


@pytest.mark.parametrize("text", [None, 7, ["a", "b"], {}])
def test_golden_texts_that_are_none_are_refused(tmp_path: Path, text: object) -> None:
    edit(packages.copy(tmp_path, "sentiment"), replace_golden("inputs", "text", [text]))
    assert refusal(read(tmp_path, "sentiment"))[0] == "golden"


def test_a_graph_whose_rows_depend_on_their_neighbours_is_refused() -> None:
    nodes = [
        ("ReduceMean", ["x"], ["mean"], {"axes": [0], "keepdims": 1}),
        ("Sub", ["x", "mean"], ["centred"], {}),
        ("Add", ["centred", "x"], ["y"], {}),
    ]
    golden = Golden({CPU: Tolerance(1e-6, 1e-6)}, {"x": [[0.0, 0.0], [2.0, 2.0]]}, {"y": [[-1.0, -1.0], [3.0, 3.0]]})
    outcome, message = refusal(packed(manifest(golden=golden), graph(nodes, {"x": ["N", 2]}, {"y": ["N", 2]})))
    assert outcome == "golden"
    assert "golden example 0: y[0] is 0.0, expected -1.0" in message


def test_a_graph_that_drops_rows_is_refused() -> None:
    nodes = [
        ("ReduceMax", ["x"], ["most"], {"axes": [1], "keepdims": 0}),
        ("Cast", ["most"], ["keep"], {"to": TensorProto.BOOL}),
        ("Compress", ["x", "keep"], ["y"], {"axis": 0}),
    ]
    model = graph(nodes, {"x": ["N", 2]}, {"y": ["N", 2]})
    golden = Golden({CPU: Tolerance(1, 1)}, {"x": [[1.0, 1.0], [0.0, 0.0], [1.0, 1.0]]}, {"y": [[1.0, 1.0]] * 3})
    assert refusal(packed(manifest(golden=golden), model)) == (
        "golden",
        "it can't compute 3 golden rows: output y has shape (2, 2) for a batch of 3 rows",
    )


# The signature.


def rename_output(found: onnx.GraphProto) -> None:
    found.output[0].name = "cost"
    for node in found.node:
        node.output[:] = ["cost" if name == "price" else name for name in node.output]


def lose_output(found: onnx.GraphProto) -> None:
    found.output.remove(next(output for output in found.output if output.name == "known_words"))


def rename_axis(found: onnx.GraphProto) -> None:
    found.input[0].type.tensor_type.shape.dim[0].dim_param = "rows"


def fix_batch(found: onnx.GraphProto) -> None:
    for tensor in (*found.input, *found.output):
        tensor.type.tensor_type.shape.dim[0].dim_value = 1


def add_input(found: onnx.GraphProto) -> None:
    found.input.append(onnx.helper.make_tensor_value_info("bias", TensorProto.FLOAT, ["N"]))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("house_price", rename_output, "output cost: the manifest implies none, the graph has tensor(float) ['N', 1]"),
        (
            "sentiment",
            lose_output,
            "output known_words: the manifest implies tensor(float) ['N'], the graph has none",
        ),
        (
            "house_price",
            rename_axis,
            "input features: the manifest implies tensor(float) ['N', 13], the graph has tensor(float) ['rows', 13]",
        ),
        (
            "house_price",
            fix_batch,
            "input features: the manifest implies tensor(float) ['N', 13], the graph has tensor(float) [1, 13]",
        ),
        ("house_price", add_input, "input bias: the manifest implies none, the graph has tensor(float) ['N']"),
    ],
)
def test_a_graph_of_another_signature_is_refused(
    tmp_path: Path, name: str, change: Callable[[onnx.GraphProto], None], message: str
) -> None:
    change_graph(packages.copy(tmp_path, name), change)
    assert refusal(read(tmp_path, name)) == ("signature", message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda manifest: manifest["inputs"][0].update(datatype="INT64"),
            "input features: the manifest implies tensor(int64) ['N', 13]",
        ),
        (
            lambda manifest: manifest["inputs"][0].update(shape=[-1, 12]),
            "input features: the manifest implies tensor(float) ['N', 12]",
        ),
        (
            lambda manifest: manifest["outputs"][0].update(shape=[-1]),
            "output price: the manifest implies tensor(float) ['N']",
        ),
    ],
)
def test_a_manifest_of_another_signature_is_refused(
    tmp_path: Path, change: Callable[[Json], None], message: str
) -> None:
    edit(packages.copy(tmp_path), change)
    outcome, found = refusal(read(tmp_path, "house_price"))
    assert outcome == "signature"
    assert found.startswith(message)


def test_a_text_graph_whose_manifest_forgets_its_layout_is_refused(tmp_path: Path) -> None:
    edit(packages.copy(tmp_path, "topic"), lambda manifest: manifest["inputs"][0].pop("layout"))
    assert refusal(read(tmp_path, "topic")) == (
        "signature",
        "input text: the manifest implies tensor(string) ['N'], the graph has tensor(string) [1]",
    )


def swap_words(found: onnx.GraphProto) -> None:
    encoder = next(node for node in found.node if node.op_type == "LabelEncoder")
    words = next(attribute for attribute in encoder.attribute if attribute.name == "keys_strings")
    words.strings[:] = [*words.strings[1:], words.strings[0]]


def swap_weights(found: onnx.GraphProto) -> None:
    weights = next(tensor for tensor in found.initializer if tensor.name == "network/MatMul_1.B")
    table = onnx.numpy_helper.to_array(weights)
    weights.CopyFrom(onnx.numpy_helper.from_array(table[::-1], weights.name))


@pytest.mark.parametrize("change", [swap_words, swap_weights])
@pytest.mark.parametrize("name", ["sentiment", "topic"])
def test_a_vocabulary_out_of_step_with_its_weights_is_refused(
    tmp_path: Path, name: str, change: Callable[[onnx.GraphProto], None]
) -> None:
    change_graph(packages.copy(tmp_path, name), change)
    outcome, message = refusal(read(tmp_path, name))
    assert outcome == "golden"
    assert message.startswith("golden example ")


def test_an_output_that_the_manifest_forgets_is_refused(tmp_path: Path) -> None:
    def forget(manifest: Json) -> None:
        manifest["outputs"].pop()
        manifest["golden"]["outputs"].pop("known_words")

    edit(packages.copy(tmp_path, "topic"), forget)
    assert refusal(read(tmp_path, "topic")) == (
        "signature",
        "output known_words: the manifest implies none, the graph has tensor(float) ['N']",
    )


# What is refused before ONNX Runtime sees it.


def test_rules_for_graphs_come_before_onnx_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(verify, "Session")
    model = onnx.load_from_string(DOUBLE)
    model.graph.initializer.add(name="w", data_type=1, dims=[1], data_location=TensorProto.EXTERNAL)
    outcome, message = refusal(packed(manifest(), model.SerializeToString()))
    assert outcome == "load_error"
    assert message.startswith("tensor 'w' keeps its data outside of the graph")


@pytest.mark.parametrize(
    ("changes", "outcome", "message"),
    [
        (
            {"outputs": (OutputSpec("y", "FP32", (-1, 4097, 4096)),)},
            "signature",
            "model.json: y: a row of shape [4097, 4096] has 67125248 bytes, more than 67108864",
        ),
        (
            {"inputs": (InputSpec("x", "BYTES", (-1, 2**40, 2**40)),)},
            "signature",
            f"model.json: x: a row of shape [{2**40}, {2**40}] has {2**83} bytes, more than 67108864",
        ),
        (
            {"inputs": tuple(InputSpec(f"x{i}", "FP32", (-1, 2)) for i in range(257))},
            "signature",
            "model.json: 257 inputs, more than 256",
        ),
        (
            {"golden": Golden({CPU: Tolerance(0, 0)}, {"x": [[1.0, 2.0]] * 4097}, {"y": [[2.0, 4.0]] * 4097})},
            "golden",
            "model.json: golden has 4097 rows, more than 4096",
        ),
    ],
    ids=["output", "input", "inputs", "golden"],
)
def test_a_manifest_that_promises_too_much_is_refused(
    monkeypatch: pytest.MonkeyPatch, changes: Json, outcome: str, message: str
) -> None:
    monkeypatch.delattr(verify, "Session")
    assert refusal(packed(manifest(**changes), DOUBLE)) == (outcome, message)


def test_large_rows_within_the_bounds_pass() -> None:
    verify.check_static(packed(manifest(outputs=(OutputSpec("y", "FP32", (-1, 4096, 4096)),)), DOUBLE))


# What is no graph at all, though its checksum is right.


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"<html>404 Not Found</html>",
        lambda data: b"version https://git-lfs.github.com/spec/v1\n",
        lambda data: data[: len(data) // 2],
        lambda data: bytes(1000),
    ],
)
def test_a_file_that_is_not_onnx_is_refused(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    folder = packages.copy(tmp_path)
    packages.replace_model(folder, damage((folder / "model.onnx").read_bytes()))
    outcome, message = refusal(read(tmp_path, "house_price"))
    assert outcome == "load_error"
    assert message.startswith("ONNX Runtime can't load it: ")


def test_a_graph_with_an_unknown_operator_is_refused() -> None:
    model = graph([("Frobnicate", ["x"], ["y"], {})], {"x": ["N", 2]}, {"y": ["N", 2]})
    outcome, message = refusal(packed(manifest(), model))
    assert outcome == "load_error"
    assert "Frobnicate" in message


# The contract of the API.


def test_a_contract_that_is_broken_is_a_refusal() -> None:
    def contract(manifest: Manifest) -> str | None:
        return None if manifest.task == "regression" else "it must be a regression"

    verify.check_contract(manifest(), contract)
    verify.check_contract(manifest(), None)
    with pytest.raises(LoadError, match="the typed API can't serve it: it must be a regression") as caught:
        verify.check_contract(manifest(task="binary-classification"), contract)
    assert caught.value.outcome == "signature"


def test_a_graph_that_never_ends_does_not_keep_a_server_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "RUN_SECONDS", 0.2)
    folder = packages.copy_endless(tmp_path)
    package = disk.read(tmp_path, folder, "house_price", 1)
    with pytest.raises(LoadError, match=r"it can't compute 10 golden rows: it did not end in 0.2 s") as caught:
        verify.load(package, Device(CPU), 8)
    assert caught.value.outcome == "golden"
