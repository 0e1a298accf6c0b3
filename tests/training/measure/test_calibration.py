"""Bins hold each sample once; the error is 0 where confidence is accuracy, and the gap where it is not."""

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.errors import TrainingError
from training.measure.calibration import Bin, expected_calibration_error, reliability


def test_by_hand() -> None:
    # Confidences 0.9, 0.8, 0.6 (class 0) and 1: right, wrong, right, right. Two bins: all are in the upper.
    bins = reliability(np.array([[0.9], [0.8], [0.4], [1.0]]), np.array([1, 0, 0, 1]), bins=2)
    assert bins[0] == Bin(0, 0.5, 0, None, None)
    assert bins[1] == Bin(0.5, 1, 4, pytest.approx(0.825), 0.75)
    assert expected_calibration_error(bins) == pytest.approx(0.075)


def test_gaps_of_bins_do_not_cancel_out() -> None:
    # Confidence 0.7 with half right, 0.9 with all right: gaps of 0.2 and 0.1, half the samples each.
    found = np.array([[0.7, 0.3], [0.7, 0.3], [0.1, 0.9], [0.9, 0.1]])
    bins = reliability(found, np.array([0, 1, 1, 0]), bins=10)
    assert expected_calibration_error(bins) == pytest.approx(0.15)
    assert [place for place, each in enumerate(bins) if each.count] == [6, 8]


def test_an_edge_belongs_to_the_bin_below() -> None:
    bins = reliability(np.array([[0.75], [0.76]]), np.array([1, 1]), bins=4)
    assert [each.count for each in bins] == [0, 0, 1, 1]


def test_no_bins() -> None:
    with pytest.raises(TrainingError, match="at least 1 bin: found 0"):
        reliability(np.array([[0.5]]), np.array([0]), bins=0)


@settings(deadline=None)
@given(arrays.arrays(float, st.integers(1, 40), elements=st.floats(0, 1)), st.integers(1, 20), st.integers(0, 9))
def test_every_sample_is_in_one_bin(probabilities: np.ndarray, bins: int, seed: int) -> None:
    targets = np.random.default_rng(seed).integers(0, 2, len(probabilities))
    found = reliability(probabilities, targets, bins)
    assert len(found) == bins
    assert sum(each.count for each in found) == len(targets)
    assert 0 <= expected_calibration_error(found) <= 1
    for each in found:
        if each.confidence is not None:
            assert each.low - 1e-12 <= each.confidence <= each.high + 1e-12


def test_a_calibrated_model_has_next_to_no_error() -> None:
    random = np.random.default_rng(0)
    probabilities = random.random(100_000)
    targets = random.random(100_000) < probabilities
    assert expected_calibration_error(reliability(probabilities, targets)) < 0.01
    assert expected_calibration_error(reliability(probabilities**4, targets)) > 0.1
