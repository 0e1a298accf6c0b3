"""What is no probability, no class or no number is refused in one line; the rest is scored sample by sample."""

import numpy as np
import pytest

from training.errors import TrainingError
from training.measure.outputs import closeness, correct, per_class, values


def test_one_column_becomes_two() -> None:
    for probabilities in (np.array([[0.25], [1.0]]), np.array([0.25, 1.0])):
        found, classes = per_class(probabilities, np.array([False, True]))
        np.testing.assert_array_equal(found, [[0.75, 0.25], [0, 1]])
        assert classes.dtype == np.int64


def test_float32_rows_are_brought_to_one() -> None:
    logits = np.random.default_rng(0).normal(size=(200, 46)).astype(np.float32)
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found, _ = per_class(softmax, np.zeros(200, int))
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-15)
    np.testing.assert_allclose(found, softmax, rtol=1e-6)


@pytest.mark.parametrize(
    ("probabilities", "targets", "message"),
    [
        ([[0.5]], [0, 1], r"probabilities \[1, 1\] and targets \[2\] don't go together"),
        (np.empty((0, 2)), [], "N at least 1"),
        ([[[0.5]]], [0], "don't go together"),
        ([[np.nan], [0.5]], [0, 1], "1 of 2 probabilities are not numbers: the network has diverged"),
        ([[1.5], [-0.5]], [0, 1], r"from 0 to 1: found -0\.5 to 1\.5"),
        ([[0.5, 0.3]], [0], r"add up to 1: found one that is 0\.2 off"),
        ([[0.5], [0.5]], [0, 2], "targets must be from 0 to 1: found 0 to 2"),
        ([[0.5], [0.5]], [-1, 1], "targets must be from 0 to 1: found -1 to 1"),
        ([[0.5]], [0.5], "found fractions"),
    ],
)
def test_what_is_no_classification(probabilities: object, targets: object, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        per_class(np.array(probabilities), np.array(targets))


@pytest.mark.parametrize(
    ("predictions", "targets", "message"),
    [
        ([1.0, 2.0], [1.0], r"predictions \[2\] and targets \[1\] don't go together"),
        ([[1.0, 2.0]], [1.0], "don't go together"),
        ([], [], "N at least 1"),
        ([np.inf], [1.0], "1 of 1 predictions are not numbers"),
        ([1.0], [np.nan], "1 of 1 targets are not numbers"),
    ],
)
def test_what_is_no_regression(predictions: object, targets: object, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        values(np.array(predictions), np.array(targets))


def test_scores_of_each_sample() -> None:
    # 0.5 is not above 0.5, so class 0 is guessed.
    np.testing.assert_array_equal(correct(np.array([[0.5], [0.51], [0.4]]), np.array([0, 0, 0])), [1, 0, 1])
    np.testing.assert_array_equal(closeness(np.array([[3.0], [1.0]]), np.array([1, 2])), [-2, -1])
