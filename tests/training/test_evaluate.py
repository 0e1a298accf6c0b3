"""Figures are computed as their names say; parity lets nothing through that leaves the tolerance."""

from pathlib import Path

import numpy as np
import pytest

from serving.package.manifest import Tolerance
from training.errors import ExportError, TrainingError
from training.evaluate import array_feeds, check_parity, evaluate, score
from training.models import HOUSE_PRICE, SENTIMENT, TOPIC

TOLERANCE = Tolerance(atol=0.5, rtol=0.25)


def test_binary_accuracy() -> None:
    assert score(SENTIMENT, np.array([[0.9], [0.4], [0.5], [0.6]]), np.array([1, 0, 1, 0])) == {"accuracy": 0.5}


def test_multiclass_accuracy() -> None:
    predictions = np.eye(46, dtype=np.float32)[[3, 4, 45]]
    assert score(TOPIC, predictions, np.array([3, 4, 0])) == {"accuracy": pytest.approx(2 / 3)}


def test_regression_errors() -> None:
    assert score(HOUSE_PRICE, np.array([[20], [30]]), np.array([21, 33])) == {"mae": 2, "mse": 5}


def test_batches_hold_the_same_rows_of_every_input() -> None:
    arrays = {"a": np.arange(5), "b": np.arange(10).reshape(5, 2)}
    parts = list(array_feeds(arrays, batch=2))
    assert [len(part["a"]) for part in parts] == [2, 2, 1]
    for name, array in arrays.items():
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), array)


def test_parity_within_tolerance() -> None:
    expected = {"y": np.array([[0.0, 4.0], [-4.0, 1.0]])}
    check_parity("it", expected, {"y": np.array([[0.5, 5.5], [-5.5, 1.0]]), "more": np.zeros(1)}, TOLERANCE)


def test_parity_names_the_worst_row() -> None:
    expected = {"y": np.zeros((4, 2))}
    actual = np.zeros((4, 2))
    actual[1, 0], actual[2, 1] = 0.6, -0.75
    with pytest.raises(
        ExportError, match=r"it: y leaves .* in 2 of 4 rows\. The worst is row 2: -0\.75, where Keras gives 0"
    ):
        check_parity("it", expected, {"y": actual}, TOLERANCE)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_parity_refuses_what_is_not_a_number(bad: float) -> None:
    with pytest.raises(ExportError, match="row 1"):
        check_parity("it", {"y": np.zeros(3)}, {"y": np.array([0, bad, 0])}, TOLERANCE)


def test_parity_refuses_another_shape() -> None:
    with pytest.raises(ExportError, match=r"shape \[3, 1\], Keras gives \[3\]"):
        check_parity("it", {"y": np.zeros(3)}, {"y": np.zeros((3, 1))}, TOLERANCE)


def test_what_is_no_package(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="is not a model package"):
        evaluate(tmp_path, None)
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(TrainingError, match="is not a model package"):
        evaluate(tmp_path, None)
