"""Classes instead of tensors: Triton's extension "classification"."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from serving.api.inference import classification
from serving.package.manifest import OutputSpec
from serving.status import Code
from tests.serving.api.inference.desk import InferDesk, house, outputs, texts


def manifest(*labels: str) -> Any:
    return SimpleNamespace(labels=labels)


def classify(data: Any, datatype: str, count: int, *labels: str) -> list[list[bytes]]:
    array = np.array(data)
    spec = OutputSpec("y", datatype, (-1, *array.shape[1:]))  # type: ignore[arg-type]
    found: list[list[bytes]] = classification.classify(array, spec, manifest(*labels), count).tolist()
    return found


@pytest.mark.asyncio
@pytest.mark.parametrize("raw", [True, False])
async def test_topics_come_best_first_with_their_labels(desk: InferDesk, raw: bool) -> None:
    made = texts("topic", ["shr cts net revs", "wheat"], raw=raw)
    scores = outputs(await desk.answer(made))["probability"]
    labels = desk.models.resolve("topic", "").manifest.labels
    made.outputs.add(name="probability").parameters["classification"].int64_param = 3
    response = await desk.answer(made)
    assert [(t.name, t.datatype, list(t.shape)) for t in response.outputs] == [("probability", "BYTES", [2, 3])]
    for row, best in enumerate(outputs(response)["probability"].tolist()):
        order = np.argsort(-scores[row])[:3]
        assert best == [f"{scores[row, i]:f}:{i}:{labels[i]}".encode() for i in order]


@pytest.mark.asyncio
async def test_two_labels_are_two_classes_though_the_output_is_one_column(desk: InferDesk) -> None:
    made = texts("sentiment", ["a wonderful film"])
    positive = float(outputs(await desk.answer(made))["probability"][0, 0])
    assert positive > 0.5
    made.outputs.add(name="probability").parameters["classification"].int64_param = 100
    made.outputs.add(name="known_words").parameters["classification"].int64_param = 1
    found = outputs(await desk.answer(made))
    assert found["probability"].shape == (1, 2)
    (first, second) = found["probability"][0].tolist()
    assert first == f"{positive:f}:1:positive".encode()
    assert second.endswith(b":0:negative")
    assert float(second.split(b":")[0]) == pytest.approx(1 - positive, abs=1e-6)
    assert found["known_words"].tolist() == [[b"1.000000:0"]], "one score, and no label for it"


@pytest.mark.asyncio
async def test_a_price_has_no_labels(desk: InferDesk) -> None:
    made = house(2)
    prices = outputs(await desk.answer(made))["price"]
    made.outputs.add(name="price").parameters["classification"].int64_param = 5
    found = outputs(await desk.answer(made))["price"]
    assert found.tolist() == [[f"{price:f}:0".encode()] for price in prices[:, 0]]


@pytest.mark.asyncio
async def test_more_classes_than_one_answer_holds_are_refused(desk: InferDesk) -> None:
    made = texts("topic", ["x"] * 600)
    made.outputs.add(name="probability").parameters["classification"].int64_param = 46
    error = desk.error(made)
    assert error.code is Code.INVALID_ARGUMENT
    assert "27600 classes in one answer; this server gives 25000" in error.message


@pytest.mark.parametrize(
    ("datatype", "dtype"), [("UINT8", np.uint8), ("INT64", np.int64), ("FP16", np.float16), ("FP64", np.float64)]
)
def test_every_kind_of_number_is_sorted(datatype: str, dtype: Any) -> None:
    data = np.array([[1, 3, 0, 3]], dtype)
    best = [entry.split(b":")[1] for entry in classify(data, datatype, 4)[0]]
    assert best == [b"1", b"3", b"0", b"2"], "equals by their index"


def test_the_least_number_is_last_and_nan_too() -> None:
    least = np.iinfo(np.int64).min
    assert classify(np.array([[least, 0]], np.int64), "INT64", 2) == [[b"0:1", f"{least}:0".encode()]]
    assert classify(np.array([[np.nan, 0.0]]), "FP64", 1) == [[b"0.000000:1"]]


def test_labels_are_those_of_as_many_classes() -> None:
    assert classify([[0.25, 0.5]], "FP64", 1, "a", "b") == [[b"0.500000:1:b"]]
    assert classify([[0.25, 0.5, 0.1]], "FP64", 1, "a", "b") == [[b"0.500000:1"]]
    assert classify([[[0.25, 0.5], [0.75, 0.1]]], "FP64", 1, "a", "b", "c", "d") == [[b"0.750000:2:c"]]


@pytest.mark.parametrize("datatype", ["BYTES", "BOOL"])
def test_what_has_no_order_has_no_classes(datatype: str) -> None:
    version: Any = SimpleNamespace(
        manifest=SimpleNamespace(outputs=(OutputSpec("y", datatype, (-1, 2)),), labels=()),  # type: ignore[arg-type]
        outputs={"y": 0},
    )
    with pytest.raises(Exception, match=f"an output of {datatype} has no classes"):
        classification.check([SimpleNamespace(name="y", class_count=1)], version, 1)
