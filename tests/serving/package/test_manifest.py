"""The manifest: what is written is read again, and everything at odds with the format is named."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import jsonschema
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from serving.package.manifest import (
    NUMPY_TYPES,
    Datatype,
    ManifestError,
    digest,
    dump,
    golden_array,
    golden_values,
    json_schema,
    parse,
)
from tests.serving import packages

SCHEMA = Path(__file__).parents[3] / "serving" / "package" / "model.schema.json"

Json = dict[str, Any]


def shipped(name: str = "sentiment") -> Json:
    manifest: Json = json.loads((packages.SHIPPED / name / "1" / "model.json").read_bytes())
    return manifest


def error(manifest: Json) -> str:
    with pytest.raises(ManifestError) as caught:
        parse(json.dumps(manifest).encode())
    assert str(caught.value).startswith("model.json: ")
    return str(caught.value).removeprefix("model.json: ")


@pytest.mark.parametrize(("name", "version"), packages.EVERY)
def test_what_is_written_is_read_again(name: str, version: int) -> None:
    manifest = parse((packages.SHIPPED / name / str(version) / "model.json").read_bytes())
    assert parse(dump(manifest)) == manifest
    assert dump(parse(dump(manifest))) == dump(manifest)


@pytest.mark.parametrize(("name", "version"), packages.EVERY)
def test_shipped_manifests_are_exactly_as_they_would_be_written(name: str, version: int) -> None:
    data = (packages.SHIPPED / name / str(version) / "model.json").read_bytes()
    assert dump(parse(data)) == data


def test_a_manifest_at_odds_with_itself_is_not_written() -> None:
    with pytest.raises(ManifestError, match=r"files: model\.onnx is missing"):
        dump(packages.manifest(files={}))


def test_the_committed_schema_is_the_one_of_the_code() -> None:
    assert json.loads(SCHEMA.read_bytes()) == json_schema()


def test_the_schema_is_one_and_shipped_manifests_fit_it() -> None:
    schema = json.loads(SCHEMA.read_bytes())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for name in packages.NAMES:
        validator.validate(shipped(name))
        assert not validator.is_valid({**shipped(name), "surprise": 1})


@pytest.mark.parametrize("field", sorted(shipped()))
def test_every_field_is_needed(field: str) -> None:
    manifest = shipped()
    del manifest[field]
    assert error(manifest) == f"Object missing required field `{field}`"


def tensor(kind: str, **changes: Any) -> Callable[[Json], object]:
    return lambda manifest: manifest[kind][0].update(changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(format=2), "Invalid enum value 2 - at `$.format`"),
        (lambda m: m.update(version=0), "Expected `int` >= 1 - at `$.version`"),
        (lambda m: m.update(version=1.5), "Expected `int`, got `float` - at `$.version`"),
        (lambda m: m.update(name="Sentiment"), "Expected `str` matching regex '^[a-z][a-z0-9_]*$' - at `$.name`"),
        (lambda m: m.update(name="s" * 65), "Expected `str` of length <= 64 - at `$.name`"),
        (lambda m: m.update(task="ranking"), "Invalid enum value 'ranking' - at `$.task`"),
        (lambda m: m.update(inputs=[]), "Expected `array` of length >= 1 - at `$.inputs`"),
        (lambda m: m.update(outputs=[]), "Expected `array` of length >= 1 - at `$.outputs`"),
        (lambda m: m.update(labels=[1]), "Expected `str`, got `int` - at `$.labels[0]`"),
        (tensor("inputs", datatype="FP8"), "Invalid enum value 'FP8' - at `$.inputs[0].datatype`"),
        (tensor("inputs", layout="wide"), "Invalid enum value 'wide' - at `$.inputs[0].layout`"),
        (tensor("outputs", text=None), "Object contains unknown field `text` - at `$.outputs[0]`"),
        (lambda m: m["inputs"][0]["text"].update(stem=True), "unknown field `stem` - at `$.inputs[0].text`"),
        (lambda m: m["files"]["model.onnx"].update(bytes=-1), "Expected `int` >= 0 - at `$.files[...].bytes`"),
        (lambda m: m["files"]["model.onnx"].update(sha256="0" * 63), "at `$.files[...].sha256`"),
        (lambda m: m["files"]["model.onnx"].update(sha256="A" * 64), "at `$.files[...].sha256`"),
        (
            lambda m: m["golden"]["tolerance"]["CPUExecutionProvider"].update(atol=-1e-9),
            "Expected `float` >= 0.0 - at `$.golden.tolerance[...].atol`",
        ),
        (lambda m: m["golden"].update(inputs=[]), "Expected `object`, got `array` - at `$.golden.inputs`"),
    ],
)
def test_what_the_schema_forbids_is_named_with_its_place(change: Callable[[Json], object], message: str) -> None:
    manifest = shipped()
    change(manifest)
    assert error(manifest).endswith(message)
    assert not jsonschema.Draft202012Validator(json_schema()).is_valid(manifest)


BATCH = "shape must be -1 (the batch) and then positive sizes, got"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(inputs=m["inputs"] * 2), "inputs: a name occurs twice"),
        (lambda m: m.update(outputs=m["outputs"] * 2), "outputs: a name occurs twice"),
        (tensor("inputs", name="words"), "golden.inputs and inputs name different tensors"),
        (tensor("outputs", name="chance"), "golden.outputs and outputs name different tensors"),
        (lambda m: m["golden"]["outputs"].update(more=[1] * 11), "golden.outputs and outputs name different tensors"),
        (tensor("outputs", shape=[]), f"probability: {BATCH} []"),
        (tensor("outputs", shape=[1, 1]), f"probability: {BATCH} [1, 1]"),
        (tensor("outputs", shape=[-1, 0]), f"probability: {BATCH} [-1, 0]"),
        (tensor("outputs", shape=[-1, -1]), f"probability: {BATCH} [-1, -1]"),
        (tensor("inputs", datatype="FP32"), "text: text rules need datatype BYTES and shape [-1]"),
        (tensor("inputs", shape=[-1, 2]), "text: an input of BYTES must have shape [-1], one element a row"),
        (tensor("inputs", text=None), "text: layout flat needs text"),
        (lambda m: m["inputs"][0]["text"].update(to_space="…"), "text: to_space must be ASCII"),
        (
            lambda m: m["golden"]["inputs"]["text"].pop(),
            "golden: every input and output must have the same rows, at least one",
        ),
        (
            lambda m: m["golden"].update(inputs={"text": []}, outputs={"probability": [], "known_words": []}),
            "golden: every input and output must have the same rows, at least one",
        ),
        (lambda m: m["files"].pop("model.onnx"), "files: model.onnx is missing"),
    ],
)
def test_what_a_schema_can_not_say_is_named_too(change: Callable[[Json], object], message: str) -> None:
    manifest = shipped()
    change(manifest)
    assert error(manifest) == message


@pytest.mark.parametrize(
    "data", [b"", b"null", b"{", b"\xff", b'{"name": "\xff"}', b'{"metrics": {"x": ' + b"[" * 100_000]
)
def test_what_is_no_manifest_is_an_error_of_ours(data: bytes) -> None:
    with pytest.raises(ManifestError, match=r"^model\.json: "):
        parse(data)


def test_a_digest_is_size_and_sha256(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    found = digest(tmp_path / "file")
    assert found.bytes == 3
    assert found.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# Golden values: what JSON has no word for, and back.


def test_nan_is_null_and_comes_back() -> None:
    array = np.array([[1.5, math.nan], [math.nan, -0.0]], np.float32)
    values = golden_values(array)
    assert values == [[1.5, None], [None, 0.0]]
    np.testing.assert_array_equal(golden_array(values, "FP32"), array)


@given(npst.arrays(np.float32, npst.array_shapes(max_dims=3), elements=st.floats(width=32, allow_infinity=False)))
def test_any_float32s_survive_json(array: np.ndarray[Any, Any]) -> None:
    values = json.loads(json.dumps(golden_values(array), allow_nan=False))
    found = golden_array(values, "FP32")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, array)


def test_there_is_a_type_for_each_of_the_open_inference_protocol() -> None:
    numbers = [f"{kind}{bits}" for kind in ("UINT", "INT") for bits in (8, 16, 32, 64)] + ["FP16", "FP32", "FP64"]
    assert set(get_args(Datatype)) == NUMPY_TYPES.keys() == {"BOOL", *numbers, "BYTES"}
    for datatype in numbers:
        assert np.dtype(NUMPY_TYPES[datatype]).name == datatype.lower().replace("fp", "float")


EXTREMES: dict[str, list[Any]] = {
    "BOOL": [[True], [False]],
    **{f"UINT{bits}": [[0], [2**bits - 1]] for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": [[-(2 ** (bits - 1))], [2 ** (bits - 1) - 1]] for bits in (8, 16, 32, 64)},
    "FP16": [[65504.0], [None], [-(2.0**-24)]],
    "FP64": [[1.7976931348623157e308], [None], [-5e-324], [0.1]],
    "BYTES": ["a", "", "é"],
}


@pytest.mark.parametrize("datatype", EXTREMES)
def test_every_other_type_survives_json_from_end_to_end_of_its_range(datatype: str) -> None:
    values = EXTREMES[datatype]
    array = golden_array(msgspec.json.decode(msgspec.json.encode(values)), datatype)
    assert array.dtype == NUMPY_TYPES[datatype]
    assert golden_values(array) == values


@pytest.mark.parametrize(("datatype", "value"), [("UINT8", 256), ("UINT8", -1), ("INT16", 2**15), ("INT64", None)])
def test_values_that_a_type_does_not_hold_are_no_golden_values(datatype: str, value: Any) -> None:
    with pytest.raises((OverflowError, TypeError)):
        golden_array([value], datatype)


@pytest.mark.parametrize("datatype", get_args(Datatype))
def test_every_type_may_be_an_inputs_and_an_outputs(datatype: Datatype) -> None:
    manifest = shipped("house_price")
    for kind in ("inputs", "outputs"):
        tensor(kind, datatype=datatype, **({"shape": [-1]} if datatype == "BYTES" else {}))(manifest)
    assert parse(json.dumps(manifest).encode()).outputs[0].datatype == datatype
