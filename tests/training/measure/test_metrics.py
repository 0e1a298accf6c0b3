"""Figures equal what is worked out by hand, stay in their bounds, and are left out where they have no value."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.errors import TrainingError
from training.measure.metrics import PRICE_BANDS, Band, ClassFigures, classification, regression

BINARY = np.array([[0.9], [0.6], [0.4], [0.2]]), np.array([1, 0, 1, 0])
THREE = (
    np.array([[0.7, 0.2, 0.1], [0.2, 0.5, 0.3], [0.4, 0.5, 0.1], [0.3, 0.4, 0.3]]),
    np.array([0, 1, 0, 2]),
)
UNIT = ("accuracy", "top_3_accuracy", "macro_precision", "macro_recall", "macro_f1", "roc_auc", "average_precision")


def test_binary_by_hand() -> None:
    report = classification(*BINARY, ["negative", "positive"])
    assert report.flat() == pytest.approx(
        {
            "accuracy": 0.5,
            "macro_precision": 0.5,
            "macro_recall": 0.5,
            "macro_f1": 0.5,
            "roc_auc": 3 / 4,  # of the four pairs, 0.4 below 0.6 is the wrong way round
            "average_precision": 1 / 2 * 1 + 1 / 2 * 2 / 3,
            # Confidences 0.9, 0.6, 0.6, 0.8: right, wrong, wrong, right. The two of 0.6 share a bin.
            "ece": (0.1 + 0.6 + 0.6 + 0.2) / 4,
            "brier": (0.01 + 0.36 + 0.36 + 0.04) / 4,
            "log_loss": -(math.log(0.9) + math.log(0.4) + math.log(0.4) + math.log(0.8)) / 4,
        }
    )
    np.testing.assert_array_equal(report.confusion, [[1, 1], [1, 1]])
    assert report.confusion.dtype == np.int64
    assert report.classes[1] == ClassFigures("positive", 2, 0.5, 0.5, 0.5)
    assert (report.samples, report.ece_bins, report.top_3_accuracy) == (4, 15, None)


def test_both_shapes_of_two_classes_give_the_same() -> None:
    probabilities, targets = BINARY
    both = np.hstack([1 - probabilities, probabilities])
    assert classification(both, targets, "ab") == classification(probabilities, targets, "ab")


def test_many_classes_by_hand() -> None:
    report = classification(*THREE, ["a", "b", "c"])
    np.testing.assert_array_equal(report.confusion, [[1, 1, 0], [0, 1, 0], [0, 1, 0]])  # guesses: 0, 1, 1, 1
    assert report.classes == (
        ClassFigures("a", 2, 1.0, 0.5, pytest.approx(2 / 3)),
        ClassFigures("b", 1, pytest.approx(1 / 3), 1.0, 0.5),
        ClassFigures("c", 1, None, 0.0, 0.0),
    )
    assert report.accuracy == 0.5
    assert report.macro_precision == pytest.approx((1 + 1 / 3 + 0) / 3)
    assert report.macro_recall == 0.5
    assert report.macro_f1 == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    # a: both above all others. b: 0.5 ties with one of 0.5, above two. c: 0.3 ties with one, above two.
    assert report.roc_auc == pytest.approx((1 + 2.5 / 3 + 2.5 / 3) / 3)
    assert report.average_precision == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)
    squares = (0.09 + 0.04 + 0.01, 0.04 + 0.25 + 0.09, 0.36 + 0.25 + 0.01, 0.09 + 0.16 + 0.49)
    assert report.brier == pytest.approx(sum(squares) / 4)
    assert report.log_loss == pytest.approx(-math.log(0.7 * 0.5 * 0.4 * 0.3) / 4)


def test_top_3() -> None:
    probabilities = np.array([[0.4, 0.3, 0.2, 0.1]] * 4)
    assert classification(probabilities, np.arange(4), "abcd").top_3_accuracy == 0.75
    ties = np.full((4, 4), 0.25)  # the lower classes come first, as in the guess
    report = classification(ties, np.arange(4), "abcd")
    assert (report.accuracy, report.top_3_accuracy) == (0.25, 0.75)


def test_a_class_without_samples_is_left_out_of_the_means() -> None:
    probabilities = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.8, 0.1, 0.1]])
    report = classification(probabilities, np.array([0, 1, 1, 0]), "abc")
    assert report.classes[2] == ClassFigures("c", 0, 0.0, None, None)
    assert report.macro_recall == 0.75
    assert report.macro_f1 == pytest.approx((1 + 2 / 3) / 2)
    assert report.roc_auc == pytest.approx((1 + 3 / 4) / 2)


def test_a_single_class_has_no_ranking() -> None:
    report = classification(np.array([[0.9], [0.2]]), np.array([1, 1]), "ab")
    assert report.roc_auc is None
    assert report.average_precision is None
    assert "roc_auc" not in report.flat()
    assert "average_precision" not in report.flat()
    assert report.classes[0] == ClassFigures("a", 0, 0.0, None, None)


def test_certain_and_wrong_is_finite() -> None:
    report = classification(np.array([[1.0, 0.0], [1.0, 0.0]], np.float32), np.array([0, 1]), "ab")
    assert report.log_loss == pytest.approx(-math.log(np.finfo(float).eps) / 2)


def test_labels_must_be_as_many_as_classes() -> None:
    with pytest.raises(TrainingError, match="3 labels for 2 classes"):
        classification(*BINARY, "abc")


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(2, 6), st.integers(0, 1_000), st.booleans())
def test_classification_stays_in_its_bounds(rows: int, classes: int, seed: int, certain: bool) -> None:
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.full(classes, 0.3), rows).astype(np.float32)
    if certain:
        probabilities = np.eye(classes, dtype=np.float32)[probabilities.argmax(axis=1)]
    targets = random.integers(0, classes, rows)
    report = classification(probabilities, targets, "abcdef"[:classes])
    flat = report.flat()
    assert all(math.isfinite(value) for value in flat.values())
    assert all(0 <= flat[name] <= 1 for name in UNIT if name in flat)
    assert 0 <= report.ece <= 1
    assert 0 <= report.brier <= (1 if classes == 2 else 2)
    assert report.log_loss >= 0
    assert report.confusion.sum() == rows
    assert np.trace(report.confusion) == pytest.approx(report.accuracy * rows)
    assert ("roc_auc" in flat) == (len(set(targets)) > 1)
    assert [each.support for each in report.classes] == report.confusion.sum(axis=1).tolist()


def test_regression_by_hand() -> None:
    report = regression(np.array([[10.0], [22.0], [30.0], [50.0]]), np.array([12, 20, 31, 40]), PRICE_BANDS)
    assert report.flat() == pytest.approx(
        {
            "mae": 15 / 4,
            "mse": 109 / 4,
            "rmse": math.sqrt(109 / 4),
            "r2": 1 - 109 / (13.75**2 + 5.75**2 + 5.25**2 + 14.25**2),
            "median_absolute_error": 2,
            "bias": 9 / 4,
        }
    )
    assert report.bands == (
        Band(0, 15, 1, 2, -2),
        Band(15, 20, 0, None, None),
        Band(20, 25, 1, 2, 2),  # 20 is where this band begins
        Band(25, 35, 1, 1, -1),
        Band(35, math.inf, 1, 10, 10),
    )


def test_quartiles_hold_every_row() -> None:
    targets = np.arange(9.0)
    bands = regression(targets + 1, targets).bands
    assert [(band.low, band.high, band.rows, band.bias) for band in bands] == [
        (0, 2, 2, 1),
        (2, 4, 2, 1),
        (4, 6, 2, 1),
        (6, 8, 3, 1),
    ]


@pytest.mark.parametrize("targets", [[5.0], [5.0, 5.0]])
def test_targets_that_do_not_vary(targets: list[float]) -> None:
    report = regression(np.full(len(targets), 6.0), np.array(targets))
    assert report.r2 is None
    assert "r2" not in report.flat()
    assert report.bands == (Band(5, 5, len(targets), 1, 1),)


@pytest.mark.parametrize(
    ("edges", "message"),
    [([0, 0, 9], "ascend"), ([3], "two or more"), ([0, 2], "from 0 to 2 don't hold all targets, 1 to 3")],
)
def test_bands_that_do_not_fit(edges: list[float], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        regression(np.array([1.0, 3.0]), np.array([1.0, 3.0]), edges)


NUMBERS = st.floats(-1e6, 1e6, width=32)  # so that squares do not vanish


@settings(deadline=None)
@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=30))
def test_regression_stays_in_its_bounds(pairs: list[tuple[float, float]]) -> None:
    predictions, targets = np.array(pairs).T
    report = regression(predictions, targets)
    assert all(math.isfinite(value) for value in report.flat().values())
    assert abs(report.bias) <= report.mae * (1 + 1e-9)
    assert report.mae <= report.rmse * (1 + 1e-9)
    assert report.r2 is None or report.r2 <= 1
    assert sum(band.rows for band in report.bands) == len(pairs)
